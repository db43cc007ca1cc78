"""What models foretell, and the learner of a lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dataflows.plans.types import check_types, codes
from dataflows.settings import Settings, SettingsError
from models.examples import Examples
from models.online import OnlineModels
from models.plan import MOST_TASKS, Challenging, Clustering, Learning, ModelPlan, Task, Valuing

_SCORES: Final = frozenset(
    ("alive", "expected_orders", "expected_spend", "cluster", "valid_to", "inputs", "parked")
)
"""Names of scores and measures that are taken."""


def model_plan(settings: Settings) -> ModelPlan | None:
    """What models foretell and learn from, unless they are switched off."""
    chosen = settings.models
    if not chosen.enabled:
        return None
    learning = Learning(**chosen.learning.model_dump())
    tasks = []
    for name, task in chosen.tasks.items():
        check_types(f"models.tasks.{name}.outcome", task.outcome)
        if not task.enabled:
            continue
        _check_task(name, task.horizon, chosen.every)
        tasks.append(
            Task(
                name=name,
                inputs=task.inputs or chosen.inputs,
                horizon_ms=task.horizon,
                outcome=codes(task.outcome),
                absent=task.absent,
                negatives=task.negatives,
                learning=learning,
            )
        )
    check_types("models.at", chosen.at)
    if len(tasks) > MOST_TASKS:
        raise SettingsError(f"models.tasks: at most {MOST_TASKS} may be on, but {len(tasks)} are")
    return ModelPlan(
        tasks=tuple(tasks),
        every_ms=chosen.every,
        rate=chosen.rate,
        at=codes(chosen.at),
        parked_max=chosen.parked_max,
        least=chosen.least,
        window=chosen.window,
        validity_ms=chosen.validity,
        poll_ms=settings.lane.poll,
        challenging=_challenging(settings),
        clustering=_clustering(settings),
        valuing=_valuing(settings),
    )


def learner(
    settings: Settings,
    *,
    trains: bool,
    at_once: bool = False,
    listen: Callable[[Examples], None] = lambda _examples: None,
) -> OnlineModels | None:
    """The models of a lane, unless they are switched off.

    Args:
        settings: in force.
        trains: whether this lane is the one that learns.
        at_once: whether it learns in memory what its own snapshots come to, as in a replay.
        listen: gets examples just before they are learned.
    """
    plan = model_plan(settings)
    if plan is None:
        return None
    return OnlineModels(plan, trains=trains, at_once=at_once, listen=listen)


def _check_task(name: str, horizon_ms: int, every_ms: int) -> None:
    if name in _SCORES:
        raise SettingsError(f"models.tasks.{name}: the profile has this score already; rename it")
    if horizon_ms < every_ms:
        raise SettingsError(
            f"models.tasks.{name}.horizon: must be at least models.every ({every_ms} ms), so that "
            f"a user is sampled once in that time, but {horizon_ms} ms came"
        )


def _challenging(settings: Settings) -> Challenging | None:
    chosen = settings.models.challengers
    if not chosen.kinds:
        return None
    return Challenging(chosen.kinds, chosen.rate, chosen.least, settings.models.seed)


def _clustering(settings: Settings) -> Clustering | None:
    models = settings.models
    chosen = models.clusters
    if not chosen.enabled:
        return None
    inputs = chosen.inputs or models.inputs
    return Clustering("cluster", inputs, chosen.k, chosen.refit, models.seed)


def _valuing(settings: Settings) -> Valuing | None:
    chosen = settings.models.value
    return Valuing(chosen.horizon, chosen.refit, chosen.least) if chosen.enabled else None
