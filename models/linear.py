"""The champion: River's standard scaler and FTRL logistic regression in one compiled pass.

River defines the model and its numbers: learning row by row gives what the pipeline
``StandardScaler() | LogisticRegression(FTRLProximal(...))`` of River 0.26 gives, down to its order
of steps (the scaler learns a row before it scales it; a gradient is taken at the weights as they
were before the row before it was taken in). ``to_river`` makes that pipeline of this model, and the
tests hold the two together. What River does in 25 µs a row in Python takes well under one here,
so that a model may learn every label there is.

There is no chance in it: weights start at zero and the order of learning is the order of rows.

FTRL-Proximal: McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import base

from events.compiled import allocating, inlined, step
from models.contract import F64, LARGEST, State, refuse_mismatch, refuse_names, refuse_unfit

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

FORMAT: Final = 2
"""Version of the saved form."""

RIVER: Final = "0.26"
"""The River whose steps these are."""

_SATURATED: Final = 30.0
"""Beyond this River's sigmoid is exactly 0 or 1."""


class FtrlClassifier(base.Classifier):  # type: ignore[misc, unused-ignore]
    """Probability of True, learned online by a linear model behind a scaler.

    Not for features with strong interactions or steps, which a linear model cannot see.

    Args:
        features: names of the inputs, in the order of the columns of every ``X``; None learns
            names as they come in dicts, and then there is no ``X``.
        alpha, beta: learning rate of each weight, which falls as its gradients add up.
        l1, l2: strength of the pull towards zero.
        intercept_rate: learning rate of the intercept.

    Raises:
        ValueError: no features, or a name given twice.

    >>> model = FtrlClassifier(["orders", "days"])
    >>> X = np.array([[9.0, 1.0], [0.0, 60.0]] * 200)
    >>> before = model.learn_many(X, np.array([True, False] * 200))
    >>> before[:1].tolist()
    [0.5]
    >>> p = model.predict_proba_many(X[:2])
    >>> bool(p[0] > 0.8), bool(p[1] < 0.2)
    (True, True)
    >>> one = model.predict_proba_one({"orders": 9.0, "days": 1.0})[True]
    >>> abs(one - float(p[0])) < 1e-12
    True
    """

    def __init__(
        self,
        features: Sequence[str] | None = None,
        alpha: float = 0.05,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 1.0,
        intercept_rate: float = 0.01,
    ) -> None:
        if features is not None:
            refuse_names(features)
        self.features = features
        self.alpha = alpha
        self.beta = beta
        self.l1 = l1
        self.l2 = l2
        self.intercept_rate = intercept_rate
        self.intercept = 0.0
        self.labels = 0
        self._place: dict[Hashable, int] = {name: i for i, name in enumerate(features or ())}
        self._columns = np.zeros((_COLUMNS, len(self._place)))

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield {}

    # -- River's API ------------------------------------------------------------------------------

    @property
    def _multiclass(self) -> bool:
        return False

    def learn_one(self, x: Mapping[Any, float], y: bool) -> None:
        """Learn one labelled row; a feature that is missing is left as it is."""
        at, values = self._known(x, grow=self.features is None)
        own = self._columns.take(at, axis=1)
        self._learn(values[None, :], np.array([bool(y)]), own)
        self._columns[:, at] = own

    def predict_proba_one(self, x: Mapping[Any, float]) -> dict[bool, float]:
        """Probability of False and of True; a feature that is missing or new does not count."""
        at, values = self._known(x, grow=False)
        p = float(_predict(values[None, :], self._columns.take(at, axis=1), self.intercept)[0])
        return {False: 1.0 - p, True: p}

    # -- whole arrays -----------------------------------------------------------------------------

    def learn_many(self, X: F64, y: Bools) -> F64:
        """Learn rows in their order; what was said of each just before it was learned.

        Args:
            X: float64[n, k], in the order of ``features``.
            y: bool[n].

        Returns:
            The probability of True before the row was learned, float64[n].

        Raises:
            ValueError: the wrong shape, or a value that is not finite; nothing is learned then.
        """
        self._refuse(X)
        if len(y) != len(X):
            raise ValueError(f"every row needs a label, but {len(X)} came with {len(y)}")
        return self._learn(X, y.astype(np.bool_), self._columns)

    def predict_proba_many(self, X: F64) -> F64:
        """The probability of True for each row of ``X`` float64[n, k], float64[n].

        Equal to River's ``predict_proba_one`` to 1e-12. A row's result does not depend on the rows
        around it.

        Raises:
            ValueError: the wrong shape, or a value that is not finite.
        """
        self._refuse(X)
        return _predict(X, self._columns, self.intercept)

    @property
    def linear(self) -> tuple[F64, F64, F64, float]:
        """What scoring needs: mean, 1 / deviation and weight of each feature, and the intercept.

        The probability is ``sigmoid(sum((x - mean) * scale * weight) + intercept)``.
        """
        held = self._columns
        return held[_MEAN], _scales(held[_VAR]), held[_WEIGHT], self.intercept

    # -- saved form -------------------------------------------------------------------------------

    def to_state(self) -> State:
        """Everything the model knows as plain data, for JSON or MessagePack."""
        return {
            "format": FORMAT,
            "river": RIVER,
            "features": None if self.features is None else list(self.features),
            "names": list(self._place),
            "learning": self._learning(),
            "columns": {name: self._columns[i].tolist() for i, name in enumerate(_NAMES)},
            "intercept": self.intercept,
            "labels": self.labels,
        }

    @classmethod
    def from_state(cls, state: State, features: Sequence[str] | None = None) -> FtrlClassifier:
        """The model that ``to_state`` wrote, bit for bit.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.

        Raises:
            ModelMismatch: another format, another River, or other features.
        """
        saved = state.get("features")
        refuse_mismatch("format", state.get("format"), FORMAT)
        refuse_mismatch("River version", state.get("river"), RIVER)
        refuse_mismatch("feature list", saved, saved if features is None else list(features))
        model = cls(saved, **state["learning"])
        model._place = {name: i for i, name in enumerate(state["names"])}
        model._columns = np.array([state["columns"][name] for name in _NAMES], dtype=np.float64)
        model.intercept, model.labels = state["intercept"], state["labels"]
        return model

    def to_river(self) -> Any:
        """River's own pipeline with these weights, which goes on learning from here."""
        from river import linear_model, optim, preprocessing, utils

        scaler = preprocessing.StandardScaler()
        ftrl = optim.FTRLProximal(self.alpha, self.beta, self.l1, self.l2)
        regression = linear_model.LogisticRegression(
            ftrl, intercept_lr=self.intercept_rate, intercept_init=self.intercept
        )
        weights = {}
        for name, i in self._place.items():
            count, mean, var, weight, z, n = self._columns[:, i].tolist()
            if not count:
                continue
            scaler.counts[name], scaler.means[name], scaler.vars[name] = int(count), mean, var
            ftrl.z[name], ftrl.n[name] = z, n
            weights[name] = weight
        ftrl.n_iterations = self.labels
        regression._weights = utils.VectorDict(weights)  # River has no public way to set them
        return scaler | regression

    # -- inside -----------------------------------------------------------------------------------

    def _learning(self) -> dict[str, float]:
        names = ("alpha", "beta", "l1", "l2", "intercept_rate")
        return {name: getattr(self, name) for name in names}

    def _learn(self, X: F64, y: Bools, held: F64) -> F64:
        rates = np.array([self.alpha, self.beta, self.l1, self.l2, self.intercept_rate])
        p, self.intercept = _learn(X, y, held, self.intercept, rates)
        self.labels += len(y)
        return p

    def _refuse(self, X: F64) -> None:
        if self.features is None:
            raise TypeError("whole arrays need a model that was given its features")
        refuse_unfit(X, self.features)

    def _known(self, x: Mapping[Any, float], *, grow: bool) -> tuple[I64, F64]:
        """Places and values of the features of one row that the model has."""
        for name, value in x.items():
            if not abs(value) <= LARGEST:  # NaN is not
                raise ValueError(
                    f"features must be finite, but {name} = {value} came: leave it out, or fill "
                    "it in"
                )
        if grow and (new := [name for name in x if name not in self._place]):
            for name in new:
                self._place[name] = len(self._place)
            self._columns = np.concatenate([self._columns, np.zeros((_COLUMNS, len(new)))], axis=1)
        names = sorted((name for name in x if name in self._place), key=self._place.__getitem__)
        at = np.array([self._place[name] for name in names], dtype=np.int64)
        return at, np.array([x[name] for name in names], dtype=np.float64)


_NAMES: Final = ("count", "mean", "var", "weight", "z", "n")
_COLUMNS: Final = len(_NAMES)
_COUNT, _MEAN, _VAR, _WEIGHT, _Z, _N = range(_COLUMNS)


def _scales(var: F64) -> F64:
    """One over the deviation of each feature; 0 for one that has only had one value."""
    return np.divide(1.0, np.sqrt(var), out=np.zeros_like(var), where=var > 0)


@allocating
def _predict(X: F64, held: F64, intercept: float) -> F64:
    mean, var, weight = held[_MEAN], held[_VAR], held[_WEIGHT]
    out, deviation = np.empty(len(X)), np.empty(X.shape[1])
    for j in range(len(deviation)):
        deviation[j] = _deviation(var[j])
    for i in range(len(X)):
        raw = 0.0
        for j in range(len(deviation)):
            raw += (X[i, j] - mean[j]) / deviation[j] * weight[j]
        out[i] = sigmoid(raw + intercept)
    return out


@allocating
def _learn(X: F64, y: Bools, held: F64, intercept: float, rates: F64) -> tuple[F64, float]:
    """What was said of each row before it was learned, and the intercept after the last.

    A loop over features fills one array and no more, and sums have loops of their own. So the
    processor does several features at once, with the same bits.
    """
    alpha, beta, l1, l2, intercept_rate = rates
    count, mean, var = held[_COUNT], held[_MEAN], held[_VAR]
    weight, z, n = held[_WEIGHT], held[_Z], held[_N]
    features = X.shape[1]
    out, said, apart = np.empty(len(X)), np.empty(features), np.empty(features)
    scaled, root = np.empty(features), np.empty(features)
    for i in range(len(X)):
        for j in range(features):
            said[j] = (X[i, j] - mean[j]) / _deviation(var[j]) * weight[j]
        for j in range(features):
            count[j] += 1.0
        for j in range(features):
            apart[j] = X[i, j] - mean[j]
        for j in range(features):
            mean[j] += apart[j] / count[j]
        for j in range(features):
            var[j] += (apart[j] * (X[i, j] - mean[j]) - var[j]) / count[j]
        for j in range(features):
            scaled[j] = (X[i, j] - mean[j]) / _deviation(var[j])
        before = raw = 0.0
        for j in range(features):
            before += said[j]
            raw += scaled[j] * weight[j]
        out[i] = sigmoid(before + intercept)
        gap = sigmoid(raw + intercept) - y[i]
        intercept -= intercept_rate * gap
        for j in range(features):
            scaled[j] *= gap  # the gradient
        for j in range(features):
            root[j] = math.sqrt(n[j])
        for j in range(features):
            pulled = -(z[j] - np.sign(z[j]) * l1) / ((beta + root[j]) / alpha + l2)
            weight[j] = pulled if abs(z[j]) > l1 else weight[j]
        for j in range(features):
            n[j] += scaled[j] * scaled[j]
        for j in range(features):
            z[j] = z[j] + scaled[j] - (math.sqrt(n[j]) - root[j]) / alpha * weight[j]
    return out, intercept


@inlined
def _deviation(var: float) -> float:
    """What a feature is divided by: infinity where it has only had one value, which makes it 0."""
    return math.sqrt(var) if var > 0.0 else math.inf


@step
def sigmoid(raw: float) -> float:
    """The probability of log-odds, as River has it: exactly 0 or 1 where they are large."""
    if raw > _SATURATED:
        return 1.0
    if raw < -_SATURATED:
        return 0.0
    return 1.0 / (1.0 + math.exp(-raw))
