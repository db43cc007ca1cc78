"""How good lists of recommendations are: hit rate, reciprocal rank, recall, coverage.

A list is asked for at one moment, for which one item is known to come, or some (a basket). What is
kept of it is the rank of the first that came, and the share of those that came which it holds. The
list's own order is the order: whoever recommends has already decided between equals.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Lists:
    """What became of the lists of one recommender under one convention.

    Attributes:
        rival: its name.
        convention: what was left out of lists and of what came, by name.
        asked: the first event that the list had to foretell, as a row of the log, int64[n].
        ranks: place of the first item that came, from 1 on, 0 if the list has none, int64[n].
        found: share of the items that came which the list has, float64[n].
        shown: how many items stood in any list.
        catalogue: how many items there are.
        list_us, event_us: CPU microseconds per list, and per event learned.
    """

    rival: str
    convention: str
    asked: I64
    ranks: I64
    found: F64
    shown: int
    catalogue: int
    list_us: float = 0.0
    event_us: float = 0.0

    @property
    def hit_rate(self) -> float:
        """Share of lists with an item that came; NaN if nobody was asked."""
        return hit_rate(self.ranks)

    @property
    def mrr(self) -> float:
        """Mean reciprocal rank; NaN if nobody was asked."""
        return reciprocal_rank(self.ranks)

    @property
    def recall(self) -> float:
        """Mean share of what came that was in the list: the hit rate, where one item comes."""
        return float(self.found.mean()) if len(self.found) else float("nan")

    @property
    def coverage(self) -> float:
        """Share of the catalogue that stood in any list."""
        return self.shown / self.catalogue if self.catalogue else float("nan")


def place(items: Sequence[int], came: Collection[int]) -> tuple[int, float]:
    """Rank of the first item of a list that came (0 if none did), and the share that it holds.

    >>> place([7, 3, 5], {5, 3, 1, 2})
    (2, 0.5)
    >>> place([7], {5})
    (0, 0.0)
    """
    places = [rank for rank, item in enumerate(items, 1) if item in came]
    return (places[0], len(places) / len(came)) if places else (0, 0.0)


def hit_rate(ranks: I64) -> float:
    """Share of ranks above 0, which is "not in the list".

    >>> hit_rate(np.array([1, 0, 20, 0]))
    0.5
    """
    return float((ranks > 0).mean()) if len(ranks) else float("nan")


def reciprocal_rank(ranks: I64) -> float:
    """Mean of one over the rank, 0 where there is none.

    >>> reciprocal_rank(np.array([1, 0, 4]))
    0.4166666666666667
    """
    if not len(ranks):
        return float("nan")
    inverse = np.divide(1.0, ranks, out=np.zeros(len(ranks)), where=ranks > 0)
    return float(inverse.mean())
