"""Sessions: chains of a user's events without a gap of more than half an hour.

A session is not known to be whole before all its late events are in: an event may extend one
backwards, bridge two into one, or lie before all. So a user holds not the current session but the
newest ``KEPT`` stretches of activity, newest first, and a batch merges its own stretches with them.
Merging is a union of intervals, which knows no order: the same set of events gives the same
sessions in any order and any batching.

What is older than the kept ones is forgotten but for two times: when the newest forgotten one
ended, and when the latest return among them was. The result is exact as long as no event comes
that is older than, or within a gap of, a forgotten stretch; that takes an event later than
``KEPT`` newer sessions of its user. Such an event still counts where it touches a kept session.

Of the current session device and country are kept too, by the last event in event time that has
one. In silence a session ends by itself, one millisecond after its gap has passed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import come_closer, compiled, inlined
from state.groups import Groups
from state.latest import NO_TEXT, Latest
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Times = I64 | int

_AHEAD: Final = 8
"""So many users before one is touched, the row is asked for."""

KEPT: Final = 3
"""How many stretches of activity a user holds."""

DEVICE, COUNTRY = "session.device.code", "session.country.code"
"""The columns of text codes."""

_START, _END = "session.start", "session.end"
_VIEWS, _CARTS = "session.views", "session.carts"
_FORGOTTEN_END, _FORGOTTEN_RETURN = "session.forgotten_end", "session.forgotten_return"


class Sessions:
    """The sessions of a lane's users.

    Args:
        gap_ms: two events further apart than this are of different sessions.
        return_gap_ms: who comes back after at least so long has returned.

    >>> from state.groups import group
    >>> table, sessions = Table(), Sessions(gap_ms=30, return_gap_ms=1_000)
    >>> table.add_columns("", sessions.columns())
    >>> rows, ts_ms = table.grow(1), np.array([2_000, 2_025, 100])
    >>> is_view, is_cart = np.array([True, True, True]), np.array([False, True, False])
    >>> sessions.update(table, group(np.zeros(3, int)), ts_ms, is_view, is_cart)
    >>> sessions.start_ms(table, rows).tolist(), sessions.views(table, rows).tolist()
    ([2000], [2])
    >>> sessions.returned_ms(table, rows).tolist()
    [2000]
    >>> sessions.next_step_ms(table, rows, 2_050).tolist()
    [2056]
    """

    def __init__(self, gap_ms: int, return_gap_ms: int) -> None:
        if not 0 <= gap_ms < return_gap_ms:
            raise ValueError(
                "the gap that ends a session must not be negative and must be shorter than the "
                f"one after which a user returns, but they are {gap_ms} and {return_gap_ms} ms"
            )
        self._gap_ms = gap_ms
        self._return_gap_ms = return_gap_ms
        self._device = Latest(DEVICE.removesuffix(".code"))
        self._country = Latest(COUNTRY.removesuffix(".code"))

    def columns(self) -> list[Column]:
        """Stretches newest first, ``NEVER_MS`` where there are fewer, and what was forgotten."""
        return [
            Column(_START, "i8", NEVER_MS, (KEPT,)),
            Column(_END, "i8", NEVER_MS, (KEPT,)),
            Column(_VIEWS, "i4", 0, (KEPT,)),
            Column(_CARTS, "i4", 0, (KEPT,)),
            Column(_FORGOTTEN_END, "i8", NEVER_MS),
            Column(_FORGOTTEN_RETURN, "i8", NEVER_MS),
            *self._device.columns(),
            *self._country.columns(),
        ]

    # -- events -------------------------------------------------------------------------------

    def update(
        self, table: Table, groups: Groups, ts_ms: I64, is_view: Bools, is_cart: Bools
    ) -> None:
        """Take events in, of all types.

        Args:
            table: the lane's table.
            groups: the events, by row.
            ts_ms: event times of the whole batch, int64[batch].
            is_view: which events are product views, bool[batch].
            is_cart: which put something into the cart, bool[batch].
        """
        if len(groups) == 0:
            return
        room = int(groups.counts().max()) + KEPT
        _update(
            groups.index,
            groups.row_of,
            groups.starts,
            groups.ends(),
            ts_ms,
            is_view,
            is_cart,
            table[_START],
            table[_END],
            table[_VIEWS],
            table[_CARTS],
            table[_FORGOTTEN_END],
            table[_FORGOTTEN_RETURN],
            self._gap_ms,
            self._return_gap_ms,
            np.empty((room, 4), dtype=np.int64),
        )

    def update_texts(
        self, table: Table, groups: Groups, ts_ms: I64, event_hash: U64, device: I32, country: I32
    ) -> None:
        """Take in who uses what from where.

        Args:
            table: the lane's table.
            groups: the events, by row.
            ts_ms: event times of the whole batch, int64[batch].
            event_hash: they break ties of time, uint64[batch].
            device: codes of the lane's vocabulary, int32[batch]; -1 where absent.
            country: the same.
        """
        self._device.update(table, groups, ts_ms, event_hash, device)
        self._country.update(table, groups, ts_ms, event_hash, country)

    # -- values -------------------------------------------------------------------------------

    def start_ms(self, table: Table, rows: I64) -> I64:
        """First event of the latest session, int64[n]; ``NEVER_MS`` for a user without events."""
        out: I64 = table[_START][rows, 0]
        return out

    def end_ms(self, table: Table, rows: I64) -> I64:
        """Last event of the latest session, int64[n]; ``NEVER_MS`` for a user without events."""
        out: I64 = table[_END][rows, 0]
        return out

    def views(self, table: Table, rows: I64) -> I32:
        """Product views in the latest session, int32[n]."""
        out: I32 = table[_VIEWS][rows, 0]
        return out

    def carts(self, table: Table, rows: I64) -> I32:
        """Additions to the cart in the latest session, int32[n]."""
        out: I32 = table[_CARTS][rows, 0]
        return out

    def device(self, table: Table, rows: I64) -> I32:
        """Code of the latest session's last device, int32[n]; -1 where it has none."""
        return self._of_session(self._device, table, rows)

    def country(self, table: Table, rows: I64) -> I32:
        """Code of the latest session's last country, int32[n]; -1 where it has none."""
        return self._of_session(self._country, table, rows)

    def active(self, table: Table, rows: I64, t_ms: Times) -> Bools:
        """Whether the latest session still lasts at each row's time, bool[n]."""
        out: Bools = t_ms - self.end_ms(table, rows) <= self._gap_ms
        return out

    def returned_ms(self, table: Table, rows: I64) -> I64:
        """Start of the latest session after a long absence, int64[n]; ``NEVER_MS`` if none."""
        forgotten = table[_FORGOTTEN_END], table[_FORGOTTEN_RETURN]
        latest = np.empty(len(rows), dtype=np.int64)
        _latest_return(rows, table[_START], table[_END], *forgotten, self._return_gap_ms, latest)
        return latest

    def next_step_ms(self, table: Table, rows: I64, t_ms: Times) -> I64:
        """When the session ends in silence, int64[n]; ``FAR_MS`` where it has."""
        ends = self.end_ms(table, rows) + self._gap_ms + 1
        return np.where(self.active(table, rows, t_ms), ends, FAR_MS)

    # -- within -------------------------------------------------------------------------------

    def _of_session(self, text: Latest, table: Table, rows: I64) -> I32:
        given = text.at_ms(table, rows) >= self.start_ms(table, rows)
        return np.where(given, text.code(table, rows), np.int32(NO_TEXT))


@inlined
def _united(held: I64, n: int, gap_ms: int) -> Any:
    """Make one of the first ``n`` stretches wherever no more than the gap lies between; how many.

    Each is (start, end, views, carts). They come out in order of time.
    """
    for i in range(1, n):  # nearly sorted already, so insertion is quick
        start, end, views, carts = held[i, 0], held[i, 1], held[i, 2], held[i, 3]
        k = i
        while k > 0 and held[k - 1, 0] > start:
            for column in range(4):
                held[k, column] = held[k - 1, column]
            k -= 1
        held[k, 0], held[k, 1], held[k, 2], held[k, 3] = start, end, views, carts
    last = 0
    for i in range(1, n):
        if held[i, 0] <= held[last, 1] + gap_ms:
            held[last, 1] = max(held[last, 1], held[i, 1])
            held[last, 2] += held[i, 2]
            held[last, 3] += held[i, 3]
        else:
            last += 1
            for column in range(4):
                held[last, column] = held[i, column]
    return last + 1


@compiled
def _latest_return(
    rows: I64,
    start: I64,
    end: I64,
    forgotten_end: I64,
    forgotten_return: I64,
    return_gap_ms: int,
    latest: I64,
) -> None:
    """The newest stretch of each row that starts long after the end of the one before."""
    for i in range(len(rows)):
        row = rows[i]
        latest[i] = forgotten_return[row]
        for age in range(KEPT):
            before = forgotten_end[row]
            if age + 1 < KEPT:
                before = max(before, end[row, age + 1])
            if before > NEVER_MS and start[row, age] - before >= return_gap_ms:
                latest[i] = max(latest[i], start[row, age])
                break


@compiled
def _update(
    index: I64,
    row_of: I64,
    starts: I64,
    ends: I64,
    ts_ms: I64,
    is_view: Bools,
    is_cart: Bools,
    start: I64,
    end: I64,
    views: I32,
    carts: I32,
    forgotten_end: I64,
    forgotten_return: I64,
    gap_ms: int,
    return_gap_ms: int,
    held: I64,
) -> None:
    """Unite each row's events with its stretches; ``held`` is room for those of one row."""
    for u in range(len(starts)):
        if u + _AHEAD < len(starts):
            ahead = row_of[starts[u + _AHEAD]]
            come_closer(start, ahead)
            come_closer(views, ahead)
        first, stop = starts[u], ends[u]
        row = row_of[first]
        low = high = ts_ms[index[first]]
        viewed = carted = 0
        for k in range(first, stop):
            i = index[k]
            low, high = min(low, ts_ms[i]), max(high, ts_ms[i])
            viewed += is_view[i]
            carted += is_cart[i]
        if start[row, 0] <= low <= end[row, 0] + gap_ms and high - low <= gap_ms:
            # it only makes the newest longer or fuller, as nearly everybody's does in a live stream
            end[row, 0] = max(end[row, 0], high)
            views[row, 0] += viewed
            carts[row, 0] += carted
            continue
        n = 0
        for age in range(KEPT - 1, -1, -1):
            if start[row, age] > NEVER_MS:
                held[n, 0], held[n, 1] = start[row, age], end[row, age]
                held[n, 2], held[n, 3] = views[row, age], carts[row, age]
                n += 1
        for k in range(first, stop):
            i = index[k]
            held[n, 0], held[n, 1] = ts_ms[i], ts_ms[i]
            held[n, 2], held[n, 3] = is_view[i], is_cart[i]
            n += 1
        n = _united(held, n, gap_ms)
        before = forgotten_end[row]
        for k in range(n - KEPT):  # too old to be kept: only when they ended, and the last return
            if before > NEVER_MS and held[k, 0] - before >= return_gap_ms:
                forgotten_return[row] = max(forgotten_return[row], held[k, 0])
            before = max(before, held[k, 1])
            forgotten_end[row] = before
        for age in range(KEPT):
            k = n - 1 - age
            start[row, age] = held[k, 0] if k >= 0 else NEVER_MS
            end[row, age] = held[k, 1] if k >= 0 else NEVER_MS
            views[row, age] = held[k, 2] if k >= 0 else 0
            carts[row, age] = held[k, 3] if k >= 0 else 0
