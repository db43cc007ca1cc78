"""``python -m loadtest.evaluate.clusters``: do the groups found in a stream match the true ones?

Rows are drawn around known centres, groups of unequal size, features in unequal units. Three ways
of finding the groups learn the same rows and label others that they have not seen: ``Clusters``,
which sees each row once; scikit-learn's k-means, which has all rows at hand as often as it likes;
and River's incremental one, behind River's scaler. The adjusted Rand index compares the labels with
the truth: 1 is the same grouping, 0 what chance gives.

A second table is why ``Clusters`` goes on learning its scale: half of the features spread to ten
times as much once the first rows are over, as those of new customers do, and a model that keeps the
scale of its first rows stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from river import cluster, preprocessing
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from models.clusters import Clusters
from models.kmeans import Part

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

GROUPS: Final = 5
FEATURES: Final = tuple(f"f{i}" for i in range(6))

_BATCH: Final = 200
_HALFLIFE: Final = 0.1
"""River's step, the best of 0.5 (its default), 0.1, 0.05, 0.02, 0.01 and 0.005."""

_FIRST: Final = 500
_YOUNG: Final = np.array([0.1, 1.0] * 3)
"""How much narrower each feature is in the first rows."""


@dataclass(slots=True, frozen=True)
class Blobs:
    """A population of round groups.

    Attributes:
        centres: float64[groups, features], in deviations of a group.
        shares: of each group, float64[groups].
        units: what a deviation is in each feature, float64[features].
    """

    centres: F64
    shares: F64
    units: F64

    @classmethod
    def of(cls, seed: int, apart: float = 2.0) -> Blobs:
        """Groups whose centres are drawn with a deviation of ``apart`` in each feature."""
        rng = np.random.default_rng(seed)
        return cls(
            rng.normal(0.0, apart, (GROUPS, len(FEATURES))),
            rng.dirichlet(np.full(GROUPS, 5.0)),
            10.0 ** rng.uniform(-2, 3, len(FEATURES)),
        )

    def draw(self, n: int, rng: np.random.Generator) -> tuple[F64, I64]:
        """Rows and the group of each, float64[n, features] and int64[n]."""
        truth = rng.choice(GROUPS, n, p=self.shares)
        Z = self.centres[truth] + rng.normal(size=(n, len(FEATURES)))
        return Z * self.units, truth


class Row(NamedTuple):
    """The adjusted Rand index of each way on one population."""

    seed: int
    ours: float
    batch: float
    river: float


def compare(seeds: Iterable[int], n: int = 3_000, n_new: int = 1_000) -> list[Row]:
    """Learn ``n`` rows of each population and label ``n_new`` others."""
    rows = []
    for seed in seeds:
        blobs, rng = Blobs.of(seed), np.random.default_rng([seed, 1])
        X, _ = blobs.draw(n, rng)
        new, truth = blobs.draw(n_new, rng)
        labels = (_ours(X, new, seed), _batch(X, new, seed), _river(X, new, seed))
        rows.append(Row(seed, *(float(adjusted_rand_score(truth, found)) for found in labels)))
    return rows


class ScaleRow(NamedTuple):
    """The adjusted Rand index after a narrow start, with a scale that follows or stays."""

    seed: int
    ours: float
    frozen: float


def compare_scales(seeds: Iterable[int], n: int = 10_000, n_new: int = 1_000) -> list[ScaleRow]:
    """Learn a narrow start and ``n`` rows of each population, and label ``n_new`` others."""
    rows = []
    for seed in seeds:
        blobs, rng = Blobs.of(seed), np.random.default_rng([seed, 2])
        first, _ = blobs.draw(_FIRST, rng)
        later, _ = blobs.draw(n, rng)
        new, truth = blobs.draw(n_new, rng)
        X = np.concatenate([first * _YOUNG, later])
        labels = (_ours(X, new, seed), _ours(X, new, seed, _Frozen))
        rows.append(ScaleRow(seed, *(adjusted_rand_score(truth, found) for found in labels)))
    return rows


class _Frozen(Clusters):
    """Keeps the scale of its first rows."""

    def merge(self, parts: Sequence[Part]) -> None:
        scale = self._mean, self._var
        super().merge(parts)
        self._mean, self._var = scale


def _ours(X: F64, new: F64, seed: int, kind: type[Clusters] = Clusters) -> I64:
    model = kind(FEATURES, GROUPS, seed, first=_FIRST)
    for start in range(0, len(X), _BATCH):
        model.learn_many(X[start : start + _BATCH])
    return model.predict_many(new)


def _batch(X: F64, new: F64, seed: int) -> I64:
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    with threadpool_limits(1):  # many threads wait for each other on so few rows
        found = KMeans(GROUPS, n_init=10, random_state=seed).fit((X - mean) / deviation)
        return np.asarray(found.predict((new - mean) / deviation), dtype=np.int64)


def _river(X: F64, new: F64, seed: int) -> I64:
    # named by numbers: River draws its first centres in the order of a set of names, and that of
    # texts differs from process to process, whatever the seed
    model = preprocessing.StandardScaler() | cluster.KMeans(GROUPS, _HALFLIFE, seed=seed)
    for row in X.tolist():
        model.learn_one(dict(enumerate(row)))
    labels = [model.predict_one(dict(enumerate(row))) for row in new.tolist()]
    return np.array(labels, dtype=np.int64)


def main() -> None:
    """Print ten populations and their mean, twice."""
    console = Console()
    console.print(_table(["Clusters", "batch k-means", "River's KMeans"], compare(range(10))))
    console.print(_table(["Clusters", "scale of the first rows"], compare_scales(range(10))))


def _table(ways: list[str], rows: Sequence[Row] | Sequence[ScaleRow]) -> Table:
    table = Table("seed", *ways)
    for row in rows:
        table.add_row(str(row.seed), *(f"{value:.3f}" for value in row[1:]))
    table.add_section()
    table.add_row("mean", *(f"{value:.3f}" for value in np.mean(rows, axis=0)[1:]))
    return table


if __name__ == "__main__":
    main()
