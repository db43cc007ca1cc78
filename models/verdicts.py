"""What the totals of an experiment say: each arm against control, and which arms must stop.

The **verdict** is about conversions; revenue and clicks are shown beside it and are guard rails if
the settings say so. With several arms each is tested at an equal part of ``alpha``, and a guard
rail at an equal part of that, so no more than ``alpha`` of all experiments without any difference
have an arm called better or worse, and no more than ``alpha`` have one stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from models import bandit
from models.sample_ratio import BROKEN, sample_ratio_p
from models.sequential import Comparison, Sample, compare
from state.experiment_plan import Experiment, Ruling
from state.totals import ArmTotals, Totals, arm_totals

CONVERSION: Final = "conversion"
MEASURES: Final = (CONVERSION, "revenue", "clicks")
"""What is compared, per exposed user; also the names of guard rails."""


@dataclass(slots=True, frozen=True)
class ArmReport:
    """What is said of one arm.

    Attributes:
        name: of the arm.
        totals: what it came to.
        weight: its share of new users.
        comparisons: by measure, with control; none for control itself.
        verdict: in words.
    """

    name: str
    totals: ArmTotals
    weight: float
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    verdict: str = ""


@dataclass(slots=True, frozen=True)
class Report:
    """What is said of an experiment.

    Attributes:
        name: of it.
        arms: in the order of the settings.
        sample_ratio_p: how likely the arms' sizes are; 1 where the weights move by themselves.
        verdict: in words.
    """

    name: str
    arms: Sequence[ArmReport]
    sample_ratio_p: float
    verdict: str


def samples(totals: ArmTotals) -> dict[str, Sample]:
    """Every measure of an arm's users."""
    users = totals.users
    return {
        CONVERSION: Sample.of_proportion(users, totals.conversions),
        "revenue": Sample(users, totals.revenue, totals.revenue_squared),
        "clicks": Sample(users, totals.clicks, totals.clicks_squared),
    }


def compared(
    experiment: Experiment, control: ArmTotals, arm: ArmTotals, guards: int = 1
) -> dict[str, Comparison]:
    """An arm against control by every measure.

    Args:
        experiment: of which they are arms.
        control: what control came to.
        arm: what the arm came to.
        guards: among how many guard rails the level is divided.
    """
    others = len(experiment.arms) - 1
    level = experiment.alpha / others / guards
    one, other = samples(control), samples(arm)
    # of two arms among several
    planned = round(experiment.planned_users * 2 / (others + 1))
    return {name: compare(one[name], other[name], level, planned) for name in MEASURES}


def report(experiment: Experiment, totals: Totals, ruling: Ruling) -> Report:
    """All that can be said of an experiment now.

    Args:
        experiment: which.
        totals: of all shards.
        ruling: what has been ruled; stopped arms stay stopped.
    """
    arms = arm_totals(totals)
    control = arms[experiment.control]
    ratio_p = _ratio_p(experiment, arms, ruling)
    weights = ruling.weights or experiment.weights
    moving = experiment.allocation == "thompson"
    best = _chances_best(arms) if moving else []
    out = []
    for place, name in enumerate(experiment.names):
        found = {} if place == experiment.control else compared(experiment, control, arms[place])
        each = ArmReport(name, arms[place], weights[place], found)
        chance = best[place] if moving else None
        out.append(replace(each, verdict=_arm_verdict(each, ruling, ratio_p, chance)))
    return Report(experiment.name, out, ratio_p, _verdict(out, ratio_p))


def judge(experiment: Experiment, totals: Totals, earlier: Ruling) -> Ruling:
    """Stop arms that are credibly worse than control by a guard rail, and move the weights.

    What was stopped stays so. Fixed allocations keep their weights, those of stopped arms are
    shared out among the others.
    """
    arms = arm_totals(totals)
    control, stopped = arms[experiment.control], dict(earlier.stopped)
    for place, name in enumerate(experiment.names):
        if place != experiment.control and name not in stopped and experiment.guard_rails:
            guards = len(experiment.guard_rails)
            found = compared(experiment, control, arms[place], guards)
            worse = [guard for guard in experiment.guard_rails if found[guard].high < 0.0]
            if worse:
                stopped[name] = worse[0]
    ruling = Ruling(stopped, _weights(experiment, arms, stopped))
    said = report(experiment, totals, ruling)
    ruling.sample_ratio_p = said.sample_ratio_p
    ruling.figures = {arm.name: _figures(arm) for arm in said.arms}
    return ruling


def _weights(
    experiment: Experiment, arms: Sequence[ArmTotals], stopped: dict[str, str]
) -> list[float]:
    """The shares of new users."""
    runs = [place for place, name in enumerate(experiment.names) if name not in stopped]
    if experiment.allocation == "thompson":
        of_running = bandit.weights(
            [arms[place].conversions for place in runs], [arms[place].users for place in runs]
        )
    else:
        whole = sum(experiment.weights[place] for place in runs)
        of_running = [experiment.weights[place] / whole for place in runs]
    shared = dict(zip(runs, of_running, strict=True))
    return [shared.get(place, 0.0) for place in range(len(arms))]


def _chances_best(arms: Sequence[ArmTotals]) -> list[float]:
    chances = bandit.chances_best([arm.conversions for arm in arms], [arm.users for arm in arms])
    return [float(chance) for chance in chances]


def _ratio_p(experiment: Experiment, arms: Sequence[ArmTotals], ruling: Ruling) -> float:
    """Among the arms that were not stopped, whose shares of each other have not changed."""
    runs = [place for place, name in enumerate(experiment.names) if name not in ruling.stopped]
    if experiment.allocation == "thompson" or len(runs) < 2:
        return 1.0
    return sample_ratio_p(
        [arms[place].users for place in runs], [experiment.weights[place] for place in runs]
    )


def _arm_verdict(arm: ArmReport, ruling: Ruling, ratio_p: float, chance_best: float | None) -> str:
    if arm.name in ruling.stopped:
        return f"stopped: {ruling.stopped[arm.name]} worse than control's"
    if ratio_p < BROKEN:
        return "not to be read"
    if chance_best is not None:
        return f"the best with a chance of {chance_best:.0%}"
    if not arm.comparisons:
        return ""
    found = arm.comparisons[CONVERSION]
    if math.isinf(found.low):
        return "too few users yet"
    if found.low > 0.0:
        return "converts better than control"
    if found.high < 0.0:
        return "converts worse than control"
    return "no difference found yet"


def _verdict(arms: Sequence[ArmReport], ratio_p: float) -> str:
    if ratio_p < BROKEN:
        return (
            "the arms' sizes do not fit their weights: assignment or the logging of impressions is "
            "broken, so do not read on"
        )
    if not any(arm.totals.users for arm in arms):
        return "nobody was exposed yet"
    return ""


def _figures(arm: ArmReport) -> dict[str, float]:
    """What metrics show of an arm; what is not known is left out."""
    out = {"weight": arm.weight}
    for name, found in arm.comparisons.items():
        out |= {
            f"{name}_lift": found.lift,
            f"{name}_p": found.p,
            f"{name}_difference_low": found.low,
            f"{name}_difference_high": found.high,
        }
    return {name: value for name, value in out.items() if math.isfinite(value)}
