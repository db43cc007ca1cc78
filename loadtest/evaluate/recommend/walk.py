"""Predict, then learn: every recommender is asked what comes next, and is then told what came.

A log is walked turn by turn (one event, or one basket). Before a turn each recommender is asked for
a list, at the time of the turn; after that it observes the turn's events one by one. So a list
rests on all that came before the turn, of whoever, and on nothing of the turn or later. One list
serves every convention: what a convention leaves out is taken out of it, and it is long enough that
``count`` items stay.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from loadtest.evaluate.recommend.logs import Bools, Interactions
from loadtest.evaluate.recommend.measures import Lists, place
from loadtest.evaluate.recommend.protocol import I64, NextItem

COUNT: Final = 20
"""Length of a list."""


@dataclass(slots=True, frozen=True)
class Convention:
    """What may be recommended, and what counts.

    Attributes:
        name: in tables.
        earlier: whether items that the user has had may be recommended and count when they come.
            Turns in which nothing else comes are not asked, if not.
        latest: whether the user's latest item may be recommended. If it comes again at once
            although it may not, that is a miss.
    """

    name: str
    earlier: bool
    latest: bool

    def left(self, items: list[int], earlier: dict[int, None]) -> list[int]:
        """What may stay of a list, for a user who had these items before, the latest last.

        >>> NEXT.left([3, 1, 2], {1: None, 2: None}), NEW.left([3, 1, 2], {1: None, 2: None})
        ([3, 1], [3])
        """
        if not self.earlier:
            return [item for item in items if item not in earlier]
        if not self.latest:
            latest = next(reversed(earlier))
            return [item for item in items if item != latest]
        return items


NEXT: Final = Convention("all next clicks", earlier=True, latest=False)
"""Nobody is shown the page that is already open. The published evaluator of VMIS-kNN has it so."""

NEW: Final = Convention("new to the user", earlier=False, latest=False)
"""What the user has not found yet; in ``serenade_bol`` "user" is a session."""

ANY: Final = Convention("any item", earlier=True, latest=True)
"""Groceries: what was bought last may be bought next."""


def walk(
    log: Interactions,
    rivals: Sequence[NextItem],
    conventions: Sequence[Convention],
    asked: Bools | None = None,
    learnt: Bools | None = None,
    count: int = COUNT,
) -> list[Lists]:
    """Every recommender's lists under every convention, in that order.

    Only users with a history are asked.

    Args:
        log: what happens.
        rivals: who recommends; they are asked and taught in turn, and know nothing of each other.
        conventions: what may be recommended, and what counts.
        asked: rows that are to be foretold, bool[n]; all if not given. Of a basket those rows count
            that are asked.
        learnt: rows that recommenders observe, bool[n]; all if not given. The others are held out:
            they extend no recommender's history of the user either, but what was had in them still
            counts as had.
        count: length of a list.
    """
    aim = _flags(asked, len(log))
    teach = _flags(learnt, len(log))
    users, items, times = log.user.tolist(), log.item.tolist(), log.ts_ms.tolist()
    weights = log.weight.tolist()
    had: list[dict[int, None]] = [{} for _ in range(log.users)]
    seats = [_Seat(rival, conventions, count) for rival in rivals]
    for first, end in _turns(log):
        user, earlier = users[first], had[users[first]]
        came = {items[row] for row in range(first, end) if aim[row]}
        goals = [came if each.earlier else came - earlier.keys() for each in conventions]
        if earlier and any(goals):
            for seat in seats:
                seat.ask(first, user, times[first], earlier, goals)
        for row in range(first, end):
            if teach[row]:
                for seat in seats:
                    seat.tell(user, items[row], times[row], weights[row])
            earlier.pop(items[row], None)
            earlier[items[row]] = None  # the latest stands last
    return [lists for seat in seats for lists in seat.closed(log.items)]


def _flags(chosen: Bools | None, rows: int) -> list[bool]:
    return [True] * rows if chosen is None else chosen.tolist()


def _turns(log: Interactions) -> Iterator[tuple[int, int]]:
    """Each turn's first row and the row after its last."""
    starts = np.flatnonzero(np.diff(log.turn, prepend=-1))
    yield from zip(starts.tolist(), [*starts[1:].tolist(), len(log)], strict=True)


@dataclass(slots=True)
class _Seat:
    """One recommender, and what is noted of it."""

    rival: NextItem
    conventions: Sequence[Convention]
    count: int
    books: list[_Book] = field(init=False)
    lists: int = 0
    events: int = 0
    lists_ns: int = 0
    events_ns: int = 0

    def __post_init__(self) -> None:
        self.books = [_Book() for _ in self.conventions]

    def ask(
        self, row: int, user: int, ts_ms: int, earlier: dict[int, None], goals: list[set[int]]
    ) -> None:
        """Ask for one list, and note it under each convention by which something comes."""
        began = time.process_time_ns()
        best = self.rival.recommend(user, ts_ms, self.count + len(earlier)).tolist()
        self.lists_ns += time.process_time_ns() - began
        self.lists += 1
        for book, convention, goal in zip(self.books, self.conventions, goals, strict=True):
            if goal:
                book.add(row, convention.left(best, earlier)[: self.count], goal)

    def tell(self, user: int, item: int, ts_ms: int, weight: float) -> None:
        """Let it learn one event."""
        began = time.process_time_ns()
        self.rival.observe(user, item, ts_ms, weight)
        self.events_ns += time.process_time_ns() - began
        self.events += 1

    def closed(self, catalogue: int) -> Iterator[Lists]:
        """All that was noted, by convention."""
        list_us = self.lists_ns / 1e3 / max(self.lists, 1)
        event_us = self.events_ns / 1e3 / max(self.events, 1)
        for book, convention in zip(self.books, self.conventions, strict=True):
            yield Lists(
                self.rival.name,
                convention.name,
                np.array(book.asked, np.int64),
                np.array(book.ranks, np.int64),
                np.array(book.found),
                len(book.shown),
                catalogue,
                list_us,
                event_us,
            )


@dataclass(slots=True)
class _Book:
    """What is noted of one recommender's lists under one convention."""

    asked: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)

    def add(self, row: int, best: list[int], goal: set[int]) -> None:
        """Note one list."""
        rank, found = place(best, goal)
        self.asked.append(row)
        self.ranks.append(rank)
        self.found.append(found)
        self.shown.update(best)


def from_half(log: Interactions) -> Bools:
    """The second half of the events in order, bool[n]: the row ``n // 2`` and all after it.

    A turn that began in the first half is not asked.

    >>> from loadtest.evaluate.recommend.logs import interactions
    >>> from_half(interactions("x", ["a"] * 5, ["p"] * 5, [1, 2, 3, 4, 5])).tolist()
    [False, False, True, True, True]
    """
    first = np.searchsorted(log.turn, log.turn, side="left")
    late: Bools = first >= len(log) // 2
    return late


def of_new_items(log: Interactions, events: int = 10) -> Bools:
    """The first events of every item, so many, bool[n].

    As ``asked``, and turned round as ``learnt``, they hold an item out until it must be foretold.

    >>> from loadtest.evaluate.recommend.logs import interactions
    >>> of_new_items(interactions("x", ["a"] * 4, ["p", "p", "q", "p"], [1, 2, 3, 4]), 2).tolist()
    [True, True, True, False]
    """
    return _earlier_events(log.item) < events


def after_one_event(log: Interactions) -> Bools:
    """Rows of turns before which the user had exactly one event, bool[n].

    >>> from loadtest.evaluate.recommend.logs import interactions
    >>> after_one_event(interactions("x", ["a", "b", "a", "a"], ["p"] * 4, [1, 2, 3, 4])).tolist()
    [False, False, True, False]
    """
    first = np.searchsorted(log.turn, log.turn, side="left")
    second: Bools = _earlier_events(log.user)[first] == 1
    return second


def _earlier_events(of: I64) -> I64:
    """How many rows before each have the same value, int64[n]."""
    order = np.argsort(of, kind="stable")
    ordered = of[order]
    found = np.empty(len(of), np.int64)
    found[order] = np.arange(len(of)) - np.searchsorted(ordered, ordered, side="left")
    return found
