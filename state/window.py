"""Exact sums over the entries of each user that lie in a sliding window of time.

An entry is inside while ``T - length < at ≤ T``: it counts from when it is known and leaves at
``at + length``, to the millisecond. The sums are integers, changed by what enters and leaves, so
they are the same whatever the order of events. What leaves is found through a ``Timeline``, so a
touch or a step in time costs what moves, however many entries the user has.

Per user the window keeps the next time at which something may leave. It is a lower bound, made
good only when it is reached. A user evaluated ahead of the lane's clock is settled to their own
time; times of a user never go back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from state.alarms import Alarms
from state.groups import distinct
from state.keyed import KeyedTable
from state.table import Column, Table
from state.timeline import Timeline
from state.times import FAR_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_NOBODY: Final = np.empty(0, dtype=np.int64)


@dataclass(slots=True, frozen=True)
class Columns:
    """Names of a window's columns in the users' table."""

    count: str
    total: str
    next_ms: str


class Window:
    """Count and total worth of each user's entries in the window.

    Args:
        entries: the table whose entries count; needs ``Window.COLUMN``, which it need not store.
        at: its column with the time of an entry.
        length_ms: of the window.
        name: prefix of the window's columns in the users' table; they need not be stored.
        worth: what entries are worth now, int64[n] of slots int64[n].
    """

    COLUMN = Column("inside", "?")

    def __init__(
        self,
        entries: KeyedTable,
        at: str,
        length_ms: int,
        name: str,
        worth: Callable[[I64], I64] | None = None,
    ) -> None:
        self.names = Columns(f"{name}.count", f"{name}.total", f"{name}.next_ms")
        self._entries = entries
        self._at = at
        self._length_ms = length_ms
        self._worth = worth
        self._timeline = Timeline(self._holds)
        self._alarms = Alarms()

    def columns(self) -> list[Column]:
        """What the users' table needs: count, total if there is a worth, and next time to leave."""
        count, total = Column(self.names.count, "i4"), Column(self.names.total, "i8")
        next_ms = Column(self.names.next_ms, "i8", FAR_MS)
        return [count, next_ms] if self._worth is None else [count, total, next_ms]

    def take_out(self, table: Table, slots: I64) -> None:
        """Uncount entries, each once: before they change or end. Those outside may be given."""
        (inside, owner), (worth, counts, totals) = self._held(), self._sums(table, slots)
        _take_out(slots, inside, owner, worth, counts, totals)

    def put_in(self, table: Table, slots: I64, clock_ms: int, moved: Bools) -> None:
        """Count entries that were taken out or are new, each once.

        Args:
            table: the users.
            slots: int64[n].
            clock_ms: of the lane; what has left by then is not counted.
            moved: bool[n], the entry is new or its time has changed since it was last put in.
        """
        (inside, owner), (worth, counts, totals) = self._held(), self._sums(table, slots)
        new, nearer = np.empty((2, 3, len(slots)), dtype=np.int64)
        entered, lowered = _put_in(
            *(slots, self._entries[self._at], clock_ms, self._length_ms, moved, inside, owner),
            *(worth, counts, totals, table[self.names.next_ms], new, nearer),
        )
        if entered:
            self._timeline.add(*new[:, :entered])
        if lowered:
            self._alarms.set(*nearer[:2, :lowered])

    def settle(self, table: Table, rows: I64, t_ms: I64) -> I64:
        """Let go what has left distinct rows by a time of their own; both int64[n].

        Returns:
            The slots that left, int64[k], ascending. Rows with nothing due cost next to nothing.
        """
        due = table[self.names.next_ms]
        reached, horizon = np.empty((2, len(rows)), dtype=np.int64)
        n = _reached(rows, t_ms, self._length_ms, due, reached, horizon)
        if n == 0:
            return _NOBODY
        rows, horizon = reached[:n], horizon[:n]
        first = due[rows] - self._length_ms
        place, times, slots = self._timeline.between(rows, first - 1, horizon)
        inside = self._entries[self.COLUMN.name][slots]
        left = distinct(slots[self._holds(rows[place], times, slots) & inside])
        self.take_out(table, left)
        following = self._timeline.next_after(rows, horizon)
        more = (table[self.names.count][rows] > 0) & (following < FAR_MS)
        due[rows] = FAR_MS
        rows, leaves = rows[more], following[more] + self._length_ms
        due[rows] = leaves
        self._alarms.set(rows, leaves)
        return left

    def expire(self, table: Table, clock_ms: int) -> I64:
        """Let go what has left by the lane's clock; the rows it left, ascending, int64[k]."""
        rows = self._alarms.ring(clock_ms, table[self.names.next_ms])
        if len(rows) == 0:
            return rows
        left = self.settle(table, rows, np.full(len(rows), clock_ms, dtype=np.int64))
        self._timeline.forget(clock_ms - self._length_ms)
        return distinct(self._entries["owner"][left].astype(np.int64))

    def restore(self, table: Table, slots: I64, clock_ms: int) -> None:
        """Count entries that were loaded, into columns that are as new."""
        self.put_in(table, slots, clock_ms, np.ones(len(slots), dtype=np.bool_))

    def bytes_held(self) -> int:
        """Bytes beside the columns."""
        return self._timeline.bytes_held() + self._alarms.bytes_held()

    def _held(self) -> tuple[Bools, I32]:
        """Of every entry, whether it is inside and whose it is."""
        return self._entries[self.COLUMN.name], self._entries["owner"]

    def _sums(self, table: Table, slots: I64) -> tuple[I64, I32, I64]:
        """What entries are worth, and the users' columns; nothing for totals nobody keeps."""
        if self._worth is None:
            return _NOBODY, table[self.names.count], _NOBODY
        return self._worth(slots), table[self.names.count], table[self.names.total]

    def _holds(self, rows: I64, times: I64, slots: I64) -> Bools:
        """Whether the slots still hold entries of these rows at these times."""
        holds = np.empty(len(slots), dtype=np.bool_)
        _hold(rows, times, slots, self._entries["owner"], self._entries[self._at], holds)
        return holds


@inlined
def _count(k: int, row: int, sign: int, worth: I64, counts: I32, totals: I64) -> None:
    """Let the ``k``-th entry count for its user, or count no more."""
    counts[row] += sign
    if len(totals):
        totals[row] += sign * worth[k]


@compiled
def _take_out(slots: I64, inside: Bools, owner: I32, worth: I64, counts: I32, totals: I64) -> None:
    for k in range(len(slots)):
        if inside[slots[k]]:
            inside[slots[k]] = False
            _count(k, owner[slots[k]], -1, worth, counts, totals)


@compiled
def _put_in(
    slots: I64,
    at_ms: I64,
    clock_ms: int,
    length_ms: int,
    moved: Bools,
    inside: Bools,
    owner: I32,
    worth: I64,
    counts: I32,
    totals: I64,
    next_ms: I64,
    new: I64,
    nearer: I64,
) -> tuple[int, int]:
    """Count entries that have not left by the clock, and lower the next times of their users.

    Args:
        slots: of the entries.
        at_ms: the entries' times.
        clock_ms: of the lane.
        length_ms: of the window.
        moved: which of them are new on the timeline.
        inside: of the entries; changed.
        owner: of the entries.
        worth: of these entries, or nothing.
        counts: of the users; changed.
        totals: of the users, or nothing; changed.
        next_ms: of the users; changed.
        new: row, time and slot of what is new on the timeline; filled.
        nearer: row and time of each next time that became nearer; filled.

    Returns:
        How many of both there are.
    """
    entered = lowered = 0
    for k in range(len(slots)):
        slot = slots[k]
        row, at, leaves = owner[slot], at_ms[slot], at_ms[slot] + length_ms
        if leaves <= clock_ms:
            continue
        inside[slot] = True
        _count(k, row, 1, worth, counts, totals)
        if moved[k]:
            new[0, entered], new[1, entered], new[2, entered] = row, at, slot
            entered += 1
        if leaves < next_ms[row]:
            next_ms[row] = leaves
            nearer[0, lowered], nearer[1, lowered] = row, leaves
            lowered += 1
    return entered, lowered


@compiled
def _reached(rows: I64, t_ms: I64, length_ms: int, next_ms: I64, reached: I64, horizon: I64) -> int:
    """The rows for which something may have left, and the time up to which it has; how many."""
    n = 0
    for k in range(len(rows)):
        if next_ms[rows[k]] <= t_ms[k]:
            reached[n], horizon[n] = rows[k], t_ms[k] - length_ms
            n += 1
    return n


@compiled
def _hold(rows: I64, times: I64, slots: I64, owner: I32, at_ms: I64, holds: Bools) -> None:
    for k in range(len(slots)):
        holds[k] = owner[slots[k]] == rows[k] and at_ms[slots[k]] == times[k]
