"""The same list for everybody: the items that are popular now."""

from __future__ import annotations

import numpy as np

from loadtest.evaluate.recommend.protocol import F64, I64


class Popularity:
    """Items by their decayed number of events; equals by number.

    Counts are kept as if all had happened at one fixed time, a later event weighs more by
    ``2 ** (time / half-life)``, so nothing needs to be decayed.

    Args:
        items: how many there are.
        half_life_ms: after which an event weighs half.

    >>> popular = Popularity(items=3, half_life_ms=1_000)
    >>> for item, ts_ms in ((0, 0), (0, 0), (2, 5_000)):
    ...     popular.observe(user=7, item=item, ts_ms=ts_ms)
    >>> popular.recommend(user=8, ts_ms=5_000, count=2).tolist()
    [2, 0]
    """

    def __init__(self, items: int, half_life_ms: float, name: str = "popularity") -> None:
        self.name = name
        self._counts: F64 = np.zeros(items)
        self._half_life_ms = half_life_ms
        self._start_ms: int | None = None

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:  # noqa: ARG002
        """Count one event."""
        if self._start_ms is None:
            self._start_ms = ts_ms
        grown = (ts_ms - self._start_ms) / self._half_life_ms
        if grown > 500:  # before numbers become too large
            self._counts *= 2.0**-grown
            self._start_ms, grown = ts_ms, 0.0
        self._counts[item] += weight * 2.0**grown

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:  # noqa: ARG002
        """The most popular items."""
        return best(self._counts, count)


def best(scores: F64, count: int) -> I64:
    """The items with the highest scores above 0, best first, equals by number, int64[<= count].

    >>> best(np.array([0.5, 0.0, 2.0, 0.5]), 2).tolist()
    [2, 0]
    """
    known = np.flatnonzero(scores > 0.0)
    if len(known) > count:
        least = np.partition(scores[known], len(known) - count)[len(known) - count]
        known = known[scores[known] >= least]
    found: I64 = known[np.argsort(-scores[known], kind="stable")][:count]
    return found
