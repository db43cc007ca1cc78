"""How soon a change is seen, how often one is seen that is not there, and what brings it back.

A model says 0.2 where 20 % buy, until 35 % do: its mean squared error goes from 0.16 to 0.25. And a
champion that has learned a known truth is poisoned: its weights are set to garbage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drift import LossDrift
from models.linear import FtrlClassifier
from models.plan import Learning, ModelPlan, Task
from models.predictor import Predictor

F64 = NDArray[np.float64]

_CALM, _MOVED = 5_000, 2_000
_TASK = Task("task", ("a", "b", "c"), learning=Learning())


@dataclass(slots=True, frozen=True)
class Delays:
    """Labels until a change was seen, by seed; None where it was not."""

    what: str
    labels: Sequence[int | None]


def seen(seeds: int = 20) -> Delays:
    """Labels from the change of the world to the alarm."""
    out: list[int | None] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        rate = np.repeat([0.2, 0.35], [_CALM, _MOVED])
        n = len(rate)
        alarms = LossDrift().note(np.full(n, 0.2), rng.random(n) < rate, np.arange(n))
        late = [alarm.label - _CALM for alarm in alarms if alarm.label > _CALM]
        out.append(late[0] if late else None)
    return Delays("a shift of the base rate, 20 % to 35 %", out)


def false_alarms(seeds: int = 10, labels: int = 100_000) -> int:
    """Alarms in streams in which nothing changes."""
    found = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        p = rng.random(labels)
        found += len(LossDrift().note(p, rng.random(labels) < p, np.arange(labels)))
    return found


def rolled_back(seeds: int = 20) -> Delays:
    """Labels from a champion's poisoning to its last good state being back."""
    out: list[int | None] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        predictor = Predictor(_TASK, ModelPlan((_TASK,)))
        _learn(predictor, rng, 6_000)
        state = predictor.champion.to_state()
        garbage, rates = rng.normal(0.0, 5.0, 3), predictor.task.learning
        # weights are worked out from z at every step: what does not stand there heals at once
        root = np.sqrt(state["columns"]["n"])
        stiffness = (rates.beta + root) / rates.alpha + rates.l2
        state["columns"]["weight"] = garbage.tolist()
        state["columns"]["z"] = (-garbage * stiffness).tolist()
        predictor.champion = FtrlClassifier.from_state(state)
        before, labels = predictor.restored, 0
        while predictor.restored == before and labels < 5_000:
            _learn(predictor, rng, 10)
            labels += 10
        out.append(labels if predictor.restored > before else None)
    return Delays("a poisoned champion is rolled back", out)


def _learn(predictor: Predictor, rng: np.random.Generator, n: int) -> None:
    X = rng.normal(size=(n, 3))
    y = rng.random(n) < 1.0 / (1.0 + np.exp(-(X @ [1.0, -0.7, 0.3] - 1.0)))
    for start in range(0, n, 100):
        part = slice(start, start + 100)
        count = len(y[part])
        p = np.full(count, np.nan)
        predictor.learn(X[part], y[part], p, np.arange(count, dtype=np.int64))
