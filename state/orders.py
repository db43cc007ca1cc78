"""Orders and refunds of each user: lifetime totals, decayed sums and the window.

An order is one entry however many purchase lines it has; its time is that of its latest line. A
refund finds its order by hash and counts at the order's time. Refunds whose order has not been
seen are *loose*: they have a table of their own, count at their own time, and become the order's
when its purchase comes, early or late. So every value is a function of the set of events.

Totals and the window are integers. A decayed sum can only be added to without loss, so nothing is
ever subtracted from one: when an order's time moves forward the difference ``2^(t2/h) - 2^(t1/h)``
is added, refunds are a sum beside the gross, and the sum of the loose refunds, which do leave,
is built anew from the few that are left.

Orders are found for ``keep_ms`` after they were last touched; a refund or line that comes later
than that counts as one of an unknown order. Memory rests on this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import PURCHASE, REFUND
from state import decay
from state.groups import Groups, group
from state.keyed import KeyedTable
from state.record import Layout
from state.retention import Retention
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS
from state.window import Window

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

ORDERS = "orders.decayed"
GROSS = "orders.decayed_gross"
REFUNDS = "orders.decayed_refunds"
LOOSE = "orders.decayed_loose"

_ROUNDING = 2.0**-40
"""A remainder of gross less refunds that is smaller than this share of the gross is none."""


class Orders:
    """What the users of a lane bought and gave back.

    Args:
        window_ms: length of the window.
        half_life_ms: of the decayed sums.
        keep_ms: for how long an order can be found after it was touched; the window if shorter.

    Attributes:
        entries: the orders: ``ts`` of the latest line, ``gross``, ``refunded``, minor units.
        loose: refunds of unknown orders: ``refunded`` and the latest ``ts``.
    """

    def __init__(self, window_ms: int, half_life_ms: int, keep_ms: int = 0) -> None:
        self._half_life_ms = half_life_ms
        self._keep_ms = max(window_ms, keep_ms)
        money = [Column("ts", "i8", NEVER_MS), Column("refunded", "i8")]
        common = [*money, Retention.COLUMN, Window.COLUMN]
        transient = [Window.COLUMN.name]
        self.entries = KeyedTable([*common, Column("gross", "i8")], transient)
        self.loose = KeyedTable([*common, *decay.columns("decayed")], transient)
        self._window = Window(self.entries, "ts", window_ms, "orders.window", self._net)
        self._loose_window = Window(
            self.loose, "ts", window_ms, "orders.loose_window", lambda s: self.loose["refunded"][s]
        )
        self._retention = Retention(self.entries)
        self._loose_retention = Retention(self.loose)

    def columns(self) -> list[Column]:
        """What the users' table needs; all but the windows' columns are to be stored."""
        return [
            Column("orders.count", "i4"),
            Column("orders.gross", "i8"),
            Column("orders.refunds", "i8"),
            Column("orders.last_ms", "i8", NEVER_MS),
            *(c for name in (ORDERS, GROSS, REFUNDS, LOOSE) for c in decay.columns(name)),
            *self._window.columns(),
            *self._loose_window.columns(),
        ]

    def transient(self) -> list[str]:
        """Names of the columns that ``restore`` works out, so that they need not be stored."""
        return [c.name for c in [*self._window.columns(), *self._loose_window.columns()]]

    # -- events and time ----------------------------------------------------------------------

    def update(self, table: Table, groups: Groups, batch: Batch, clock_ms: int) -> None:
        """Take in the purchases and refunds of a batch.

        Args:
            table: the users.
            groups: the batch's events by row.
            batch: without duplicates.
            clock_ms: of the lane; must not go back.
        """
        kind = batch.type[groups.index]
        purchases = groups.where(kind == PURCHASE)
        if len(purchases):
            self._total_lines(table, purchases, batch)
            self._place_lines(table, purchases, batch, clock_ms)
        refunds = groups.where(kind == REFUND)
        if len(refunds):
            amount = batch.amount_minor[refunds.index]
            table["orders.refunds"][refunds.rows] += np.add.reduceat(amount, refunds.starts)
            slots = self.entries.find(refunds.row_of, batch.order_hash[refunds.index])
            self._refund(table, slots[slots >= 0], amount[slots >= 0], clock_ms)
            self._refund_unknown(table, refunds.where(slots < 0), batch, clock_ms)

    def settle_rows(self, table: Table, rows: I64, t_ms: I64) -> None:
        """Let go from the window what left distinct rows by a time of their own, int64[n] each.

        To be called before values at ``t_ms`` are read; a row's times must not go back.
        """
        self._window.settle(table, rows, t_ms)
        self._loose_window.settle(table, rows, t_ms)

    def expire(self, table: Table, clock_ms: int) -> I64:
        """Let go what has left the window, and forget what is too old, by the lane's clock.

        Returns:
            The rows whose values or state changed, ascending, int64[n].
        """
        left = self._window.expire(table, clock_ms)
        left_loose = self._loose_window.expire(table, clock_ms)
        self.entries.delete(self._retention.ended(clock_ms))
        forgotten = self._forget_loose(table, self._loose_retention.ended(clock_ms))
        return np.unique(np.concatenate([left, left_loose, forgotten]))

    # -- values -------------------------------------------------------------------------------

    def lifetime_spend(self, table: Table, rows: I64) -> I64:
        """Gross less refunds, never below zero, int64[n] minor units."""
        spend: I64 = table["orders.gross"][rows] - table["orders.refunds"][rows]
        return np.maximum(spend, 0)

    def window_orders(self, table: Table, rows: I64) -> I32:
        """Orders in the window of rows that have been settled, int32[n]."""
        orders: I32 = table[self._window.names.count][rows]
        return orders

    def window_spend(self, table: Table, rows: I64) -> I64:
        """What the orders in the window come to, less its loose refunds, int64[n] minor units."""
        known, loose = self._window.names.total, self._loose_window.names.total
        return np.maximum(table[known][rows] - table[loose][rows], 0)

    def decayed_orders(self, table: Table, rows: I64) -> tuple[F64, I32]:
        """Decayed number of orders as mantissa and exponent, see ``state.decay``."""
        return table[f"{ORDERS}.m"][rows], table[f"{ORDERS}.e"][rows]

    def decayed_spend(self, table: Table, rows: I64) -> tuple[F64, I32]:
        """Decayed gross less decayed refunds, never below zero, as mantissa and exponent."""
        gross, e = table[f"{GROSS}.m"][rows], table[f"{GROSS}.e"][rows]
        mantissa, exponent = decay.add(gross, e, -table[f"{REFUNDS}.m"][rows], table[f"{REFUNDS}.e"][rows])
        mantissa, exponent = decay.add(mantissa, exponent, -table[f"{LOOSE}.m"][rows], table[f"{LOOSE}.e"][rows])
        return mantissa, exponent

    def next_expiry_ms(self, table: Table, rows: I64) -> I64:
        """When the window of each row may next change in silence, int64[n]; a lower bound."""
        known, loose = self._window.names.next_ms, self._loose_window.names.next_ms
        return np.minimum(table[known][rows], table[loose][rows])
