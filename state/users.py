"""Which row belongs to which user, exactly: ids are compared whole, never by hash.

Beside its row every user has a **serial**, a number within its shard given at first sight and kept
for good. Side tables name their user by it, in four bytes instead of the whole id.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from state.table import Column, Table

I64 = NDArray[np.int64]

COLUMNS = [Column("shard", "i2"), Column("serial", "u4")]


class Users:
    """The users of a lane, in the order of their rows.

    Args:
        table: the lane's table; must have ``COLUMNS``.
        shards: into how many shards all users are split.

    >>> users = Users(Table(COLUMNS), shards=64)
    >>> users.rows(["ann", "bob", "ann"]).tolist(), users.ids
    ([0, 1, 0], ['ann', 'bob'])
    """

    def __init__(self, table: Table, shards: int) -> None:
        self.ids: list[str] = []
        self._table = table
        self._shards = shards
        self._row_of: dict[str, int] = {}
        self._next_serial = np.zeros(shards, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, user: str) -> int:
        """The row of a user, -1 for a stranger."""
        return self._row_of.get(user, -1)

    def rows(self, users: Sequence[str]) -> I64:
        """The row of each, int64[n]; strangers get new rows."""
        rows = np.fromiter(map(self._row_of.get, users, repeat(-1)), np.int64, len(users))
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            strangers = list(dict.fromkeys(users[i] for i in unknown.tolist()))
            shard = np.fromiter(
                (zlib.crc32(user.encode()) % self._shards for user in strangers),
                np.int64,
                len(strangers),
            )
            self._add(strangers, shard, self._new_serials(shard))
            rows[unknown] = [self._row_of[users[i]] for i in unknown.tolist()]
        return rows

    def restore(self, shard: int, users: Sequence[str]) -> I64:
        """Rows for a shard's stored users, int64[n]; their serials come with their records."""
        nothing = np.zeros(len(users), dtype=np.int64)
        return self._add(users, np.full(len(users), shard), nothing)

    def restored(self, shard: int, serials: NDArray[np.uint32]) -> None:
        """Tell which serials of a shard are in use, so that new ones begin above."""
        if len(serials):
            top = int(serials.max()) + 1
            self._next_serial[shard] = max(int(self._next_serial[shard]), top)

    def _add(self, users: Sequence[str], shard: I64, serial: I64) -> I64:
        rows = self._table.grow(len(users))
        self._table["shard"][rows] = shard
        self._table["serial"][rows] = serial
        self._row_of.update(zip(users, rows.tolist(), strict=True))
        self.ids.extend(users)
        return rows

    def _new_serials(self, shard: I64) -> I64:
        """The next free serial of each one's shard, int64[n]."""
        order = np.argsort(shard, kind="stable")
        ordered = shard[order]
        first = np.searchsorted(ordered, ordered, side="left")
        serial = np.empty(len(shard), dtype=np.int64)
        serial[order] = self._next_serial[ordered] + np.arange(len(shard)) - first
        np.add.at(self._next_serial, shard, 1)
        return serial
