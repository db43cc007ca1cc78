"""The entries of each row in order of time: which lie between two times, which comes next.

A window over a row's entries asks just two things: what leaves between then and now, and when the
next one leaves. With all entries of all rows sorted by (row, time) both are binary searches, so
they cost the same for a row with thirty thousand entries as for a row with one. A pair of row and
time is held as one complex number, because numpy orders those by real, then imaginary part, and
both parts are exact up to 2^53: epoch milliseconds need 41 bits, rows 31.

Entries are not taken out. One that moved or ended is recognised by whoever asked, and is dropped,
as those before the ``forget`` time are, when its run is next merged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from state.runs import Keys, SortedRuns
from state.times import FAR_MS, NEVER_MS

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Timeline:
    """(row, time, slot) triples, searched by row and time.

    Args:
        holds: which triples of rows, times and slots still say something true, bool[n].

    >>> line = Timeline(lambda rows, times, slots: slots >= 0)
    >>> line.add(np.array([7, 7, 8]), np.array([100, 300, 200]), np.array([0, 1, 2]))
    >>> found = line.between(np.array([8, 7]), np.array([0, 100]), np.array([200, 300]))
    >>> place, times, slots = (part.tolist() for part in found)
    >>> place, times, slots
    ([0, 1], [200, 300], [2, 1])
    >>> line.next_after(np.array([7]), np.array([99])).tolist()
    [100]
    """

    def __init__(self, holds: Callable[[I64, I64, I64], NDArray[np.bool_]]) -> None:
        self._forgotten_ms = NEVER_MS
        self._holds = holds
        self._runs = SortedRuns(self._keep)

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, rows: I64, times_ms: I64, slots: I64) -> None:
        """Add triples, n each."""
        self._runs.add(_keys(rows, times_ms), slots)

    def forget(self, until_ms: int) -> None:
        """Nobody will ask for times ≤ ``until_ms`` any more."""
        self._forgotten_ms = max(self._forgotten_ms, until_ms)

    def between(self, rows: I64, after_ms: I64, until_ms: I64) -> tuple[I64, I64, I64]:
        """What each row has in (after, until]; rows and both times int64[n].

        Returns:
            place: position in ``rows`` of each triple found, int64[k].
            times: int64[k].
            slots: int64[k].
        """
        runs = self._runs.runs
        first, stop = np.empty((2, len(runs), len(rows)), dtype=np.int64)
        counts = [
            _bounds(keys, rows, after_ms, until_ms, first[k], stop[k])
            for k, (keys, _) in enumerate(runs)
        ]
        found = np.empty((3, sum(counts)), dtype=np.int64)
        at = 0
        for k, ((keys, ids), count) in enumerate(zip(runs, counts, strict=True)):
            if count:
                _copy(keys, ids, first[k], stop[k], at, found)
                at += count
        place, times, slots = found
        return place, times, slots

    def next_after(self, rows: I64, t_ms: I64) -> I64:
        """The first time of each row that is > its ``t_ms``, int64[n]; ``FAR_MS`` for none."""
        out = np.full(len(rows), FAR_MS, dtype=np.int64)
        for keys, _ in self._runs.runs:
            _next_after(keys, rows, t_ms, out)
        return out

    def bytes_held(self) -> int:
        """Bytes of all triples."""
        return self._runs.bytes_held()

    def _keep(self, keys: Keys, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        times = keys.imag.astype(np.int64)
        kept = self._holds(keys.real.astype(np.int64), times, ids.astype(np.int64))
        return kept & (times > self._forgotten_ms)


def _keys(rows: I64, times_ms: I64) -> Keys:
    keys = np.empty(len(rows), dtype=np.complex128)
    keys.real, keys.imag = rows, times_ms
    return keys


@step
def _count_up_to(keys: Keys, row: Any, time_ms: Any) -> Any:
    """How many keys of a run are not above a row and time."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        key = keys[middle]
        if key.real < row or (key.real == row and key.imag <= time_ms):
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _bounds(keys: Keys, rows: I64, after_ms: I64, until_ms: I64, first: I64, stop: I64) -> int:
    """Where each row's stretch of a run begins and ends; how long they are together."""
    total = 0
    for i in range(len(rows)):
        first[i] = _count_up_to(keys, rows[i], after_ms[i])
        stop[i] = max(_count_up_to(keys, rows[i], until_ms[i]), first[i])
        total += stop[i] - first[i]
    return total


@compiled
def _copy(keys: Keys, ids: I32, first: I64, stop: I64, to: int, found: I64) -> None:
    """The stretches of a run, end to end, from a place on: place, time and slot of each."""
    for i in range(len(first)):
        for at in range(first[i], stop[i]):
            found[0, to], found[1, to], found[2, to] = i, keys[at].imag, ids[at]
            to += 1


@compiled
def _next_after(keys: Keys, rows: I64, t_ms: I64, out: I64) -> None:
    """Lower each row's time to the first that a run has of it after its ``t_ms``."""
    for i in range(len(rows)):
        at = _count_up_to(keys, rows[i], t_ms[i])
        if at < len(keys) and keys[at].real == rows[i]:
            out[i] = min(out[i], np.int64(keys[at].imag))
