"""``python -m loadtest.chaos``: hurt the whole system on purpose, and count what is wrong after it.

Every scenario begins a world of its own: a broker (a real Kafka, or with ``--embedded`` the one
built into librdkafka), a store with an append-only file, the engine under its supervisor, and
traffic. It ends with a judgement from outside: profiles against what was sent, and changes against
profiles, sets and the memberships topic.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from loadtest.chaos.judge import Verdict
from loadtest.chaos.scenarios import SCENARIOS, Scenario
from loadtest.chaos.world import Scale, Stuck, opened

_EVENTS_PER_KILL: Final = 10_000
_COLUMNS: Final = (
    *("scenario", "broker", "events", "changes", "lost", "doubled", "wrong", "gaps", "copies"),
    *("missing", "strayed", "recovery", "most", "seconds"),
)


def main() -> int:
    """Run the chosen scenarios; 1 if anything was wrong."""
    chosen = _arguments()
    console, table = Console(width=170), Table(title="chaos")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("scenario", "broker") else "right")
    failed: list[str] = []
    for scenario in SCENARIOS:
        if chosen.scenario and scenario.name not in chosen.scenario:
            continue
        brokers = 0 if chosen.embedded or scenario.mock else max(scenario.brokers, 1)
        lacks = "needs a real Kafka" if scenario.brokers > brokers else scenario.lacks()
        if lacks:
            console.print(f"{scenario.name}: {lacks}; left out")
            continue
        scale = Scale(chosen.workers, chosen.rate, chosen.users, brokers, chosen.kills, chosen.seed)
        least = _EVENTS_PER_KILL * chosen.kills if scenario.name == "kills" else 0
        scale = replace(scale, events=max(chosen.events, least), minutes=chosen.minutes)
        failed += _run(scenario, scale, console, table)
    console.print(table)
    for why in failed:
        console.print(why, style="red", markup=False)
    return int(len(failed) > 0)


def _run(scenario: Scenario, scale: Scale, console: Console, table: Table) -> list[str]:
    """What went wrong in it."""
    console.print(f"{scenario.name}: {scenario.about} …")
    begun_s = time.monotonic()
    try:
        opening = opened(
            scale, cluster=scenario.cluster, disk_mb=scenario.disk_mb, env=scenario.env
        )
        with opening as world:
            scenario.act(world)
            verdict = world.finish()
    except Stuck as stuck:
        table.add_row(scenario.name, str(scale.brokers), "stuck")
        return [f"{scenario.name}: {stuck}"]
    for note in world.notes:
        console.print(f"  {note}")
    _report(table, scenario.name, scale, verdict, world.recoveries_s, time.monotonic() - begun_s)
    console.print(f"  {verdict}")
    return [] if verdict.is_clean else [f"{scenario.name}: {verdict}"]


def _report(
    table: Table,
    name: str,
    scale: Scale,
    verdict: Verdict,
    recoveries_s: list[float],
    seconds: float,
) -> None:
    broker = f"Kafka x {scale.brokers}" if scale.brokers else "embedded"
    wrong = (verdict.lost, verdict.doubled, verdict.wrong, verdict.gaps, verdict.copies)
    table.add_row(
        *(name, broker, f"{verdict.events:,}", f"{verdict.changes:,}"),
        *(str(count) for count in (*wrong, verdict.missing, verdict.strayed)),
        f"{np.median(recoveries_s):.1f} s" if recoveries_s else "",
        f"{max(recoveries_s):.1f} s" if recoveries_s else "",
        f"{seconds:.0f}",
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, help="all if none is named")
    parser.add_argument("--embedded", action="store_true", help="the broker without transactions")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=int, default=3_000, help="events per second")
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--events", type=int, default=0, help="send at least so many")
    parser.add_argument("--minutes", type=float, default=1.0, help="of the soak")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
