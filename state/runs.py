"""Sorted runs: (key, id) pairs in order of key, cheap to add to and to search.

Inserting into one sorted array costs a copy of all of it; a heap costs Python per item. Here some
calls' pairs become a sorted run of their own, and a run is merged with the one before it when that
is not much longer. So run lengths fall geometrically, there are O(log n) of them, and a pair is
copied O(log n) times in its life (the logarithmic method of Bentley and Saxe, J. Algorithms 1980;
today's log-structured merge trees). A run is asked in a call of its own, so they are to be few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined

I32 = NDArray[np.int32]
Keys = NDArray[Any]
I64 = NDArray[np.int64]
Run = tuple[Keys, I32]

_RATIO: Final = 8
"""A run that is more times as long as the next is left alone."""
_LEAST_NEW, _MOST_NEW = 32, 1_000
"""Pairs that may wait to be sorted: to sort a few at a time costs more than the work itself."""
_WORTH_PACKING: Final = 500
"""Keys below which a plain argsort is as fast."""


class SortedRuns:
    """Runs of keys and ids, the longest first; what is new is sorted when it is looked for.

    Args:
        keep: which (keys, ids) are still of interest, bool[n]; the others may be dropped.

    >>> runs = SortedRuns()
    >>> runs.add(np.array([5, 3]), np.array([50, 30]))
    >>> runs.add(np.array([4, 9, 1]), np.array([40, 90, 10]))
    >>> [(keys.tolist(), ids.tolist()) for keys, ids in runs.runs]
    [([1, 3, 4, 5, 9], [10, 30, 40, 50, 90])]
    """

    def __init__(self, keep: Callable[[Keys, I32], NDArray[np.bool_]] | None = None) -> None:
        self._runs: list[Run] = []
        self._new: list[Run] = []
        self._count_new = 0
        self._keep = keep

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in (*self._runs, *self._new))

    @property
    def runs(self) -> list[Run]:
        """All of them, sorted."""
        if self._new:
            self._sort()
        return self._runs

    def add(self, keys: Keys, ids: NDArray[np.integer]) -> None:
        """Add pairs: keys of one dtype in any order, ids that fit int32, n each."""
        if len(keys) == 0:
            return
        self._new.append((keys.copy(), ids.astype(np.int32)))  # they may be a bit of much more
        self._count_new += len(keys)
        sorted_count = len(self._runs[0][0]) if self._runs else 0
        if self._count_new >= min(max(_LEAST_NEW, sorted_count // 8), _MOST_NEW):
            self._sort()

    def drop_first(self, counts: list[int]) -> None:
        """Drop the first pairs of each run, as many as ``counts`` says, one number per run."""
        pairs = zip(self.runs, counts, strict=True)
        self._runs = [(keys[n:], ids[n:]) for (keys, ids), n in pairs if n < len(keys)]

    def bytes_held(self) -> int:
        """Bytes of keys and ids that are not dropped."""
        return sum(keys.nbytes + ids.nbytes for keys, ids in (*self._runs, *self._new))

    def _sort(self) -> None:
        """Make a run of what is new, and few runs of all."""
        keys, ids = (np.concatenate(parts) for parts in zip(*self._new, strict=True))
        self._new, self._count_new = [], 0
        order = in_order(keys)
        self._runs.append((keys[order], ids[order]))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= _RATIO * len(self._runs[-1][0]):
            self._merge_last_two()

    def _merge_last_two(self) -> None:
        short, long = self._runs.pop(), self._runs.pop()
        keys, ids = merged(long, short)
        if self._keep is not None:
            kept = self._keep(keys, ids)
            keys, ids = keys[kept], ids[kept]
        if len(keys):
            self._runs.append((keys, ids))


def in_order(keys: Keys) -> I64:
    """Where the keys stand in ascending order, equal ones in the order they came, int64[n].

    Many integers of no great range are packed with their places into one number each, because
    numpy sorts such several times faster than it argsorts.

    >>> in_order(np.array([5, 3, 5, 1])).tolist()
    [3, 1, 0, 2]
    """
    n = len(keys)
    if n >= _WORTH_PACKING and keys.dtype == np.int64:
        if _ascend(keys):
            return np.arange(n)
        low, bits = keys.min(), n.bit_length()
        if (int(keys.max()) - int(low)).bit_length() + bits < 64:
            packed = (keys - low) << bits
            packed |= np.arange(n)
            packed.sort()
            packed &= (1 << bits) - 1
            return np.asarray(packed)
    return np.argsort(keys, kind="stable")


def merged(first: Run, then: Run) -> Run:
    """Two runs of one kind of key as one; of equal keys, those of the first come first."""
    size = len(first[0]) + len(then[0])
    keys, ids = np.empty(size, dtype=first[0].dtype), np.empty(size, dtype=np.int32)
    _merge(*first, *then, keys, ids)
    return keys, ids


@compiled
def _ascend(keys: I64) -> bool:
    """Whether integers are in order already."""
    ascend = True
    for i in range(1, len(keys)):
        ascend &= keys[i - 1] <= keys[i]
    return ascend


@inlined
def _follows(key: Any, other: Any) -> Any:
    """Whether a number is above another; complex ones by their real, then imaginary part."""
    return key.real > other.real or (key.real == other.real and key.imag > other.imag)


@compiled
def _merge(
    first_keys: Keys, first_ids: I32, then_keys: Keys, then_ids: I32, keys: Keys, ids: I32
) -> None:
    i = j = 0
    for k in range(len(keys)):
        if i == len(first_keys) or (j < len(then_keys) and _follows(first_keys[i], then_keys[j])):
            keys[k], ids[k] = then_keys[j], then_ids[j]
            j += 1
        else:
            keys[k], ids[k] = first_keys[i], first_ids[i]
            i += 1
