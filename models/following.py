"""What ranking learns from: items that were shown, as they stood then, and whether they were taken.

What is shown is parked before its batch is learned, so that nothing is known of what came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import ADD_TO_CART, CLICK, IMPRESSION, PURCHASE, TYPES
from models.impressions import Impressions, Shown
from models.item_plan import ItemPlan
from models.items import ItemTable
from models.listing import Listing
from models.pace import Pace
from models.ranker import INPUTS, Ranker, inputs
from state.groups import Groups
from state.table import Table

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_LOOKED_THROUGH: Final = 60
"""Candidates among which an item that was shown is sought."""
_PER_S, _MOST = 50, 2_000
"""Impressions that are learned from in a second of event time, and that may be saved up."""


class Following:
    """The examples of one lane's ranking.

    Args:
        plan: how long an item may be taken after it was shown.
        items: the item table.
        listing: where the items stood.
        ranker: what learns.
        sends: whether examples are learned when they are read back, in one order with the others'.
    """

    def __init__(
        self,
        plan: ItemPlan,
        items: ItemTable,
        listing: Listing,
        ranker: Ranker,
        *,
        sends: bool,
    ) -> None:
        self._items, self._listing = items, listing
        self._ranker, self._sends = ranker, sends
        self._impressions = Impressions(len(INPUTS), plan.click_ms)
        self._taken: list[Shown] = []
        self._pace = Pace(_PER_S, _MOST)
        self._takes = np.zeros(len(TYPES), dtype=np.bool_)
        self._takes[[CLICK, ADD_TO_CART, PURCHASE]] = True

    @property
    def parked(self) -> int:
        """How many were shown, and may be taken yet."""
        return len(self._impressions)

    def follow(self, table: Table, events: Groups, batch: Batch) -> None:
        """Park what was shown as it stands before the batch is learned; see what was taken."""
        kinds, ts_ms = batch.type[events.index], batch.ts_ms[events.index]
        items = batch.item.take(events.index).hashes()
        self._note(self._impressions.end(int(ts_ms.max())))
        shown = np.flatnonzero(kinds == IMPRESSION)
        most = self._pace.take(len(shown), int(ts_ms.max())) if len(shown) else 0
        if most:
            shown = shown[:: -(-len(shown) // most)]
            looked_at = batch.value[events.index[shown]]
            self._show(table, events.row_of[shown], items[shown], ts_ms[shown], looked_at)
        taken = np.flatnonzero(self._takes[kinds])
        if len(taken) and len(self._impressions):
            self._impressions.take(events.row_of[taken], items[taken], ts_ms[taken])

    def forget(self, rows: I64) -> None:
        """These users leave: what was shown to them is nobody's."""
        self._impressions.forget(rows)

    def waits(self) -> bool:
        """Whether there is something to be told."""
        return bool(self._taken)

    def outgoing(self) -> list[bytes]:
        """The examples that were not told yet."""
        told, self._taken = [some.pack() for some in self._taken], []
        return told

    def take(self, told: Sequence[bytes]) -> None:
        """Learn examples that a lane told."""
        for some in told:
            self._ranker.learn(Shown.unpack(some, len(INPUTS)))

    def _show(self, table: Table, rows: I64, items: U64, ts_ms: I64, looked_at: F64) -> None:
        users, which = np.unique(rows, return_inverse=True)
        asked = self._listing.asked(table, users)
        lists = self._listing.gathered(asked, _LOOKED_THROUGH).of(which, self._items.find(items))
        likely = np.where((looked_at > 0.0) & (looked_at <= 1.0), looked_at, 1.0)
        recent, segment = asked.recent[which], asked.segment[which]
        X = inputs(self._items, lists, recent, segment, ts_ms, likely[:, None])[:, 0]
        known = lists.item[:, 0] >= 0
        self._impressions.show(
            rows[known], items[known], ts_ms[known], X[known], lists.score[known, 0]
        )

    def _note(self, some: Shown) -> None:
        """Learn at once where there is nobody to exchange with; else when they are read back."""
        if len(some) and self._sends:
            self._taken.append(some)
        elif len(some):
            self._ranker.learn(some)
