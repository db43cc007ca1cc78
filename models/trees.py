"""Decision trees as arrays, to score many rows at once: what River's trees say, without River.

River's Hoeffding trees are objects that point at each other. They learn well that way, but to score
every changed user means a Python call per user and tree, and they have no plain form to save. Yet
what such a tree *says* is little: at each branch a feature and a threshold, at each leaf a
probability. ``exported`` copies that into arrays, and a compiled loop follows them.

What River's predictions hold besides one leaf per tree:

- an adaptive tree may keep an **alternate** beside a branch, a leaf that may replace it. A row that
  passes the branch hears the alternate too; leaves are weighted by one over the square of their
  error. All that is known of a row when it has reached its leaf, so the sum becomes that leaf's
  probability, and the alternates need no place of their own;
- a forest weights its trees by their accuracy so far, and by one while that is zero. A tree that
  has not learned yet, because its turn has not come since a drift, has no say. Background trees,
  which learn in case of a drift, have none either;
- a row without the feature that a branch asks for takes the side that more weight has taken.

Only for two classes, numeric features and ``leaf_prediction="mc"``, which is a leaf's share of
True; a naive Bayes in the leaves would be a formula and not a number.

Bifet and Gavaldà, "Adaptive learning from evolving data streams", IDA 2009; Gomes et al., "Adaptive
random forests for evolving data stream classification", Machine Learning 106, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.contract import F64, State, refuse_mismatch, refuse_names

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]

FORMAT: Final = 1
"""Version of the saved form."""

LEAF: Final = -1
"""In place of a feature: here a row has arrived."""

UNKNOWN: Final = 0.5
"""What is said where no tree has learned."""

_KINDS: Final[dict[str, str]] = {
    "feature": "i4",
    "threshold": "f8",
    "left": "i4",
    "right": "i4",
    "heavy_left": "?",
    "p": "f8",
    "starts": "i4",
    "votes": "f8",
}


@dataclass(slots=True, frozen=True, eq=False)
class Trees:
    """One or several trees of m nodes in all; a node's children stand after it.

    Not for models that go on learning: the arrays are what the trees said when they were exported.

    Attributes:
        features: names of the columns of every ``X``.
        feature: which column a branch looks at, int32[m]; ``LEAF`` at a leaf.
        threshold: a row goes left if its value is at most this, float64[m].
        left, right: the nodes it goes to, int32[m].
        heavy_left: whether it goes left without that value, bool[m].
        p: probability of True at a leaf, float64[m].
        starts: each tree's root, int32[t].
        votes: each tree's weight in the mean, float64[t].

    Raises:
        ValueError: nodes, roots or weights that no tree can have.

    >>> trees = Trees(
    ...     features=("orders", "days"),
    ...     feature=np.array([1, LEAF, LEAF], np.int32),
    ...     threshold=np.array([30.0, 0.0, 0.0]),
    ...     left=np.array([1, 0, 0], np.int32),
    ...     right=np.array([2, 0, 0], np.int32),
    ...     heavy_left=np.array([True, False, False]),
    ...     p=np.array([0.0, 0.75, 0.125]),
    ...     starts=np.array([0], np.int32),
    ...     votes=np.array([1.0]),
    ... )
    >>> trees.predict_many(np.array([[9.0, 30.0], [9.0, 31.0]])).tolist()
    [0.75, 0.125]
    """

    features: tuple[str, ...]
    feature: I32
    threshold: F64
    left: I32
    right: I32
    heavy_left: Bools
    p: F64
    starts: I32
    votes: F64

    @classmethod
    def none(cls, features: Sequence[str]) -> Trees:
        """No trees, which know nothing."""
        return _Growing({}).trees(tuple(features))

    def __post_init__(self) -> None:
        refuse_names(self.features)
        if not self._lead_somewhere():
            raise ValueError(
                f"these are no trees over {len(self.features)} features: every branch needs one "
                f"of them and two of the {len(self.feature)} nodes, both after its own, and every "
                "tree needs a root and a weight above zero"
            )

    def predict_many(self, X: F64) -> F64:
        """The probability of True for each row of ``X`` float64[n, k], float64[n].

        Equal to River's own ``predict_proba_one`` to 1e-12, also for NaN in place of a missing
        feature; but beside a missing feature River counts an alternate twice, and this once.
        ``UNKNOWN`` where there are no trees.

        Raises:
            ValueError: wrong number of columns.
        """
        if X.ndim != 2 or X.shape[1] != len(self.features):
            raise ValueError(f"X must have the shape (n, {len(self.features)}), but {X.shape} came")
        out = np.full(len(X), UNKNOWN)
        if len(self.starts):
            rows = np.ascontiguousarray(X, dtype=np.float64)
            tree = (self.feature, self.threshold, self.left, self.right, self.heavy_left, self.p)
            _score(rows, *tree, self.starts, self.votes, out)
        return out

    def to_state(self) -> State:
        """Plain data, for JSON or MessagePack; other versions of River do not matter to it."""
        arrays = {name: getattr(self, name).tolist() for name in _KINDS}
        return {"format": FORMAT, "features": list(self.features), **arrays}

    @classmethod
    def from_state(cls, state: State, features: Sequence[str] | None = None) -> Trees:
        """What ``to_state`` wrote, bit for bit.

        Args:
            state: what ``to_state`` gave, also after JSON or MessagePack.
            features: the features now in use; None accepts those it was saved with.

        Raises:
            ModelMismatch: another format, or other features.
            ValueError: arrays that no tree can have.
        """
        wanted = list(state.get("features", []) if features is None else features)
        refuse_mismatch("format", state.get("format"), FORMAT)
        refuse_mismatch("feature list", state.get("features"), wanted)
        return cls(
            tuple(wanted), **{name: np.array(state[name], kind) for name, kind in _KINDS.items()}
        )

    def _lead_somewhere(self) -> bool:
        """What the compiled loop trusts: a row always moves on, and never out of the arrays."""
        m = len(self.feature)
        nodes = (self.threshold, self.left, self.right, self.heavy_left, self.p)
        if any(len(each) != m for each in nodes) or len(self.starts) != len(self.votes):
            return False
        branch = np.flatnonzero(self.feature != LEAF)
        return (
            _all_within(self.feature, LEAF, len(self.features) - 1)
            and all(
                _all_within(side[branch], branch + 1, m - 1) for side in (self.left, self.right)
            )
            and _all_within(self.starts, 0, m - 1)
            and bool((self.votes > 0.0).all())
        )


def exported(model: Any, features: Sequence[str]) -> Trees:
    """What a River model says, as arrays.

    Args:
        model: a ``tree.HoeffdingAdaptiveTreeClassifier``, or a ``forest.ARFClassifier``, with
            ``leaf_prediction="mc"``; it is only looked at.
        features: names of the columns that the arrays will look at, in their order.

    Raises:
        ValueError: another model, labels other than True and False, a branch on something else
            than a numeric feature, or on one that is not among ``features``.

    >>> from river import tree
    >>> model = tree.HoeffdingAdaptiveTreeClassifier(leaf_prediction="mc", seed=1)
    >>> for i in range(400):
    ...     model.learn_one({"days": 60.0 * (i % 2)}, i % 2 == 0)
    >>> trees = exported(model, ["days"])
    >>> trees.predict_many(np.array([[3.0], [50.0]])).round(2).tolist()
    [1.0, 0.0]
    """
    from river import forest, tree  # takes more than a second

    growing = _Growing({name: i for i, name in enumerate(features)})
    if isinstance(model, tree.HoeffdingAdaptiveTreeClassifier):
        growing.plant(model, 1.0)
    elif isinstance(model, forest.ARFClassifier):
        for each, metric in zip(model, model._metrics, strict=False):  # no trees before it learned
            weight = 0.0 if model.disable_weighted_vote else float(metric.get())
            growing.plant(each, weight if weight > 0.0 else 1.0)
    else:
        raise ValueError(
            "only a HoeffdingAdaptiveTreeClassifier or an ARFClassifier can be exported, "
            f"but {type(model).__name__} came"
        )
    return growing.trees(tuple(features))


@dataclass(slots=True)
class _Growing:
    """Trees on their way from objects to arrays."""

    columns: dict[str, int]
    nodes: list[list[Any]] = field(default_factory=list)
    """Per node what ``Trees`` has per node, in its order."""
    starts: list[int] = field(default_factory=list)
    votes: list[float] = field(default_factory=list)

    def plant(self, tree: Any, vote: float) -> None:
        """Copy one River tree, if it has learned."""
        if tree.leaf_prediction != "mc":
            raise ValueError(
                'leaves must predict with leaf_prediction="mc" to be exported, '
                f"but {tree.leaf_prediction!r} came"
            )
        if not tree.classes <= {False, True}:
            raise ValueError(f"labels must be True and False, but {tree.classes!r} were learned")
        if tree._root is not None:
            self.starts.append(len(self.nodes))
            self.votes.append(vote)
            self._copy(tree, tree._root, (0.0, 0.0), [])

    def trees(self, features: tuple[str, ...]) -> Trees:
        """What has been planted."""
        columns = list(zip(*self.nodes, strict=True)) or [()] * 6
        parts = [*columns, self.starts, self.votes]
        arrays = zip(_KINDS.items(), parts, strict=True)
        return Trees(features, **{name: np.array(part, kind) for (name, kind), part in arrays})

    def _copy(self, tree: Any, node: Any, heard: tuple[float, float], beside: list[Any]) -> int:
        """Copy what hangs on ``node``; give its place.

        Args:
            tree: the River tree.
            node: a branch or leaf of it.
            heard: votes for False and True of the alternates that a row has passed.
            beside: alternates that it has passed and that are yet to be heard.
        """
        if hasattr(node, "children"):
            return self._branch(tree, node, heard, beside)
        said = node.prediction({}, tree=tree) or {}
        heard = (heard[0] + said.get(False, 0.0), heard[1] + said.get(True, 0.0))
        if beside:
            return self._copy(tree, beside[0], heard, beside[1:])
        total = heard[0] + heard[1]
        return self._add(LEAF, 0.0, False, heard[1] / total if total else 0.0)

    def _branch(self, tree: Any, node: Any, heard: tuple[float, float], beside: list[Any]) -> int:
        column = self.columns.get(node.feature)
        if column is None or not hasattr(node, "threshold"):
            raise ValueError(
                f"every branch must look at one number among {list(self.columns)!r}, "
                f"but one of {type(node).__name__} looks at {node.feature!r}"
            )
        alternate = getattr(node, "_alternate_tree", None)
        if alternate is not None:
            beside = [*beside, alternate]
        heavy, _ = node.most_common_path()
        place = self._add(column, float(node.threshold), heavy == 0, 0.0)
        for side, child in zip((2, 3), node.children, strict=True):
            self.nodes[place][side] = self._copy(tree, child, heard, beside)
        return place

    def _add(self, column: int, threshold: float, heavy_left: bool, p: float) -> int:
        self.nodes.append([column, threshold, 0, 0, heavy_left, p])
        return len(self.nodes) - 1


def _all_within(values: I32, low: int | NDArray[np.intp], high: int) -> bool:
    return bool(((values >= low) & (values <= high)).all())


@compiled
def _score(
    X: F64,
    feature: I32,
    threshold: F64,
    left: I32,
    right: I32,
    heavy_left: Bools,
    p: F64,
    starts: I32,
    votes: F64,
    out: F64,
) -> None:
    """The weighted mean of what the trees say of each row."""
    whole = votes.sum()
    for i in range(len(X)):
        said = 0.0
        for t in range(len(starts)):
            node = starts[t]
            while feature[node] != LEAF:
                x = X[i, feature[node]]
                missing = x != x
                if x <= threshold[node] or (missing and heavy_left[node]):
                    node = left[node]
                else:
                    node = right[node]
            said += votes[t] * p[node]
        out[i] = said / whole
