"""Which row belongs to which user, exactly: ids are compared whole, never by hash.

Beside its row every user has a **serial**, a number within its shard given at first sight and kept
for good. Side tables name their user by it, in four bytes instead of the whole id.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.hashing import shard_of
from events.texts import Texts
from state.table import Column, Table
from state.text_index import TextIndex

I64 = NDArray[np.int64]

COLUMNS = [Column("shard", "i2"), Column("serial", "u4")]


class Users:
    """The users of a lane, in the order of their rows.

    Args:
        table: the lane's table; must have ``COLUMNS``.
        shards: into how many shards all users are split.

    Attributes:
        ids: every user's id; its number is the user's row.

    >>> users = Users(Table(COLUMNS), shards=64)
    >>> users.rows(Texts.of(["ann", "bob", "ann"])).tolist(), users.ids[1], len(users)
    ([0, 1, 0], 'bob', 2)
    """

    def __init__(self, table: Table, shards: int) -> None:
        self.ids = TextIndex()
        self._table = table
        self._shards = shards
        self._next_serial = np.zeros(shards, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, user: str) -> int:
        """The row of a user, -1 for a stranger."""
        return int(self.ids.find(Texts.of([user]))[0])

    def rows(self, users: Texts) -> I64:
        """The row of each, int64[n]; strangers get new rows."""
        known = len(self)
        rows = self.ids.number(users)
        if len(self) > known:
            new = self._table.grow(len(self) - known)
            shard = shard_of(self.ids.texts(new), self._shards)
            self._table["shard"][new] = shard
            self._table["serial"][new] = self._new_serials(shard)
        return rows

    def restore(self, shard: int, users: Texts) -> I64:
        """Rows for a shard's stored users, int64[n]; their serials come with their records."""
        rows = self.ids.number(users)
        self._table.grow(len(users))
        self._table["shard"][rows] = shard
        return rows

    def restored(self, shard: int, serials: NDArray[np.uint32]) -> None:
        """Tell which serials of a shard are in use, so that new ones begin above."""
        if len(serials):
            top = int(serials.max()) + 1
            self._next_serial[shard] = max(int(self._next_serial[shard]), top)

    def _new_serials(self, shard: I64) -> I64:
        """The next free serial of each one's shard, int64[n]."""
        order = np.argsort(shard, kind="stable")
        ordered = shard[order]
        first = np.searchsorted(ordered, ordered, side="left")
        serial = np.empty(len(shard), dtype=np.int64)
        serial[order] = self._next_serial[ordered] + np.arange(len(shard)) - first
        np.add.at(self._next_serial, shard, 1)
        return serial
