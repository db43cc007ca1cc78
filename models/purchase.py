"""Will this user buy within the horizon? River's scaler and FTRL logistic regression, made to last.

River learns and defines the prediction. Around it stand what a long-running engine needs:

- **whole-array scoring**: the model is linear behind a scaler, so the rows that changed in a batch
  are scored by a few whole-array operations instead of a Python call per row;
- **progressive metrics**: each matured snapshot is scored before it is learned, and those scores
  against what happened give the AUC and log-loss, without a test set;
- **a plain saved form**: numbers and names only, restored bit for bit, refused in words when it was
  written for other features or by another River;
- **a guard**: one NaN would make a River mean NaN for ever, so such rows are refused.

There is no chance in it: weights start at zero and the order of learning is the order of time.

FTRL-Proximal: McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import river
from numpy.typing import NDArray
from river import compose, linear_model, optim, preprocessing, utils

from models.progress import Progress

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
State = dict[str, Any]

FORMAT: Final = 1
"""Version of the saved form."""

LARGEST: Final = 1e100
"""Features beyond this are refused: their squares would overflow the scaler's variance."""

_SATURATED: Final = 30.0
"""Beyond this River's sigmoid is exactly 0 or 1."""


@dataclass(slots=True, frozen=True)
class Learning:
    """How the model learns; see River's ``optim.FTRLProximal``.

    Attributes:
        alpha, beta: learning rate of each weight, which falls as its gradients add up.
        l1, l2: strength of the pull towards zero.
        intercept_rate: learning rate of the intercept.
    """

    alpha: float = 0.05
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 1.0
    intercept_rate: float = 0.01


class PurchaseModel:
    """Probability of a purchase within the horizon, learned online.

    Not for features with strong interactions or steps, which a linear model cannot see.

    Args:
        features: names of the inputs, in the order of the columns of every ``X``.
        learning: how fast and how far it learns.
        window: how many of the latest matured labels the metrics look at.

    Raises:
        ValueError: no features, or a name given twice.

    >>> model = PurchaseModel(["orders", "days"])
    >>> X = np.array([[9.0, 1.0], [0.0, 60.0]] * 200)
    >>> model.learn_matured(X, np.array([True, False] * 200))
    >>> p = model.predict_many(X[:2])
    >>> bool(p[0] > 0.8), bool(p[1] < 0.2)
    (True, True)
    >>> one = model.predict_proba_one({"orders": 9.0, "days": 1.0})[True]
    >>> bool(abs(one - p[0]) < 1e-12)
    True
    """

    def __init__(
        self, features: Sequence[str], learning: Learning | None = None, window: int = 2_000
    ) -> None:
        if not features or len(set(features)) != len(features):
            raise ValueError(
                f"a model needs features with different names, but {list(features)!r} came"
            )
        self.features = tuple(features)
        self.learning = learning or Learning()
        self.progress = Progress(window)
        chosen = self.learning
        self._scaler = preprocessing.StandardScaler()
        self._ftrl = optim.FTRLProximal(chosen.alpha, chosen.beta, chosen.l1, chosen.l2)
        self._regression = linear_model.LogisticRegression(
            self._ftrl, intercept_lr=chosen.intercept_rate
        )
        self._pipeline = compose.Pipeline(self._scaler, self._regression)

    # -- River's API --------------------------------------------------------------------------

    def learn_one(self, x: Mapping[str, float], y: bool) -> None:
        """Learn one labelled snapshot; all features must be there and finite."""
        row = self._row(x)
        self._refuse_unfit(row[None, :])
        self._learn(row.tolist(), bool(y))

    def predict_proba_one(self, x: Mapping[str, float]) -> dict[bool, float]:
        """River's own prediction for one snapshot: probability of False and of True."""
        row = self._row(x)
        self._refuse_unfit(row[None, :])
        return self._predict(row.tolist())

    # -- whole arrays -------------------------------------------------------------------------

    def predict_many(self, X: F64) -> F64:
        """The probability of a purchase for each row of ``X`` float64[n, k], float64[n].

        Equal to ``predict_proba_one`` to 1e-12 unless scaled values are so large (above 1e3) that
        the order of the sum shows. A row's result does not depend on the rows around it.

        Raises:
            ValueError: wrong number of columns, or a value that is not finite.
        """
        self._refuse_unfit(X)
        means, deviations, weights = self._linear()
        centred = X - means
        scaled = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
        # not a matrix product: BLAS rounds a row differently in batches of different size
        raw: F64 = (scaled * weights).sum(axis=1) + float(self._regression.intercept)
        inner = np.clip(raw, -_SATURATED, _SATURATED)
        p = 1.0 / (1.0 + np.exp(-inner))
        out: F64 = np.where(np.abs(raw) > _SATURATED, (raw > 0).astype(np.float64), p)
        return out

    def learn_matured(self, X: F64, y: Bools) -> None:
        """Score, note and then learn snapshots whose label is final.

        Args:
            X: features, float64[n, k], in order of snapshot time.
            y: whether the user bought within the horizon, bool[n].

        Raises:
            ValueError: as for ``predict_many``; nothing has been learned then.
        """
        self._refuse_unfit(X)
        if len(y) != len(X):
            raise ValueError(f"every snapshot needs a label, but {len(X)} came with {len(y)}")
        for row, label in zip(X.tolist(), y.tolist(), strict=True):
            self.progress.note(bool(label), self._predict(row)[True])
            self._learn(row, bool(label))

    # -- saved form ---------------------------------------------------------------------------

    def to_state(self) -> State:
        """Everything the model knows as plain data, for JSON or MessagePack."""
        weights = self._regression.weights
        return {
            "format": FORMAT,
            "river": river.__version__,
            "features": list(self.features),
            "learning": asdict(self.learning),
            "scaler": {
                "counts": [int(self._scaler.counts[f]) for f in self.features],
                "means": [float(self._scaler.means[f]) for f in self.features],
                "vars": [float(self._scaler.vars[f]) for f in self.features],
            },
            "ftrl": {
                "z": [float(self._ftrl.z[f]) for f in self.features],
                "n": [float(self._ftrl.n[f]) for f in self.features],
                "iterations": int(self._ftrl.n_iterations),
            },
            # a weight that FTRL never set is absent, which River treats as zero
            "weights": [float(weights[f]) if f in weights else None for f in self.features],
            "intercept": float(self._regression.intercept),
            "progress": self.progress.to_state(),
        }

    @classmethod
    def from_state(cls, state: State, features: Sequence[str] | None = None) -> PurchaseModel:
        """The model that ``to_state`` wrote, bit for bit.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.

        Raises:
            ModelMismatch: another format, another River, or other features.
        """
        wanted = list(state.get("features", []) if features is None else features)
        _refuse_mismatch("format", state.get("format"), FORMAT)
        _refuse_mismatch("River version", state.get("river"), river.__version__)
        _refuse_mismatch("feature list", state.get("features"), wanted)
        model = cls(wanted, Learning(**state["learning"]))
        model.progress = Progress.from_state(state["progress"])
        scaler, ftrl = state["scaler"], state["ftrl"]
        if ftrl["iterations"]:
            model._scaler.counts.update(dict(zip(wanted, scaler["counts"], strict=True)))
            model._scaler.means.update(zip(wanted, scaler["means"], strict=True))
            model._scaler.vars.update(zip(wanted, scaler["vars"], strict=True))
            model._ftrl.z.update(zip(wanted, ftrl["z"], strict=True))
            model._ftrl.n.update(zip(wanted, ftrl["n"], strict=True))
        model._ftrl.n_iterations = ftrl["iterations"]
        weights = {f: w for f, w in zip(wanted, state["weights"], strict=True) if w is not None}
        # River has no public way to set weights
        model._regression._weights = utils.VectorDict(weights)
        model._regression.intercept = state["intercept"]
        return model

    # -- inside -------------------------------------------------------------------------------

    def _predict(self, row: list[float]) -> dict[bool, float]:
        x = dict(zip(self.features, row, strict=True))
        p: dict[bool, float] = self._pipeline.predict_proba_one(x)
        return p

    def _learn(self, row: list[float], y: bool) -> None:
        self._pipeline.learn_one(dict(zip(self.features, row, strict=True)), y)

    def _linear(self) -> tuple[F64, F64, F64]:
        """Mean, standard deviation and weight of each feature, float64[k] each."""
        scaler, weights = self._scaler, self._regression.weights
        means = [scaler.means.get(f, 0.0) for f in self.features]
        deviations = [scaler.vars.get(f, 0.0) ** 0.5 for f in self.features]
        held = [weights.get(f, 0.0) for f in self.features]
        return np.array(means), np.array(deviations), np.array(held, dtype=np.float64)

    def _row(self, x: Mapping[str, float]) -> F64:
        missing = [f for f in self.features if f not in x]
        if missing:
            raise ValueError(
                f"the model needs the features {list(self.features)!r}, but "
                f"{missing!r} did not come: give a number for each"
            )
        return np.array([x[f] for f in self.features], dtype=np.float64)

    def _refuse_unfit(self, X: F64) -> None:
        k = len(self.features)
        if X.ndim != 2 or X.shape[1] != k:
            raise ValueError(f"X must have the shape (n, {k}), but {X.shape} came")
        if X.size and not float(np.abs(X).max()) <= LARGEST:
            i, j = np.argwhere(~(np.abs(X) <= LARGEST))[0].tolist()
            raise ValueError(
                f"features must be finite and within ±{LARGEST:g}, but row {i} has "
                f"{self.features[j]} = {X[i, j]}: fill in or drop such rows before"
            )


class ModelMismatch(Exception):
    """A saved model does not fit the program or the settings that want to use it."""


def _refuse_mismatch(what: str, saved: object, wanted: object) -> None:
    if saved != wanted:
        raise ModelMismatch(
            f"the saved model's {what} is {saved!r}, but {wanted!r} is in use: go back to that, "
            "or delete the saved model and let a new one learn from the stream"
        )
