"""The latest text of a user (device, country), as the last writer in event time left it.

Of two events at one millisecond the one with the higher event hash wins, so the result is a
function of the set of events: any order and any batching give the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.groups import Groups
from state.table import Column, Table
from state.times import NEVER_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

NO_TEXT: Final = -1
"""The code of a user, or an event, without a text."""


class Latest:
    """One text per user, by code, with the time of the event that said so.

    Args:
        name: its columns are ``<name>.code``, ``<name>.at`` and ``<name>.tie``.

    >>> from state.groups import group
    >>> table, device = Table(), Latest("device")
    >>> table.add_columns("", device.columns())
    >>> rows, codes = table.grow(1), np.array([4, 5, -1], np.int32)
    >>> ties = np.array([8, 9, 7], np.uint64)
    >>> device.update(table, group(np.zeros(3, int)), np.array([20, 10, 30]), ties, codes)
    >>> device.code(table, rows).tolist(), device.at_ms(table, rows).tolist()
    ([4], [20])
    """

    def __init__(self, name: str) -> None:
        self._code, self._at, self._tie = f"{name}.code", f"{name}.at", f"{name}.tie"

    def columns(self) -> list[Column]:
        """The code, its event's time, and that event's hash."""
        return [
            Column(self._code, "i4", NO_TEXT),
            Column(self._at, "i8", NEVER_MS),
            Column(self._tie, "u8"),
        ]

    def update(self, table: Table, groups: Groups, ts_ms: I64, event_hash: U64, code: I32) -> None:
        """Let the events write that carry a text.

        Args:
            table: the lane's table.
            groups: the events, by row.
            ts_ms: event times of the whole batch, int64[batch].
            event_hash: their hashes, uint64[batch].
            code: their texts, int32[batch]; ``NO_TEXT`` where an event has none.
        """
        said = code[groups.index] >= 0
        if not said.all():
            groups = groups.where(said)
        if len(groups) == 0:
            return
        winner = groups.index[_last(groups, ts_ms[groups.index], event_hash[groups.index])]
        rows, ts, tie = groups.rows, ts_ms[winner], event_hash[winner]
        at = table[self._at][rows]
        wins = (ts > at) | ((ts == at) & (tie > table[self._tie][rows]))
        rows, winner = rows[wins], winner[wins]
        table[self._code][rows] = code[winner]
        table[self._at][rows] = ts[wins]
        table[self._tie][rows] = tie[wins]

    def code(self, table: Table, rows: I64) -> I32:
        """Each row's text, int32[n]; ``NO_TEXT`` where none was ever given."""
        out: I32 = table[self._code][rows]
        return out

    def at_ms(self, table: Table, rows: I64) -> I64:
        """When it was given, int64[n]."""
        out: I64 = table[self._at][rows]
        return out


def _last(groups: Groups, ts: I64, tie: U64) -> I64:
    """The place among the sorted events of each row's highest (ts, tie), int64[u]."""
    counts = groups.counts()
    newest = ts == np.repeat(np.maximum.reduceat(ts, groups.starts), counts)
    ties = np.where(newest, tie, 0)
    highest = newest & (ties == np.repeat(np.maximum.reduceat(ties, groups.starts), counts))
    place = np.where(highest, np.arange(len(ts)), -1)
    out: I64 = np.maximum.reduceat(place, groups.starts)
    return out
