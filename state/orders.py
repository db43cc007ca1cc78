"""Orders and refunds of each user: lifetime totals, decayed sums and the window.

An order is one entry however many purchase lines it has; its time is that of its latest line. A
refund finds its order by hash and counts at the order's time, before or after the purchase is
seen (``state.refunds``). So every value is a function of the set of events.

Totals and the window are integers. A decayed sum can only be added to without loss, so nothing is
ever subtracted from one: when an order's time moves forward the difference ``2^(t2/h) - 2^(t1/h)``
is added, and refunds are sums beside the gross. The times of the first order, of the last and of
the one before it are those of purchases; lines of the same time are one.

An order is found for ``keep_ms`` after it was last touched; a refund or line that comes later than
that counts as one of an unknown order. Memory rests on this.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import compiled
from events.schema import PURCHASE, REFUND
from state import decay
from state.groups import Groups, distinct, group
from state.keyed import KeyedTable
from state.refunds import LOOSE, SETTLED, LooseRefunds
from state.retention import Retention
from state.table import Column, Table
from state.times import NEVER_MS
from state.window import Window

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

ORDERS: Final = "orders.decayed"
GROSS: Final = "orders.decayed_gross"

_ROUNDING: Final = 2.0**-40
"""Decayed gross less refunds is nothing when it is a smaller share of the gross than this."""


class Orders:
    """What the users of a lane bought and gave back.

    Args:
        window_ms: length of the window: an order is inside while ``T - window < ts ≤ T``.
        half_life_ms: of the decayed sums.
        keep_ms: for how long an order can be found after it was touched; at least the window.

    Attributes:
        entries: the orders: ``ts`` of the latest line, ``gross`` and ``refunded`` in minor units.
        refunds: those of unknown orders.
    """

    def __init__(self, window_ms: int, half_life_ms: int, keep_ms: int = 0) -> None:
        self._half_life_ms = half_life_ms
        self._keep_ms = max(window_ms, keep_ms)
        self.entries = KeyedTable(
            [
                Column("ts", "i8", NEVER_MS),
                Column("gross", "i8"),
                Column("refunded", "i8"),
                Retention.COLUMN,
                Window.COLUMN,
            ],
            transient=[Window.COLUMN.name],
            listed=False,
        )
        self.refunds = LooseRefunds(window_ms, half_life_ms, self._keep_ms)
        self._window = Window(self.entries, "ts", window_ms, "orders.window", self._net)
        self._retention = Retention(self.entries)

    def columns(self) -> list[Column]:
        """What the users' table needs, by whole name."""
        return [
            Column("first_order", "i8", NEVER_MS),
            Column("last_order", "i8", NEVER_MS),
            Column("previous_order", "i8", NEVER_MS),
            Column("orders.count", "i4"),
            Column("orders.gross", "i8"),
            Column("orders.refunds", "i8"),
            *decay.columns(ORDERS, self._half_life_ms),
            *decay.columns(GROSS, self._half_life_ms),
            *self.refunds.columns(),
            *self._window.columns(),
        ]

    def transient(self) -> list[str]:
        """Columns that ``restore`` works out from the entries, so that they are not stored."""
        return [c.name for c in [*self._window.columns(), *self.refunds.window.columns()]]

    def tables(self) -> dict[str, KeyedTable]:
        """The side tables to be stored, by name."""
        return {"orders": self.entries, "refunds": self.refunds.entries}

    # -- events and time ----------------------------------------------------------------------

    def update(self, table: Table, groups: Groups, batch: Batch, clock_ms: int) -> None:
        """Take in the purchases and refunds of a batch.

        Args:
            table: the users.
            groups: the batch's events by row.
            batch: all of it; only events among the groups count.
            clock_ms: of the lane; must not go back.
        """
        kind = batch.type[groups.index]
        purchases = groups.where(kind == PURCHASE)
        if len(purchases):
            self._total(table, purchases, batch)
            self._place(table, purchases, batch, clock_ms)
        refunds = groups.where(kind == REFUND)
        if len(refunds):
            amount = batch.amount_minor[refunds.index]
            table["orders.refunds"][refunds.rows] += np.add.reduceat(amount, refunds.starts)
            slots = self.entries.find(refunds.row_of, batch.order_hash[refunds.index])
            known = slots >= 0
            if known.any():
                self._refund(table, slots[known], amount[known], clock_ms)
            if not known.all():
                self.refunds.add(table, refunds.where(~known), batch, clock_ms)

    def settle_rows(self, table: Table, rows: I64, t_ms: I64) -> None:
        """Let go from the window what left distinct rows by a time of their own, int64[n] each.

        To be called before values at ``t_ms`` are read; neither it nor the clock may go back.
        """
        self._window.settle(table, rows, t_ms)
        self.refunds.window.settle(table, rows, t_ms)

    def expire(self, table: Table, clock_ms: int) -> I64:
        """Let go what left the windows and forget what is too old, by the lane's clock.

        Returns:
            The rows whose values or stored columns changed, ascending, int64[n].
        """
        rows = self._window.expire(table, clock_ms)
        self.entries.delete(self._retention.ended(clock_ms))
        more = self.refunds.expire(table, clock_ms)
        return np.union1d(rows, more) if len(more) else rows

    def restore(self, table: Table, clock_ms: int) -> None:
        """After the users and all side tables were loaded, and before anything else."""
        for column in [*self._window.columns(), *self.refunds.window.columns()]:
            table[column.name][:] = column.initial
        slots = self.entries.live()
        self._window.restore(table, slots, clock_ms)
        self._retention.restore(slots, self.entries["ts"][slots] + self._keep_ms)
        self.refunds.restore(table, clock_ms)

    # -- values -------------------------------------------------------------------------------

    def lifetime_spend(self, table: Table, rows: I64) -> I64:
        """Gross less refunds, never below zero, int64[n] minor units."""
        spend: I64 = np.maximum(table["orders.gross"][rows] - table["orders.refunds"][rows], 0)
        return spend

    def window_orders(self, table: Table, rows: I64) -> I32:
        """Orders in the window, int32[n]."""
        orders: I32 = table[self._window.names.count][rows]
        return orders

    def window_spend(self, table: Table, rows: I64) -> I64:
        """What the window's orders come to, less its loose refunds, int64[n] minor units, ≥ 0."""
        known, loose = self._window.names.total, self.refunds.window.names.total
        spend: I64 = np.maximum(table[known][rows] - table[loose][rows], 0)
        return spend

    def next_expiry_ms(self, table: Table, rows: I64) -> I64:
        """When a window of each row may next change in silence, int64[n]; a lower bound."""
        known, loose = self._window.names.next_ms, self.refunds.window.names.next_ms
        due: I64 = np.minimum(table[known][rows], table[loose][rows])
        return due

    @staticmethod
    def decayed_orders(table: Table, rows: I64) -> tuple[F64, I32]:
        """The decayed number of orders as mantissa and exponent, see ``state.decay``."""
        return table[f"{ORDERS}.m"][rows], table[f"{ORDERS}.e"][rows]

    @staticmethod
    def decayed_spend(table: Table, rows: I64) -> tuple[F64, I32]:
        """Decayed gross less decayed refunds as mantissa and exponent, ≥ 0."""
        sums = *decay.sums(table, GROSS), *decay.sums(table, SETTLED), *decay.sums(table, LOOSE)
        net, top = np.empty(len(rows)), np.empty(len(rows), dtype=np.int32)
        _net_sums(rows, *sums, net, top)
        return net, top

    def bytes_held(self) -> int:
        """Bytes of all of it, but not of the users' columns."""
        own = self.entries.bytes_held() + self._window.bytes_held() + self._retention.bytes_held()
        return own + self.refunds.bytes_held()

    # -- inside -------------------------------------------------------------------------------

    def _net(self, slots: I64) -> I64:
        """What an order is worth: never less than nothing."""
        net = np.empty(len(slots), dtype=np.int64)
        _net(slots, self.entries["gross"], self.entries["refunded"], net)
        return net

    def _total(self, table: Table, purchases: Groups, batch: Batch) -> None:
        """What counts line by line."""
        index, row_of = purchases.index, purchases.row_of
        ts, amount = batch.ts_ms[index], batch.amount_minor[index]
        table["orders.gross"][purchases.rows] += np.add.reduceat(amount, purchases.starts)
        times = table["first_order"], table["last_order"], table["previous_order"]
        _note_times(row_of, ts, *times)
        weight, sums = batch.amount_minor.astype(np.float64), decay.sums(table, GROSS)
        decay.add_events(index, row_of, batch.ts_ms, weight, self._half_life_ms, *sums)

    def _place(self, table: Table, purchases: Groups, batch: Batch, clock_ms: int) -> None:
        """What counts order by order: lines find theirs, or begin one."""
        index = purchases.index
        slot_of = self.entries.find_or_add(purchases.row_of, batch.order_hash[index])
        slots = distinct(slot_of)
        self._window.take_out(table, slots)
        ts_ms, gross = self.entries["ts"], self.entries["gross"]
        before = ts_ms[slots]
        _add_lines(slot_of, index, batch.ts_ms, batch.amount_minor, ts_ms, gross)
        after = ts_ms[slots]
        self._begin(table, slots[before == NEVER_MS])
        self._move(table, slots, before, after)
        self._window.put_in(table, slots, clock_ms, after > before)
        self._touch(slots, clock_ms)

    def _begin(self, table: Table, slots: I64) -> None:
        """New orders count, and take over the refunds that came before them."""
        owners = self.entries["owner"][slots].astype(np.int64)
        np.add.at(table["orders.count"], owners, 1)
        claimed = self.refunds.claim(table, owners, self.entries["key"][slots])
        self.entries["refunded"][slots] = claimed

    def _move(self, table: Table, slots: I64, before: I64, after: I64) -> None:
        """Weigh orders, and what was refunded of them, at their later time."""
        owners = self.entries["owner"][slots].astype(np.int64)
        refunded = self.entries["refunded"][slots].astype(np.float64)
        for name, weight in ((ORDERS, np.ones(len(slots))), (SETTLED, refunded)):
            sums = decay.sums(table, name)
            decay.move_terms(owners, before, after, weight, self._half_life_ms, *sums)

    def _refund(self, table: Table, slots: I64, amount: I64, clock_ms: int) -> None:
        """Refunds of known orders; they count at the order's time."""
        by = group(slots)
        slots = by.rows
        self._window.take_out(table, slots)
        given_back = np.add.reduceat(amount[by.index], by.starts)
        self.entries["refunded"][slots] += given_back
        terms = decay.terms(given_back, self.entries["ts"][slots], self._half_life_ms)
        owners = self.entries["owner"][slots].astype(np.int64)
        decay.add_terms(owners, *terms, *decay.sums(table, SETTLED))
        self._window.put_in(table, slots, clock_ms, np.zeros(len(slots), dtype=np.bool_))
        self._touch(slots, clock_ms)

    def _touch(self, slots: I64, clock_ms: int) -> None:
        touched_ms = np.maximum(self.entries["ts"][slots], clock_ms)
        self._retention.keep(slots, touched_ms + self._keep_ms)
        self.entries.mark(slots)


@compiled
def _net_sums(
    rows: I64,
    gross_m: F64,
    gross_e: I32,
    settled_m: F64,
    settled_e: I32,
    loose_m: F64,
    loose_e: I32,
    net: F64,
    top: I32,
) -> None:
    """Of each row, the gross sum less both refunded ones; what is left of rounding is nothing."""
    for i in range(len(rows)):
        row = rows[i]
        refunds_e = max(settled_e[row], loose_e[row])
        refunds = decay.shifted(settled_m[row], settled_e[row] - refunds_e)
        refunds += decay.shifted(loose_m[row], loose_e[row] - refunds_e)
        top[i] = max(gross_e[row], refunds_e)
        gross = decay.shifted(gross_m[row], gross_e[row] - top[i])
        left = gross - decay.shifted(refunds, refunds_e - top[i])
        net[i] = left if left > gross * _ROUNDING else 0.0


@compiled
def _note_times(row_of: I64, ts_ms: I64, first: I64, last: I64, previous: I64) -> None:
    """The first time of each row, the last, and the last that came before that one."""
    for k in range(len(row_of)):
        row, ts = row_of[k], ts_ms[k]
        if first[row] == NEVER_MS or ts < first[row]:
            first[row] = ts
        if ts > last[row]:
            previous[row], last[row] = last[row], ts
        elif previous[row] < ts < last[row]:
            previous[row] = ts


@compiled
def _add_lines(
    slot_of: I64, index: I64, ts_ms: I64, amount: I64, latest_ms: I64, gross: I64
) -> None:
    """Add each line's amount to its order, whose time is that of the latest line."""
    for k in range(len(slot_of)):
        i, slot = index[k], slot_of[k]
        latest_ms[slot] = max(latest_ms[slot], ts_ms[i])
        gross[slot] += amount[i]


@compiled
def _net(slots: I64, gross: I64, refunded: I64, net: I64) -> None:
    for k in range(len(slots)):
        net[k] = max(gross[slots[k]] - refunded[slots[k]], 0)
