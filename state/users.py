"""Which row belongs to which user, exactly: ids are compared whole, never by hash.

Beside its row every user has a **serial**, a number within its shard given at first sight and kept
for as long as the user is known. Side tables name their user by it, in four bytes instead of the
whole id.

A user who is forgotten **leaves**: nobody finds the row any more, and its columns are as new. What
was decided of it waits for the commit under the number of the row, so the row is not given to
another before it is **freed**, after the commit. A user who comes back before that gets another
row, and goes on counting changes where the first one ended (decision 12).
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
        left: rows of users who have left and are not freed yet, int64[n].

    >>> users = Users(Table(COLUMNS), shards=64)
    >>> users.rows(Texts.of(["ann", "bob", "ann"])).tolist(), users.ids[1], len(users)
    ([0, 1, 0], 'bob', 2)
    """

    def __init__(self, table: Table, shards: int) -> None:
        self.ids = TextIndex()
        self._table = table
        self._shards = shards
        self._next_serial = np.zeros(shards, dtype=np.int64)
        self.left: I64 = np.empty(0, dtype=np.int64)
        self._counts: dict[bytes, int] = {}
        self._vacant = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        """How many there are."""
        return self.ids.known

    def find(self, user: str) -> int:
        """The row of a user, -1 for a stranger."""
        return int(self.ids.find(Texts.of([user]))[0])

    def rows(self, users: Texts) -> I64:
        """The row of each, int64[n]; strangers get new rows, or those that were freed."""
        rows, new = self.ids.numbered(users)
        if len(new):
            table = self._table
            self._table.grow(len(self.ids) - table.size)
            shard = shard_of(self.ids.texts(new), self._shards)
            table["shard"][new] = shard
            table["serial"][new] = self._new_serials(shard)
            if len(self._vacant):
                self._vacant[new[new < len(self._vacant)]] = False
            if self._counts:
                self._go_on(new)
        return rows

    def everybody(self) -> I64:
        """The rows of all users, ascending."""
        return self.here(np.arange(self._table.size, dtype=np.int64))

    def vacant(self) -> I64:
        """The rows of nobody."""
        return np.flatnonzero(self._vacant[: self._table.size])

    def here(self, rows: I64) -> I64:
        """Those of some rows whose users have not left."""
        return rows[self.is_here(rows)] if len(self._vacant) else rows

    def is_here(self, rows: I64) -> NDArray[np.bool_]:
        """Of some rows, whether their users have not left."""
        out: NDArray[np.bool_] = ~self._gone(rows)
        return out

    def leave(self, rows: I64) -> None:
        """The users of distinct rows are forgotten; their columns become as new."""
        names = self.ids.texts(rows).bytes_list()
        self._counts |= dict(zip(names, self._table["changes"][rows].tolist(), strict=True))
        self.ids.forget(rows)
        self._table.reset(rows, keep=("shard", "serial"))
        self.left = np.concatenate([self.left, rows])
        self._mark(rows)

    def counted(self, name: bytes) -> int:
        """How many changes there were of a user who has left and is not freed yet."""
        return self._counts.get(name, 0)

    def free(self) -> None:
        """All that is known of those who have left is written: their rows may be others'."""
        if len(self.left):
            self.ids.release(self.left)
            self.left = self.left[:0]
            self._counts.clear()

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

    def _gone(self, rows: I64) -> NDArray[np.bool_]:
        gone = np.zeros(len(rows), dtype=np.bool_)
        old = rows < len(self._vacant)
        gone[old] = self._vacant[rows[old]]
        return gone

    def _mark(self, rows: I64) -> None:
        if self._table.size > len(self._vacant):
            longer = np.zeros(self._table.size + self._table.size // 4, dtype=np.bool_)
            longer[: len(self._vacant)] = self._vacant
            self._vacant = longer
        self._vacant[rows] = True

    def _go_on(self, new: I64) -> None:
        """Who comes back before the commit counts on from the changes it will tell."""
        names = self.ids.texts(new).bytes_list()
        self._table["changes"][new] = [self._counts.get(name, 0) for name in names]

    def _new_serials(self, shard: I64) -> I64:
        """The next free serial of each one's shard, int64[n]."""
        order = np.argsort(shard, kind="stable")
        ordered = shard[order]
        first = np.searchsorted(ordered, ordered, side="left")
        serial = np.empty(len(shard), dtype=np.int64)
        serial[order] = self._next_serial[ordered] + np.arange(len(shard)) - first
        np.add.at(self._next_serial, shard, 1)
        return serial
