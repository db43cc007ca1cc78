"""Each source of candidates alone, and the shipped ones with one more.

``python -m loadtest.evaluate.recommend.alone`` prints what comes of it on ``serenade_bol``, and for
long histories on ``movietweetings_100k``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from loadtest.evaluate.recommend.engine import Afterglow
from loadtest.evaluate.recommend.engines import as_shipped
from loadtest.evaluate.recommend.logs import MOVIES, SERENADE, Interactions
from loadtest.evaluate.recommend.measures import Lists
from loadtest.evaluate.recommend.walk import NEW, NEXT, Convention, from_half, walk
from models.item_plan import SOURCES

_SILENT: Final = ("together", "similar", "segment")
"""The logs have neither purchases nor a catalogue nor labels."""
_SPEAK: Final = tuple(name for name in SOURCES if name not in _SILENT)
_MORE: Final = ("sessions=0.5", "cosine=0.1")
_LONG: Final = ("covisits", "cosine", "popular", "trending")


def alone(log: Interactions, source: str, *sets: str) -> Afterglow:
    """The engine with one source."""
    weights = (f"recommend.sources.{name}={float(name == source)}" for name in SOURCES)
    return as_shipped(log, (*weights, *sets), name=f"{source} alone")


def on_clicks() -> list[Lists]:
    """``serenade_bol``: every source, the shipped ones together, and those with one more."""
    log = SERENADE.read()
    rivals = [
        *(alone(log, source) for source in _SPEAK),
        as_shipped(log, name="shipped"),
        *(as_shipped(log, (f"recommend.sources.{m}",), name=f"shipped, {m}") for m in _MORE),
    ]
    return _measured(log, rivals, (NEXT, NEW))


def on_films() -> list[Lists]:
    """``movietweetings_100k``: sources for long histories."""
    log = MOVIES.read()
    rivals = [alone(log, source, "recommend.recent=32") for source in _LONG]
    return _measured(log, rivals, (NEW,))


def _measured(
    log: Interactions, rivals: Sequence[Afterglow], conventions: Sequence[Convention]
) -> list[Lists]:
    return walk(log, rivals, conventions, from_half(log))


def show(title: str, found: Sequence[Lists]) -> None:
    """Print it."""
    table = Table(title=title)
    for name in ("", "convention", "hit rate@20", "MRR@20", "coverage", "µs a list", "µs an event"):
        table.add_column(name, justify="right" if name and name != "convention" else "left")
    for each in found:
        figures = (f"{value:.4f}" for value in (each.hit_rate, each.mrr, each.coverage))
        costs = (f"{value:.0f}" for value in (each.list_us, each.event_us))
        table.add_row(each.rival, each.convention, *figures, *costs)
    Console(width=120).print(table)


if __name__ == "__main__":
    show(f"{SERENADE.name}, second half", on_clicks())
    show(f"{MOVIES.name}, second half", on_films())
