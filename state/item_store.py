"""What belongs to items in the store: the exchange between lanes, and the stored table.

``ag:interactions`` is a stream to which every lane adds what its users did and from which it reads
what the others' did. ``ag:items`` is a hash: one field per item, and beside them the field ``""``
(no item's id is empty), which says up to which entry of the stream the rows have learned.
``ag:rules`` is JSON: the rules of the shop's people, where they are not those of the settings.

The rows are written in parts and their head after them, so that a crash in between lets the last
seconds be learned a second time; they are statistics, and nothing of a user rests on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from state.store import Store
from state.store_errors import in_words

_AT_ONCE = 500
"""Rows of one command, so that the store is not busy for long."""
_ENTRIES_AT_ONCE = 50
"""Entries that are in memory at once; each holds what a lane's users did in a second."""
BEGIN = "0-0"
"""Before the first entry of the exchange."""


RULES = "rules"


class Head(msgspec.Struct, array_like=True):
    """What the stored table is.

    Attributes:
        position: of the last entry it has learned.
        forgotten: entries up to this one are not in the stream any more.
        beside: what else the recommender keeps.
    """

    position: str = BEGIN
    forgotten: str = BEGIN
    beside: bytes = b""


class ItemStore:
    """The exchange and the stored table under one prefix.

    Args:
        store: the lane's.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._items, self._stream = f"{store.prefix}:items", f"{store.prefix}:interactions"

    def post(self, block: bytes) -> None:
        """Tell the other lanes."""
        with in_words("interactions could not be shared"):
            self._store.client.xadd(self._stream, {"lane": self._store.name, "block": block})

    def posted(self, after: str) -> Iterator[tuple[str, bool, bytes]]:
        """Entries beyond a position: (position, whether it is one's own, block), oldest first."""
        own = self._store.name.encode()
        while True:
            with in_words("interactions could not be read"):
                entries = self._store.client.xrange(
                    self._stream, min=f"({after}", count=_ENTRIES_AT_ONCE
                )
            for place, fields in entries:
                after = place.decode()
                yield after, fields[b"lane"] == own, fields[b"block"]
            if len(entries) < _ENTRIES_AT_ONCE:
                return

    def last(self) -> str:
        """The position of the newest entry."""
        with in_words("interactions could not be read"):
            entries = self._store.client.xrevrange(self._stream, count=1)
        return entries[0][0].decode() if entries else BEGIN

    def rules(self) -> bytes | None:
        """The rules in force, if they are not those of the settings."""
        return self._store.shared(RULES)

    def head(self) -> Head:
        """What the stored table is; the beginning where there is none."""
        with in_words("items could not be read"):
            raw = self._store.client.hget(self._items, "")
        return msgspec.msgpack.decode(raw, type=Head) if raw else Head()

    def load(self) -> tuple[Head, list[bytes], list[bytes]]:
        """The head, then fields and values of all items."""
        head = self.head()
        with in_words("items could not be read"):
            held = dict(self._store.client.hscan_iter(self._items, count=1000))
        held.pop(b"", None)
        return head, list(held), list(held.values())

    def save(self, fields: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Write some rows."""
        with in_words("items could not be written"):
            pipe = self._store.client.pipeline(transaction=False)
            for at in range(0, len(fields), _AT_ONCE):
                part = slice(at, at + _AT_ONCE)
                rows = dict(zip(fields[part], values[part], strict=True))
                pipe.hset(self._items, mapping=rows)
            pipe.execute()

    def forget(self, fields: Sequence[bytes]) -> None:
        """Delete some rows."""
        with in_words("items could not be deleted"):
            pipe = self._store.client.pipeline(transaction=False)
            for at in range(0, len(fields), _AT_ONCE):
                pipe.hdel(self._items, *fields[at : at + _AT_ONCE])
            pipe.execute()

    def conclude(self, head: Head) -> None:
        """All rows up to a position are written: say so, and forget what nobody needs."""
        with in_words("items could not be written"):
            pipe = self._store.client.pipeline(transaction=False)
            pipe.hset(self._items, "", msgspec.msgpack.encode(head))
            millis, _, number = head.forgotten.partition("-")
            pipe.xtrim(self._stream, minid=f"{millis}-{int(number) + 1}", approximate=False)
            pipe.execute()
