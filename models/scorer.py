"""The scorer: what has been learned, applied to all users of a batch at once.

It knows nothing of learning. Whoever learns hands it what it tells other lanes too, plain data that
say how each task is foretold now (by a linear model or by trees, put right for how its examples
were drawn, calibrated), where the groups of users lie, and what buyers do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from models.challengers import unsure
from models.clusters import Clusters
from models.contract import F64, ModelMismatch
from models.lines import Lines, Told
from models.plan import ModelPlan
from models.trees import Trees
from models.worth import SCORES as WORTH
from models.worth import Worth
from state.features import RowView
from state.learner import Score

I64 = NDArray[np.int64]


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
        self._lines = Lines()
        self._trees: list[tuple[int, Callable[[F64], F64]]] = []
        self._clusters: Clusters | None = None
        self._worth: Worth | None = None
        self.scores: list[Score] = [Score(task.name) for task in plan.tasks]
        self._clustering, self._valuing = plan.clustering, plan.valuing
        if plan.clustering is not None:
            like = np.array(plan.places(plan.clustering.inputs), dtype=np.int64)
            self._like = slice(None) if like.tolist() == [*range(len(plan.inputs))] else like
            self.scores.append(Score(plan.clustering.name, "int"))
        if plan.valuing is not None:
            self.scores += WORTH

    def take_over(self, told: Told) -> None:
        """Score by this from now on; see ``models.trainer.Trainer.scoring``."""
        # what was told under other settings or libraries stands there until it is learned anew
        pairs = enumerate(zip(self._inputs, told["tasks"], strict=True))
        known = [
            (column, self._places[column], task)
            for column, (inputs, task) in pairs
            if task is not None and task["inputs"] == inputs
        ]
        self._lines = Lines([each for each in known if each[2]["by"] == "linear"])
        # trees have seen all examples, and are not calibrated: the line is the champion's
        trees = [each for each in known if each[2]["by"] == "trees"]
        self._trees = [(column, _trees(task, places)) for column, places, task in trees]
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
        self._lines.foretell(X, out)
        for column, say in self._trees:
            out[:, column] = say(X)
        return out

    def score(self, X: F64, view: RowView) -> F64:
        """All scores of the rows of a view, float64[n, scores]; NaN where not known yet."""
        columns = [self.foretell(X)]
        if self._clustering is not None:
            group = np.full(len(X), np.nan)
            if self._clusters is not None and self._clusters.started:
                group[:] = self._clusters.predict_many(np.ascontiguousarray(X[:, self._like]))
            columns.append(group[:, None])
        if self._valuing is not None:
            unknown = np.full((len(X), len(WORTH)), np.nan)
            columns.append(unknown if self._worth is None else self._worth.score(view))
        return np.concatenate(columns, axis=1)


def _trees(told: Told, places: I64) -> Callable[[F64], F64]:
    trees = Trees.from_state(told["trees"])
    return lambda X: unsure(trees.predict_many(np.ascontiguousarray(X[:, places])))
