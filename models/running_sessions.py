"""The session that each user is in: which one, and which of the user's last items belong to it.

A session ends when its user did nothing for the gap. Its name is made of how it began, so it names
no user, and lanes that read it can only tell it from others.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from state.table import Column, Table
from state.times import NEVER_MS

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_KEY, _START, _LAST = "running.key", "running.start", "running.last"
NO_SESSION: Final = 0


class Running(NamedTuple):
    """The sessions of n users.

    Attributes:
        key: the name of each, uint64[n]; ``NO_SESSION`` for none.
        items: how many of the user's last items belong to it, int64[n].
    """

    key: U64
    items: I64

    @classmethod
    def unknown(cls, users: int, items: int) -> Running:
        """No sessions are known: all of so many items belong together."""
        return cls(np.zeros(users, np.uint64), np.full(users, items, np.int64))


class RunningSessions:
    """The sessions of a lane's users.

    Args:
        gap_ms: a session ends after so long.

    >>> table, sessions = Table(), RunningSessions(gap_ms=10)
    >>> table.add_columns("", sessions.columns())
    >>> row, items = table.grow(1), np.array([7, 8, 7, 9], np.uint64)
    >>> keys = sessions.update(table, np.zeros(4, int), items, np.array([0, 10, 21, 5]))
    >>> keys[0] == keys[1], keys[1] == keys[2], keys[2:].tolist().count(NO_SESSION)
    (np.True_, np.False_, 1)
    """

    def __init__(self, gap_ms: int) -> None:
        self._gap_ms = gap_ms

    def columns(self) -> list[Column]:
        """The session's name, and the first and last time that something was done in it."""
        return [
            Column(_KEY, "u8", NO_SESSION),
            Column(_START, "i8", NEVER_MS),
            Column(_LAST, "i8", NEVER_MS),
        ]

    def update(self, table: Table, row_of: I64, items: U64, ts_ms: I64) -> U64:
        """Take in events, in the order they came within each row.

        Args:
            table: the users.
            row_of: each event's row, int64[n].
            items: the hash of its item, uint64[n].
            ts_ms: event times, int64[n].

        Returns:
            The session of each, uint64[n]; ``NO_SESSION`` for one from before the session.
        """
        out = np.zeros(len(row_of), dtype=np.uint64)
        columns = table[_KEY], table[_START], table[_LAST]
        _update(row_of, items, ts_ms, *columns, self._gap_ms, out)
        return out

    def of(self, table: Table, rows: I64, at_ms: I64) -> Running:
        """The sessions of some users, whose last items were touched at these times, int64[n, k]."""
        within = at_ms >= table[_START][rows][:, None]
        return Running(table[_KEY][rows], np.count_nonzero(within, axis=1))


@inlined
def _mixed(x: Any) -> Any:
    """Any number from any other, all bits alike (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _update(
    row_of: I64, items: U64, ts_ms: I64, key: U64, start: I64, last: I64, gap_ms: int, out: U64
) -> None:
    for k in range(len(row_of)):
        row, ts = row_of[k], ts_ms[k]
        if key[row] == 0 or ts - gap_ms > last[row]:
            began = _mixed(np.uint64(ts) ^ _mixed(np.uint64(row) + np.uint64(1)))
            key[row] = max(_mixed(began ^ items[k]), np.uint64(1))
            start[row] = last[row] = ts
        elif ts + gap_ms < start[row]:
            continue
        start[row], last[row] = min(start[row], ts), max(last[row], ts)
        out[k] = key[row]
