"""What comes next, foretold over a log: the lists an engine would have served, held against it.

The log goes through the recommender in its own order, in runs of events in which no user comes
twice. Before a run everybody in it who has a history gets a list; then the run is learned. So a
list rests on what came before, of whoever, and on nothing that came later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataflows import plans
from dataflows.settings import Settings, SettingsError
from events.batch import Batch
from events.decode import Decoder
from models.candidates import Candidates
from models.recommender import ItemRecommender
from operators.dead_letters import DeadLetterFile
from operators.file_source import FileReader
from state.groups import group
from state.table import Table
from state.text_index import TextIndex

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_RUN: Final = 500
"""Most events in a run, so that what is learned is never far behind."""


@dataclass(slots=True, frozen=True)
class Foretold:
    """How well lists foretold what came, of the second half of those that were made.

    Attributes:
        asked: how many lists.
        hit_rate: share of them that held the item that came; NaN without lists.
        mrr: mean of one over its place, 0 where it was not there; NaN without lists.
    """

    asked: int
    hit_rate: float
    mrr: float


@dataclass(slots=True, frozen=True)
class Run:
    """A whole log.

    Attributes:
        events: interactions that were learned.
        others: good events that are no interactions.
        letters: what was refused.
        unordered: interactions that come after a later one.
        back_ms: the most by which one does.
        items: how many there are.
        coverage: share of them that stood in any of the lists.
        every: all that came; what a user has just had is never in the list.
        new: only what the user had not had, as far as is remembered; what the user had is left out
            of the lists.
    """

    events: int
    others: int
    letters: DeadLetterFile
    unordered: int
    back_ms: int
    items: int
    coverage: float
    every: Foretold
    new: Foretold


def foretell(
    settings: Settings,
    name: str,
    payloads: Iterator[bytes],
    tick: Callable[[int], None] = lambda _events: None,
) -> Run:
    """Run a log.

    Args:
        settings: in force.
        name: of the log, for messages.
        payloads: its events, by time.
        tick: told how many events were taken in, now and then.

    Raises:
        SettingsError: recommendations are switched off.
    """
    lane = plans.recommender(settings, keeps=True, shares=False)
    if lane is None:
        raise SettingsError("recommend.enabled: must be true to evaluate lists, but false came")
    table, users = Table(lane.columns()), TextIndex()
    decode, reader = Decoder(plans.event_rules(settings)), FileReader(name, payloads, 1, 5_000)
    every, new, shown = _Places(), _Places(), np.zeros(0, dtype=np.bool_)
    matters = lane.plan.weight_of > 0.0
    letters, order = DeadLetterFile(), _Order()
    good = events = 0
    for read in reader.reads():
        batch, refused = decode(read)
        letters.write(refused)
        good += len(batch)
        batch = batch.where(matters[batch.type] & batch.item.present)
        order.note(batch.ts_ms)
        rows = users.number(batch.users)
        table.reach(rows)
        for first, stop in _runs(rows):
            index = np.arange(first, stop)
            part = batch.take(index)
            shown = _ask(lane, table, rows[index], part, every, new, shown)
            lane.observe(table, group(rows[index]), part)
            events += stop - first
        tick(events)
    coverage = float(shown.mean()) if len(shown) else 0.0
    both = every.summary(), new.summary()
    back = order.unordered, order.back_ms
    return Run(events, good - events, letters, *back, len(lane.items), coverage, *both)


def _runs(rows: I64) -> Iterator[tuple[int, int]]:
    """Stretches of events in which no user comes twice."""
    first, seen = 0, set[int]()
    for at, row in enumerate(rows.tolist()):
        if row in seen or at - first >= _RUN:
            yield first, at
            first, seen = at, set()
        seen.add(row)
    if first < len(rows):
        yield first, len(rows)


def _ask(
    lane: ItemRecommender,
    table: Table,
    rows: I64,
    part: Batch,
    every: _Places,
    new: _Places,
    shown: Bools,
) -> Bools:
    """Make lists for those with a history and note them; which items were ever shown."""
    had = lane.last.recent.items(table, rows)
    known = np.flatnonzero(had[:, 0] != 0)
    if not len(known):
        return shown
    had, came = had[known], part.item.take(known).hashes()
    length = lane.plan.length
    lists = lane.listing.candidates(table, rows[known], part.ts_ms[known], length + had.shape[1])
    hashes = _hashes(lane, lists)
    every.note(_place(hashes, came, np.zeros(hashes.shape, dtype=np.bool_), length))
    is_new = ~(had == came[:, None]).any(axis=1)
    is_old = (hashes[:, :, None] == had[:, None, :]).any(axis=2)
    new.note(_place(hashes, came, is_old, length)[is_new])
    grown = np.zeros(len(lane.items), dtype=np.bool_)
    grown[: len(shown)] = shown
    grown[lists.item[:, :length][lists.item[:, :length] >= 0]] = True
    return grown


def _hashes(lane: ItemRecommender, lists: Candidates) -> U64:
    known = lane.items.table["hash"][np.maximum(lists.item, 0)]
    return np.where(lists.item >= 0, known, np.uint64(0))


def _place(hashes: U64, came: U64, left_out: Bools, length: int) -> I64:
    """The place from 1 on of what came, among what is not left out; 0 where it is not there."""
    stays = (hashes != 0) & ~left_out
    place = np.cumsum(stays, axis=1)
    hit = stays & (hashes == came[:, None]) & (place <= length)
    best: I64 = np.where(hit, place, 0).max(axis=1, initial=0)
    return best


class _Places:
    """Where what came had stood."""

    def __init__(self) -> None:
        self._parts: list[I64] = []

    def note(self, places: I64) -> None:
        """Note some lists."""
        self._parts.append(places)

    def summary(self) -> Foretold:
        """Of the second half."""
        places = np.concatenate([np.empty(0, dtype=np.int64), *self._parts])
        places = places[len(places) // 2 :]
        hit = places[places > 0]
        if not len(places):
            return Foretold(0, math.nan, math.nan)
        return Foretold(len(places), len(hit) / len(places), float((1.0 / hit).sum()) / len(places))


class _Order:
    """Whether times only rise.

    Attributes:
        unordered: how many came after a later one.
        back_ms: the most by which one did.
    """

    def __init__(self) -> None:
        self.unordered = self.back_ms = self._newest_ms = 0

    def note(self, ts_ms: I64) -> None:
        """Note some more."""
        newest_ms = np.maximum.accumulate(np.append(self._newest_ms, ts_ms))
        back_ms = newest_ms[1:] - ts_ms
        self.unordered += int(np.count_nonzero(back_ms))
        self.back_ms = max(self.back_ms, int(back_ms.max(initial=0)))
        self._newest_ms = int(newest_ms[-1])
