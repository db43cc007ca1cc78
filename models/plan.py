"""What the settings say about models, checked and compiled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any, Final

import msgspec

from state.times import DAY_MS, HOUR_MS

MOST_TASKS: Final = 16
"""Outcomes of one snapshot are bits of one number."""


@dataclass(slots=True, frozen=True)
class Learning:
    """How a champion learns; see ``models.linear.FtrlClassifier``."""

    alpha: float = 0.05
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 1.0
    intercept_rate: float = 0.01


@dataclass(slots=True, frozen=True)
class Task:
    """Something to be foretold of a user: an event within a time, or that there will be none.

    Attributes:
        name: of the score.
        inputs: quantities, see ``state.quantities``.
        horizon_ms: how far ahead.
        outcome: codes of the types of event that decide; empty for any.
        absent: it is foretold that none of them happens.
        negatives: share of the examples that came out false to learn from; probabilities are
            corrected for it.
        learning: rates of the champion.
    """

    name: str
    inputs: tuple[str, ...]
    horizon_ms: int = 7 * DAY_MS
    outcome: tuple[int, ...] = ()
    absent: bool = False
    negatives: float = 1.0
    learning: Learning = field(default_factory=Learning)


@dataclass(slots=True, frozen=True)
class Challenging:
    """Other learners that try to beat the champions.

    Attributes:
        kinds: which: ``tree``, ``forest``.
        rate: share of the examples that they learn.
        least: examples of their own before one may be promoted.
        seed: of their chance.
    """

    kinds: tuple[str, ...] = ()
    rate: float = 0.02
    least: int = 500
    seed: int = 1


@dataclass(slots=True, frozen=True)
class Clustering:
    """Groups of users that are alike.

    Attributes:
        name: of the score that says in which a user is.
        inputs: by what they are alike.
        k: how many groups.
        refit_every_ms: event time between two refits.
        seed: of its chance.
    """

    name: str
    inputs: tuple[str, ...]
    k: int = 8
    refit_every_ms: int = DAY_MS
    seed: int = 1


@dataclass(slots=True, frozen=True)
class Valuing:
    """Who is still a customer, and what is to be expected of them (BG/NBD and Gamma-Gamma).

    Attributes:
        horizon_ms: how far ahead orders and spend are expected.
        refit_every_ms: event time between two fits.
        least: buyers that a fit needs.
    """

    horizon_ms: int = 90 * DAY_MS
    refit_every_ms: int = 7 * DAY_MS
    least: int = 500


@dataclass(slots=True, frozen=True)
class ModelPlan:
    """All models of an engine, and which moments of users they learn from.

    Attributes:
        tasks: what is foretold.
        every_ms, rate: a user is sampled at most once in so long, and so many of the users are.
        at: codes of the types of event at which a snapshot may be taken; empty for any.
        parked_max: snapshots that may wait in one lane; more are not taken.
        least: labels before a task gives scores.
        window: matured labels that its metrics look at.
        learn_every_ms: event time between two steps of learning, in a replay.
        validity_ms: how long a score holds after it was computed.
        poll_ms: how often scores of silent users are looked at again.
        challenging, clustering, valuing: None for none.
    """

    tasks: tuple[Task, ...]
    every_ms: int = DAY_MS
    rate: float = 0.05
    at: tuple[int, ...] = ()
    parked_max: int = 1_000_000
    least: int = 200
    window: int = 2_000
    learn_every_ms: int = 1_000
    validity_ms: int = DAY_MS
    poll_ms: int = HOUR_MS
    challenging: Challenging | None = None
    clustering: Clustering | None = None
    valuing: Valuing | None = None

    def __post_init__(self) -> None:
        if len(self.tasks) > MOST_TASKS:
            raise ValueError(
                f"at most {MOST_TASKS} models may be declared, but {len(self.tasks)} came"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """All quantities that some model takes, each once."""
        asked = [name for task in self.tasks for name in task.inputs]
        if self.clustering is not None:
            asked += self.clustering.inputs
        return tuple(dict.fromkeys(asked))

    def places(self, inputs: Sequence[str]) -> list[int]:
        """Where some quantities stand among ``inputs``."""
        place = {name: i for i, name in enumerate(self.inputs)}
        return [place[name] for name in inputs]

    @property
    def fingerprint(self) -> int:
        """A number, never 0, that tells examples of this plan from those of another, 32 bits."""
        told: Mapping[str, Any] = {
            "inputs": self.inputs,
            "tasks": [(t.name, t.horizon_ms, t.outcome, t.absent) for t in self.tasks],
        }
        digest = blake2b(msgspec.json.encode(told), digest_size=4).digest()
        return int.from_bytes(digest, "little") or 1

    def learning_of(self, task: Task) -> dict[str, float]:
        """The rates of a task's champion, by name."""
        return asdict(task.learning)
