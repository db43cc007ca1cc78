"""The commands that an engine sends to the store, each with the kind of key it goes to.

Scripts may only call what their user may call, so the commands of ``commit.lua`` are among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

Asked = tuple[str, ...]
"""A command with its arguments, as it could be sent; nothing is."""

_SHARD: Final = {
    "profile": ("hset", "hget", "hscan", "type"),
    "state": ("hset", "hgetall", "type"),
    "candidates": ("hset", "hget", "type"),
    "members": ("sadd", "srem", "smembers", "unlink", "type"),
    "outbox": ("xadd", "xrange", "xtrim", "type"),
    "dedup": ("append", "get", "unlink", "type"),
    "examples": ("xadd", "xrange", "xtrim", "type"),
    "commit": ("hset", "hget", "hmget", "hgetall"),
}
_SIDE: Final = ("hset", "hdel", "hgetall", "hkeys", "type")
_SHARED: Final = {
    "meta": ("hget", "hsetnx"),
    **dict.fromkeys(("cuts", "models", "trainer", "reset", "experiments"), ("get", "set")),
    "rules": ("get",),
    "segments": ("hget", "hlen", "hsetnx", "hvals"),
    "items": ("hget", "hset", "hdel", "hscan"),
    "interactions": ("xadd", "xrange", "xrevrange", "xtrim"),
}
_ARGUMENTS: Final[dict[str, Asked]] = {
    "append": ("x",),
    "hdel": ("x",),
    "hget": ("x",),
    "hmget": ("x",),
    "hscan": ("0",),
    "hset": ("x", "x"),
    "hsetnx": ("x", "x"),
    "sadd": ("x",),
    "set": ("x",),
    "srem": ("x",),
    "xadd": ("*", "x", "x"),
    "xrange": ("-", "+"),
    "xrevrange": ("+", "-"),
    "xtrim": ("minid", "0"),
}
_PLAIN: Final[tuple[Asked, ...]] = (
    ("ping",),
    ("info", "cluster"),
    ("script", "load", "return 1"),
)
_OF_A_CLUSTER: Final[tuple[Asked, ...]] = (("cluster", "slots"),)


def needed(prefix: str, side_tables: Sequence[str], *, cluster: bool = False) -> Iterator[Asked]:
    """Every command that is needed, with a key of every kind it goes to.

    Args:
        prefix: starts every key.
        side_tables: names of the tables beside the users' states.
        cluster: whether the store is one.

    >>> ("hset", "ag:profile:{00}", "x", "x") in set(needed("ag", ["orders"]))
    True
    """
    yield from _PLAIN
    if cluster:
        yield from _OF_A_CLUSTER
    for kind, commands in {**_SHARD, **dict.fromkeys(side_tables, _SIDE)}.items():
        rest = ":x" if kind in ("members", "dedup") else ""
        key = f"{prefix}:{kind}:{{00}}{rest}"
        for command in commands:
            yield (command, key, *_ARGUMENTS.get(command, ()))
        if kind == "commit":
            yield ("eval", "return 1", "1", key)
            yield ("evalsha", "x", "1", key)
    for name, commands in _SHARED.items():
        for command in commands:
            yield (command, f"{prefix}:{name}", *_ARGUMENTS.get(command, ()))
