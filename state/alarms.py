"""One alarm per id, for times that move.

What is due may be put off with every touch. Its alarm is not moved along: it rings too early once,
is compared with the time that is due by then, and is set anew. Only a time that comes nearer needs
a second alarm, and the first is then recognised as stale. So however often a time moves, about one
alarm waits per id.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.groups import distinct
from state.queue import TimeQueue
from state.table import Column, Table
from state.times import FAR_MS

I64 = NDArray[np.int64]


class Alarms:
    """Tells which ids have become due; whoever owns the ids keeps the times.

    >>> alarms, due_ms = Alarms(), np.array([100, 200])
    >>> alarms.set(np.array([0, 1]), due_ms)
    >>> due_ms[0] = 150
    >>> [alarms.ring(clock_ms, due_ms).tolist() for clock_ms in (100, 150, 250)]
    [[], [0], [1]]
    """

    def __init__(self) -> None:
        self._queue = TimeQueue()
        self._set = Table([Column("at_ms", "i8", FAR_MS)])

    def __len__(self) -> int:
        return len(self._queue)

    def set(self, ids: I64, due_ms: I64) -> None:
        """Ring for each id at its time or before; ids may repeat, ``FAR_MS`` is never."""
        if len(ids) == 0:
            return
        self._set.reach(ids)
        nearer_ms, nearer = np.empty((2, len(ids)), dtype=np.int64)
        n = _bring_nearer(ids, due_ms, self._set["at_ms"], nearer_ms, nearer)
        if n:
            self._queue.push(nearer_ms[:n], nearer[:n])

    def ring(self, clock_ms: int, due_ms: I64) -> I64:
        """The ids with due time ≤ ``clock_ms``, ascending; ``due_ms`` int64 is looked up by id.

        Their alarms are off; those of ids that are not due yet are set again.
        """
        times, ids = self._queue.pop_until(clock_ms)
        if len(ids) == 0:
            return ids
        at = self._set["at_ms"]
        ids = distinct(ids[at[ids] == times])
        at[ids] = FAR_MS
        over = due_ms[ids] <= clock_ms
        self.set(ids[~over], due_ms[ids[~over]])
        return ids[over]

    def bytes_held(self) -> int:
        """Bytes of all alarms."""
        return self._queue.bytes_held() + self._set.bytes_held()


@compiled
def _bring_nearer(ids: I64, due_ms: I64, at_ms: I64, nearer_ms: I64, nearer: I64) -> int:
    """Lower alarms to the earliest time given for each id; how many, their times and ids."""
    lowered = 0
    for k in range(len(ids)):
        if due_ms[k] < at_ms[ids[k]]:
            at_ms[ids[k]] = due_ms[k]
            nearer_ms[lowered], nearer[lowered] = due_ms[k], ids[k]
            lowered += 1
    n = 0
    for k in range(lowered):
        if nearer_ms[k] == at_ms[nearer[k]]:  # and not lowered further after it
            nearer_ms[n], nearer[n] = nearer_ms[k], nearer[k]
            n += 1
    return n
