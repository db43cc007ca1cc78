"""Item cosine: how many users had both of two items, for how many had each.

``both / sqrt(one * other)`` (Sarwar, Karypis, Konstan and Riedl, "Item-based collaborative
filtering recommendation algorithms", WWW 2001), where counts are decayed in forward form and a user
counts as long as the items are remembered (``state.recent``): an item that is new to the user makes
a pair with each of those, however long ago they were; one that is not makes none. Unlike
co-visits, popular items do not win by their popularity, and long histories count as a whole.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from models.neighbours import Neighbours, add_one
from models.sums import add_amount
from state.table import Column, Table

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_USERS: Final = "cosine.users"


class CosineNeighbours(Neighbours):
    """How many had both, for the heaviest neighbours of every item, and how many had each.

    Args:
        table: the items.
        places: most neighbours of an item; 0 to learn nothing.

    >>> items = Table([Column("changed", "?")])
    >>> cosine, rows = CosineNeighbours(items, 2), items.grow(3)
    >>> had = np.array([[0, -1, -1], [1, 0, -1], [-1, -1, -1]])
    >>> cosine.learn(np.array([0, 1, 1]), np.zeros(3, np.int64), had, 0, 1.0, items["changed"])
    >>> cosine.users[:3].tolist(), cosine.heaviest(0, 2)
    ([1.0, 1.0, 0.0], [(1, 1.0)])
    """

    def __init__(self, table: Table, places: int) -> None:
        super().__init__(table, "cosine", places)
        if places:
            table.add_columns("", [Column(_USERS, "f8")])

    @property
    def users(self) -> F64:
        """How many users had each item, decayed, float64[rows]; empty if nothing is learned."""
        out: F64 = self._table[_USERS] if self.places else np.empty(0)
        return out

    def learn(
        self,
        rows: I64,
        ts_ms: I64,
        had: I64,
        landmark_ms: int,
        per_half_life: float,
        changed: Bools,
    ) -> None:
        """Learn what users had when an item was new to them.

        Args:
            rows: the item of each interaction, int64[n].
            ts_ms: its time, int64[n].
            had: the items that its user has since then, the new one first, int64[n, h]; -1 for
                none, and first where the item was not new.
            landmark_ms: the time that counts 1.
            per_half_life: one over the half-life in milliseconds.
            changed: is set for rows that other weights are in, bool[rows].
        """
        weights = self.users, self.item, self.weight
        _learn(rows, ts_ms, had, landmark_ms, per_half_life, *weights, changed)

    def scale(self, factor: float) -> None:
        """Multiply all weights, because the landmark has moved."""
        super().scale(factor)
        self.users[: self._table.size] *= factor


@compiled
def _learn(
    rows: I64,
    ts_ms: I64,
    had: I64,
    landmark_ms: int,
    per_half_life: float,
    users: F64,
    item: I32,
    weight: F32,
    changed: Bools,
) -> None:
    for k in range(len(rows)):
        row = rows[k]
        if row < 0 or had[k, 0] < 0:
            continue
        counts = 2.0 ** ((ts_ms[k] - landmark_ms) * per_half_life)
        users[row] += counts
        changed[row] = True
        for place in range(1, had.shape[1]):
            other = had[k, place]
            if other >= 0 and other != row:
                add_one(item, weight, other, row, counts)
                add_one(item, weight, row, other, counts)
                changed[other] = True


@step
def add_cosines(
    own: I64, users: F64, item: I32, weight: F32, blocked: Bools, slots: U64, near: Any, given: int
) -> int:
    """Sum up the cosines of some items; how many spots are given then.

    No fewer had one of two items than had both, whatever was forgotten since.
    """
    for row in own:
        if row < 0:
            continue
        for k in range(item.shape[1]):
            other = item[row, k]
            if other < 0:
                break
            both = np.float64(weight[row, k])
            if both > 0.0:
                each = max(users[row], both) * max(users[other], both)
                amount = np.float32(both / np.sqrt(each))
                given = add_amount(other, amount, row, blocked, slots, near, given)
    return given
