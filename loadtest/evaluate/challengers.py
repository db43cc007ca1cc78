"""Challengers on the very examples of a champion: how far ahead each is, and who leads."""

from __future__ import annotations

from dataclasses import dataclass

from dataflows.evaluating import evaluate
from loadtest.evaluate.logs import DAY_MS, Log


@dataclass(slots=True, frozen=True)
class Contested:
    """One contest at its end.

    Attributes:
        task: what was foretold.
        examples: that the challengers learned.
        leads: by how much each one's mean log-loss is lower than the champion's, lately.
        leader: whose word counts.
    """

    task: str
    examples: int
    leads: dict[str, float]
    leader: str


def contested(log: Log, rate: float = 0.1) -> list[Contested]:
    """Run a log with challengers that learn a share of the examples."""
    settings = log.load(
        "models.challengers.kinds=['tree','forest']", f"models.challengers.rate={rate}"
    )
    run = evaluate(settings, log.name, log.messages(), DAY_MS)
    trainer = run.learner.trainer
    if trainer is None:
        raise ValueError("this lane does not learn")
    return [
        Contested(p.task.name, p.contest.count, p.contest.leads(), p.leader)
        for p in trainer.predictors
        if p.contest is not None
    ]
