"""The scorer: what has been learned, applied to all users of a batch at once.

It knows nothing of learning. Whoever learns hands it what it tells other lanes too, plain data that
say how each task is foretold now (by a linear model or by trees, put right for how its examples
were drawn, calibrated), where the groups of users lie, and what buyers do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.calibration import Calibration, prior_corrected
from models.challengers import unsure
from models.clusters import Clusters
from models.contract import F64, ModelMismatch
from models.linear import sigmoid
from models.plan import ModelPlan
from models.trees import Trees
from models.worth import SCORES as WORTH
from models.worth import Worth
from state.features import RowView
from state.learner import Score

I64 = NDArray[np.int64]
Told = Mapping[str, Any]


class Scorer:
    """Scores users by what it was told last.

    Args:
        plan: what there is to be said of a user.

    Attributes:
        scores: the names of the columns of ``score``.
    """

    def __init__(self, plan: ModelPlan) -> None:
        self._tasks = len(plan.tasks)
        self._inputs = [list(task.inputs) for task in plan.tasks]
        self._places = [np.array(plan.places(task.inputs), dtype=np.int64) for task in plan.tasks]
        self._how: list[Callable[[F64], F64] | None] = [None] * self._tasks
        self._clusters: Clusters | None = None
        self._worth: Worth | None = None
        self.scores: list[Score] = [Score(task.name) for task in plan.tasks]
        self._clustering, self._valuing = plan.clustering, plan.valuing
        if plan.clustering is not None:
            self._like = np.array(plan.places(plan.clustering.inputs), dtype=np.int64)
            self.scores.append(Score(plan.clustering.name, "int"))
        if plan.valuing is not None:
            self.scores += WORTH

    def take_over(self, told: Told) -> None:
        """Score by this from now on; see ``models.trainer.Trainer.scoring``."""
        # what was told under other settings or libraries stands there until it is learned anew
        trios = zip(self._inputs, self._places, told["tasks"], strict=True)
        self._how = [
            foreteller(places, task) if task is not None and task["inputs"] == inputs else None
            for inputs, places, task in trios
        ]
        groups, worth = self._clustering, told["worth"]
        if groups is not None and told["clusters"] is not None:
            with suppress(ModelMismatch):
                self._clusters = Clusters.from_state(told["clusters"], groups.inputs, groups.k)
        if worth is not None:
            with suppress(ModelMismatch):
                self._worth = Worth.from_state(worth)

    def foretell(self, X: F64) -> F64:
        """The probability of each task for each row of all inputs, float64[n, tasks].

        Args:
            X: float64[n, k], as ``state.quantities.matrix`` gives it.

        Returns:
            NaN where a task cannot be foretold yet.
        """
        out = np.full((len(X), self._tasks), np.nan)
        for place, how in enumerate(self._how):
            if how is not None:
                out[:, place] = how(X)
        return out

    def score(self, X: F64, view: RowView) -> F64:
        """All scores of the rows of a view, float64[n, scores]; NaN or -1 where not known yet."""
        columns = [self.foretell(X)]
        if self._clustering is not None:
            group = np.full(len(X), -1.0)
            if self._clusters is not None:
                group[:] = self._clusters.predict_many(np.ascontiguousarray(X[:, self._like]))
            columns.append(group[:, None])
        if self._valuing is not None:
            unknown = np.full((len(X), len(WORTH)), np.nan)
            columns.append(unknown if self._worth is None else self._worth.score(view))
        return np.concatenate(columns, axis=1)


def foreteller(places: I64, told: Told) -> Callable[[F64], F64]:
    """How one task is foretold: from all inputs float64[n, k] to probabilities float64[n].

    Args:
        places: where the task's inputs stand among all, int64[j].
        told: as ``models.predictor.Predictor.scoring`` gives it.
    """
    foretold = _trees(places, told) if told["by"] == "trees" else _linear(places, told)
    calibration = Calibration.from_state(told["calibration"])

    def corrected(X: F64) -> F64:
        out = foretold(X)
        sane = ~np.isnan(out)  # a poisoned champion says nothing until its guard puts it back
        p = out[sane]
        if told["kept"] < 1.0:
            p = prior_corrected(p, told["kept"])
        out[sane] = calibration.apply(p) if calibration.helps else p
        return out

    return corrected


def _linear(places: I64, told: Told) -> Callable[[F64], F64]:
    means = np.array(told["means"], dtype=np.float64)
    factors = np.array(told["factors"], dtype=np.float64)
    intercept = float(told["intercept"])
    return lambda X: _foretell(X, places, means, factors, intercept)


def _trees(places: I64, told: Told) -> Callable[[F64], F64]:
    trees = Trees.from_state(told["trees"])
    return lambda X: unsure(trees.predict_many(np.ascontiguousarray(X[:, places])))


@compiled
def _foretell(X: F64, places: I64, means: F64, factors: F64, intercept: float) -> F64:
    out = np.empty(len(X))
    for i in range(len(X)):
        raw = intercept
        for j in range(len(places)):
            raw += (X[i, places[j]] - means[j]) * factors[j]
        out[i] = sigmoid(raw)
    return out
