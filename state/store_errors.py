"""What can be wrong with the store, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from state.servers import DENIED, REFUSALS, TROUBLE


class StoreError(Exception):
    """The store cannot be used as it is; the message says why and what to do.

    - FencedOff: another engine took the shard over.
    - StoreSetBack: it has become what it was before this engine began.
    - StoreMismatch: the data there belong to other settings.
    - StoreEmpty: no engine has begun it.
    - StoreUnavailable: no answer, or only errors, for longer than the settings allow.
    """


class FencedOff(StoreError):
    """Another engine owns the shard now; this one must end and not be restarted."""


class StoreSetBack(StoreError):
    """The store holds no fence of this engine, nor of a later one; it must be started again."""


class StoreMismatch(StoreError):
    """The stored data were written with settings that cannot be mixed with the present ones."""


class StoreEmpty(StoreError):
    """No engine has ever run on the store, or it is the wrong one."""


class StoreUnavailable(StoreError):
    """The store gave no usable answer for longer than allowed."""


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """An error of the client as one that says what could not be done."""
    try:
        yield
    except DENIED as error:
        raise StoreUnavailable(
            f"{what}: the store refuses this user: {error}. Connect as a user with the rights for "
            "it; `deploy/redis/users.acl` has one for each need"
        ) from error
    except TROUBLE as error:
        raise StoreUnavailable(
            f"{what}: the store says {str(error) or type(error).__name__!r}. It must be reachable, "
            "writable and have memory left; nothing is lost"
        ) from error


def unanswered(error: Exception) -> str:
    """What to say of a store that is asked for the first time, and does not answer or refuses.

    >>> unanswered(ConnectionError("Connection refused."))
    'no answer from the store: Connection refused. Check REDIS_URL and that the server runs'
    """
    said = (str(error) or type(error).__name__).rstrip(". ")
    if isinstance(error, REFUSALS):
        return (
            f"the store answers, but refuses: {said}. Check the user, the password and the "
            "database number in REDIS_URL"
        )
    return f"no answer from the store: {said}. Check REDIS_URL and that the server runs"
