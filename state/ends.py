"""When users end: so long after the last event that they are forgotten.

By event times alone. An end stands in ``due_ms`` like any timer, so nothing is scanned for it; but
a timer that falls on the end, or behind it, does not fire.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.table import Table
from state.times import FAR_MS, NEVER_MS

I64 = NDArray[np.int64]


class Ends:
    """The ends of the users of one table.

    Args:
        table: of the users.
        after_ms: how long after the last event a user is remembered.
    """

    def __init__(self, table: Table, after_ms: int) -> None:
        self._table, self.after_ms = table, after_ms

    def of(self, rows: I64) -> I64:
        """When each row ends, int64[n]; ``FAR_MS`` where no event was seen yet."""
        last = self._table["last_seen"][rows]
        return np.where(last == NEVER_MS, FAR_MS, last + self.after_ms)

    def hasten(self, rows: I64) -> None:
        """Look at rows again when they end, if nothing else is before."""
        due = self._table["due_ms"]
        due[rows] = np.minimum(due[rows], self.of(rows))

    def timers(self, rows: I64) -> I64:
        """Those of some rows whose due time is before their end."""
        due: I64 = self._table["due_ms"][rows]
        return rows[due < self.of(rows)]

    def lasting(self, rows: I64, now_ms: int) -> I64:
        """Those of some rows that have not ended."""
        return rows[self.of(rows) > now_ms]

    def over(self, now_ms: int) -> I64:
        """The rows that have ended and are not forgotten yet, ascending."""
        table = self._table
        rows = np.flatnonzero(table["due_ms"][: table.size] <= now_ms)
        return rows[self.of(rows) <= now_ms]
