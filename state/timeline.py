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

import numpy as np
from numpy.typing import NDArray

from state.runs import Keys, SortedRuns
from state.times import FAR_MS, NEVER_MS

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
        after, until = _keys(rows, after_ms), _keys(rows, until_ms)
        found = [self._cut(keys, ids, after, until) for keys, ids in self._runs.runs]
        if not found:
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing, nothing
        place, times, slots = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return place, times, slots

    def next_after(self, rows: I64, t_ms: I64) -> I64:
        """The first time of each row that is > its ``t_ms``, int64[n]; ``FAR_MS`` for none."""
        out = np.full(len(rows), FAR_MS, dtype=np.int64)
        wanted = _keys(rows, t_ms)
        for keys, _ in self._runs.runs:
            at = np.searchsorted(keys, wanted, side="right")
            found = keys[np.minimum(at, len(keys) - 1)]
            hit = (at < len(keys)) & (found.real == rows)
            out[hit] = np.minimum(out[hit], found.imag[hit].astype(np.int64))
        return out

    def bytes_held(self) -> int:
        """Bytes of all triples."""
        return self._runs.bytes_held()

    def _keep(self, keys: Keys, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        times = keys.imag.astype(np.int64)
        kept = self._holds(keys.real.astype(np.int64), times, ids.astype(np.int64))
        return kept & (times > self._forgotten_ms)

    @staticmethod
    def _cut(keys: Keys, ids: NDArray[np.int32], after: Keys, until: Keys) -> tuple[I64, I64, I64]:
        """The stretches of one run from ``after`` up to ``until``, end to end."""
        first = np.searchsorted(keys, after, side="right")
        counts = np.maximum(np.searchsorted(keys, until, side="right") - first, 0)
        place = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(place)) - (np.cumsum(counts) - counts)[place]
        at = first[place] + within
        return place, keys[at].imag.astype(np.int64), ids[at].astype(np.int64)


def _keys(rows: I64, times_ms: I64) -> Keys:
    keys = np.empty(len(rows), dtype=np.complex128)
    keys.real, keys.imag = rows, times_ms
    return keys
