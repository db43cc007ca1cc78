"""k-means on whole arrays: the nearest centre of each row, sums per centre, a fit, a matching.

Pure functions; ``models.clusters`` makes a model that learns out of them. Distances are Euclidean
after each feature was shifted by a mean and divided by a standard deviation. A feature that does
not vary does not count.

The nearest centre is a compiled loop. Its innermost step runs over some rows, so that a processor
does several at once without changing the order of any sum: a row gets the same label, to the bit,
in any batch, which a product of matrices does not promise. Equal distances go to the lower label.

k-means++: Arthur and Vassilvitskii, "The advantages of careful seeding", SODA 2007. Lloyd's steps:
Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory, 1982.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import allocating, compiled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_STILL: Final = 1e-12
"""A deviation below this share of the mean is rounding, not variation."""

_ABREAST: Final = 16
"""Rows that are labelled side by side."""

_FEW_STEPS: Final = 10
"""Lloyd steps until the starts are compared."""

_STEPS: Final = 100
"""Lloyd steps at most from the best start; a few dozen are the rule."""


class Part(NamedTuple):
    """What some rows add to the centres; parts of the same centres can be added up.

    Attributes:
        sums: of the rows of each centre, float64[k, f].
        counts: rows of each centre, int64[k].
        spread: squared distances of all rows from their own mean, summed, float64[f].
    """

    sums: F64
    counts: I64
    spread: F64


class Fit(NamedTuple):
    """Centres fitted to some rows.

    Attributes:
        centres: in the units of the rows, float64[k, f], the largest group first.
        counts: rows of each centre, int64[k].
        mean, var: of all rows, float64[f] each.
    """

    centres: F64
    counts: I64
    mean: F64
    var: F64


def inverse(mean: F64, var: F64) -> F64:
    """One over each standard deviation, and 0 for what does not vary, float64[f].

    >>> inverse(np.array([0.0, 1.0]), np.array([4.0, 1e-30])).tolist()
    [0.5, 0.0]
    """
    deviation = np.sqrt(var)
    varies = deviation > _STILL * np.abs(mean)
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=varies)


def nearest(X: F64, centres: F64, mean: F64, var: F64) -> I64:
    """The label of the centre nearest to each row, int64[n].

    Args:
        X: finite rows, float64[n, f].
        centres: float64[k, f], in the same units.
        mean: what is subtracted before, float64[f].
        var: whose root is divided by, float64[f].

    >>> X, centres = np.array([[1.0, 0.0], [9.0, 500.0]]), np.array([[0.0, 0.0], [10.0, 0.0]])
    >>> nearest(X, centres, np.zeros(2), np.array([1.0, 1e6])).tolist()
    [0, 1]
    """
    labels = np.empty(len(X), dtype=np.int64)
    scale = inverse(mean, var)
    across = np.ascontiguousarray(((centres - mean) * scale).T)
    _nearest(np.ascontiguousarray(X), mean, scale, across, labels)
    return labels


def gather(X: F64, labels: I64, k: int) -> Part:
    """What rows X float64[n, f] with these labels int64[n] add to ``k`` centres.

    >>> part = gather(np.array([[1.0], [2.0], [6.0]]), np.array([1, 1, 0]), 3)
    >>> part.sums.tolist(), part.counts.tolist(), part.spread.tolist()
    ([[6.0], [3.0], [0.0]], [1, 2, 0], [14.0])
    """
    sums, counts = _totals(X, labels, k)
    apart = X - sums.sum(axis=0) / max(len(X), 1)
    return Part(sums, counts, (apart * apart).sum(axis=0))


def joined(parts: Sequence[Part]) -> Part:
    """All parts, at least one and none without rows, as the part of all their rows.

    Sums are exact before they are rounded, so the order of the parts cannot matter. Spreads add up
    by Chan's formula.

    >>> X, labels = np.array([[1.0], [2.0], [6.0]]), np.array([1, 1, 0])
    >>> part = joined([gather(X[:1], labels[:1], 2), gather(X[1:], labels[1:], 2)])
    >>> part.sums.tolist(), part.counts.tolist(), part.spread.tolist()
    ([[6.0], [3.0]], [1, 2], [14.0])
    """
    if len(parts) == 1:
        return parts[0]
    rows = [int(part.counts.sum()) for part in parts]
    means = [part.sums.sum(axis=0) / n for part, n in zip(parts, rows, strict=True)]
    mean = _exact_sum([part.sums.sum(axis=0) for part in parts]) / sum(rows)
    between = [n * (own - mean) ** 2 for n, own in zip(rows, means, strict=True)]
    counts = np.sum([part.counts for part in parts], axis=0)
    sums = _exact_sum([part.sums for part in parts])
    return Part(sums, counts, _exact_sum([part.spread for part in parts] + between))


def fit(X: F64, k: int, rng: np.random.Generator, restarts: int) -> Fit:
    """Lloyd steps until no row moves, from the best of some k-means++ starts.

    The best is the one with the smallest distances after a few steps.

    Args:
        X: finite rows, float64[n, f], at least one.
        k: how many centres.
        rng: where the chance comes from.
        restarts: how many starts.

    >>> X = np.array([[0.0], [1.0], [9.0], [10.0], [11.0]])
    >>> fit(X, 2, np.random.default_rng(0), 3).centres.tolist()
    [[10.0], [0.5]]
    """
    mean, var = X.mean(axis=0), X.var(axis=0)
    Z = (X - mean) * inverse(mean, var)
    tries = [_lloyd(Z, _seeds(Z, k, rng), _FEW_STEPS) for _ in range(restarts)]
    centres = _lloyd(Z, min(tries, key=lambda centres: _inertia(Z, centres)), _STEPS)
    sums, counts = _totals(X, _label(Z, centres), k)
    # a centre without rows has only its place among the scaled ones
    raw = np.where(counts[:, None] > 0, _means(sums, counts), mean + centres * np.sqrt(var))
    order = np.argsort(-counts, kind="stable")
    return Fit(raw[order], counts[order], mean, var)


def match(old: I64, new: I64, gaps: F64) -> I64:
    """Which new label takes over the name of each old label, int64[k].

    As many rows as possible keep their label. Where that leaves a choice (a group without rows has
    no say), near centres are matched.

    Args:
        old: labels of some rows, int64[n].
        new: other labels of the same rows, int64[n].
        gaps: distances from each old centre to each new one, float64[k, k].

    >>> match(np.array([0, 0, 1]), np.array([1, 1, 0]), np.zeros((2, 2))).tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, rarely needed

    k = len(gaps)
    shared = np.bincount(old * k + new, minlength=k * k).reshape(k, k)
    near = gaps / (1.0 + gaps.sum())  # all of them together weigh less than one row
    return np.asarray(linear_sum_assignment(near - shared)[1], dtype=np.int64)


def _seeds(Z: F64, k: int, rng: np.random.Generator) -> F64:
    """Rows drawn as first centres, each by its squared distance from those before it."""
    chosen = [int(rng.integers(len(Z)))]
    gap = _squares(Z, Z[chosen[0]])
    for _ in range(1, k):
        up_to = np.cumsum(gap)
        # all distances are 0 where rows repeat, and the draw then lies beyond the last sum
        at = int(np.searchsorted(up_to, rng.random() * up_to[-1], side="right"))
        chosen.append(min(at, len(Z) - 1))
        gap = np.minimum(gap, _squares(Z, Z[chosen[-1]]))
    return Z[chosen]


def _lloyd(Z: F64, centres: F64, steps: int) -> F64:
    """Centres after so many steps, or when no row moves; a centre without rows stays."""
    labels = _label(Z, centres)
    for _ in range(steps):
        sums, counts = _totals(Z, labels, len(centres))
        centres = np.where(counts[:, None] > 0, _means(sums, counts), centres)
        before, labels = labels, _label(Z, centres)
        if np.array_equal(before, labels):
            break
    return centres


def _label(Z: F64, centres: F64) -> I64:
    """The nearest centre of rows that are scaled already."""
    return nearest(Z, centres, np.zeros(Z.shape[1]), np.ones(Z.shape[1]))


def _inertia(Z: F64, centres: F64) -> float:
    """The squared distances from the nearest centres, summed."""
    return float(_squares(Z, centres[_label(Z, centres)]).sum())


def _exact_sum(arrays: Sequence[F64]) -> F64:
    stacked = np.array([array.ravel() for array in arrays]).T.tolist()
    return np.array([math.fsum(values) for values in stacked]).reshape(arrays[0].shape)


def _totals(X: F64, labels: I64, k: int) -> tuple[F64, I64]:
    """Sums float64[k, f] and counts int64[k] of the rows of each label."""
    sums, counts = np.zeros((k, X.shape[1])), np.zeros(k, dtype=np.int64)
    _add_rows(np.ascontiguousarray(X), labels, sums, counts)
    return sums, counts


def _means(sums: F64, counts: I64) -> F64:
    means: F64 = sums / np.maximum(counts, 1)[:, None]
    return means


def _squares(Z: F64, of: F64) -> F64:
    apart = Z - of
    squares: F64 = (apart * apart).sum(axis=1)
    return squares


@allocating
def _nearest(X: F64, mean: F64, scale: F64, across: F64, labels: I64) -> None:
    """Label each row; ``across`` holds the scaled centres, float64[f, k]."""
    features, k = across.shape
    z, gap, least = np.zeros((features, _ABREAST)), np.empty(_ABREAST), np.empty(_ABREAST)
    for start in range(0, len(X), _ABREAST):
        rows = min(_ABREAST, len(X) - start)
        for f in range(features):
            for r in range(rows):
                z[f, r] = (X[start + r, f] - mean[f]) * scale[f]
        for c in range(k):
            gap[:] = 0.0
            for f in range(features):
                for r in range(_ABREAST):
                    apart = z[f, r] - across[f, c]
                    gap[r] += apart * apart
            for r in range(rows):
                if c == 0 or gap[r] < least[r]:
                    least[r], labels[start + r] = gap[r], c


@compiled
def _add_rows(X: F64, labels: I64, sums: F64, counts: I64) -> None:
    """Add each row to its centre's sum."""
    for i in range(len(X)):
        counts[labels[i]] += 1
        for f in range(X.shape[1]):
            sums[labels[i], f] += X[i, f]
