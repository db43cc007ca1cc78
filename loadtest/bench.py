"""``python -m loadtest.bench``: CPU seconds of the engine per million events, step by step.

Four amounts of work on the same kind of events, hot users and all alike, small batches and large,
and beside them Bytewax used the plain way. CPU time is the process's own (``time.process_time``),
so the servers, the generator and other programs on the machine are not in it. All users are known
before the counting begins. Numbers differ between machines and hours; compare rows of one run. How
fast the machine is just then says the first row: the plain way with fewer users, which cost 4.2
where the targets were set.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from dataflows.embedded import EmbeddedStore
from loadtest import broker_way, bytewax_way, inside
from loadtest.stream import PLAIN, SHOP, Load
from state.store import Store

_BATCH: Final = 5_000
_SMALL_BATCH: Final = 200
_SMALL_PART: Final = 4
"""Small batches get so many times fewer events."""

_BYTEWAX_BATCH: Final = 1_000
_BROKER_TARGET: Final = 4.5
_BROKER_WAYS: Final = {
    "no lists of items": ["recommend.enabled=false"],
    "everything on": [],
}
"""What is set; the target was set before there were lists of items."""
_BROKER_RUNS: Final = 3
"""Their median counts: one is a second of an engine beside a broker and a store."""
_PLAIN_WAY: Final = "the plain Bytewax way"
_YARDSTICK: Final = Load(users=86_000, shares=PLAIN)
_USERS_OF: Final = {"zipf 1.2": 1.2, "uniform": 0.0}
_SPLIT: Final = tuple(step for step in inside.STEPS if step not in ("read", "clock"))


@dataclass(slots=True, frozen=True)
class Files:
    """The input of one kind: what comes before, and the events that are counted."""

    warm: Path
    events: Path
    n: int

    @classmethod
    def write(cls, directory: Path, load: Load, n: int) -> Files:
        """Generate both; the events end about now, because a broker's clock is compared."""
        files = cls(directory / "warm", directory / "events", n)
        more = n + n // _SMALL_PART
        start_ms = int((time.time() - more / load.rate_per_s) * 1000)
        files.warm.write_bytes(b"\n".join(load.before(start_ms)))
        files.events.write_bytes(b"\n".join(load.lines(more, start_ms)))
        return files

    @property
    def parts(self) -> list[tuple[int, int]]:
        """Batches and their events: the large ones first, then fewer events in small ones."""
        return [(_BATCH, self.n), (_SMALL_BATCH, self.n // _SMALL_PART)]


class Report:
    """The table, filled row by row."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: list[tuple[tuple[str, str, int], float | None, float, list[str]]] = []
        self._plain: dict[str, float] = {}

    def add(
        self,
        work: str,
        users: str,
        batch: int,
        seconds: dict[str, float],
        events: int,
        target: float | None = None,
    ) -> None:
        """A row; seconds by step, or under "" where there is no split."""
        per_million = {step: s / events * 1e6 for step, s in seconds.items()}
        total = sum(per_million.values())
        rest = total - sum(per_million.get(step, 0.0) for step in _SPLIT)
        split = [_number(per_million.get(step)) for step in _SPLIT]
        last = "" if "" in seconds else _number(rest)
        self._rows.append(((work, users, batch), target, total, [*split, last]))
        if work == _PLAIN_WAY:
            self._plain[users] = total
        self._console.print(f"{work}, {users}, batches of {batch:,}: {total:.2f}")

    def show(self) -> None:
        """Print the table, each row also as a share of the plain Bytewax way's cost."""
        table = Table(title="CPU seconds per million events")
        for name in ("work", "users", "batch"):
            table.add_column(name)
        for name in ("target", "total", "of plain", *_SPLIT, "rest"):
            table.add_column(name, justify="right")
        for (work, users, batch), target, total, split in self._rows:
            share = _number(total / self._plain[users])
            table.add_row(
                *(work, users, f"{batch:,}", _number(target), _number(total), share, *split)
            )
        self._console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def plain(report: Report, users: str, directory: Path, load: Load, n: int) -> None:
    """RFM alone, the engine and the plain Bytewax way over the same file."""
    files = Files.write(directory, load, n)
    case = inside.PLAIN_RFM
    for batch, seconds, events in inside.run(case, files.warm, files.events, files.parts, None):
        report.add(case.name, users, batch, seconds, events, case.target)
    plain_way(report, users, files)


def plain_way(report: Report, users: str, files: Files) -> None:
    """RFM alone as Bytewax's documentation would have it."""
    spent_s = bytewax_way.measured(files.warm, files.events, _BYTEWAX_BATCH)
    events = sum(count for _, count in files.parts)
    report.add(_PLAIN_WAY, users, _BYTEWAX_BATCH, {"": spent_s}, events)


def shop(report: Report, users: str, directory: Path, load: Load, n: int) -> None:
    """Everything the engine does, first without and then with its servers."""
    files = Files.write(directory, load, n)
    case = inside.SEGMENTED
    for batch, seconds, events in inside.run(case, files.warm, files.events, files.parts, None):
        report.add(case.name, users, batch, seconds, events, case.target)
    case = inside.EVERYTHING
    with EmbeddedStore() as embedded:
        store = Store(embedded.url)
        for batch, seconds, events in inside.run(
            case, files.warm, files.events, files.parts, store
        ):
            report.add(case.name, users, batch, seconds, events)
    for what, sets in _BROKER_WAYS.items():
        lists = not sets  # on, as by default
        runs = [
            broker_way.run(files.warm, files.events, _BATCH, sets=sets, lists=lists)
            for _ in range(_BROKER_RUNS)
        ]
        cost = sorted(runs)[_BROKER_RUNS // 2]
        name = f"broker → committed profile, {what}"
        report.add(name, users, _BATCH, {"": cost.engine_s}, cost.events, _BROKER_TARGET)
        report.add(
            "… the store's own CPU beside it", users, _BATCH, {"": cost.store_s}, cost.events
        )
        if lists:
            followed = {"": cost.engine_s + cost.lists_s}
            report.add(
                "… until all lists of items have followed", users, _BATCH, followed, cost.events
            )


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="per measurement")
    parser.add_argument("--users", type=int, default=200_000)
    chosen = parser.parse_args()
    report = Report(Console(width=200))
    with tempfile.TemporaryDirectory(prefix="afterglow-bench-") as name:
        files = Files.write(Path(name), _YARDSTICK, chosen.events)
        plain_way(report, f"{_YARDSTICK.users:,}, zipf {_YARDSTICK.zipf}", files)
        for users, zipf in _USERS_OF.items():
            for measure, shares in ((plain, PLAIN), (shop, SHOP)):
                load = Load(users=chosen.users, zipf=zipf, shares=shares)
                measure(report, users, Path(name), load, chosen.events)
    report.show()


if __name__ == "__main__":
    main()
