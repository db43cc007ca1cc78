"""What users had to do with last: kept in their rows, and told as what it teaches about items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import PURCHASE, RATING
from models.esteem import rating_of, stay_of
from models.interactions import Interactions, seen_of
from models.item_plan import COSINE, SESSIONS, ItemPlan
from models.items import ItemTable
from models.running_sessions import Running, RunningSessions
from state.groups import Groups
from state.labels import Labels
from state.recent import RecentItems
from state.table import Column, Table

I8 = NDArray[np.int8]
I64 = NDArray[np.int64]


class LastItems:
    """The last items of one lane's users, and what else items are recommended by.

    Args:
        plan: how many are kept, and which events matter.
        items: the item table.

    Attributes:
        recent: what users had to do with.
        bought: what they bought.
    """

    def __init__(self, plan: ItemPlan, items: ItemTable) -> None:
        self._plan, self._items = plan, items
        self.recent = RecentItems("recent", plan.recent)
        self.bought = RecentItems("bought", plan.bought)
        self._sessions = RunningSessions(plan.gap_ms) if plan.is_on(SESSIONS) else None
        self._matters = plan.weight_of > 0.0
        self._asks_had = plan.is_on(COSINE)
        self._labels: Labels | None = None

    def columns(self) -> list[Column]:
        """What the users' table needs."""
        own = [*self.recent.columns(), *self.bought.columns()]
        return own + (self._sessions.columns() if self._sessions else [])

    def tell_apart(self, labels: Labels) -> None:
        """Users may be told apart by their labels from now on."""
        self._labels = labels

    # -- of some users ----------------------------------------------------------------------------

    def recent_of(self, table: Table, rows: I64) -> I64:
        """Rows of the items that they had to do with, the last first, int64[n, recent]."""
        return self._items.find(self.recent.items(table, rows))

    def bought_of(self, table: Table, rows: I64) -> I64:
        """Rows of the items that they bought, the last first, int64[n, bought]."""
        return self._items.find(self.bought.items(table, rows))

    def running(self, table: Table, rows: I64) -> Running | None:
        """Their sessions; None where nobody asks."""
        if self._sessions is None:
            return None
        return self._sessions.of(table, rows, self.recent.at_ms(table, rows))

    def segments(self, rows: I64) -> I64:
        """The numbers of their labels in the item table, int64[n], -1 for none."""
        return self._items.segment_of(*self._label_of(rows))

    # -- of a batch -------------------------------------------------------------------------------

    def interactions(self, table: Table, events: Groups, batch: Batch) -> Interactions:
        """What some events teach, by their times; updates what users had to do with last."""
        index, rows = events.index, events.row_of
        ids = batch.item.take(index)
        item, ts_ms, kinds = ids.hashes(), batch.ts_ms[index], batch.type[index]
        plan = self._plan
        before = np.zeros((len(index), plan.steps), dtype=np.uint64)
        matters = np.flatnonzero(self._matters[kinds])
        since_ms = np.full(len(matters), -1, dtype=np.int64)
        new = np.zeros((len(matters), plan.recent + 1), np.uint64) if self._asks_had else None
        before[matters] = self.recent.update(
            table, rows[matters], item[matters], ts_ms[matters], kinds[matters], plan.steps,
            plan.gap_ms, new, since_ms,
        )  # fmt: skip
        stay = np.zeros(len(index), dtype=np.float32)
        stay[matters] = stay_of(since_ms)
        rating = rating_of(kinds == RATING, batch.value[index])
        session = had = None
        if self._sessions is not None:
            session = np.zeros(len(index), dtype=np.uint64)
            session[matters] = self._sessions.update(
                table, rows[matters], item[matters], ts_ms[matters]
            )
        together = np.zeros((len(index), plan.bought - 1), dtype=np.uint64)
        buys = np.flatnonzero(kinds == PURCHASE)
        together[buys] = self.bought.update(
            table, rows[buys], item[buys], ts_ms[buys], kinds[buys], plan.bought - 1,
            plan.basket_ms,
        )  # fmt: skip
        pieces = np.maximum(batch.quantity[index], 1)
        seen = seen_of(ids, batch.category.take(index), batch.amount_minor[index] // pieces)
        label, labels = self._label_of(rows)
        order = np.argsort(ts_ms, kind="stable")
        if new is not None:
            had = np.zeros((len(index), plan.recent + 1), dtype=np.uint64)
            had[matters] = new
            had = had[order]
        return Interactions(
            *(item[order], ts_ms[order], kinds[order], before[order], together[order]),
            *(seen, stay[order], rating[order], label[order], labels),
            *(None if session is None else session[order], had),
        )

    def _label_of(self, rows: I64) -> tuple[I8, tuple[str, ...]]:
        """The labels of some users, places int8[n], -1 for none, and their names."""
        if self._labels is None or not self._items.tells_apart:
            return np.full(len(rows), -1, dtype=np.int8), ()
        return self._labels.of(self._plan.segment, rows)
