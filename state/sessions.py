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

from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.groups import Groups
from state.latest import NO_TEXT, Latest
from state.stretches import Stretches
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]
Times = I64 | int

KEPT: Final = 3
"""How many stretches of activity a user holds."""

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
        self._device = Latest("session.device")
        self._country = Latest("session.country")

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
        at = groups.index
        events = Stretches(
            owner=np.repeat(np.arange(len(groups.rows)), groups.counts()),
            start=ts_ms[at],
            end=ts_ms[at],
            views=is_view[at].astype(np.int64),
            carts=is_cart[at].astype(np.int64),
        )
        spans = events.joined(groups.starts)
        ahead = self._extends_newest(table, groups.rows, spans)
        self._extend_newest(table, groups.rows[ahead], spans[ahead])
        if not ahead.all():
            rest = events[~ahead[events.owner]]
            self._merge(table, groups.rows[~ahead], rest.moved_to(np.cumsum(~ahead) - 1))

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
        start, end = table[_START][rows], table[_END][rows]
        before = np.full_like(end, NEVER_MS)
        before[:, :-1] = end[:, 1:]
        before = np.maximum(before, table[_FORGOTTEN_END][rows][:, None])
        returns = np.where(self._is_return(start, before), start, NEVER_MS)
        latest: I64 = np.maximum(returns.max(axis=1), table[_FORGOTTEN_RETURN][rows])
        return latest

    def next_step_ms(self, table: Table, rows: I64, t_ms: Times) -> I64:
        """When the session ends in silence, int64[n]; ``FAR_MS`` where it has."""
        ends = self.end_ms(table, rows) + self._gap_ms + 1
        return np.where(self.active(table, rows, t_ms), ends, FAR_MS)

    # -- within -------------------------------------------------------------------------------

    def _extends_newest(self, table: Table, rows: I64, spans: Stretches) -> Bools:
        """Whose events only make the newest stretch longer or fuller, bool[u].

        That is nearly everybody while a stream is live, and costs far less than a merge.
        """
        one_stretch = spans.end - spans.start <= self._gap_ms
        not_before = spans.start >= self.start_ms(table, rows)
        return one_stretch & not_before & (spans.start <= self.end_ms(table, rows) + self._gap_ms)

    def _extend_newest(self, table: Table, rows: I64, spans: Stretches) -> None:
        table[_END][rows, 0] = np.maximum(table[_END][rows, 0], spans.end)
        table[_VIEWS][rows, 0] += spans.views.astype(np.int32)
        table[_CARTS][rows, 0] += spans.carts.astype(np.int32)

    def _merge(self, table: Table, rows: I64, events: Stretches) -> None:
        """Unite events with what their owners, positions in ``rows``, hold; keep the newest."""
        united = (events + _held(table, rows)).united(self._gap_ms)
        newest = np.searchsorted(united.owner, np.arange(len(rows)), side="right") - 1
        age = newest[united.owner] - np.arange(len(united))  # 0 for an owner's newest
        if (age >= KEPT).any():
            self._forget(table, rows, united, age >= KEPT)
        kept = age < KEPT
        _hold(table, rows, united[kept], age[kept])

    def _forget(self, table: Table, rows: I64, united: Stretches, old: Bools) -> None:
        """Keep of the stretches in ``old`` when the newest ended and when the latest return was."""
        row = rows[united.owner]
        before = np.full(len(united), NEVER_MS)
        before[1:] = np.where(united.owner[1:] == united.owner[:-1], united.end[:-1], NEVER_MS)
        before = np.maximum(before, table[_FORGOTTEN_END][row])
        returns = old & self._is_return(united.start, before)
        np.maximum.at(table[_FORGOTTEN_RETURN], row[returns], united.start[returns])
        np.maximum.at(table[_FORGOTTEN_END], row[old], united.end[old])

    def _is_return(self, start: I64, before: I64) -> Bools:
        """Whether a stretch starts long after the end of the one before, of one that has one."""
        return (before > NEVER_MS) & (start - before >= self._return_gap_ms)

    def _of_session(self, text: Latest, table: Table, rows: I64) -> I32:
        given = text.at_ms(table, rows) >= self.start_ms(table, rows)
        return np.where(given, text.code(table, rows), np.int32(NO_TEXT))


def _held(table: Table, rows: I64) -> Stretches:
    """What the rows hold; the owner is a position in ``rows``."""
    start = table[_START][rows]
    owner, place = np.nonzero(start > NEVER_MS)
    cell = (rows[owner], place)
    return Stretches(
        owner=owner,
        start=table[_START][cell],
        end=table[_END][cell],
        views=table[_VIEWS][cell].astype(np.int64),
        carts=table[_CARTS][cell].astype(np.int64),
    )


def _hold(table: Table, rows: I64, kept: Stretches, age: I64) -> None:
    """Make ``kept`` what the rows hold, each at its ``age``; places left over become empty."""
    for name, values, none in (
        (_START, kept.start, NEVER_MS),
        (_END, kept.end, NEVER_MS),
        (_VIEWS, kept.views, 0),
        (_CARTS, kept.carts, 0),
    ):
        column = table[name]
        column[rows] = none
        column[rows[kept.owner], age] = values
