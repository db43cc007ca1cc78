"""Item-to-item models that are fitted again and again: cosine, co-visitation, EASE.

Each is a matrix of how much one item speaks for another. What is recommended are the items for
which those of a user's history speak most in sum. The matrix is as old as the last fit, the history
is always up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from loadtest.evaluate.recommend.popularity import best
from loadtest.evaluate.recommend.protocol import F32, F64, I64

EASE_ITEMS: Final = 2_500
"""Items that EASE knows, the most frequent: its matrix is dense and is inverted at each fit."""


class Weights(Protocol):
    """How much items speak for others."""

    def spoken(self, items: I64) -> F64:
        """The sum of what these say, float64[all items]."""
        ...


Fit = Callable[[csr_array], Weights]
"""A matrix of weights from which user had which item, 1 or nothing, csr[users, items]."""


class Retrained:
    """Recommends by weights that are fitted again when they are asked for and old.

    Args:
        users, items: how many there are.
        fit: which weights.
        every_ms: the weights are fitted when this time has gone round, counted from 1970 on.

    >>> model = Retrained(users=3, items=4, fit=cosine, every_ms=1_000, name="cosine")
    >>> for user, item in ((0, 1), (0, 2), (1, 1), (1, 3), (1, 2), (2, 1)):
    ...     model.observe(user, item, ts_ms=0)
    >>> model.recommend(user=2, ts_ms=1_000, count=2).tolist()
    [2, 3]
    """

    def __init__(self, users: int, items: int, fit: Fit, every_ms: int, name: str) -> None:
        self.name = name
        self._users, self._items = users, items
        self._fit, self._every_ms = fit, every_ms
        self._history: list[dict[int, None]] = [{} for _ in range(users)]
        self._pairs: list[tuple[int, int]] = []
        self._known = 0
        self._round = 0
        self._weights: Weights | None = None

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:  # noqa: ARG002
        """Extend a history; the weights learn it when they are fitted again."""
        self._turn(ts_ms)
        if item not in self._history[user]:
            self._history[user][item] = None
            self._pairs.append((user, item))

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """The items for which the history speaks most."""
        self._turn(ts_ms)
        if self._weights is None and self._known:
            self._weights = self._fit(self._matrix())
        if self._weights is None:
            return np.empty(0, np.int64)
        history = np.array(list(self._history[user]), np.int64)
        return best(self._weights.spoken(history), count)

    def _turn(self, ts_ms: int) -> None:
        """See whether it is time: what is known now is what may be fitted."""
        if ts_ms // self._every_ms != self._round:
            self._round = ts_ms // self._every_ms
            self._known = len(self._pairs)
            self._weights = None

    def _matrix(self) -> csr_array:
        rows, columns = np.array(self._pairs[: self._known], np.int64).T
        shape = self._users, self._items
        return csr_array((np.ones(self._known), (rows, columns)), shape=shape)


class Sparse:
    """Weights of few items for few others; none speaks for itself."""

    def __init__(self, matrix: csr_array) -> None:
        matrix.setdiag(0.0)
        self._matrix = matrix

    def spoken(self, items: I64) -> F64:
        """The sum of what these say, float64[all items]."""
        at, data = self._matrix.indptr, self._matrix.data
        spans = [slice(at[item], at[item + 1]) for item in items]
        if not spans:
            return np.zeros(self._matrix.shape[1])
        about = np.concatenate([self._matrix.indices[span] for span in spans])
        weights = np.concatenate([data[span] for span in spans])
        return np.bincount(about, weights, self._matrix.shape[1]).astype(np.float64)


class Dense:
    """Weights of chosen items for each other.

    Args:
        kept: the items, int64[k].
        matrix: what each says of each, float32[k, k].
        items: how many there are in all.
    """

    def __init__(self, kept: I64, matrix: F32, items: int) -> None:
        self._kept, self._matrix = kept, matrix
        self._place = np.full(items, -1)
        self._place[kept] = np.arange(len(kept))

    def spoken(self, items: I64) -> F64:
        """The sum of what these say, float64[all items]."""
        places = self._place[items]
        said = np.zeros(len(self._place))
        said[self._kept] = self._matrix[places[places >= 0]].sum(axis=0)
        return said


def visited_together(had: csr_array) -> Weights:
    """How many users had both.

    >>> had = csr_array(np.array([[1.0, 1, 0], [1, 1, 1], [1, 0, 0]]))
    >>> visited_together(had).spoken(np.array([0])).tolist()
    [0.0, 2.0, 1.0]
    """
    return Sparse(csr_array(had.T @ had))


def cosine(had: csr_array) -> Weights:
    """Users that had both, over the root of those that had the one times those that had the other.

    Sarwar, Karypis, Konstan and Riedl, "Item-based collaborative filtering recommendation
    algorithms", WWW 2001.

    >>> had = csr_array(np.array([[1.0, 1, 0], [1, 1, 1], [1, 0, 0]]))
    >>> cosine(had).spoken(np.array([0])).round(3).tolist()
    [0.0, 0.816, 0.577]
    """
    length = np.sqrt(np.maximum(had.sum(axis=0), 1.0))
    unit = csr_array(had / length[None, :])
    return Sparse(csr_array(unit.T @ unit))


def ease(had: csr_array, penalty: float, most: int = EASE_ITEMS) -> Weights:
    """The linear weights that tell a history best from itself, none of an item for itself.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019.

    Args:
        had: which user had which item.
        penalty: on squares of weights.
        most: how many items, the most frequent; equals by number.

    >>> had = csr_array(np.array([[1.0, 1, 0], [1, 1, 1], [1, 0, 0], [0, 0, 1]]))
    >>> ease(had, penalty=1.0).spoken(np.array([0])).round(3).tolist()
    [0.0, 0.455, 0.125]
    """
    frequency = had.sum(axis=0)
    kept = np.argsort(-frequency, kind="stable")[:most]
    kept = kept[frequency[kept] > 0]
    of_kept = had[:, kept]
    gram = (of_kept.T @ of_kept).toarray().astype(np.float32)
    gram[np.diag_indices_from(gram)] += penalty
    with threadpool_limits(1):  # threads that wait for each other cost fifteen times as much
        factor, _ = lapack.spotrf(gram, lower=1, overwrite_a=1)
        half, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(half) + np.tril(half, -1).T
    weights = inverse / -inverse.diagonal()[None, :]
    np.fill_diagonal(weights, 0.0)
    return Dense(kept, weights, had.shape[1])
