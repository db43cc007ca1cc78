"""The latest text of a user (device, country), as the last writer in event time left it.

Of two events at one millisecond the one with the higher event hash wins, so the result is a
function of the set of events: any order and any batching give the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
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
        columns = table[self._code], table[self._at], table[self._tie]
        _update(groups.index, groups.row_of, ts_ms, event_hash, code, *columns)

    def code(self, table: Table, rows: I64) -> I32:
        """Each row's text, int32[n]; ``NO_TEXT`` where none was ever given."""
        out: I32 = table[self._code][rows]
        return out

    def at_ms(self, table: Table, rows: I64) -> I64:
        """When it was given, int64[n]."""
        out: I64 = table[self._at][rows]
        return out


@compiled
def _update(
    index: I64,
    row_of: I64,
    ts_ms: I64,
    event_hash: U64,
    code: I32,
    codes: I32,
    at: I64,
    ties: U64,
) -> None:
    for k in range(len(index)):
        i, row = index[k], row_of[k]
        if code[i] < 0 or ts_ms[i] < at[row]:
            continue
        if ts_ms[i] > at[row] or event_hash[i] > ties[row]:
            codes[row], at[row], ties[row] = code[i], ts_ms[i], event_hash[i]
