"""What sources of candidates are worth, found by looking where they had put what users went on to.

Before an interaction is learned, the lists that its user could have had are gathered with a weight
for every source, and the item is sought in them. That costs as much as a list, so it is done for
some interactions only: for all at the beginning, later for a few, and never for more than so many a
second.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from models.gathering import Gatherer
from models.item_plan import ItemPlan
from models.items import ItemTable
from models.last_items import LastItems
from models.pace import Pace
from models.source_weights import Sought
from models.weights_by_history import WeightsByHistory
from state.groups import Groups
from state.table import Table
from state.times import NEVER_MS

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_AMONG: Final = 80
"""Candidates among which an item is sought."""
_AT_ONCE: Final = 64
"""Interactions of a batch at most, and no more than for one user in ``_OF``."""
_OF: Final = 8
_PER_S: Final = 50
"""Interactions of a second at most, in event time."""
_UNSENT: Final = 256
"""Batches of them that may wait for an exchange; the oldest go."""
_ALWAYS: Final = 4_000
"""After so many examples only one interaction in ``_EVERY`` becomes one."""
_EVERY: Final = np.uint64(32)
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)


class Seeking:
    """The learned weights of one lane's sources.

    Args:
        plan: the weights of the settings, and which events matter.
        items: the item table.
        gatherer: of candidates.
        last: what users had to do with last.
        sends: whether examples are learned when they are read back, in one order with the others'.

    Attributes:
        weights: what was learned.
    """

    def __init__(
        self,
        plan: ItemPlan,
        items: ItemTable,
        gatherer: Gatherer,
        last: LastItems,
        *,
        sends: bool,
    ) -> None:
        self.weights = WeightsByHistory(plan.source_weights, plan.rank_offset, plan.length)
        self._items, self._gatherer, self._last = items, gatherer, last
        self._matters, self._sends = plan.weight_of > 0.0, sends
        self._sought: deque[list[Sought]] = deque(maxlen=_UNSENT)
        self._pace = Pace(_PER_S, _AT_ONCE)

    def seek(self, table: Table, events: Groups, batch: Batch) -> None:
        """See where in their lists stood what some users went on to, before it is learned."""
        matters = self._matters[batch.type[events.index]]
        index, rows = events.index[matters], events.row_of[matters]
        items = batch.item.take(index).hashes()
        turn = (items ^ batch.ts_ms[index].astype(np.uint64)) * _MIXER >> np.uint64(32)
        chosen = self.weights.learns(_is_new(table, rows), _ALWAYS)
        chosen |= turn % _EVERY == 0
        rows, items = rows[chosen], items[chosen]
        rows, first = np.unique(rows, return_index=True)  # later ones of a user follow from others
        most = min(_AT_ONCE, -(-len(rows) // _OF))
        most = self._pace.take(most, int(batch.ts_ms[index].max(initial=NEVER_MS)))
        if not most:
            return
        evenly = slice(None, None, -(-len(rows) // most))  # rows stand by age
        rows, items = rows[evenly], items[first[evenly]]
        recent = self._last.recent_of(table, rows)
        came = self._items.find(items)
        asked = np.flatnonzero((recent[:, 0] >= 0) & (came >= 0) & (came != recent[:, 0]))
        if not len(asked):
            return
        bought = self._last.bought_of(table, rows[asked])
        everything = np.tile(self.weights.everything, (len(asked), 1))
        running = self._last.running(table, rows[asked])
        segment = self._last.segments(rows[asked])
        lists = self._gatherer.gather(recent[asked], bought, _AMONG, everything, segment, running)
        some = self.weights.seek(lists, came[asked], _is_new(table, rows[asked]))
        if self._sends:
            self._sought.append(some)
        else:
            self.weights.learn(some)

    def in_force(self, table: Table, rows: I64) -> F64 | None:
        """The weights for some users, float64[n, sources]; None while the settings' hold."""
        if not self.weights.in_force:
            return None
        return self.weights.of(_is_new(table, rows))

    def waits(self) -> bool:
        """Whether there is something to be told."""
        return bool(self._sought)

    def outgoing(self) -> list[list[bytes]]:
        """The examples that were not told yet."""
        told = [[part.pack() for part in some] for some in self._sought]
        self._sought.clear()
        return told

    def take(self, told: list[Any]) -> None:
        """Learn examples that a lane told."""
        for some in told:
            parts = some if isinstance(some, list) else [some]  # the former: of all users
            self.weights.learn([Sought.unpack(part) for part in parts])


def _is_new(table: Table, rows: I64) -> Bools:
    """Of which of some users no more than one item is known, bool[n]."""
    at_ms = table["recent.at"]
    if at_ms.shape[1] < 2:
        return np.ones(len(rows), dtype=np.bool_)
    found: Bools = at_ms[rows, 1] == NEVER_MS
    return found
