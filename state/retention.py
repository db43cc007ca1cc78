"""When entries of a keyed table may be forgotten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.alarms import Alarms
from state.keyed import KeyedTable
from state.table import Column
from state.times import FAR_MS

I64 = NDArray[np.int64]


class Retention:
    """Watches a table whose entries have ``Retention.COLUMN``, the time to forget them.

    >>> table = KeyedTable([Retention.COLUMN])
    >>> slots = table.find_or_add(np.array([1, 2]), np.array([7, 7], np.uint64))
    >>> retention = Retention(table)
    >>> retention.keep(slots, np.array([100, 200]))
    >>> retention.keep(slots[:1], np.array([150]))
    >>> [retention.ended(clock_ms).tolist() for clock_ms in (100, 149, 150)]
    [[], [], [0]]
    """

    COLUMN = Column("forget_ms", "i8", FAR_MS)

    def __init__(self, entries: KeyedTable) -> None:
        self._entries = entries
        self._alarms = Alarms()

    def keep(self, slots: I64, until_ms: I64) -> None:
        """Keep entries until times of their own, int64[n] each."""
        self._entries[self.COLUMN.name][slots] = until_ms
        self._alarms.set(slots, until_ms)

    def restore(self, slots: I64, least_ms: I64) -> None:
        """Watch entries that were loaded, and keep each for so long at least."""
        self.keep(slots, np.maximum(self._entries[self.COLUMN.name][slots], least_ms))

    def ended(self, clock_ms: int) -> I64:
        """Entries whose time has come, int64[n], ascending; the caller deletes them."""
        slots = self._alarms.ring(clock_ms, self._entries[self.COLUMN.name])
        return slots[self._entries.in_use(slots)]

    def bytes_held(self) -> int:
        """Bytes of the alarms."""
        return self._alarms.bytes_held()
