"""Whose lists of items are older than what they did with items, seen from outside.

Lists follow the profiles at a pace of their own, so that a committed log is not yet a log whose
lists are made.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, cast

import msgspec
import redis

from events.hashing import shard_of
from events.texts import Texts
from loadtest.stream import user_key

_SHARDS: Final = 64
_ACTS: Final = re.compile(rb'"type":"(product_view|add_to_cart|wishlist_add|purchase)"')
_TIME: Final = re.compile(rb'"ts":(\d+)')
_LOOK_EVERY_S: Final = 0.1


class _List(msgspec.Struct):
    as_of: int


class Awaited:
    """Users who did something with an item, until each has a list that knows of it.

    Args:
        lines: events of ``loadtest.stream``.

    >>> awaited = Awaited([b'{"event_id":"1","user_id":"ann","type":"search","ts":5}'])
    >>> awaited.users, awaited.left
    (0, 0)
    """

    def __init__(self, lines: Iterable[bytes]) -> None:
        acted_ms: dict[str, int] = {}
        for line in lines:
            if _ACTS.search(line):
                user, ts_ms = user_key(line).decode(), int(_TIME.findall(line)[0])
                acted_ms[user] = max(acted_ms.get(user, 0), ts_ms)
        self._left: defaultdict[int, dict[str, int]] = defaultdict(dict)
        shards = shard_of(Texts.of(list(acted_ms)), _SHARDS).tolist()
        for shard, (user, ts_ms) in zip(shards, acted_ms.items(), strict=True):
            self._left[shard][user] = ts_ms
        self.users = len(acted_ms)

    @property
    def left(self) -> int:
        """Whose list is not known to be of after what they did."""
        return sum(map(len, self._left.values()))

    def wait(self, url: str, most_s: float) -> bool:
        """Look into a store until all lists are there, or so long; whether they are."""
        client = redis.Redis.from_url(url)
        deadline_s = time.monotonic() + most_s
        self._look(client)
        while self.left and time.monotonic() < deadline_s:
            time.sleep(_LOOK_EVERY_S)
            self._look(client)
        return not self.left

    def _look(self, client: redis.Redis) -> None:
        for shard, acted_ms in self._left.items():
            if acted_ms:
                key = f"ag:candidates:{{{shard:02d}}}"
                lists = cast("list[bytes | None]", client.hmget(key, list(acted_ms)))
                self._left[shard] = {
                    user: ts_ms
                    for (user, ts_ms), items in zip(acted_ms.items(), lists, strict=True)
                    if items is None or _as_of(items) < ts_ms
                }


def _as_of(items: bytes) -> int:
    return msgspec.msgpack.decode(items, type=_List).as_of
