"""What users say of items without words: how long they stay with one, and how they rate it.

Both are decayed sums in the item table, in the landmark form of everything else there, so lanes
that learn the same in any order hold the same. A stay lasts until the user's next interaction with
another item; the logarithm of its seconds is what is averaged, because a few stay very long. A user
who rates again counts again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.table import Column

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SUMS: Final = ("stays", "stayed", "ratings", "rated")
"""Decayed counts of stays, sums of their logarithms, counts of ratings, sums of ratings."""

LONGEST_MS: Final = 600_000
"""Who comes back later than that was away, which says nothing of a stay."""
MOST: Final = 100.0
"""What is further from 0 is no rating."""
_PRIOR: Final = 20.0
"""Stays or ratings that an item's mean is drawn towards the mean of all by."""


def columns() -> list[Column]:
    """Of the item table."""
    return [Column(name, "f4") for name in SUMS]


def stay_of(since_ms: I64) -> F32:
    """The logarithm of one and the seconds that users stayed, 0 where nothing is said; float32[n].

    Args:
        since_ms: from the interaction with an item to the next, int64[n]; negative for none.

    >>> np.expm1(stay_of(np.array([-1, 9_000, 3_600_000]))).round().tolist()
    [0.0, 9.0, 0.0]
    """
    said = (since_ms > 0) & (since_ms <= LONGEST_MS)
    out: F32 = np.log1p(np.where(said, since_ms, 0) / 1_000).astype(np.float32)
    return out


def rating_of(is_rating: Bools, value: F64) -> F32:
    """Ratings, float32[n]; NaN where there is none.

    >>> rating_of(np.array([True, False, True]), np.array([4.5, 3.0, 1e300])).tolist()
    [4.5, nan, nan]
    """
    said = is_rating & (np.abs(value) <= MOST)
    return np.where(said, value, np.nan).astype(np.float32)


def mean_of(sums: F32, counts: F32) -> float:
    """The mean over all items, 0 if there is none.

    >>> mean_of(np.array([9, 0], np.float32), np.array([2, 1], np.float32))
    3.0
    """
    count = float(counts.sum(dtype=np.float64))
    return float(sums.sum(dtype=np.float64)) / count if count > 0.0 else 0.0


def excess(sums: F32, counts: F32, mean: float, scale: float) -> F32:
    """By how much means of items are above that of all, drawn towards it where little is known.

    Args:
        sums: of items, as they are kept, float32, any shape.
        counts: how many stays or ratings they are of, likewise.
        mean: of all items.
        scale: what makes kept counts those of now.

    Returns:
        In the shape of ``sums``; 0 where nothing is known.

    >>> excess(np.array([100, 0], np.float32), np.array([20, 0], np.float32), 3.0, 1.0).tolist()
    [1.0, 0.0]
    """
    above = (sums - np.float32(mean) * counts) * np.float32(scale)
    out: F32 = above / (counts * np.float32(scale) + np.float32(_PRIOR))
    return out


@compiled
def learn(
    rows: I64,
    before: I64,
    ts_ms: I64,
    stay: F32,
    rating: F32,
    landmark_ms: int,
    per_half_life: float,
    stays: F32,
    stayed: F32,
    ratings: F32,
    rated: F32,
    changed: Bools,
) -> None:
    """Add stays with ``before[:, 0]`` and ratings of ``rows`` to the sums of these items."""
    for k in range(len(rows)):
        counts = 2.0 ** ((ts_ms[k] - landmark_ms) * per_half_life)
        if stay[k] > 0.0 and before.shape[1] and before[k, 0] >= 0:
            stays[before[k, 0]] += np.float32(counts)
            stayed[before[k, 0]] += np.float32(counts * stay[k])
            changed[before[k, 0]] = True
        if rows[k] >= 0 and rating[k] == rating[k]:
            ratings[rows[k]] += np.float32(counts)
            rated[rows[k]] += np.float32(counts * rating[k])
            changed[rows[k]] = True
