"""Refunds whose order has not been seen: each user's *loose* refunds.

They count at their own time until the purchase comes, early or late, and takes them over; then
they count at the order's. A decayed sum cannot lose a term without losing precision too, so when
some of a user's loose refunds go, the sum is built anew from those that stay. Refunds that nobody
has claimed for as long as orders are kept become final: their terms move to the sum of settled
refunds.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from state import decay
from state.groups import Groups, distinct, group
from state.keyed import KeyedTable
from state.retention import Retention
from state.table import Column, Table
from state.times import NEVER_MS
from state.window import Window

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

SETTLED: Final = "orders.decayed_refunds"
"""Decayed refunds of known orders, and of unknown ones that were given up."""
LOOSE: Final = "orders.decayed_loose"
"""Decayed refunds that still wait for their order."""


class LooseRefunds:
    """The refunds of unknown orders, by user and order hash.

    Args:
        window_ms: the window counts what was refunded of orders whose latest refund lies in it.
        half_life_ms: of the decayed sums.
        keep_ms: how long a refund waits for its order, after it was last touched.

    Attributes:
        entries: what was ``refunded`` of an order, minor units, the latest ``ts``, and the sum of
            the terms of its refunds.
        window: their total in the window.
    """

    def __init__(self, window_ms: int, half_life_ms: int, keep_ms: int) -> None:
        self.entries = KeyedTable(
            [
                Column("ts", "i8", NEVER_MS),
                Column("refunded", "i8"),
                *decay.columns("decayed", half_life_ms),
                Retention.COLUMN,
                Window.COLUMN,
            ],
            transient=[Window.COLUMN.name],
        )
        self.window = Window(
            self.entries, "ts", window_ms, "orders.loose", lambda s: self.entries["refunded"][s]
        )
        self._retention = Retention(self.entries)
        self._half_life_ms = half_life_ms
        self._keep_ms = keep_ms

    def columns(self) -> list[Column]:
        """What the users' table needs."""
        sums = (decay.columns(name, self._half_life_ms) for name in (SETTLED, LOOSE))
        return [*chain(*sums), *self.window.columns()]

    def add(self, table: Table, refunds: Groups, batch: Batch, clock_ms: int) -> None:
        """Take in refunds, at least one, of orders that are not known."""
        ts, amount = batch.ts_ms[refunds.index], batch.amount_minor[refunds.index]
        terms = decay.terms(amount, ts, self._half_life_ms)
        decay.add_terms(refunds.row_of, *terms, *decay.sums(table, LOOSE))
        keys = batch.order_hash[refunds.index]
        slot_of = self.entries.find_or_add(refunds.row_of, keys)
        by = group(slot_of)
        self.window.take_out(table, by.rows)
        latest = np.maximum.reduceat(ts[by.index], by.starts)
        moved = latest > self.entries["ts"][by.rows]
        self.entries["ts"][by.rows] = np.maximum(latest, self.entries["ts"][by.rows])
        self.entries["refunded"][by.rows] += np.add.reduceat(amount[by.index], by.starts)
        decay.add_terms(slot_of, *terms, *self._decayed())
        self.window.put_in(table, by.rows, clock_ms, moved)
        touched_ms = np.maximum(self.entries["ts"][by.rows], clock_ms)
        self._retention.keep(by.rows, touched_ms + self._keep_ms)
        self.entries.mark(by.rows)

    def claim(self, table: Table, owners: I64, keys: U64) -> I64:
        """Hand over what was refunded of orders that have become known.

        Args:
            table: the users.
            owners: of the orders, int64[n].
            keys: their order hashes, uint64[n]; no pair twice.

        Returns:
            What was refunded of each, int64[n] minor units. They are loose no more.
        """
        claimed = np.zeros(len(owners), dtype=np.int64)
        if len(self.entries) == 0:
            return claimed
        slots = self.entries.find(owners, keys)
        found = slots >= 0
        slots = slots[found]
        if len(slots):
            claimed[found] = self.entries["refunded"][slots]
            self._end(table, slots)
        return claimed

    def expire(self, table: Table, clock_ms: int) -> I64:
        """What left the window or was given up by the lane's clock; the rows, int64[n]."""
        rows = self.window.expire(table, clock_ms)
        over = self._retention.ended(clock_ms)
        if len(over) == 0:
            return rows
        owners = self.entries["owner"][over].astype(np.int64)
        mantissas, exponents = self._decayed()
        decay.add_terms(owners, mantissas[over], exponents[over], *decay.sums(table, SETTLED))
        self._end(table, over)
        return np.union1d(rows, owners)

    def restore(self, table: Table, clock_ms: int) -> None:
        """After all loads: count and watch every entry."""
        slots = self.entries.live()
        self.window.restore(table, slots, clock_ms)
        self._retention.restore(slots, self.entries["ts"][slots] + self._keep_ms)
        mantissas, exponents = self._decayed()
        lost = slots[exponents[slots] == decay.EMPTY_EXPONENT]  # they had another half-life
        terms = self.entries["refunded"][lost], self.entries["ts"][lost], self._half_life_ms
        mantissas[lost], exponents[lost] = decay.terms(*terms)

    def bytes_held(self) -> int:
        """Bytes of all of it, but not of the users' columns."""
        return self.entries.bytes_held() + self.window.bytes_held() + self._retention.bytes_held()

    def _end(self, table: Table, slots: I64) -> None:
        """Delete entries and build their users' sums anew from those that are left."""
        rows = distinct(self.entries["owner"][slots].astype(np.int64))
        self.window.take_out(table, slots)
        self.entries.delete(slots)
        loose = decay.sums(table, LOOSE)
        loose[0][rows], loose[1][rows] = 0.0, decay.EMPTY_EXPONENT
        left, place = self.entries.of(rows)
        mantissas, exponents = self._decayed()
        decay.add_terms(rows[place], mantissas[left], exponents[left], *loose)

    def _decayed(self) -> tuple[F64, I32]:
        """The decayed refunds of every entry."""
        return self.entries["decayed.m"], self.entries["decayed.e"]
