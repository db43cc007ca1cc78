"""Which group is this customer in? Mini-batch k-means that follows the stream and keeps its names.

- **Start**: the first rows are kept, and k-means++ with Lloyd steps finds the centres in them.
  Until then everybody is in cluster 0; afterwards 0 is the largest group of the first rows.
- **Learning**: a batch is given to the centres as they stand, and each centre moves to the mean of
  what it held and what came. What it held counts as ``cap`` rows at most, so it never stops moving.
- **Scale**: distances are in standard deviations of the latest ``k * cap`` rows, by Chan's formula.
  Those of the first rows would not do: customers are all new when a stream begins, and how they
  differ then says little of how they differ later. Where half of the features spread to ten times
  as much after the start, the adjusted Rand index is 0.85, with the scale of the first rows 0.57
  (``python -m loadtest.evaluate.clusters``). The price: an absurd row spoils the scale of its
  features until a refit. Centres are in the features' own units, so a new scale moves none.
- **Refit**: mini-batches leave neither a poor local optimum nor an outlier that holds a centre. A
  fit from a fresh sample does, and its centres take over the labels of the old ones such that as
  many rows as possible keep theirs.
- **Parts**: a batch acts only by its sums and counts per centre and the spread of its features, so
  lanes can make these apart and one place can add them up.

Mini-batch k-means: Sculley, "Web-scale k-means clustering", WWW 2010. Moments: Chan, Golub and
LeVeque, "Algorithms for computing the sample variance", The American Statistician, 1983.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from river import base

from models.contract import F64, State, refuse_mismatch, refuse_names, refuse_unfit
from models.kmeans import I64, Fit, Part, fit, gather, inverse, joined, match, nearest

FORMAT: Final = 1
"""Version of the saved form; no numbers of a library are in it, so there is no other version."""

_RESTARTS: Final = 20
"""Starts of a fit; with 8 of them one population in forty or so was missed by far."""

_NOTABLE: Final = 0.5
"""Standard deviations from the mean at which a description mentions a feature."""


class Clusters(base.Clusterer):
    """Groups of similar rows, learned online, with labels 0 to k - 1 that keep their meaning.

    Not for groups that are not round (long, nested), nor for features with heavy tails: give such
    amounts as logarithms, or the few largest customers become groups of their own. How rows are cut
    into batches shows in the centres a little, because a batch is assigned before it is learned.

    Args:
        features: names of the inputs, in the order of the columns of every ``X``.
        k: how many groups.
        seed: of the fits; the same rows in the same batches give the same model.
        first: rows that are kept until the centres are found in them.
        cap: rows that a centre's past counts as at most; fewer follow faster and are less steady.

    Attributes:
        started: whether there are centres.
        centres: in the features' units, float64[k, f].
        sizes: rows of each group, float64[k]: counted since the last fit, and decayed such that all
            together never exceed ``k * cap``.

    Raises:
        ValueError: no features or a name given twice; a seed below 0; or not ``1 <= k <= first``
            and ``1 <= cap``.

    >>> model = Clusters(["orders", "days"], k=2, first=100)
    >>> X = np.array([[9.0, 1.0], [0.0, 60.0], [0.0, 62.0]] * 100)
    >>> model.learn_many(X)
    >>> model.predict_many(X[:3]).tolist()
    [1, 0, 0]
    >>> model.predict_one({"orders": 8.0, "days": 3.0})
    1
    >>> model.descriptions()[1]
    'orders high (+1.4 sd), days low (-1.4 sd)'
    """

    def __init__(
        self, features: Sequence[str], k: int, seed: int = 0, first: int = 500, cap: int = 2_000
    ) -> None:
        refuse_names(features)
        if not 1 <= k <= first or cap < 1 or seed < 0:
            raise ValueError(
                "1 <= k <= first, 1 <= cap and 0 <= seed must hold, but "
                f"k = {k}, first = {first}, cap = {cap} and seed = {seed} came"
            )
        self.features = tuple(features)
        self.k = k
        self.seed = seed
        self.first = first
        self.cap = cap
        self.started = False
        self.centres = np.zeros((k, len(self.features)))
        self.sizes = np.zeros(k)
        self._mean = np.zeros(len(self.features))
        self._var = np.zeros(len(self.features))
        self._kept = np.zeros((0, len(self.features)))
        self._fits = 0

    # -- River's API --------------------------------------------------------------------------

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Learn one row; a feature that is missing counts as its mean, others are ignored."""
        self.learn_many(self._row(x))

    def predict_one(self, x: Mapping[str, float]) -> int:
        """The label of one row, 0 to k - 1; missing and other features as in ``learn_one``."""
        return int(self.predict_many(self._row(x))[0])

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"features": ("a", "b", "c", "d", "e"), "k": 3, "first": 20}

    # -- whole arrays -------------------------------------------------------------------------

    def learn_many(self, X: F64) -> None:
        """Learn the rows of ``X`` float64[n, f] as one batch.

        Raises:
            ValueError: wrong number of columns, or a value that is not finite; nothing has been
                learned then.
        """
        X = self._checked(X)
        if not self.started:
            wanted = self.first - len(self._kept)
            self._kept = np.concatenate([self._kept, X[:wanted]])
            if len(X) < wanted:
                return
            self._take(self._fit(self._kept))
            X = X[wanted:]
        self.merge([self.part(X)])

    def predict_many(self, X: F64) -> I64:
        """The label of each row of ``X`` float64[n, f], int64[n].

        Changes nothing. A row's label does not depend on the rows around it.

        Raises:
            ValueError: as for ``learn_many``.
        """
        X = self._checked(X)
        if not self.started:
            return np.zeros(len(X), dtype=np.int64)
        return nearest(X, self.centres, self._mean, self._var)

    def refit(self, X: F64) -> float:
        """New centres from a sample of the population as it is, under the labels of the old ones.

        The sample replaces all that was learned, also sizes and scale; some thousand rows do. Works
        as a start as well.

        Args:
            X: rows drawn evenly from the population, float64[n, f], at least k.

        Returns:
            The share of these rows that keep their label.

        Raises:
            ValueError: as for ``learn_many``, or fewer rows than groups.
        """
        X = self._checked(X)
        if len(X) < self.k:
            raise ValueError(f"a fit of {self.k} groups needs as many rows, but {len(X)} came")
        before, new = self.predict_many(X), self._fit(X)
        if self.started:
            scale = inverse(new.mean, new.var)
            gaps = np.abs((self.centres[:, None] - new.centres) * scale).sum(axis=2)
            after = nearest(X, new.centres, new.mean, new.var)
            order = match(before, after, gaps)
            new = new._replace(centres=new.centres[order], counts=new.counts[order])
        self._take(new)
        return float((self.predict_many(X) == before).mean())

    # -- lanes --------------------------------------------------------------------------------

    def part(self, X: F64) -> Part:
        """What the rows of ``X`` float64[n, f] would add to the centres as they stand.

        Raises:
            ValueError: as for ``learn_many``, or there are no centres yet.
        """
        self._refuse_unstarted()
        X = self._checked(X)
        return gather(X, nearest(X, self.centres, self._mean, self._var), self.k)

    def merge(self, parts: Sequence[Part]) -> None:
        """Learn the rows behind all parts as one batch.

        Parts of the same centres give what ``learn_many`` of all their rows gives, up to rounding,
        and the same bits in any order.

        Raises:
            ValueError: the parts are of another k or other features, or there are no centres yet.
        """
        self._refuse_unstarted()
        shape = self.centres.shape
        for part in parts:
            if part.sums.shape != shape or part.counts.shape != shape[:1]:
                raise ValueError(f"a part must have sums {shape}, but {part.sums.shape} came")
        parts = [part for part in parts if part.counts.any()]
        if parts:
            self._add(joined(parts))

    # -- for people ---------------------------------------------------------------------------

    def shares(self) -> F64:
        """The share of each group in ``sizes``, float64[k]; 0 before the start."""
        out: F64 = self.sizes / max(float(self.sizes.sum()), 1.0)
        return out

    def descriptions(self, most: int = 3) -> list[str]:
        """In which features each group lies furthest from the mean of all, in words.

        Args:
            most: features that are mentioned at most; those within half a standard deviation of
                the mean never are.
        """
        if not self.started:
            return ["nothing learned yet"] * self.k
        away = (self.centres - self._mean) * inverse(self._mean, self._var)
        return [_words(self.features, row, most) for row in away]

    # -- saved form ---------------------------------------------------------------------------

    def to_state(self) -> State:
        """Everything the model knows as plain data, for JSON or MessagePack."""
        return {
            "format": FORMAT,
            "features": list(self.features),
            "k": self.k,
            "seed": self.seed,
            "first": self.first,
            "cap": self.cap,
            "started": self.started,
            "fits": self._fits,
            "centres": self.centres.tolist(),
            "sizes": self.sizes.tolist(),
            "mean": self._mean.tolist(),
            "var": self._var.tolist(),
            "kept": self._kept.tolist(),
        }

    @classmethod
    def from_state(
        cls, state: State, features: Sequence[str] | None = None, k: int | None = None
    ) -> Clusters:
        """The model that ``to_state`` wrote, bit for bit.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.
            k: the number of groups now in use; None accepts what it was saved with.

        Raises:
            ModelMismatch: another format, other features or another k.
        """
        wanted = list(state.get("features", []) if features is None else features)
        refuse_mismatch("format", state.get("format"), FORMAT)
        refuse_mismatch("feature list", state.get("features"), wanted)
        refuse_mismatch("k", state.get("k"), state.get("k") if k is None else k)
        model = cls(wanted, state["k"], state["seed"], state["first"], state["cap"])
        model.started, model._fits = state["started"], state["fits"]
        model.centres, model.sizes = np.array(state["centres"]), np.array(state["sizes"])
        model._mean, model._var = np.array(state["mean"]), np.array(state["var"])
        model._kept = np.array(state["kept"]).reshape(-1, len(wanted))
        return model

    # -- inside -------------------------------------------------------------------------------

    def _fit(self, X: F64) -> Fit:
        return fit(X, self.k, np.random.default_rng([self.seed, self._fits]), _RESTARTS)

    def _take(self, found: Fit) -> None:
        """Go on from a fit."""
        self.centres, self._mean, self._var = found.centres, found.mean, found.var
        self.sizes = self._decayed(found.counts.astype(np.float64))
        self.started = True
        self._fits += 1
        self._kept = self._kept[:0].copy()

    def _add(self, part: Part) -> None:
        """Move centres, mean and variance to where they are with the part's rows."""
        held, came = float(self.sizes.sum()), float(part.counts.sum())
        weight = np.minimum(self.sizes, self.cap) + part.counts
        pull = part.sums - part.counts[:, None] * self.centres
        self.centres = self.centres + pull / np.maximum(weight, 1.0)[:, None]
        both = held + came
        shift = part.sums.sum(axis=0) / came - self._mean
        self._mean = self._mean + shift * (came / both)
        between = shift * shift * (held * came / both)
        self._var = (self._var * held + part.spread + between) / both
        self.sizes = self._decayed(self.sizes + part.counts)

    def _decayed(self, sizes: F64) -> F64:
        return sizes * min(1.0, self.k * self.cap / float(sizes.sum()))

    def _row(self, x: Mapping[str, float]) -> F64:
        """A dict as float64[1, f]."""
        mean = self._mean
        if not self.started and len(self._kept):
            mean = self._kept.mean(axis=0)
        given = [x.get(f, m) for f, m in zip(self.features, mean.tolist(), strict=True)]
        return np.array([given], dtype=np.float64)

    def _refuse_unstarted(self) -> None:
        if not self.started:
            raise ValueError(
                f"a part needs centres, but only {len(self._kept)} of the first {self.first} rows "
                "came: give the rows to learn_many until started is true"
            )

    def _checked(self, X: F64) -> F64:
        X = np.ascontiguousarray(X, dtype=np.float64)
        refuse_unfit(X, self.features)
        return X


def _words(features: Sequence[str], away: F64, most: int) -> str:
    """Such as "lifetime.orders high (+2.1 sd), intent low (-1.0 sd)"."""
    order = np.argsort(-np.abs(away), kind="stable")[:most]
    said = [
        f"{features[i]} {'high' if away[i] > 0 else 'low'} ({away[i]:+.1f} sd)"
        for i in order.tolist()
        if abs(away[i]) >= _NOTABLE
    ]
    return ", ".join(said) or "near the mean in everything"
