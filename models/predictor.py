"""One task, learned: a champion, what keeps it honest, and those who would replace it.

Every example was foretold before it is learned, so every figure here is out of sample. In this
order: what was said when the snapshot was taken goes to the metrics and the watch on the loss;
champion, challengers and the last good champion say what they would say now; then they learn. A
challenger takes over where its losses prove it better (``models.contest``), a champion that has
become worse than its last good self is put back (``models.guard``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.calibration import Calibration, prior_corrected
from models.challengers import Challenger
from models.contest import Contest
from models.contract import F64, State, refuse_mismatch
from models.copies import Copies
from models.drift import LossDrift
from models.guard import Guard, Verdict
from models.linear import FtrlClassifier
from models.plan import ModelPlan, Task
from models.probabilities import are_probabilities
from models.progress import Progress

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

FORMAT: Final = 1
CHAMPION: Final = "linear"


class Predictor:
    """Learns one task.

    Args:
        task: what is foretold.
        plan: that it is of.

    Attributes:
        seen: examples so far.
        outcomes: what has come of any of them, false, true or both.
        patient: whether challengers wait until somebody has built them (``preparing``).
        restored, drifts: how often the last good champion came back, and the loss alarmed.
        alerts: what somebody should know, as (snapshot time, text); whoever shows them clears them.
    """

    def __init__(self, task: Task, plan: ModelPlan) -> None:
        self.task = task
        self.champion = FtrlClassifier(task.inputs, **plan.learning_of(task))
        self.calibration = Calibration()
        self.progress = Progress(plan.window)
        self.losses = LossDrift()
        self.guard = Guard()
        self.seen = 0
        self.outcomes: set[bool] = set()
        self.patient = False
        self.restored = 0
        self.drifts = 0
        self.alerts: list[tuple[int, str]] = []
        self._least = plan.least
        self._copies = Copies(self.champion.to_state())
        self._good = self.champion
        chosen = plan.challenging
        self._rate = 0.0 if chosen is None else chosen.rate
        kinds: Sequence[str] = () if chosen is None else chosen.kinds
        seed = 0 if chosen is None else chosen.seed
        self.challengers = {kind: Challenger(kind, task.inputs, seed) for kind in kinds}
        least = 0 if chosen is None else chosen.least
        self.contest = Contest((CHAMPION, *kinds), least=least) if kinds else None

    def learn(self, X: F64, y: Bools, p: F64, ts_ms: I64) -> None:
        """Learn examples in the order of their times.

        Args:
            X: the task's inputs, float64[n, k].
            y: what came of them, bool[n].
            p: what was foretold when they were taken, float64[n]; NaN where nothing was.
            ts_ms: when that was, int64[n].
        """
        if not len(y):
            return
        self._score(p, y, ts_ms)
        good = self._good.predict_proba_many(X)
        said = self._learn_champion(X, y)
        if self._is_kept(said, good, y, int(ts_ms[-1])):
            now = self._corrected(said)
            self.calibration.learn_matured(now, y)
            if self.contest is not None:
                sampled = self._sampled(len(y))
                self._contest(X[sampled], y[sampled], now[sampled], int(ts_ms[-1]))
        self.seen += len(y)
        self.outcomes |= set(np.unique(y).tolist())

    @property
    def is_ready(self) -> bool:
        """Whether it has learned enough to be asked, and of both outcomes.

        Of one alone nothing is known of what makes the other: whoever is unlike those that it was
        learned from would have it foretold for certain.
        """
        return self.seen >= self._least and len(self.outcomes) == 2

    @property
    def leader(self) -> str:
        """Who foretells: the champion or a challenger."""
        return CHAMPION if self.contest is None else self.contest.leader()

    def scoring(self) -> dict[str, Any] | None:
        """How to foretell the task, as plain data; None before it is ready."""
        if not self.is_ready:
            return None
        told: dict[str, Any] = {"inputs": list(self.task.inputs), "labels": self.seen}
        told["kept"] = self.task.negatives
        told["calibration"] = self.calibration.to_state()
        leader = self.leader
        if leader != CHAMPION:
            trees = self.challengers[leader].trees
            fresh = Calibration().to_state()  # the line was learned from what the champion says
            return (
                told
                | {"by": "trees", "trees": trees.to_state(), "kept": 1.0}
                | {"calibration": fresh}
            )
        means, scales, weights, intercept = self.champion.linear
        factors = (scales * weights).tolist()
        linear = {"means": means.tolist(), "factors": factors, "intercept": intercept}
        return told | {"by": "linear", **linear}

    def measures(self) -> dict[str, float | None]:
        """How well it does on the latest outcomes, and what has happened to it."""
        report = self.progress.report()
        return {
            "auc": report.auc,
            "log_loss": report.log_loss,
            "calibration_error": report.calibration_error,
            "base_rate": report.base_rate,
            "base_loss": report.base_loss,
            "labels": float(self.seen),
            "drift_alarms": float(self.drifts),
            "rollbacks": float(self.restored),
            "challenger_leads": float(self.leader != CHAMPION),
        }

    def preparing(self) -> Iterator[None]:
        """Build the challengers in small steps; until then they learn nothing, if ``patient``."""
        for challenger in self.challengers.values():
            yield from challenger.rebuilding()

    # -- saved form -------------------------------------------------------------------------------

    def to_state(self) -> State:
        """Everything it knows as plain data."""
        return {
            "format": FORMAT,
            "champion": self.champion.to_state(),
            "copies": self._copies.to_state(),
            "calibration": self.calibration.to_state(),
            "progress": self.progress.to_state(),
            "losses": self.losses.to_state(),
            "guard": self.guard.to_state(),
            "contest": None if self.contest is None else self.contest.to_state(),
            "challengers": {kind: c.to_state() for kind, c in self.challengers.items()},
            "seen": self.seen,
            "outcomes": sorted(self.outcomes),
            "restored": self.restored,
            "drifts": self.drifts,
        }

    @classmethod
    def from_state(cls, state: State, task: Task, plan: ModelPlan) -> Predictor:
        """What ``to_state`` wrote; challengers that are new begin anew.

        Raises:
            ModelMismatch: it was written for other inputs, or by another River.
        """
        refuse_mismatch(f"format of {task.name}", state.get("format"), FORMAT)
        self = cls(task, plan)
        self.champion = FtrlClassifier.from_state(state["champion"], task.inputs)
        self._copies = Copies.from_state(state["copies"])
        self._good = FtrlClassifier.from_state(self._copies.good, task.inputs)
        self.calibration = Calibration.from_state(state["calibration"])
        self.progress = Progress.from_state(state["progress"])
        self.losses = LossDrift.from_state(state["losses"])
        self.guard = Guard.from_state(state["guard"])
        self.seen, self.restored = state["seen"], state["restored"]
        self.outcomes = set(state.get("outcomes", (False, True)))  # former versions did not say
        self.drifts = state["drifts"]
        for kind in self.challengers:
            if kind in state["challengers"]:
                saved = state["challengers"][kind]
                self.challengers[kind] = Challenger.from_state(saved, task.inputs)
        contestants = [CHAMPION, *self.challengers]
        if self.contest is not None and (state["contest"] or {}).get("names") == contestants:
            self.contest = Contest.from_state(state["contest"])
        return self

    # -- inside -----------------------------------------------------------------------------------

    def _score(self, p: F64, y: Bools, ts_ms: I64) -> None:
        """Hold what had been foretold against what came."""
        unknown = np.isnan(p)
        if unknown.any():
            p, y, ts_ms = p[~unknown], y[~unknown], ts_ms[~unknown]
        self.progress.note_many(y, p)
        self._watch(p, y, ts_ms)

    def _learn_champion(self, X: F64, y: Bools) -> F64:
        """Learn, but only the chosen share of what came out false; what was said before it."""
        kept = self.task.negatives
        if kept >= 1.0:
            return self.champion.learn_many(X, y)
        said = self.champion.predict_proba_many(X)
        chosen = y | _drawn(self.seen + np.arange(len(y)), kept)
        self.champion.learn_many(X[chosen], y[chosen])
        return said

    def _corrected(self, p: F64) -> F64:
        kept = self.task.negatives
        return p if kept >= 1.0 else prior_corrected(p, kept)

    def _watch(self, p: F64, y: Bools, ts_ms: I64) -> None:
        for alarm in self.losses.note(p, y, ts_ms):
            self.drifts += 1
            text = f"its loss went from {alarm.before:.3f} to {alarm.after:.3f}"
            self.alerts.append((alarm.ts_ms, f"{self.task.name}: {text}"))

    def _sampled(self, n: int) -> I64:
        """Which of the next n examples the challengers learn too."""
        count = self.seen + np.arange(n + 1)
        return np.flatnonzero(np.diff(np.floor(count * self._rate)) > 0)

    def _contest(self, X: F64, y: Bools, champion: F64, ts_ms: int) -> None:
        if self.contest is None or not len(y):
            return
        if self.patient and not all(each.ready for each in self.challengers.values()):
            return
        said = [champion, *(each.learn_matured(X, y) for each in self.challengers.values())]
        before = self.leader
        self.contest.note_many(y, np.column_stack(said))
        if self.leader != before:
            text = f"{self.leader} foretells instead of {before}"
            self.alerts.append((ts_ms, f"{self.task.name}: {text}"))

    def _is_kept(self, said: F64, good: F64, y: Bools, ts_ms: int) -> bool:
        """Hold the champion, as it was before it learned these, against its last good self.

        Args:
            said: by the champion, float64[n]; what is no probability speaks against it.
            good: what its last good self says of the same, float64[n].
            y: what came of it, bool[n].
            ts_ms: when this is.
        """
        if are_probabilities(said):
            said = self._corrected(said)
        verdict = self.guard.note(y, said, self._corrected(good))
        if verdict is Verdict.NOTHING:
            return True
        back = self._copies.follow(verdict, self.champion.to_state)
        self._good = FtrlClassifier.from_state(self._copies.good, self.task.inputs)
        if back is None:
            return True
        self.champion = FtrlClassifier.from_state(back, self.task.inputs)
        self.calibration = Calibration()
        self.restored += 1
        text = "it had become worse than its last good state, which is back"
        self.alerts.append((ts_ms, f"{self.task.name}: {text}"))
        return False


def _drawn(numbers: I64, rate: float) -> Bools:
    """Which of some numbers are drawn: the same ones every time, at a rate."""
    spread = (numbers.astype(np.uint64) * _GOLDEN) >> np.uint64(11)
    drawn: Bools = spread.astype(np.float64) < rate * 2.0**53
    return drawn


_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
