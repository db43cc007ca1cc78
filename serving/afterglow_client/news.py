"""What the change topic and the memberships topic say, and what a consumer is told.

Both topics carry, with each record, **all** segments of the user after it, and the user's count of
changes ``n``, which rises by one. So any record says where a user stands, and two records say how
many are missing between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from afterglow_client.errors import UNREADABLE, NotAfterglow

Reason = Literal["gap", "unheard", "history", "gone"]


class Change(msgspec.Struct, frozen=True, kw_only=True, tag="change"):
    """One entry of a user into a segment, or one exit, as the engine published it.

    Attributes:
        id: unique, and equal on every copy.
        user_id: whose.
        segment: which segment, or label of a family.
        action: what happened.
        ts: event time of the change, epoch milliseconds.
        decided_at: when the engine decided it, epoch milliseconds.
        version: of the segment's definition.
        epoch: of the engine's term of ownership; a higher one replaces what came before.
        n: count of the user's changes, rising by one.
        segments: all segments of the user after it.
        cause: why: ``kind``, ``event_id``, ``late``, ``values``, ``thresholds``.
    """

    id: str
    user_id: str
    segment: str
    action: Literal["entered", "exited"]
    ts: int
    decided_at: int
    version: int
    epoch: int
    n: int
    segments: list[str]
    cause: Mapping[str, Any]

    @property
    def entered(self) -> tuple[str, ...]:
        """The segment, if it was entered; as in ``Correction``."""
        return (self.segment,) if self.action == "entered" else ()

    @property
    def exited(self) -> tuple[str, ...]:
        """The segment, if it was left; as in ``Correction``."""
        return (self.segment,) if self.action == "exited" else ()


class Correction(msgspec.Struct, frozen=True, kw_only=True, tag="correction"):
    """What a consumer must make up for, because changes of a user did not reach it in order.

    Attributes:
        user_id: whose.
        entered, exited: segments that the user is in, or is no longer in, against what was told.
        segments: all segments of the user after it.
        epoch, n: where the user stands after it.
        missed: changes that were not seen, if they can be counted.
        reason: ``gap``: a later change came first; ``unheard``: memberships say that there were
            changes, which did not come; ``history``: the engine's store had lost what was published
            and the engine has taken another course; ``gone``: the user was removed.
    """

    user_id: str
    entered: tuple[str, ...]
    exited: tuple[str, ...]
    segments: list[str]
    epoch: int
    n: int
    missed: int
    reason: Reason


News = Change | Correction


class Standing(msgspec.Struct, frozen=True):
    """Where a user stands, as the memberships topic says it."""

    user_id: str
    epoch: int
    n: int
    segments: list[str]


_to_change = msgspec.json.Decoder(Change)
_to_standing = msgspec.json.Decoder(Standing)


def change_of(raw: bytes, where: str) -> Change:
    """A record of the change topic.

    Args:
        raw: its value.
        where: topic, partition and offset, for messages.

    Raises:
        NotAfterglow: it is none.
    """
    change: Change = _decoded(_to_change, raw, where, "change")
    return change


def removed_at(headers: Iterable[tuple[str, bytes | str | None]] | None) -> tuple[int, int] | None:
    """Epoch and count of the last change of a user whose membership was deleted, if it says so.

    >>> removed_at([("epoch", b"1790000000000"), ("n", b"7")])
    (1790000000000, 7)
    """
    told = dict(headers or ())
    try:
        return int(told["epoch"] or ""), int(told["n"] or "")
    except (KeyError, ValueError):
        return None


def standing_of(raw: bytes, where: str) -> Standing:
    """A record of the memberships topic.

    Raises:
        NotAfterglow: it is none.
    """
    standing: Standing = _decoded(_to_standing, raw, where, "membership")
    return standing


def user_of(key: bytes, where: str) -> str:
    """Whose a record of the memberships topic is, by its key.

    Raises:
        NotAfterglow: it names nobody.
    """
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise NotAfterglow(
            f"the key of the record at {where} is no user id ({error}): check the name of the "
            f"topic (kafka.memberships in the engine's settings); the key begins {key[:80]!r}"
        ) from error


def _decoded(decoder: Any, raw: bytes, where: str, what: str) -> Any:
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        raise NotAfterglow(
            f"the record at {where} is no {what} ({error}): check the names of the topics "
            "(kafka.changes and kafka.memberships in the engine's settings), and that this client "
            f"is of the engine's version; it begins {raw[:80]!r}"
        ) from error
