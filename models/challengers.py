"""Challengers: trees that learn the champion's labels beside it, in case they see what it cannot.

The champion is a line behind a scaler, so it cannot see steps and interactions. A tree can, but
River takes a fraction of a millisecond to learn one label, so challengers learn a sample of the
labels, and are promoted only on evidence (``models.contest``). What a promoted tree needs stands
around River's model:

- **whole-array scoring**: predictions are those of the exported arrays (``models.trees``);
- **a plain saved form**, though River's trees have none but pickles: the arrays, and the latest
  labelled rows. Restored, it scores at once as it did, and before it learns again River's model is
  built anew from these rows. River is always given rows as they are remembered, in float32, so
  until the first row is forgotten the model built anew is the old one, bit for bit. After that,
  **what was learned before the remembered rows is lost**: thresholds, counts and drift detectors
  are those of a model that has seen nothing else;
- **bounded memory**. By default River's trees may grow to 100 MiB each, and look after a million
  rows. The depth bounds them instead: at most ``2 ** _DEPTH`` leaves per tree, with some 5 kB for
  each feature that a leaf watches. An adaptive tree may keep an alternate leaf beside each branch,
  and a forest a second tree behind each, so with twenty features no more than about 13 MB and
  32 MB. River's check of sizes is off: an adaptive tree counts its leaves at the greatest depth
  anew with each row, and the check reckons with that number;
- **no certainty**: a leaf that has seen one class says 0 or 1, and the first surprise would cost
  an endless log-loss. No sample of labels bears out more than ``SURE``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import river
from numpy.typing import NDArray
from river import base

from models.contract import F64, State, refuse_mismatch, refuse_names, refuse_unfit
from models.trees import UNKNOWN, Trees, exported

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]

FORMAT: Final = 1
"""Version of the saved form."""

KINDS: Final = ("tree", "forest")

SURE: Final = 0.999
"""No probability is closer to 1 than this, nor to 0 than ``1 - SURE``."""

_STEP: Final = 20
"""Rows that are learned between two pauses."""

_DEPTH: Final = 6
_TREES: Final = 5
_NEVER: Final = 2**62
_LARGEST: Final = float(np.finfo(np.float32).max)


class Challenger(base.Classifier):
    """A River tree or forest with the contract of ``models.contract``.

    Features that are missing in a dict take the way that most rows took, and unknown ones are
    ignored; arrays must be whole. Labels are True and False.

    Not for a label in thousands: with so few surprises ``SURE`` is too coarse.

    Args:
        kind: "tree" for Hoeffding's adaptive tree, "forest" for an adaptive random forest of five.
        features: names of the inputs, in the order of the columns of every ``X``.
        seed: of the sampling within River; the same rows in the same order give the same model.
        memory: how many of the latest labelled rows are kept to build the model anew.

    Raises:
        ValueError: another kind, no features or a name given twice, or no memory.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 2, (800, 2)).astype(np.float64)
    >>> model = Challenger("tree", ["orders", "days"], seed=1)
    >>> model.learn_many(X, X[:, 0] == 1)
    >>> model.predict_proba_many(np.array([[1.0, 0.0], [0.0, 0.0]])).round(2).tolist()
    [1.0, 0.0]
    >>> restored = Challenger.from_state(model.to_state())
    >>> restored.ready, bool((restored.predict_proba_many(X) == model.predict_proba_many(X)).all())
    (False, True)
    """

    def __init__(self, kind: str, features: Sequence[str], seed: int, memory: int = 2_000) -> None:
        if kind not in KINDS:
            raise ValueError(f"the kind of a challenger must be one of {KINDS}, but {kind!r} came")
        if memory < 1:
            raise ValueError(f"a challenger must remember at least 1 row, but {memory} came")
        refuse_names(features)
        self.kind = kind
        self.features = tuple(features)
        self.seed = seed
        self.memory = memory
        self.count = 0
        self.positives = 0
        self._rows: F32 = np.zeros((memory, len(self.features)), np.float32)
        self._labels: Bools = np.zeros(memory, np.bool_)
        self._trees: Trees | None = Trees.none(features)
        self._model: Any = None

    # -- River's API --------------------------------------------------------------------------

    def learn_one(self, x: Mapping[str, float], y: bool) -> None:
        """Learn one labelled row; features may be missing, but must be finite."""
        row = self._row(x)
        self.rebuild()
        self._learn(row, bool(y))

    def predict_proba_one(self, x: Mapping[str, float], **_: Any) -> dict[bool, float]:
        """Probability of False and of True for one row."""
        p = self._predict(self._row(x))
        return {False: 1.0 - p, True: p}

    # -- whole arrays -------------------------------------------------------------------------

    def predict_proba_many(self, X: F64) -> F64:
        """The probability of True for each row of ``X`` float64[n, k], float64[n].

        Equal to ``predict_proba_one`` to 1e-12. A row's result does not depend on the rows around.

        Raises:
            ValueError: wrong number of columns, or a value that is not finite.
        """
        refuse_unfit(X, self.features)
        return unsure(self.trees.predict_many(X))

    def learn_many(self, X: F64, y: Bools) -> None:
        """Learn labelled rows in their order; see ``learn_matured``."""
        self._refuse_unpaired(X, y)
        self.rebuild()
        for row, label in zip(X, y.tolist(), strict=True):
            self._learn(row, bool(label))

    def learn_matured(self, X: F64, y: Bools) -> F64:
        """Predict each row and then learn it: the probabilities of True before, float64[n].

        Args:
            X: features, float64[n, k], in order of snapshot time.
            y: what happened, bool[n].

        Raises:
            ValueError: as for ``predict_proba_many``; nothing has been learned then.
        """
        self._refuse_unpaired(X, y)
        self.rebuild()
        p = np.empty(len(X))
        for i, (row, label) in enumerate(zip(X, y.tolist(), strict=True)):
            p[i] = self._predict(row)
            self._learn(row, bool(label))
        return p

    # -- saved form ---------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether River's model is there; it is built when it is first needed, or beforehand."""
        return self._model is not None

    @property
    def trees(self) -> Trees:
        """What it says as arrays, not yet kept from certainty (``unsure``)."""
        if self._trees is None:
            self._trees = exported(self._model, self.features)
        return self._trees

    def rebuild(self) -> None:
        """Build River's model from the remembered rows, unless it is there.

        It takes as long as learning them did, and loading River a second, which is noticed: a
        caller may choose when. Predictions are then those of a model that has seen these rows only.
        """
        for _ in self.rebuilding():
            pass

    def rebuilding(self) -> Iterator[None]:
        """The same in small steps, between which others may run; the model is there at the end.

        Nothing may be learned before that.
        """
        if self.ready:
            return
        model = _river_model(self.kind, len(self.features), self.seed)
        rows, labels = self._remembered()
        for at, (row, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
            model.learn_one(self._dict(row), label)
            if at % _STEP == 0:
                yield
        # first the arrays of what is there, so that nobody sees the new model with the old ones
        self._trees = exported(model, self.features)
        self._model = model

    def to_state(self) -> State:
        """The arrays that score, the remembered rows and the counts as plain data.

        The rows are little-endian float32 in base64, oldest first: 5.3 bytes a number; NaN where
        one was missing.
        """
        rows, labels = self._remembered()
        return {
            "format": FORMAT,
            "river": river.__version__,
            "kind": self.kind,
            "features": list(self.features),
            "seed": self.seed,
            "memory": self.memory,
            "count": self.count,
            "positives": self.positives,
            "trees": self.trees.to_state(),
            "rows": base64.b64encode(rows.astype("<f4").tobytes()).decode("ascii"),
            "labels": "".join("1" if label else "0" for label in labels.tolist()),
        }

    @classmethod
    def from_state(
        cls, state: State, features: Sequence[str] | None = None, kind: str | None = None
    ) -> Challenger:
        """The model that ``to_state`` wrote: it scores bit for bit as it did, and at once.

        It learns on from the remembered rows only, see ``rebuild``.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.
            kind: the kind now in use; None accepts what it was.

        Raises:
            ModelMismatch: another format, another River, another kind, or other features.
        """
        wanted = list(state.get("features", []) if features is None else features)
        refuse_mismatch("format", state.get("format"), FORMAT)
        refuse_mismatch("River version", state.get("river"), river.__version__)
        refuse_mismatch("kind", state.get("kind"), state.get("kind") if kind is None else kind)
        refuse_mismatch("feature list", state.get("features"), wanted)
        model = cls(state["kind"], wanted, state["seed"], state["memory"])
        rows = np.frombuffer(base64.b64decode(state["rows"]), "<f4").reshape(-1, len(wanted))
        model.count, model.positives = state["count"], state["positives"]
        places = np.arange(model.count - len(rows), model.count) % model.memory
        model._rows[places] = rows
        model._labels[places] = [each == "1" for each in state["labels"]]
        model._trees, model._model = Trees.from_state(state["trees"], wanted), None
        return model

    # -- inside -------------------------------------------------------------------------------

    def _learn(self, row: F64, y: bool) -> None:
        """Remember a row, and give River what is remembered."""
        place = self.count % self.memory
        np.clip(row, -_LARGEST, _LARGEST, out=self._rows[place], casting="unsafe")
        self._labels[place] = y
        self.count += 1
        self.positives += y
        self._trees = None
        self._model.learn_one(self._dict(self._rows[place]), y)

    def _predict(self, row: F64) -> float:
        """River's own prediction, or that of the arrays until River's model is there."""
        if not self.count:
            return UNKNOWN  # a forest that is asked before it has learned plants its trees
        if not self.ready:
            return float(unsure(self.trees.predict_many(row[None, :]))[0])
        said = self._model.predict_proba_one(self._dict(row))
        p = said.get(True, 0.0) if said else UNKNOWN
        return min(max(p, 1.0 - SURE), SURE)

    def _remembered(self) -> tuple[F32, Bools]:
        """The latest rows, float32[m, k], and their labels, bool[m], oldest first."""
        held = min(self.count, self.memory)
        places = np.arange(self.count - held, self.count) % self.memory
        return self._rows[places], self._labels[places]

    def _dict(self, row: NDArray[Any]) -> dict[str, float]:
        """River's form of a row; NaN stands for what is missing."""
        pairs = zip(self.features, row.tolist(), strict=True)
        return {name: value for name, value in pairs if value == value}

    def _row(self, x: Mapping[str, float]) -> F64:
        """Our form of River's, float64[k]."""
        names = [name for name in self.features if name in x]
        given = np.array([[x[name] for name in names]], dtype=np.float64)
        refuse_unfit(given, names)
        row = np.full(len(self.features), np.nan)
        row[[name in x for name in self.features]] = given[0]
        return row

    def _refuse_unpaired(self, X: F64, y: Bools) -> None:
        refuse_unfit(X, self.features)
        if len(y) != len(X):
            raise ValueError(f"every row needs a label, but {len(X)} came with {len(y)}")

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        """For River's checks, which build each model themselves."""
        yield from ({"kind": kind, "features": ("a", "b"), "seed": 1} for kind in KINDS)


def _river_model(kind: str, k: int, seed: int) -> Any:
    shared: dict[str, Any] = {
        "leaf_prediction": "mc",
        "max_depth": _DEPTH,
        "memory_estimate_period": _NEVER,
        # by default a leaf where 99 % do not buy stops growing, and that may be all there is
        "max_share_to_split": 1.0,
        "seed": seed,
    }
    if kind == "tree":
        from river import tree  # takes more than a second

        # By default two equally good splits would wait for 3,200 weight to be told apart, which
        # is more than the remembered rows; here for 460. A row weighs 1.4.
        return tree.HoeffdingAdaptiveTreeClassifier(grace_period=100, delta=1e-4, tau=0.1, **shared)
    from river import forest

    # A row weighs six. The number of features is not left to the first row, which may have holes.
    watched = max(1, round(0.6 * k))
    return forest.ARFClassifier(_TREES, max_features=watched, grace_period=200, **shared)


def unsure(p: F64) -> F64:
    """Probabilities within what a sample bears out, see ``SURE``."""
    return np.clip(p, 1.0 - SURE, SURE)
