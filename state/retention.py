"""When entries of a keyed table may be forgotten.

An entry has one alarm. It is not moved when the entry is kept for longer, which happens with every
touch; when it rings too early, it is set anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.keyed import KeyedTable
from state.queue import TimeQueue
from state.table import Column
from state.times import NEVER_MS

I64 = NDArray[np.int64]


class Retention:
    """The alarms of a table whose entries have ``Retention.COLUMN``.

    >>> table = KeyedTable([Retention.COLUMN])
    >>> slots, _ = table.find_or_add(np.array([1, 2]), np.array([7, 7], np.uint64))
    >>> table["keep_until_ms"][slots] = [100, 200]
    >>> retention = Retention(table)
    >>> retention.watch(slots)
    >>> table["keep_until_ms"][slots[0]] = 150
    >>> [retention.ended(clock_ms).tolist() for clock_ms in (100, 101, 150, 151)]
    [[], [], [], [0]]
    """

    COLUMN = Column("keep_until_ms", "i8", NEVER_MS)

    def __init__(self, entries: KeyedTable) -> None:
        self._entries = entries
        self._alarms = TimeQueue()

    def watch(self, slots: I64) -> None:
        """New entries, whose ``keep_until_ms`` has been set."""
        self._alarms.push(self._entries[self.COLUMN.name][slots], slots)

    def ended(self, clock_ms: int) -> I64:
        """Entries that the clock has passed, int64[n], to be deleted by the caller."""
        slots = np.unique(self._alarms.pop_until(clock_ms - 1)[1])
        slots = slots[self._entries.in_use(slots)]
        over = self._entries[self.COLUMN.name][slots] < clock_ms
        self.watch(slots[~over])
        return slots[over]

    def bytes_held(self) -> int:
        """Bytes of the alarms."""
        return self._alarms.bytes_held()
