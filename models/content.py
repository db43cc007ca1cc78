"""Which items are described alike, for items that few have seen: ``similar`` of the item table.

Two items are as alike as the cosine of their features, where a feature counts the less the more
items have it (Spärck Jones, 1972). All pairs would be too many, so an item is held against those
that share its rarest features, up to a number; common features alone bring hardly anything near.

Items that were described anew wait, the popular first, and are compared a few at a time, so that a
large catalogue does not hold the stream up. An item that is compared also enters the lists of
those it is alike to, so that new items are found from old ones at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.catalog import Facts
from events.compiled import allocating, compiled, step
from models.item_features import BUCKETS, FEATURES, NO_FEATURE, features
from models.items import ItemTable
from models.neighbours import NOBODY
from state.table import Column, Table

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_COMPARED: Final = 300
"""With so many others is an item compared."""
_STEPS: Final = 1_000
"""So many places are looked at to find them."""
_LEAST: Final = 0.05
"""Items that are less alike are no neighbours."""
_FEW: Final = 4096


class Content:
    """Features of items that are described, and who has which.

    Args:
        items: the table whose ``similar`` is kept.
    """

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._begin()

    def _begin(self) -> None:
        self._numbers = self._items.renumbered
        self._table = Table(
            [
                Column("row", "i4", -1),
                Column("bucket", "i4", NO_FEATURE, (FEATURES,)),
                Column("weight", "f4", 0.0, (FEATURES,)),
                Column("node", "i4", -1, (FEATURES,)),
                Column("mark", "i4", -1),
                Column("waits", "?"),
            ]
        )
        self._nodes = Table([Column("slot", "i4"), Column("next", "i4")], _FEW)
        self._head = np.full(BUCKETS, -1, dtype=np.int32)
        self._count = np.zeros(BUCKETS, dtype=np.int32)
        self._mine = np.zeros(BUCKETS, dtype=np.float32)
        self._described = 0
        self._rare: F32 | None = None
        self._waiting: list[I64] = []

    def __len__(self) -> int:
        """How many items wait to be compared."""
        return int(np.count_nonzero(self._table["waits"][: self._table.size]))

    def take(self, facts: Facts, rows: I64) -> None:
        """Some items, at rows of the item table, are described anew or are gone."""
        self._follow()
        slots = self._slots(rows)
        table, nodes = self._table, self._nodes
        buckets, weights = features(facts)
        buckets[facts.gone] = NO_FEATURE
        had = table["bucket"][slots]
        changed = (had != buckets).any(axis=1)
        slots, buckets, weights = slots[changed], buckets[changed], weights[changed]
        self._described += int((buckets[:, 0] >= 0).sum()) - int((had[changed, 0] >= 0).sum())
        first = nodes.grow(int(np.count_nonzero(buckets >= 0)))
        if len(first):
            _link(slots, buckets, table["node"], nodes["slot"], nodes["next"], self._head, first[0])
        self._rare = None
        _recount(slots, table["bucket"], buckets, self._count)
        table["bucket"][slots], table["weight"][slots] = buckets, weights
        table["node"][slots] = np.where(buckets >= 0, table["node"][slots], -1)
        gone = self._table["row"][slots[buckets[:, 0] < 0]]
        self._items.similar.item[gone], self._items.similar.weight[gone] = NOBODY, 0.0
        table["waits"][slots] = buckets[:, 0] >= 0
        self._waiting.append(slots)
        if nodes.size > _FEW + 3 * int(self._count.sum()):
            self._link_anew()

    def compare(self, most: int) -> int:
        """Compare some of the items that wait; how many."""
        table, slots = self._table, np.empty(0, dtype=np.int64)
        while self._waiting and not len(slots):
            slots = self._waiting.pop()
            slots = slots[table["waits"][slots]]
        if not len(slots):
            return 0
        self._follow()
        if len(slots) > most:
            popularity = self._items.table["popularity"][table["row"][slots]]
            order = np.argsort(-popularity, kind="stable")
            self._waiting.append(slots[order[most:]])
            slots = slots[order[:most]]
        table["waits"][slots] = False
        similar = self._items.similar
        _compare(
            slots,
            table["row"],
            table["bucket"],
            table["weight"],
            table["node"],
            table["mark"],
            self._nodes["slot"],
            self._nodes["next"],
            self._head,
            self._rarity(),
            self._mine,
            similar.item,
            similar.weight,
        )
        return len(slots)

    def bytes_held(self) -> int:
        """Bytes of all features."""
        held = self._head.nbytes + self._count.nbytes + self._mine.nbytes
        return self._table.bytes_held() + self._nodes.bytes_held() + held

    # -- inside -------------------------------------------------------------------------------

    def _rarity(self) -> F32:
        """What each feature counts, float32[BUCKETS]."""
        if self._rare is None:
            share = self._described / np.maximum(self._count, 1).astype(np.float32)
            self._rare = np.log1p(share)
        return self._rare

    def _slots(self, rows: I64) -> I64:
        """The slot of each item; new ones get new slots."""
        column = self._items.table["slot"]
        new = rows[column[rows] < 0]
        slots = self._table.grow(len(new))
        column[new] = slots
        self._table["row"][slots] = new
        return column[rows].astype(np.int64)

    def _follow(self) -> None:
        """Items may have other rows than before."""
        if self._numbers == self._items.renumbered:
            return
        self._numbers = self._items.renumbered
        column = self._items.table["slot"][: len(self._items)]
        rows = np.flatnonzero(column >= 0)
        self._table["row"][: self._table.size] = -1
        self._table["row"][column[rows]] = rows

    def again(self) -> None:
        """The item table began anew, without any item."""
        self._begin()

    def _link_anew(self) -> None:
        """Leave out places that nothing stands for any more."""
        table, size = self._table, self._table.size
        self._nodes = Table([Column("slot", "i4"), Column("next", "i4")], _FEW)
        self._head[:] = -1
        slots = np.arange(size)
        buckets = table["bucket"][:size]
        first = self._nodes.grow(int(np.count_nonzero(buckets >= 0)))
        if len(first):
            nodes = self._nodes
            _link(slots, buckets, table["node"], nodes["slot"], nodes["next"], self._head, 0)


@compiled
def _link(
    slots: I64, buckets: I32, node: I32, node_slot: I32, node_next: I32, head: I32, at: int
) -> None:
    """Put items in front of those that have the same features, the newest first."""
    for i in range(len(slots)):
        for k in range(buckets.shape[1]):
            bucket = buckets[i, k]
            if bucket < 0:
                break
            node_slot[at], node_next[at] = slots[i], head[bucket]
            head[bucket] = at
            node[slots[i], k] = at
            at += 1


@compiled
def _recount(slots: I64, before: I32, buckets: I32, count: I32) -> None:
    for i in range(len(slots)):
        for k in range(buckets.shape[1]):
            old, new = before[slots[i], k], buckets[i, k]
            if old >= 0:
                count[old] -= 1
            if new >= 0:
                count[new] += 1


@step
def _enter(item: I32, weight: F32, row: int, other: int, value: float) -> None:
    """Let a neighbour into a list: in its own place, a free one, or that of the least alike."""
    places = item.shape[1]
    least = 0
    for k in range(places):
        if item[row, k] == other or item[row, k] < 0:
            item[row, k], weight[row, k] = other, value
            return
        if weight[row, k] < weight[row, least]:
            least = k
    if weight[row, least] < value:
        item[row, least], weight[row, least] = other, value


@allocating
def _compare(
    slots: I64,
    row_of: I32,
    buckets: I32,
    weights: F32,
    node: I32,
    mark: I32,
    node_slot: I32,
    node_next: I32,
    head: I32,
    rare: F32,
    mine: F32,
    item: I32,
    weight: F32,
) -> None:
    width = buckets.shape[1]
    found = np.empty(_COMPARED, dtype=np.int64)
    for slot in slots:
        row = row_of[slot]
        if row < 0 or buckets[slot, 0] < 0:
            continue
        for k in range(item.shape[1]):
            item[row, k], weight[row, k] = NOBODY, 0.0
        length = 0
        while length < width and buckets[slot, length] >= 0:
            length += 1
        rarest = np.argsort(-rare[buckets[slot, :length]])
        mark[slot] = slot
        n, steps = 0, 0
        for k in rarest:
            at = head[buckets[slot, k]]
            while at >= 0 and n < _COMPARED and steps < _STEPS:
                steps += 1
                other = node_slot[at]
                if mark[other] != slot and row_of[other] >= 0:
                    # a place that the other has left is not one of its own any more
                    for m in range(width):
                        if node[other, m] == at:
                            mark[other] = slot
                            found[n] = other
                            n += 1
                            break
                at = node_next[at]
        mark[slot] = -1
        own = np.float32(0.0)
        for k in range(length):
            bucket = buckets[slot, k]
            value = weights[slot, k] * rare[bucket]
            mine[bucket] = value
            own += value * value
        for i in range(n):
            other = found[i]
            mark[other] = -1
            both, its = np.float32(0.0), np.float32(0.0)
            for k in range(width):
                bucket = buckets[other, k]
                if bucket < 0:
                    break
                value = weights[other, k] * rare[bucket]
                its += value * value
                both += value * mine[bucket]
            alike = both / np.sqrt(own * its + np.float32(1e-30))
            if alike >= _LEAST:
                _enter(item, weight, row, row_of[other], alike)
                _enter(item, weight, row_of[other], row, alike)
        for k in range(length):
            mine[buckets[slot, k]] = 0.0
