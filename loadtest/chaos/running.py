"""One scenario from its beginning to its judgement, for a process of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from loadtest.chaos.judge import Verdict
from loadtest.chaos.scenarios import SCENARIOS
from loadtest.chaos.world import Scale, Stuck, opened


@dataclass(slots=True, frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        row: of the table.
        lines: what else is worth saying.
        wrong: what went wrong; empty if nothing did.
    """

    row: tuple[str, ...]
    lines: tuple[str, ...] = ()
    wrong: str = ""


def run(name: str, scale: Scale) -> Outcome:
    """Open a world, do to it what the scenario says, and judge what became of it."""
    scenario = next(each for each in SCENARIOS if each.name == name)
    begun_s = time.monotonic()
    try:
        opening = opened(
            scale, cluster=scenario.cluster, disk_mb=scenario.disk_mb, env=scenario.env
        )
        with opening as world:
            scenario.act(world)
            verdict = world.finish()
    except Stuck as stuck:
        return Outcome((name, _broker(scale), "stuck"), wrong=f"{name}: {stuck}")
    row = _row(name, scale, verdict, world.recoveries_s, time.monotonic() - begun_s)
    wrong = "" if verdict.is_clean else f"{name}: {verdict}"
    return Outcome(row, (*world.notes, str(verdict)), wrong)


def _row(
    name: str, scale: Scale, verdict: Verdict, recoveries_s: list[float], seconds: float
) -> tuple[str, ...]:
    wrong = (verdict.lost, verdict.doubled, verdict.wrong, verdict.gaps, verdict.copies)
    return (
        *(name, _broker(scale), f"{verdict.events:,}", f"{verdict.changes:,}"),
        *(str(count) for count in (*wrong, verdict.missing, verdict.strayed)),
        f"{np.median(recoveries_s):.1f} s" if recoveries_s else "",
        f"{max(recoveries_s):.1f} s" if recoveries_s else "",
        f"{seconds:.0f}",
    )


def _broker(scale: Scale) -> str:
    return f"Kafka x {scale.brokers}" if scale.brokers else "embedded"
