"""The trainer: everything that is learned, from the examples of all lanes.

Examples are learned in the order of their times, as far as they are there. Tasks learn those whose
outcome is known; clusters and the watch on inputs take those that have just been taken; and from
time to time a sample of the users themselves is looked at, to fit what buyers do.

Its saved form holds the places up to which each shard's examples were learned. So an example is
learned once, whenever a process ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.clusters import Clusters
from models.contract import ModelMismatch, State, refuse_mismatch
from models.examples import SEEN, Examples
from models.plan import ModelPlan
from models.predictor import Predictor
from models.stability import FeatureDrift
from models.worth import Worth
from state.features import RowView
from state.times import HOUR_MS, NEVER_MS

FORMAT: Final = 1
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

_RECENT: Final = 2_000
"""Latest snapshots that groups are fitted to anew."""

_LOOKED_AT: Final = 0.25
"""Share of all moments in which inputs are watched at most: more teach nothing new."""

_KEPT_ALERTS: Final = 50


class Trainer:
    """All models of a plan, learning.

    Args:
        plan: what they are.

    Attributes:
        positions: up to which place of each shard's examples all is learned.
        alerts: what somebody should know, as (event time, text), the latest last.
        untold: the same, until it is shown.
        version: rises with whatever is learned.
    """

    def __init__(self, plan: ModelPlan) -> None:
        self.plan = plan
        self.positions: dict[int, str] = {}
        self.alerts: list[tuple[int, str]] = []
        self.untold: list[str] = []
        self.version = 0
        self.predictors = [Predictor(task, plan) for task in plan.tasks]
        every = max(1, round(plan.rate / _LOOKED_AT))
        self.inputs = FeatureDrift(plan.inputs, every=every) if plan.inputs else None
        chosen = plan.clustering
        self.clusters = (
            None if chosen is None else Clusters(chosen.inputs, chosen.k, seed=chosen.seed)
        )
        self.worth: Worth | None = None
        self._places = [np.array(plan.places(task.inputs), dtype=np.int64) for task in plan.tasks]
        self._recent: F32 = np.empty((0, len(plan.inputs)), dtype=np.float32)
        self._refitted_ms = self._fitted_ms = NEVER_MS
        self._fingerprint = plan.fingerprint
        self._shifted: list[str] = []
        self._new = False

    # -- learning ---------------------------------------------------------------------------------

    def learn(self, examples: Examples) -> None:
        """Learn examples, each task's own in the order of their times."""
        if not len(examples):
            return
        for task, predictor in enumerate(self.predictors):
            own = examples.of_task(task)
            X = examples.inputs_at(own, self._places[task])
            p = examples.p[own].astype(np.float64)
            predictor.learn(X, examples.y[own], p, examples.ts_ms[own])
            self._note(predictor)
        self._look(examples, examples.of_task(SEEN))
        self._changed()

    def wants_population(self, clock_ms: int) -> bool:
        """Whether it is time to look at a sample of the users."""
        chosen = self.plan.valuing
        if chosen is None:
            return False
        every_ms = chosen.refit_every_ms if self.worth is not None else HOUR_MS
        if clock_ms - self._fitted_ms < every_ms:
            return False
        self._fitted_ms = clock_ms
        return True

    def learn_population(self, view: RowView) -> None:
        """Fit what buyers do to a sample of the users."""
        if self.plan.valuing is None:
            return
        fitted = Worth.fitted(view, self.plan.valuing, self.worth)
        if fitted is not None:
            self.worth = fitted
            self._changed()

    def preparing(self) -> Iterator[None]:
        """What takes long, in small steps, for whoever has time while events come."""
        for predictor in self.predictors:
            predictor.patient = True
        for predictor in self.predictors:
            yield from predictor.preparing()

    # -- what others see --------------------------------------------------------------------------

    def is_new(self) -> bool:
        """Whether there is anything that its saved form of last time does not have."""
        return self._new

    def scoring(self) -> dict[str, Any]:
        """How to score users now, as plain data, see ``models.scorer``."""
        return {
            "version": self.version,
            "plan": self._fingerprint,
            "tasks": [predictor.scoring() for predictor in self.predictors],
            "clusters": None if self.clusters is None else self.clusters.to_state(),
            "worth": None if self.worth is None else self.worth.to_state(),
        }

    def quality(self) -> dict[str, dict[str, float | None]]:
        """By task how well it does, and by input how far it has moved."""
        found: dict[str, dict[str, float | None]] = {
            predictor.task.name: predictor.measures() for predictor in self.predictors
        }
        if self.inputs is not None:
            found["inputs"] = {f"psi {name}": psi for name, psi in self.inputs.psi().items()}
        return found

    # -- saved form -------------------------------------------------------------------------------

    def to_state(self) -> State:
        """Everything it knows as plain data; ``is_new`` is false after it."""
        self._new = False
        return {
            "format": FORMAT,
            "version": self.version,
            "positions": {str(shard): place for shard, place in self.positions.items()},
            "tasks": {p.task.name: p.to_state() for p in self.predictors},
            "inputs": None if self.inputs is None else self.inputs.to_state(),
            "clusters": None if self.clusters is None else self.clusters.to_state(),
            "worth": None if self.worth is None else self.worth.to_state(),
            "recent": {"names": list(self.plan.inputs), "rows": self._recent.tobytes()},
            "times": [self._refitted_ms, self._fitted_ms],
            "alerts": self.alerts,
        }

    @classmethod
    def from_state(cls, state: State, plan: ModelPlan) -> Trainer:
        """What ``to_state`` wrote, for a plan that may have other tasks by now.

        Tasks that are new begin anew; tasks that are gone are forgotten.

        Raises:
            ModelMismatch: a task was saved for other inputs, or by another River.
        """
        refuse_mismatch("format", state.get("format"), FORMAT)
        self = cls(plan)
        self.version = state["version"]
        self.positions = {int(shard): place for shard, place in state["positions"].items()}
        for place, task in enumerate(plan.tasks):
            if task.name in state["tasks"]:
                saved = state["tasks"][task.name]
                try:
                    self.predictors[place] = Predictor.from_state(saved, task, plan)
                except ModelMismatch as error:
                    raise ModelMismatch(f"{task.name}: {error}") from error
        self.alerts = [(ts_ms, text) for ts_ms, text in state["alerts"]]
        if state["worth"] is not None and plan.valuing is not None:
            with suppress(ModelMismatch):  # it is fitted anew soon
                self.worth = Worth.from_state(state["worth"])
        self._refitted_ms, self._fitted_ms = state["times"]
        if plan.inputs and state["recent"]["names"] == list(plan.inputs):
            self._restore_looks(state)
        return self

    # -- inside -----------------------------------------------------------------------------------

    def _restore_looks(self, state: State) -> None:
        """What was seen of the inputs, which are the same."""
        rows = np.frombuffer(state["recent"]["rows"], dtype=np.float32)
        self._recent = rows.reshape(-1, len(self.plan.inputs)).copy()
        if state["inputs"] is not None:
            self.inputs = FeatureDrift.from_state(state["inputs"])
            self._shifted = self.inputs.shifted()
        chosen, saved = self.plan.clustering, state["clusters"]
        if chosen is not None and saved is not None:
            with suppress(ModelMismatch):  # other groups than before: they begin anew
                self.clusters = Clusters.from_state(saved, chosen.inputs, chosen.k)

    def _look(self, examples: Examples, seen: I64) -> None:
        """Snapshots that were just taken: groups follow them, and inputs are watched."""
        if not len(seen):
            return
        now_ms = int(examples.ts_ms[seen[-1]])
        if self.inputs is not None:
            self.inputs.note(examples.inputs_at(seen, np.arange(len(self.plan.inputs))))
            self._tell_shifts(self.inputs, now_ms)
        chosen = self.plan.clustering
        if chosen is None or self.clusters is None:
            return
        self._recent = np.concatenate([self._recent, examples.X[seen[-_RECENT:]]])[-_RECENT:]
        places = np.array(self.plan.places(chosen.inputs), dtype=np.int64)
        self.clusters.learn_many(examples.inputs_at(seen, places))
        if now_ms - self._refitted_ms >= chosen.refit_every_ms and len(self._recent) == _RECENT:
            self._refitted_ms = now_ms
            self.clusters.refit(self._recent[:, places].astype(np.float64))

    def _tell_shifts(self, inputs: FeatureDrift, ts_ms: int) -> None:
        """An alert for each input that has moved and had not when this was last looked at."""
        moved = inputs.shifted()
        for name in moved:
            if name not in self._shifted:
                psi = inputs.psi()[name]
                text = f"inputs: {name} has moved, its population stability is {psi:.2f}"
                self._tell([(ts_ms, text)])
        self._shifted = moved

    def _note(self, predictor: Predictor) -> None:
        self._tell(predictor.alerts)
        predictor.alerts = []

    def _tell(self, alerts: Sequence[tuple[int, str]]) -> None:
        self.alerts = [*self.alerts, *alerts][-_KEPT_ALERTS:]
        self.untold = [*self.untold, *(text for _, text in alerts)][-_KEPT_ALERTS:]

    def _changed(self) -> None:
        self.version += 1
        self._new = True
