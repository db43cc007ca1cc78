"""Cold start: items that nobody has been seen with, and users of whom one event is known.

``python -m loadtest.evaluate.recommend.cold_start`` prints the tables.

**Cold items.** The first ten events of every item are held out: nobody learns them, and they extend
no history. Those in the second half of the log are asked for, of users with a history. Whoever
counts events has nothing to say of these items; what a catalogue says of them is known.

**Users with one event.** All is learned; the second item of every user whose second turn lies in
the second half is asked for.

Beside both, events of the second half (of long logs every tenth): what a catalogue adds must not
cost where events are many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from dataflows.settings import load
from events.catalog import BETWEEN_TAGS, Facts
from events.texts import Texts
from loadtest.evaluate.recommend.engine import Afterglow
from loadtest.evaluate.recommend.logs import (
    BASKETS,
    MOVIES,
    Bools,
    Interactions,
    Source,
)
from loadtest.evaluate.recommend.measures import Lists
from loadtest.evaluate.recommend.popularity import Popularity
from loadtest.evaluate.recommend.protocol import NextItem
from loadtest.evaluate.recommend.walk import NEW, Convention, walk
from models.item_plan import SOURCES

HELD_OUT: Final = 10
"""First events of an item that nobody learns."""
_HALF_LIFE_MS: Final = 14 * 86_400_000
_COMPARED_AT_ONCE: Final = 1_000
_CONTENT_ALONE: Final = tuple(
    f"recommend.sources.{name}={1.0 if name == 'similar' else 0.0}" for name in SOURCES
)
_MANY: Final = 20_000
"""Of a longer log only every tenth event is asked."""

SHOP: Final = Source("rees46_oct2019_head", "view", texts=("category", "brand", "price"))
"""REES46: three hours of a large shop; category is a path, often absent."""


@dataclass(slots=True, frozen=True)
class Case:
    """A log and what its catalogue would say.

    Attributes:
        source: the log.
        facts: of its items.
    """

    source: Source
    facts: Callable[[Interactions], Facts]


def facts_of(
    log: Interactions, category: str = "", brand: str = "", tags: str = "", price: str = ""
) -> Facts:
    """A catalogue from columns of a log; ``|`` stands between tags."""
    n = log.items

    def texts(column: str) -> list[str | None]:
        return [str(t) or None for t in log.of_items(column)] if column else [None] * n

    sets = [t and BETWEEN_TAGS.join(sorted(set(t.split("|")))) for t in texts(tags)]
    prices = [round(100 * float(t or 0)) for t in texts(price)]
    return Facts(
        ids=Texts.of(names(log)),
        titles=Texts.absent(n),
        categories=Texts.of(texts(category)),
        brands=Texts.of(texts(brand)),
        tags=Texts.of(sets),
        price=np.array(prices, dtype=np.int64),
        available=np.ones(n, dtype=np.bool_),
        gone=np.zeros(n, dtype=np.bool_),
    )


def names(log: Interactions) -> list[str]:
    """The items' ids."""
    return [f"item-{n}" for n in range(log.items)]


CASES: Final = (
    Case(MOVIES, lambda log: facts_of(log, tags="category")),
    Case(SHOP, lambda log: facts_of(log, category="category", brand="brand", price="price")),
    Case(BASKETS, lambda log: facts_of(log, category="category", brand="brand", tags="department")),
)


def cold_items(log: Interactions) -> Bools:
    """Which events are among the first ``HELD_OUT`` of their item, bool[n]."""
    order = np.argsort(log.item, kind="stable")
    item = log.item[order]
    out = np.empty(len(log), dtype=np.bool_)
    out[order] = np.arange(len(log)) - np.searchsorted(item, item) < HELD_OUT
    return out


def second_turns(log: Interactions) -> Bools:
    """Which events are of the second turn of their user, bool[n]."""
    turns: dict[int, list[int]] = {}
    out = np.zeros(len(log), dtype=np.bool_)
    for row, (user, turn) in enumerate(zip(log.user.tolist(), log.turn.tolist(), strict=True)):
        seen = turns.setdefault(user, [])
        if not seen or seen[-1] != turn:
            seen.append(turn)
        out[row] = len(seen) == 2
    return out


def second_half(log: Interactions) -> Bools:
    """Which events lie in the second half of the log, bool[n]."""
    return np.arange(len(log)) >= len(log) // 2


def engine(log: Interactions, facts: Facts | None, name: str, *sets: str) -> Afterglow:
    """The engine's recommender, with or without a catalogue."""
    settings = load(env={}, sets=["recommend.ranked=false", *sets])
    out = Afterglow(name, settings, log.users, names(log))
    if facts is not None:
        for lane in out.lanes:
            lane.take_facts(facts)
            while lane.steering.content.compare(_COMPARED_AT_ONCE):
                pass
    return out


def measured(
    log: Interactions, facts: Facts, asked: Bools, learnt: Bools | None, convention: Convention
) -> list[Lists]:
    """Popularity, the engine without a catalogue and with one, and content alone."""
    rivals: list[NextItem] = [
        Popularity(log.items, _HALF_LIFE_MS),
        engine(log, None, "afterglow without a catalogue"),
        engine(log, facts, "afterglow"),
        engine(log, facts, "content alone", *_CONTENT_ALONE),
    ]
    return walk(log, rivals, [convention], asked, learnt)


def tables(cases: tuple[Case, ...] = CASES) -> list[tuple[str, list[Lists]]]:
    """What came of every question, by log and question."""
    out = []
    for case in cases:
        log = case.source.read()
        facts, late, cold = case.facts(log), second_half(log), cold_items(log)
        for question, asked, learnt in (
            ("cold items", late & cold, ~cold),
            ("users with one event", late & second_turns(log), None),
            ("all", late & (np.arange(len(log)) % (10 if len(log) > _MANY else 1) == 0), None),
        ):
            title = f"{log.name}: {question}"
            out.append((title, measured(log, facts, asked, learnt, NEW)))
    return out


def show(found: list[tuple[str, list[Lists]]]) -> None:
    """Print it."""
    for title, lists in found:
        table = Table(title=f"{title} ({NEW.name}; {len(lists[0].asked):,} asked)")
        for name in ("", "hit rate@20", "MRR@20", "coverage"):
            table.add_column(name, justify="left" if not name else "right")
        for each in lists:
            values = (each.hit_rate, each.mrr, each.coverage)
            table.add_row(each.rival, *(f"{value:.4f}" for value in values))
        Console().print(table)


if __name__ == "__main__":
    show(tables())
