"""The engine's own recommender as one of those that are measured, through the code that serves.

Every event is a batch of its own, and a list is what the engine would have committed after the
batch before. Several lanes share the users as workers do, and exchange what they saw at intervals
of event time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataflows import plans
from dataflows.settings import Settings
from events.hashing import shard_of
from events.schema import PRODUCT_VIEW
from events.texts import Texts
from loadtest.evaluate.recommend.made import batch
from loadtest.evaluate.recommend.protocol import I64
from models.recommender import ItemRecommender
from state.groups import group
from state.table import Table


class Afterglow:
    """One or several lanes.

    Args:
        name: in tables.
        settings: in force.
        users: how many there are.
        items: ids, by number.
        lanes: how many share the users.
        exchange_ms: event time between two exchanges; no matter to a single lane.
        kind: code of the type of event that a log's events are.
        categories: of the items, by number; None where nothing is known.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        users: int,
        items: Sequence[str],
        lanes: int = 1,
        exchange_ms: int = 60_000,
        kind: int = PRODUCT_VIEW,
        categories: Sequence[str | None] | None = None,
    ) -> None:
        self.name = name
        self._kinds, self._exchange_ms = np.array([kind], dtype=np.int8), exchange_ms
        self._items = Texts.of(list(items))
        self._hashes = self._items.hashes()
        self._number = {int(h): place for place, h in enumerate(self._hashes.tolist())}
        self._categories = Texts.of(list(categories)) if categories else Texts.absent(len(items))
        self.lanes: list[ItemRecommender] = []
        for place in range(lanes):
            lane = plans.recommender(settings, keeps=place == 0, shares=lanes > 1)
            assert lane is not None
            self.lanes.append(lane)
        self._tables = [Table(lane.columns()) for lane in self.lanes]
        for table in self._tables:
            table.grow(users)
        ids = Texts.of([f"user-{user}" for user in range(users)])
        self._lane_of = shard_of(ids, settings.redis.shards) % lanes
        self._exchanged_ms = 0

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """See ``NextItem``."""
        place = int(self._lane_of[user])
        lane, table = self.lanes[place], self._tables[place]
        some = lane.listing.candidates(table, np.array([user]), np.array([ts_ms]), count)
        hashes = lane.items.table["hash"][some.item[0, : some.count[0]]]
        return np.array([self._number[h] for h in hashes.tolist()], dtype=np.int64)

    def observe(
        self,
        user: int,
        item: int,
        ts_ms: int,
        weight: float = 1.0,  # noqa: ARG002 what an event says depends on its type
    ) -> None:
        """See ``NextItem``."""
        if len(self.lanes) > 1 and ts_ms - self._exchanged_ms >= self._exchange_ms:
            self._exchanged_ms = ts_ms
            self._exchange()
        place = int(self._lane_of[user])
        event = batch(self._items.take(np.array([item])), self._kinds, np.array([ts_ms]))
        event.category = self._categories.take(np.array([item]))
        self.lanes[place].observe(self._tables[place], group(np.array([user])), event)

    def bytes_per_item(self) -> float:
        """Memory of the item table, by item."""
        items = self.lanes[0].items
        return items.bytes_held() / max(len(items), 1)

    def _exchange(self) -> None:
        blocks = [lane.outgoing() for lane in self.lanes]
        for place, lane in enumerate(self.lanes):
            for sender, block in enumerate(blocks):
                if block and sender != place:
                    lane.take(block)
