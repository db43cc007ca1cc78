"""``python -m loadtest.chaos``: hurt the whole system on purpose, and count what is wrong after it.

Every scenario begins a world of its own: a broker (a real Kafka, or with ``--embedded`` the one
built into librdkafka), a store with an append-only file, the engine under its supervisor, and
traffic. It ends with a judgement from outside: profiles against what was sent, and changes against
profiles, sets and the memberships topic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.chaos.running import Outcome, run
from loadtest.chaos.scenarios import SCENARIOS, Scenario
from loadtest.chaos.world import Scale

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
    wrong: list[str] = []
    for scenario, outcome in _outcomes(chosen, console):
        console.print(f"{scenario.name}: {scenario.about}")
        for line in outcome.lines:
            console.print(f"  {line}", markup=False)
        table.add_row(*outcome.row)
        wrong += [outcome.wrong] if outcome.wrong else []
    console.print(table)
    for text in wrong:
        console.print(text, style="red", markup=False)
    return int(len(wrong) > 0)


def _outcomes(chosen: argparse.Namespace, console: Console) -> Iterator[tuple[Scenario, Outcome]]:
    """Of every scenario that can be done here, one after another or several at once."""
    jobs: list[tuple[Scenario, Scale]] = []
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
        jobs.append((scenario, scale))
    # a process each, because traffic and books of one world are more than half a core
    with ProcessPoolExecutor(chosen.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        going = [pool.submit(run, scenario.name, scale) for scenario, scale in jobs]
        for (scenario, _), each in zip(jobs, going, strict=True):
            yield scenario, each.result()


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
    parser.add_argument("--jobs", type=int, default=1, help="so many scenarios at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
