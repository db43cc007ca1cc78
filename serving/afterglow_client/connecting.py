"""Connecting to the store, and its errors in words.

Retries are redis-py's own (``redis.retry``), around whole calls: a connection itself tries once, so
that a lookup takes at most ``(retries + 1) × 2 × timeout_s`` and the pauses between, and never the
product of two loops of retries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MovedError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from afterglow_client.errors import AfterglowError, Forbidden, NotAfterglow, Unavailable

TROUBLE: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
"""All that a call may raise instead of an answer."""

RETRIED: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.MasterDownError,
    RedisClusterException,
    OSError,
)
"""What another try may mend."""

_FORBIDDEN: Final = (AuthenticationError, AuthorizationError, NoPermissionError)
_PAUSE_S: Final = 0.008
_LONGEST_PAUSE_S: Final = 0.25


@dataclass(slots=True, frozen=True)
class Terms:
    """How to reach the store.

    Attributes:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://`` address of a server, or of any of a
            cluster; user, password and ``ssl_ca_certs`` may stand in it.
        timeout_s: how long connecting may take, and how long one answer may.
        retries: how often a call that failed is made again.
        cluster: whether it is a cluster; None asks the server.
        options: more for redis-py's client, such as ``max_connections`` or ``ssl_ca_certs``.
    """

    url: str
    timeout_s: float
    retries: int
    cluster: bool | None
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be above 0, but is {self.timeout_s}")
        if self.retries < 0:
            raise ValueError(f"retries must be 0 or more, but is {self.retries}")

    def client_options(self, retry: Any) -> dict[str, Any]:
        """Arguments of redis-py's clients; ``retry`` is its class of the same kind."""
        return {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "protocol": 2,
            "retry": retry(NoBackoff(), 0),
            **self.options,
        }

    def retry(self, kind: Any) -> Any:
        """What makes calls again, with capped, growing and scattered pauses."""
        backoff = ExponentialWithJitterBackoff(cap=_LONGEST_PAUSE_S, base=_PAUSE_S)
        return kind(backoff, self.retries, RETRIED)


def is_forbidden(error: Exception) -> bool:
    """Whether another try is in vain: refused for good, though redis-py calls it a lost link."""
    return isinstance(error, _FORBIDDEN)


def in_words(error: Exception, url: str) -> AfterglowError:
    """An error of redis-py as one of ours."""
    where, said = address(url), str(error) or type(error).__name__
    if is_forbidden(error):
        return Forbidden(
            f"the store at {where} refuses: {said}. The user needs hget, hmget, hgetall, scard and "
            "sscan on the keys of the prefix; check the user, the password and the ACL"
        )
    if isinstance(error, ResponseError) and said.startswith("WRONGTYPE"):
        return NotAfterglow(
            f"the store at {where} holds something else under a key of Afterglow's ({said}): check "
            "the prefix and the database number"
        )
    if isinstance(error, MovedError):
        return Unavailable(
            f"the store at {where} is a cluster, but could not be asked whether it is one: say "
            "cluster=True"
        )
    return Unavailable(
        f"no usable answer from the store at {where}: {said}. Check the address (redis:// or "
        "rediss:// for TLS) and that the server runs"
    )


def address(url: str) -> str:
    """An address without its password.

    >>> address("rediss://edge:secret@store:6379/0?ssl_ca_certs=/ca.pem")
    'rediss://store:6379/0'
    """
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
