"""Have a model's inputs moved? How far each feature is from where it was.

The population stability index (Siddiqi, "Credit risk scorecards", 2006) of each feature between the
first rows and the latest full window is ``sum((c - r) * ln(c / r))`` over bins, r and c the shares
of rows. By custom below 0.1 is calm and above 0.25 a shift. It needs no label, so it warns a
horizon earlier than the loss can; it cannot say whether the model minds. Without a shift it is
about ``2 * (bins - 1) / rows``, 0.009 at the defaults, and no false alarm to speak of.

Bins are tenths of the first rows. A value that fills a tenth alone, as a count's 0 may, gets a bin
of its own, so constants and features of few values are seen to move as well.

Most rows teach it nothing new, so it looks at each ``every``-th row of the stream, counted over all
batches. Those it looks at are counted into all bins in one compiled pass, under 20 ns per value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.contract import refuse_mismatch, refuse_names, refuse_unfit

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
State = dict[str, Any]

FORMAT: Final = 1
"""Version of the saved form."""

BINS: Final = 10
"""Parts of the reference, besides the values that fill one alone."""

SHIFTED: Final = 0.25
"""An index above this is a shift, by custom."""

_EDGES: Final = 2 * (BINS - 1)


class FeatureDrift:
    """The population stability index of each feature.

    Choose ``rows`` and ``every`` so that a window spans whole days or weeks if the inputs follow
    them. The reference is what comes first: where a stream begins with users of whom nothing is
    known yet, ``renew`` it when that is over, and when a new model takes over.

    Args:
        features: names of the columns.
        rows: length of the reference and of each window, in rows that are looked at, at least 100.
        every: one row of so many is looked at.

    Raises:
        ValueError: no features, a name given twice, or too few rows.

    >>> rng = np.random.default_rng(0)
    >>> watch = FeatureDrift(["calm", "moves"], rows=1_000)
    >>> watch.note(rng.normal(size=(1_000, 2)))
    >>> watch.note(rng.normal(size=(1_000, 2)) + [0.0, 1.0])
    >>> psi = watch.psi()
    >>> psi["calm"] < 0.1, psi["moves"] > 0.25
    (True, True)
    """

    def __init__(self, features: Sequence[str], rows: int = 2_000, every: int = 1) -> None:
        refuse_names(features)
        if rows < 100 or every < 1:
            raise ValueError(
                "at least 100 rows are needed, and one of every 1 or more looked at, but rows "
                f"{rows!r} and every {every!r} came"
            )
        self.features = tuple(features)
        self.rows = rows
        self.every = every
        self._until_next = 0
        self.renew()

    def renew(self) -> None:
        """Forget the reference: the rows that come next become it."""
        k = len(self.features)
        self._first = np.empty((0, k))
        # padded with inf, beyond which nothing lies
        self._edges = np.full((k, _EDGES), np.inf)
        self._reference = np.zeros((k, _EDGES + 1), dtype=np.int64)
        self._current = np.zeros_like(self._reference)
        self._latest = np.zeros_like(self._reference)
        self._psi: dict[str, float] | None = None

    def note(self, X: F64) -> None:
        """Take in rows, float64[n, k]; how they are batched makes no difference.

        Raises:
            ValueError: wrong number of columns, or, in a row that is looked at, a value that is not
                finite; nothing has been taken in then.
        """
        looked_at = np.ascontiguousarray(X[self._until_next :: self.every])
        refuse_unfit(looked_at, self.features)
        self._until_next = (self._until_next - len(X)) % self.every
        looked_at = self._refer(looked_at)
        while len(looked_at):
            looked_at = self._fill(looked_at)

    def psi(self) -> dict[str, float | None]:
        """Of the latest full window against the reference; None before there is one."""
        if not self._latest.any():
            return dict.fromkeys(self.features)
        if self._psi is None:
            psi, bins = np.empty(len(self.features)), np.isfinite(self._edges).sum(axis=1) + 1
            _stabilities(self._reference, self._latest, bins, psi)
            self._psi = dict(zip(self.features, psi.tolist(), strict=True))
        return dict(self._psi)

    def shifted(self) -> list[str]:
        """The features whose index is above ``SHIFTED``, farthest first."""
        far = {name: psi for name, psi in self.psi().items() if psi is not None and psi > SHIFTED}
        return sorted(far, key=lambda name: -far[name])

    def to_state(self) -> State:
        """Plain data; until the reference is full, its rows make most of it."""
        return {
            "format": FORMAT,
            "features": list(self.features),
            "rows": self.rows,
            "every": self.every,
            "until_next": self._until_next,
            "first": self._first.tolist(),
            "edges": [edges[np.isfinite(edges)].tolist() for edges in self._edges],
            "reference": self._reference.tolist(),
            "current": self._current.tolist(),
            "latest": self._latest.tolist(),
        }

    @classmethod
    def from_state(cls, state: State, features: Sequence[str] | None = None) -> FeatureDrift:
        """What ``to_state`` wrote, exactly.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.

        Raises:
            ModelMismatch: another format or other features.
        """
        refuse_mismatch("format of feature drift", state.get("format"), FORMAT)
        wanted = state["features"] if features is None else list(features)
        refuse_mismatch("feature list", state["features"], wanted)
        watch = cls(wanted, state["rows"], state["every"])
        watch._until_next = state["until_next"]
        watch._first = np.array(state["first"], dtype=np.float64).reshape(-1, len(wanted))
        for row, edges in zip(watch._edges, state["edges"], strict=True):
            row[: len(edges)] = edges
        watch._reference = np.array(state["reference"], dtype=np.int64)
        watch._current = np.array(state["current"], dtype=np.int64)
        watch._latest = np.array(state["latest"], dtype=np.int64)
        return watch

    def _refer(self, X: F64) -> F64:
        """Take what the reference still needs; the rest."""
        if self._reference.any():
            return X
        missing = self.rows - len(self._first)
        self._first = np.concatenate([self._first, X[:missing]])
        if len(self._first) == self.rows:
            self._edges = _edges(self._first)
            _count(self._first, self._edges, _most(self._edges), self._reference)
            self._first = self._first[:0]
        return X[missing:]

    def _fill(self, X: F64) -> F64:
        """Take what the current window still needs, and close it if it is full; the rest."""
        missing = self.rows - int(self._current[0].sum())
        _count(X[:missing], self._edges, _most(self._edges), self._current)
        if len(X) >= missing:
            self._latest, self._current = self._current, np.zeros_like(self._current)
            self._psi = None
        return X[missing:]


def population_stability(reference: I64, current: I64) -> float:
    """The population stability index of two histograms over the same bins.

    Half a row is added to every bin, so that an empty one does not make it infinite.

    Args:
        reference: rows in each bin at first, int64[b].
        current: rows in each bin now, int64[b].

    >>> population_stability(np.array([50, 50]), np.array([50, 50]))
    0.0
    >>> round(population_stability(np.array([5_000, 5_000]), np.array([7_000, 3_000])), 3)
    0.169
    """
    return float(_stability(reference, current))


def _edges(X: F64) -> F64:
    """Upper edges of each feature's bins, float64[k, _EDGES], padded with inf.

    The edges are quantiles. One that is several of them gets a second edge just below it.
    """
    shares = np.arange(1, BINS) / BINS
    padded = np.full((X.shape[1], _EDGES), np.inf)
    quantiles = np.quantile(X, shares, axis=0, method="inverted_cdf").T
    for row, found in zip(padded, quantiles, strict=True):
        values, times = np.unique(found, return_counts=True)
        edges = np.sort(np.concatenate([values, np.nextafter(values[times > 1], -np.inf)]))
        row[: len(edges)] = edges
    return padded


def _most(edges: F64) -> int:
    """How many edges the feature with the most has."""
    return int(np.isfinite(edges).sum(axis=1).max())


@compiled
def _stability(reference: I64, current: I64) -> float:
    first, then = reference.sum() + 0.5 * len(reference), current.sum() + 0.5 * len(current)
    index = 0.0
    for b in range(len(reference)):
        r, c = (reference[b] + 0.5) / first, (current[b] + 0.5) / then
        index += (c - r) * math.log(c / r)
    return index


@compiled
def _stabilities(reference: I64, current: I64, bins: I64, out: F64) -> None:
    """The index of each feature, int64[k, _EDGES + 1] each, of whose bins so many are in use."""
    for j in range(len(out)):
        out[j] = _stability(reference[j, : bins[j]], current[j, : bins[j]])


@compiled
def _count(X: F64, edges: F64, most: int, counts: I64) -> None:
    """Add each value of ``X`` float64[n, k] to its feature's bin; an edge is of the bin below."""
    n, k = X.shape
    for i in range(n):
        for j in range(k):
            place = 0
            for e in range(most):
                place += X[i, j] > edges[j, e]
            counts[j, place] += 1
