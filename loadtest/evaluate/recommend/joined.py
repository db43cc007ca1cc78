"""What a recommender says, joined with what the user has had: many come back to it.

Two lists are joined by reciprocal rank: an item's score is the sum of ``weight / rank`` over the
lists that have it. Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and
individual rank learning methods", SIGIR 2009. Their constant beside the rank and other weights were
tried on the second quarter of ``serenade_bol``: none did better by hit rate and MRR both than
weight 2 for what was had, without a constant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loadtest.evaluate.recommend.protocol import I64, NextItem


class Reminders:
    """Another recommender's list, joined with the user's own items, the latest first.

    The latest item of all is not among the own ones, as it is what the user looks at now.

    Args:
        of: the other.
        weight: of the own items; the other's list has 1.
    """

    def __init__(self, of: NextItem, weight: float = 2.0) -> None:
        self.name = f"{of.name}, with reminders"
        self._of, self._weights = of, (1.0, weight)
        self._had: dict[int, dict[int, None]] = {}

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:
        """Learn one event."""
        self._of.observe(user, item, ts_ms, weight)
        had = self._had.setdefault(user, {})
        had.pop(item, None)
        had[item] = None

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """Both lists as one."""
        said = self._of.recommend(user, ts_ms, count).tolist()
        own = list(reversed(self._had.get(user, {})))[1:]
        return joined((said, own), self._weights)[:count]


def joined(lists: Sequence[Sequence[int]], weights: Sequence[float]) -> I64:
    """One list of all, by weighted reciprocal rank; equals as they first come, int64[n].

    >>> joined(([1, 2, 3], [3, 4]), (1.0, 2.0)).tolist()
    [3, 1, 4, 2]
    """
    scores: dict[int, float] = {}
    for items, weight in zip(lists, weights, strict=True):
        for rank, item in enumerate(items, 1):
            scores[item] = scores.get(item, 0.0) + weight / rank
    return np.array(sorted(scores, key=lambda item: -scores[item]), np.int64)


class Filled:
    """A recommender's list, and where it is too short, another's after it.

    Args:
        of: the first.
        by: the other.
    """

    def __init__(self, of: NextItem, by: NextItem) -> None:
        self.name = of.name
        self._of, self._by = of, by

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:
        """Learn one event."""
        self._of.observe(user, item, ts_ms, weight)
        self._by.observe(user, item, ts_ms, weight)

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """The first list, filled."""
        first = self._of.recommend(user, ts_ms, count)
        if len(first) >= count:
            return first
        more = self._by.recommend(user, ts_ms, count)
        return np.concatenate([first, more[~np.isin(more, first)]])[:count]
