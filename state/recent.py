"""The items that each user had to do with last: a short list per user, the newest first.

Of every item the latest event counts, and of all items the ones with the latest events are kept;
of two at one millisecond the one with the higher hash is the newer. So the list is a function of
the set of events: any order and any batching give the same. Items are known by the hash of their
id (``Texts.hashes``), eight bytes each, because the same item stands in the lists of many users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from state.table import Column, Table
from state.times import NEVER_MS

I64 = NDArray[np.int64]
I8 = NDArray[np.int8]
U64 = NDArray[np.uint64]

NO_ITEM = 0
"""The hash of a place that holds none."""


class RecentItems:
    """One list per user.

    Args:
        name: its columns are ``<name>.item``, ``<name>.at`` and ``<name>.type``.
        places: how many items a list holds.

    >>> table, recent = Table(), RecentItems("recent", 3)
    >>> table.add_columns("", recent.columns())
    >>> row, view = table.grow(1), np.int8(1)
    >>> items, times = np.array([7, 8, 7], np.uint64), np.array([10, 20, 30])
    >>> before = recent.update(table, np.zeros(3, int), items, times, np.full(3, view), steps=2)
    >>> before.tolist()
    [[0, 0], [7, 0], [8, 0]]
    >>> recent.items(table, row).tolist()
    [[7, 8, 0]]
    """

    def __init__(self, name: str, places: int) -> None:
        self.places = places
        self._item, self._at, self._type = f"{name}.item", f"{name}.at", f"{name}.type"

    def columns(self) -> list[Column]:
        """The items, their latest events' times, and those events' types."""
        shape = (self.places,)
        return [
            Column(self._item, "u8", NO_ITEM, shape, ranked=True),
            Column(self._at, "i8", NEVER_MS, shape, ranked=True),
            Column(self._type, "i1", -1, shape, ranked=True),
        ]

    def update(
        self,
        table: Table,
        row_of: I64,
        items: U64,
        ts_ms: I64,
        types: I8,
        steps: int = 0,
        gap_ms: int = 2**62,
        had: U64 | None = None,
        since_ms: I64 | None = None,
    ) -> U64:
        """Take in events that name an item, in the order they came within each row.

        Args:
            table: the lane's table.
            row_of: each event's row, int64[n].
            items: the hash of its item, uint64[n].
            ts_ms: event times, int64[n].
            types: types of event, int8[n].
            steps: how many items before each event are asked for.
            gap_ms: what lies further back is not before it.
            had: is filled where an event's item was not in the list and is put into it: the item,
                and behind it all that the list held, the newest first, uint64[n, places + 1].
            since_ms: is filled where there is an item before an event: how long ago that was last
                touched, int64[n].

        Returns:
            The other items that the user's list held before each event and that are not later than
            it, the newest first, uint64[n, steps]; ``NO_ITEM`` where there are no more.
        """
        before = np.zeros((len(row_of), steps), dtype=np.uint64)
        columns = table[self._item], table[self._at], table[self._type]
        had = np.empty((0, 0), dtype=np.uint64) if had is None else had
        since_ms = np.empty(0, dtype=np.int64) if since_ms is None else since_ms
        _update(row_of, items, ts_ms, types, *columns, gap_ms, before, had, since_ms)
        return before

    def items(self, table: Table, rows: I64) -> U64:
        """The items of some rows, the newest first, uint64[n, places]."""
        out: U64 = table[self._item][rows]
        return out

    def at_ms(self, table: Table, rows: I64) -> I64:
        """When each was last touched, int64[n, places]."""
        out: I64 = table[self._at][rows]
        return out

    def types(self, table: Table, rows: I64) -> I8:
        """What the user last did with it, int8[n, places]."""
        out: I8 = table[self._type][rows]
        return out


@inlined
def _is_newer(ts: int, item: Any, kept_ts: int, kept: Any) -> Any:
    return ts > kept_ts or (ts == kept_ts and item > kept)


@compiled
def _update(
    row_of: I64,
    items: U64,
    ts_ms: I64,
    types: I8,
    held: U64,
    at: I64,
    kinds: I8,
    gap_ms: int,
    before: U64,
    had: U64,
    since_ms: I64,
) -> None:
    places, steps = held.shape[1], before.shape[1]
    for k in range(len(row_of)):
        row, item, ts, kind = row_of[k], items[k], ts_ms[k], types[k]
        step, place = 0, places
        for p in range(places):
            if held[row, p] == item and at[row, p] > NEVER_MS:
                place = p
            elif step < steps and ts - gap_ms <= at[row, p] <= ts:
                before[k, step] = held[row, p]
                if step == 0 and len(since_ms):
                    since_ms[k] = ts - at[row, p]
                step += 1
        if place < places:
            if ts < at[row, place]:
                continue
            if ts == at[row, place]:
                kinds[row, place] = max(kinds[row, place], kind)
                continue
        else:
            place = places - 1
            if not _is_newer(ts, item, at[row, place], held[row, place]):
                continue
            if len(had) and item != NO_ITEM:
                had[k, 0] = item
                for p in range(places):
                    had[k, p + 1] = held[row, p]  # what holds none is 0
        while place > 0 and _is_newer(ts, item, at[row, place - 1], held[row, place - 1]):
            held[row, place], at[row, place] = held[row, place - 1], at[row, place - 1]
            kinds[row, place] = kinds[row, place - 1]
            place -= 1
        held[row, place], at[row, place], kinds[row, place] = item, ts, kind
