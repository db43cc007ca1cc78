"""What lies in each user's cart.

The last writer in event time wins, item by item: a line is there while its latest add is later than
its latest remove, later than the user's last order, and younger than the time to live. All three
are latest times, so the cart is a function of the set of events. In other words a line lives from
its add until the order, the remove or its age ends it: a window that opens anew with each order.

An entry that no event can bring back is deleted: a line that an order has ended at once, one that
was removed or grew old at the end of its time to live, because an add that is older than the remove
is too old as well by then. A cart shows its ``max_lines`` newest lines. A user who keeps touching
other items is cut back to the newest entries at twice that; only there a late event may find its
item forgotten.

Items are as many as the shop has, so their texts are kept only as long as a cart holds them. In the
store the text follows the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import compiled
from events.schema import ADD_TO_CART, REMOVE_FROM_CART
from events.texts import Texts
from state.groups import Groups, distinct
from state.keyed import KeyedTable, record_bytes
from state.record import Layout
from state.retention import Retention
from state.table import Column, Table
from state.text_index import TextIndex
from state.times import NEVER_MS
from state.window import Window

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_SPARE_TEXTS: Final = 10_000
"""Texts of no cart that may gather before they are dropped."""


class Carts:
    """The carts of a lane's users.

    Args:
        ttl_ms: a line's time to live after its latest add.
        max_lines: how many lines a cart shows.

    Attributes:
        entries: a line or a removed one: ``add_ms`` and ``remove_ms``, the latest; ``item``, the
            code of its text.
    """

    def __init__(self, ttl_ms: int, max_lines: int = 50) -> None:
        self._ttl_ms = ttl_ms
        self._max_lines = max_lines
        self._texts = TextIndex()
        self.entries = KeyedTable(
            [
                Column("add_ms", "i8", NEVER_MS),
                Column("remove_ms", "i8", NEVER_MS),
                Column("item", "i4", -1),
                Retention.COLUMN,
                Window.COLUMN,
            ],
            transient=["item", Window.COLUMN.name],
        )
        self._lines = Window(self.entries, "add_ms", ttl_ms, "cart.lines")
        self._retention = Retention(self.entries)

    def columns(self) -> list[Column]:
        """What the users' table needs, by whole name; ``last_order`` comes from the orders."""
        return [Column("cart.touched", "i8", NEVER_MS), *self._lines.columns()]

    def transient(self) -> list[str]:
        """Columns that ``restore`` works out from the entries, so that they are not stored."""
        return [column.name for column in self._lines.columns()]

    # -- events and time ----------------------------------------------------------------------

    def update(self, table: Table, groups: Groups, batch: Batch, clock_ms: int) -> None:
        """Take in adds and removes, and the orders of a batch that ``Orders`` has taken in.

        Args:
            table: the users.
            groups: the batch's events by row.
            batch: all of it; only events among the groups count.
            clock_ms: of the lane; must not go back.
        """
        kind = batch.type[groups.index]
        events = groups.where((kind == ADD_TO_CART) | (kind == REMOVE_FROM_CART))
        if len(events):
            matter = batch.item.present[events.index]
            times, dead_ms = batch.ts_ms[events.index], clock_ms - self._ttl_ms
            _touch(
                events.row_of, times, dead_ms, table["last_order"], table["cart.touched"], matter
            )
            alive = events.where(matter)
            if len(alive):
                self._write(table, alive, batch, clock_ms)
        self._forget(table, self._settle(table, groups.rows, np.full(len(groups.rows), clock_ms)))

    def settle_rows(self, table: Table, rows: I64, t_ms: I64) -> None:
        """Let lines go that distinct rows have outlived at a time of their own, int64[n] each.

        To be called before values at ``t_ms`` are read; neither it nor the clock may go back.
        """
        self._settle(table, rows, t_ms)

    def expire(self, table: Table, clock_ms: int) -> I64:
        """Let lines go by the lane's clock; the rows they left, ascending, int64[n]."""
        rows = self._lines.expire(table, clock_ms)
        self.entries.delete(self._retention.ended(clock_ms))
        self._drop_spare_texts()
        return rows

    def restore(self, table: Table, clock_ms: int) -> None:
        """After the users, their orders and all carts were loaded, and before anything else."""
        for column in self._lines.columns():
            table[column.name][:] = column.initial
        slots = self.entries.live()
        self._retention.restore(slots, self._latest(slots) + self._ttl_ms)
        self._lines.restore(table, slots[self._present(table, slots)], clock_ms)

    # -- values -------------------------------------------------------------------------------

    def items(self, table: Table, rows: I64) -> I64:
        """How many lines each cart shows, int64[n], of rows that have been settled."""
        lines: I64 = table[self._lines.names.count][rows].astype(np.int64)
        return np.minimum(lines, self._max_lines)

    def next_expiry_ms(self, table: Table, rows: I64) -> I64:
        """When each cart may next change in silence, int64[n]; a lower bound."""
        due: I64 = table[self._lines.names.next_ms][rows]
        return due

    def contents(self, rows: I64) -> tuple[I64, I64]:
        """The lines that the carts of distinct rows show, the newest first.

        Returns:
            slots: int64[k]; see ``item_ids`` and ``entries["add_ms"]``.
            place: position in ``rows`` of each one's cart, ascending, int64[k].
        """
        slots, place = self.entries.of(rows)
        inside = self.entries[Window.COLUMN.name][slots]
        slots, place = slots[inside], place[inside]
        order, rank = self._newest(place, self.entries["add_ms"][slots], slots)
        shown = order[rank < self._max_lines]
        return slots[shown], place[shown]

    def item_ids(self, slots: I64) -> Texts:
        """The item of each line."""
        return self._texts.texts(self.entries["item"][slots])

    # -- form in the store --------------------------------------------------------------------

    def pack(self, slots: I64, serials: NDArray[np.uint32]) -> tuple[Texts, Texts]:
        """Fields and values of entries, see ``KeyedTable.pack``."""
        return self.entries.pack(slots, serials, self.item_ids(slots))

    def load(
        self,
        fields: Sequence[bytes],
        values: Sequence[bytes],
        row_of_serial: I64,
        layout: Layout,
        seq: int = 0,
    ) -> I64:
        """Add a shard's stored entries, see ``KeyedTable.load``; their slots, int64[n]."""
        size = record_bytes(layout)
        records = [value[:size] for value in values]
        slots = self.entries.load(fields, records, row_of_serial, layout, seq)
        items = Texts.of_bytes([value[size:] for value in values])
        self.entries["item"][slots] = self._texts.number(items)
        return slots

    def bytes_held(self) -> int:
        """Bytes of all of it, but not of texts and users' columns."""
        own = self._lines.bytes_held() + self._retention.bytes_held()
        return own + self.entries.bytes_held()

    # -- inside -------------------------------------------------------------------------------

    def _write(self, table: Table, events: Groups, batch: Batch, clock_ms: int) -> None:
        """Adds and removes that may still matter, by item."""
        keys, items = self._items(batch, events.index)
        slot_of = self.entries.find_or_add(events.row_of, keys)
        slots = distinct(slot_of)
        self._lines.take_out(table, slots)
        add_ms, remove_ms = self.entries["add_ms"], self.entries["remove_ms"]
        before = add_ms[slots]
        self.entries["item"][slot_of] = items
        _write(slot_of, events.index, batch.ts_ms, batch.type == ADD_TO_CART, add_ms, remove_ms)
        self._retention.keep(slots, self._latest(slots) + self._ttl_ms)
        self.entries.mark(slots)
        there = self._present(table, slots)
        self._lines.put_in(table, slots[there], clock_ms, (add_ms[slots] > before)[there])
        self._cut_back(table, events.rows)

    def _items(self, batch: Batch, index: I64) -> tuple[NDArray[np.uint64], I32]:
        """Key and text code of the items of some events, n each."""
        items = batch.item.take(index)
        return items.hashes(), self._texts.number(items).astype(np.int32)

    def _latest(self, slots: I64) -> I64:
        """When lines were last written, int64[n]."""
        latest: I64 = np.maximum(self.entries["add_ms"][slots], self.entries["remove_ms"][slots])
        return latest

    def _present(self, table: Table, slots: I64) -> Bools:
        """Whether neither a remove nor the last order came at or after a line's add, bool[n]."""
        last_order = table["last_order"][self.entries["owner"][slots]]
        present: Bools = self.entries["add_ms"][slots] > np.maximum(
            self.entries["remove_ms"][slots], last_order
        )
        return present

    def _settle(self, table: Table, rows: I64, t_ms: I64) -> I64:
        """An order ends what lies before it as its age would, only earlier."""
        ends_ms = np.empty(len(rows), dtype=np.int64)
        _end_by_order(rows, t_ms, table["last_order"], self._ttl_ms, ends_ms)
        return self._lines.settle(table, rows, ends_ms)

    def _cut_back(self, table: Table, rows: I64) -> None:
        """Leave users with too many entries only their newest."""
        rows = rows[self.entries.counts(rows) > 2 * self._max_lines]
        if len(rows) == 0:
            return
        slots, place = self.entries.of(rows)
        order, rank = self._newest(place, self._latest(slots), slots)
        self._forget(table, slots[order[rank >= self._max_lines + self._max_lines // 2]])

    def _newest(self, place: I64, time_ms: I64, slots: I64) -> tuple[I64, I64]:
        """The order by place, then newest first, and each one's rank within its place."""
        order = np.lexsort((self.entries["key"][slots], -time_ms, place))
        ordered = place[order]
        return order, np.arange(len(order)) - np.searchsorted(ordered, ordered)

    def _forget(self, table: Table, slots: I64) -> None:
        self._lines.take_out(table, slots)
        self.entries.delete(slots)

    def _drop_spare_texts(self) -> None:
        """Number the texts anew when most of them are in no cart any more."""
        if len(self._texts) <= 2 * len(self.entries) + _SPARE_TEXTS:
            return
        slots = self.entries.live()
        items = self.entries["item"][slots]
        self.entries["item"][slots] = self._texts.keep(np.unique(items).astype(np.int64))[items]


@compiled
def _touch(
    row_of: I64, ts_ms: I64, dead_ms: int, last_order: I64, touched: I64, matter: Bools
) -> None:
    """Note when carts were touched; what is too old, or ordered by then, matters no more."""
    for k in range(len(row_of)):
        row, ts = row_of[k], ts_ms[k]
        touched[row] = max(touched[row], ts)
        matter[k] &= ts > max(last_order[row], dead_ms)


@compiled
def _end_by_order(rows: I64, t_ms: I64, last_order: I64, ttl_ms: int, ends_ms: I64) -> None:
    for k in range(len(rows)):
        ends_ms[k] = max(t_ms[k], last_order[rows[k]] + ttl_ms)


@compiled
def _write(
    slot_of: I64, index: I64, ts_ms: I64, is_add: Bools, add_ms: I64, remove_ms: I64
) -> None:
    """Write each event's time to its line, where none is later."""
    for k in range(len(slot_of)):
        i, slot = index[k], slot_of[k]
        if is_add[i]:
            add_ms[slot] = max(add_ms[slot], ts_ms[i])
        else:
            remove_ms[slot] = max(remove_ms[slot], ts_ms[i])
