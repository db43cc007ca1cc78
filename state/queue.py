"""What is to happen at which time, for many ids: the lane's alarm clock.

Pushes and pops are whole arrays. The queue does not cancel: who has pushed an id and wants it no
more, or at another time, recognises the stale pair when it comes out.
"""

from __future__ import annotations

from functools import reduce
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import allocating
from state.runs import SortedRuns, merged
from state.times import FAR_MS

I64 = NDArray[np.int64]

_NOTHING: Final = np.empty(0, dtype=np.int64)


class TimeQueue:
    """(time, id) pairs that come out in order of time, equal times in order of id.

    >>> queue = TimeQueue()
    >>> queue.push(np.array([30, 10, 20]), np.array([3, 1, 2]))
    >>> times, ids = queue.pop_until(20)
    >>> times.tolist(), ids.tolist(), queue.min_ms()
    ([10, 20], [1, 2], 30)
    """

    def __init__(self) -> None:
        self._runs = SortedRuns()
        self._min_ms = FAR_MS

    def __len__(self) -> int:
        return len(self._runs)

    def push(self, times_ms: I64, ids: I64) -> None:
        """Add pairs, int64[n] each; an id may wait at several times, ids fit int32."""
        if len(times_ms):
            self._min_ms = min(self._min_ms, int(times_ms.min()))
            self._runs.add(times_ms, ids)

    def min_ms(self) -> int:
        """The earliest time; ``FAR_MS`` when nothing waits."""
        return self._min_ms

    def peek_until(self, until_ms: int) -> tuple[I64, I64]:
        """The pairs with time ≤ ``until_ms``: times int64[n] and ids int64[n]; they stay."""
        if until_ms < self._min_ms or not len(self):
            return _NOTHING, _NOTHING
        return self._first(self._counts(until_ms))

    def pop_until(self, until_ms: int) -> tuple[I64, I64]:
        """The pairs with time ≤ ``until_ms``: times int64[n] and ids int64[n]; they leave."""
        if until_ms < self._min_ms or not len(self):
            return _NOTHING, _NOTHING
        counts = self._counts(until_ms)
        popped = self._first(counts)
        self._runs.drop_first(counts)
        runs = self._runs.runs
        self._min_ms = min((int(times[0]) for times, _ in runs), default=FAR_MS)
        return popped

    def bytes_held(self) -> int:
        """Bytes of the pairs that wait."""
        return self._runs.bytes_held()

    def _counts(self, until_ms: int) -> list[int]:
        return [int(np.searchsorted(t, until_ms, side="right")) for t, _ in self._runs.runs]

    def _first(self, counts: list[int]) -> tuple[I64, I64]:
        runs = zip(self._runs.runs, counts, strict=True)
        parts = [(times[:n], ids[:n]) for (times, ids), n in runs if n]
        times, short = reduce(merged, reversed(parts))  # the shortest are copied most often
        ids = short.astype(np.int64)
        _sort_equals(times, ids)
        return np.array(times), ids


@allocating
def _sort_equals(times: I64, ids: I64) -> None:
    """Bring the ids of equal times into ascending order; times are."""
    start, ascend = 0, True
    for stop in range(1, len(times) + 1):
        if stop == len(times) or times[stop] != times[start]:
            if not ascend:
                ids[start:stop].sort()
            start, ascend = stop, True
        else:
            ascend &= ids[stop - 1] <= ids[stop]
