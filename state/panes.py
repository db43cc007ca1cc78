"""Counts over a long window at a high rate, as a ring of panes per user.

"Views in seven days" to the millisecond would need every view of seven days. Cut into panes of a
day, it needs one number per pane: the value at time T is the sum of the pane T lies in and the
``panes - 1`` before it, so it steps at pane borders only and stands for the last 6 to 7 days.

A pane lives at its index modulo the ring's length, and the ring is moved on by zeroing the panes
that come into it. What is older than the ring is dropped, and can be: a user is never evaluated
before their own last event, and from there on that pane is out of the window. So the value is a
sum over the set of events, in any order and any batching. Two panes more than the window needs
keep it right also for a T up to two panes before the newest event.

Use ``state.orders`` where a window must end to the millisecond, ``state.decay`` where recent events
should weigh more.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.groups import Groups
from state.table import Column, Table
from state.times import FAR_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_BEFORE_ALL: Final = -(2**50)
"""The newest pane of a user without events: older than any, far from the ends of int64."""

_NO_WAIT: Final = 2**29
"""More panes than any ring has."""


class Panes:
    """One windowed sum per user.

    Args:
        name: of the feature; its columns are ``<name>.ring`` and ``<name>.newest``.
        pane_ms: length of a pane.
        panes: how many panes make the window.
        dtype: of a pane's sum; an integer keeps it exact.

    >>> from state.groups import group
    >>> table, views = Table(), Panes("views", pane_ms=100, panes=2)
    >>> table.add_columns("", views.columns())
    >>> rows = table.grow(1)
    >>> ts_ms, weight = np.array([120, 30, 190]), np.array([1, 1, 1])
    >>> views.update(table, group(np.array([0, 0, 0])), ts_ms, weight)
    >>> [views.value(table, rows, t).tolist() for t in (199, 200, 300)]
    [[3], [2], [0]]
    >>> views.next_step_ms(table, rows, 199).tolist()
    [200]
    """

    def __init__(self, name: str, pane_ms: int, panes: int, dtype: str = "i4") -> None:
        if pane_ms < 1 or panes < 1:
            raise ValueError(
                f"the window of {name!r} must have at least one pane of at least 1 ms, "
                f"but has {panes} of {pane_ms} ms"
            )
        self._pane_ms = pane_ms
        self._panes = panes
        self._length = panes + 2
        self._places = np.arange(self._length, dtype=np.int32)
        self._ring = f"{name}.ring"
        self._newest = f"{name}.newest"
        self._dtype = dtype

    def columns(self) -> list[Column]:
        """A sum per pane, and the index of the newest pane (pane 0 begins at the epoch)."""
        unit = f"{self._panes}x{self._pane_ms}"
        return [
            Column(self._ring, self._dtype, 0, (self._length,), unit=unit),
            Column(self._newest, "i8", _BEFORE_ALL, unit=unit),
        ]

    def update(self, table: Table, groups: Groups, ts_ms: I64, weight: NDArray[Any]) -> None:
        """Add events to their panes.

        Args:
            table: the lane's table.
            groups: the events that count, by row.
            ts_ms: event times of the whole batch, int64[batch].
            weight: what each adds, [batch], of the kind of ``dtype``.
        """
        ring, newest = table[self._ring], table[self._newest]
        _update(groups.index, groups.row_of, ts_ms, weight, self._pane_ms, ring, newest)

    def value(self, table: Table, rows: I64, t_ms: I64 | int) -> NDArray[Any]:
        """The sum over the panes of the window at each row's time ``t_ms``, n values."""
        ring, newest = table[self._ring], table[self._newest]
        out = np.zeros(len(rows), np.float64 if ring.dtype.kind == "f" else np.int64)
        at_ms = np.full(len(rows), t_ms, dtype=np.int64)
        _sum(rows, at_ms, self._pane_ms, self._panes, ring, newest, out)
        return out

    def next_step_ms(self, table: Table, rows: I64, t_ms: I64 | int) -> I64:
        """When each value next changes in silence after its ``t_ms``, int64[n], else ``FAR_MS``."""
        sums, age = table[self._ring].take(rows, axis=0), self._age_at(table, rows, t_ms)
        wait = self._panes * (age >= 0) - age  # panes until it leaves, or until it enters
        np.copyto(wait, _NO_WAIT, where=(sums == 0) | (wait < 1))
        panes = np.ascontiguousarray(wait.T).min(axis=0)
        turn = (np.asarray(t_ms) // self._pane_ms + panes) * self._pane_ms
        return np.where(panes < _NO_WAIT, turn, FAR_MS)

    def _age_at(self, table: Table, rows: I64, t_ms: I64 | int) -> I32:
        """How many panes before that of ``t_ms`` each place of a ring is, int32[n, panes + 2]."""
        newest = table[self._newest][rows]
        return self._behind(newest) + _narrow(np.asarray(t_ms) // self._pane_ms - newest)[:, None]

    def _behind(self, newest: I64) -> I32:
        """How many panes before the newest each place of a ring is, int32[n, panes + 2]."""
        behind = (newest % self._length).astype(np.int32)[:, None] - self._places
        behind += (behind < 0) * self._places.dtype.type(self._length)
        return behind


def _narrow(panes: I64) -> I32:
    """A number of panes as int32, held within what no ring is long enough for."""
    return np.clip(panes, -_NO_WAIT, _NO_WAIT).astype(np.int32)


@compiled
def _sum(
    rows: I64,
    t_ms: I64,
    pane_ms: int,
    panes: int,
    ring: NDArray[Any],
    newest: I64,
    out: NDArray[Any],
) -> None:
    """Add up, for each row, the panes of its window that its ring holds."""
    length = ring.shape[1]
    for i in range(len(rows)):
        row = rows[i]
        last = t_ms[i] // pane_ms
        first = max(last - panes, newest[row] - length) + 1
        place = first % length
        for _ in range(first, min(last, newest[row]) + 1):
            out[i] += ring[row, place]
            place = place + 1 if place + 1 < length else 0


@compiled
def _update(
    index: I64,
    row_of: I64,
    ts_ms: I64,
    weight: NDArray[Any],
    pane_ms: int,
    ring: NDArray[Any],
    newest: I64,
) -> None:
    """Add events one by one; a pane newer than the newest empties those that it reuses."""
    length = ring.shape[1]
    for k in range(len(index)):
        i, row = index[k], row_of[k]
        pane = ts_ms[i] // pane_ms
        if pane > newest[row]:
            for skipped in range(max(newest[row] + 1, pane - length + 1), pane + 1):
                ring[row, skipped % length] = 0
            newest[row] = pane
        if pane > newest[row] - length:
            ring[row, pane % length] += weight[i]
