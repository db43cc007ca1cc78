"""Lists of items: candidates of all sources, weighted, ranked and arranged, and as documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from models.arranging import SAID, arranged
from models.candidates import Candidates
from models.gathering import Gatherer
from models.item_plan import POPULAR, SOURCES, ItemPlan
from models.items import ItemTable
from models.last_items import LastItems
from models.ranker import INPUTS, Ranker, inputs
from models.running_sessions import Running
from models.seeking import Seeking
from models.steering import Steering
from state.candidates import candidates_form
from state.recommending import Served
from state.table import Table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_WIDER: Final = 5
"""So many times the length of a list is gathered where some of it may be left out."""
_OVERRIDDEN: Final = "sources."
"""Begins the paths of settings that an arm may change."""


@dataclass(slots=True)
class Asked:
    """What the sources are asked with, for n users.

    Attributes:
        recent: rows of the items that they had to do with, the last first, int64[n, recent].
        bought: of those that they bought, int64[n, bought].
        segment: the numbers of their labels, int64[n].
        running: their sessions; None where nobody asks.
        weights: of the sources for each, float64[n, sources]; None while the settings' hold.
    """

    recent: I64
    bought: I64
    segment: I64
    running: Running | None
    weights: F64 | None


class Listing:
    """Makes the lists of one lane's users.

    Args:
        plan: how long they are, and what of.
        items: the item table.
        last: what users had to do with last.
        gatherer: of candidates.
        steering: what catalogue and rules make of items.
        ranker: what reorders them, once it is the better order; None for nothing.
        seeking: what finds out what sources are worth; None where the settings say it.
    """

    def __init__(
        self,
        plan: ItemPlan,
        items: ItemTable,
        last: LastItems,
        gatherer: Gatherer,
        steering: Steering,
        ranker: Ranker | None,
        seeking: Seeking | None,
    ) -> None:
        self._plan, self._items, self._last = plan, items, last
        self._gatherer, self._steering = gatherer, steering
        self._ranker, self._seeking = ranker, seeking
        self._form = candidates_form()
        self._sources = Texts.of(SAID)

    def candidates(
        self,
        table: Table,
        rows: I64,
        now_ms: I64,
        length: int | None = None,
        served: Served | None = None,
    ) -> Candidates:
        """The candidates of some users.

        Args:
            table: the users.
            rows: which, int64[n].
            now_ms: at a time of each, int64[n].
            length: of a list; the plan's if None.
            served: what experiments say of them.
        """
        asked = self.asked(table, rows, served)
        old = self._last.bought.at_ms(table, rows) < now_ms[:, None] - self._plan.bought_ms
        asked.bought = np.where(old, -1, asked.bought)
        pins, cap = self._steering.pins, self._plan.per_category
        length = length or self._plan.length
        if not cap and not len(pins.items):
            return self._ranked(asked, now_ms, length, 2 * length)
        found = self._ranked(asked, now_ms, _WIDER * length, _WIDER * length)
        return arranged(found, self._items, asked.recent, asked.bought, pins, length, cap)

    def asked(self, table: Table, rows: I64, served: Served | None = None) -> Asked:
        """What the sources are asked with for some users."""
        last = self._last
        return Asked(
            last.recent_of(table, rows),
            last.bought_of(table, rows),
            last.segments(rows),
            last.running(table, rows),
            self._weights(table, rows, served),
        )

    def gathered(self, asked: Asked, most: int) -> Candidates:
        """Candidates in the order of what their sources say."""
        return self._gatherer.gather(
            asked.recent, asked.bought, most, asked.weights, asked.segment, asked.running
        )

    def documents(
        self, lists: Candidates, ids: Texts, now_ms: I64, served: Served | None = None
    ) -> Texts:
        """Lists of users, whose ids are given, as documents."""
        served = served or Served.plainly(len(ids))
        bounds = np.concatenate([[0], np.cumsum(lists.count)])
        held = np.arange(lists.item.shape[1]) < lists.count[:, None]
        columns = {
            "as_of": now_ms,
            "valid_to": now_ms + self._plan.validity_ms,
            "model": np.full(len(now_ms), self._items.learned),
            "items.score": lists.score[held],
        }
        texts = {
            "user_id": ids,
            "experiment.name": served.names,
            "experiment.arm": served.arms,
            "items.item_id": self._items.ids.texts(lists.item[held]),
            "items.source": self._sources.take(lists.source[held].astype(np.int64)),
            "items.because": self._items.ids.texts(lists.because[held]),
        }
        arms = np.searchsorted(served.place, np.arange(len(ids) + 1)).astype(np.int64)
        return self._form.fill(columns, texts, {"items": bounds, "experiment": arms})

    # -- inside -----------------------------------------------------------------------------------

    def _ranked(self, asked: Asked, now_ms: I64, length: int, among: int) -> Candidates:
        """The best candidates; where ranking is in force, those of some more."""
        if self._ranker is None or not self._ranker.in_force:
            return self.gathered(asked, length)
        lists = self.gathered(asked, among)
        likely = np.ones(lists.item.shape)
        X = inputs(self._items, lists, asked.recent, asked.segment, now_ms, likely)
        chances = self._ranker.chances(X.reshape(-1, len(INPUTS))).reshape(lists.item.shape)
        return lists.ordered(chances * self._items.table["boost"][lists.item], length)

    def _weights(self, table: Table, rows: I64, served: Served | None) -> F64 | None:
        """What each source says for each user, float64[n, sources]; None where the settings' hold.

        What an arm changes, it changes by the same factor where other weights were learned.
        """
        learned = None if self._seeking is None else self._seeking.in_force(table, rows)
        if served is None or not (any(served.changes) or served.held_out.any()):
            return learned
        plan = self._plan.source_weights
        changed = [
            {**self._plan.sources, **{p.removeprefix(_OVERRIDDEN): v for p, v in each.items()}}
            for each in served.changes
        ]
        weights = np.array([[each.get(name, 0.0) for name in SOURCES] for each in changed])
        out: F64 = weights[served.which].astype(np.float64)
        if learned is not None:
            out *= np.where(plan > 0.0, learned / np.where(plan > 0.0, plan, 1.0), 1.0)
        out[served.held_out] = 0.0
        out[served.held_out, POPULAR] = 1.0
        return out
