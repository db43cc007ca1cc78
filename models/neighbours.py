"""For every item the items it goes with: capped lists of decayed weights.

Weights are in forward-decay form: what happens at time t counts ``2 ** ((t - landmark) / h)``, so
nothing has to be aged, sums of several lanes are simply added, and the order within a list does not
change with time (Cormode et al., ICDE 2009). A full list lets its lightest neighbour go when a
heavier one comes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from state.table import Column, Table

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NOBODY = -1
"""A place of a list that holds no item."""


class Neighbours:
    """One kind of neighbourhood; its columns are ``<name>.item`` and ``<name>.weight``.

    Args:
        table: the items.
        name: of the kind.
        places: most neighbours of an item.

    >>> items = Table()
    >>> near = Neighbours(items, "covisits", 2)
    >>> rows = items.grow(4)
    >>> near.add(np.array([0, 0, 0, 0]), np.array([1, 2, 1, 3]), np.array([1.0, 3.0, 1.0, 9.0]))
    >>> near.item[0].tolist(), near.weight[0].tolist()
    ([3, 2], [9.0, 3.0])
    """

    def __init__(self, table: Table, name: str, places: int) -> None:
        self._table, self.places = table, places
        self._item, self._weight = f"{name}.item", f"{name}.weight"
        table.add_columns(
            "",
            [
                Column(self._item, "i4", NOBODY, (places,)),
                Column(self._weight, "f4", 0.0, (places,)),
            ],
        )

    @property
    def item(self) -> I32:
        """The neighbours of every item, int32[rows, places], in no order; then ``NOBODY``."""
        out: I32 = self._table[self._item]
        return out

    @property
    def weight(self) -> F32:
        """Their weights, float32[rows, places]."""
        out: F32 = self._table[self._weight]
        return out

    def add(self, items: I64, others: I64, weights: F64) -> None:
        """Add weight to pairs, int64[n], int64[n], float64[n], one after another."""
        _add_all(self.item, self.weight, items, others, weights)

    def scale(self, factor: float) -> None:
        """Multiply all weights, because the landmark has moved."""
        self.weight[: self._table.size] *= np.float32(factor)

    def renumber(self, moved: I64, rows: int) -> None:
        """Items have new numbers, -1 for those that are gone; of the first ``rows`` rows."""
        _renumber(self.item[:rows], self.weight[:rows], moved)

    def heaviest(self, row: int, count: int) -> list[tuple[int, float]]:
        """An item's neighbours by falling weight: (row, weight)."""
        item, weight = self.item[row], self.weight[row]
        order = np.argsort(-weight, kind="stable")[:count]
        return [(int(item[k]), float(weight[k])) for k in order if item[k] >= 0]


@step
def add_one(item: I32, weight: F32, row: int, other: int, amount: float) -> None:
    """Add weight to a pair.

    Free places are the last ones. Each loop looks for one thing only and to the end, so that the
    processor looks at many places at once.
    """
    items, weights = item[row], weight[row]
    places = len(items)
    if places == 0:
        return
    found = -1
    for k in range(places):
        found = max(found, k if items[k] == other else -1)
    if found >= 0:
        weights[found] += np.float32(amount)
        return
    if items[places - 1] < 0:
        for k in range(places):
            if items[k] < 0:
                items[k], weights[k] = other, amount
                return
    least = weights[0]
    for k in range(1, places):
        least = min(least, weights[k])
    if least < amount:
        for k in range(places):
            if weights[k] == least:
                items[k], weights[k] = other, amount
                return


@compiled
def _add_all(item: I32, weight: F32, items: I64, others: I64, weights: F64) -> None:
    for k in range(len(items)):
        add_one(item, weight, items[k], others[k], weights[k])


@compiled
def _renumber(item: I32, weight: F32, moved: I64) -> None:
    places = item.shape[1]
    for row in range(len(item)):
        kept = 0
        for k in range(places):
            if item[row, k] >= 0 and moved[item[row, k]] >= 0:
                item[row, kept], weight[row, kept] = moved[item[row, k]], weight[row, k]
                kept += 1
        for k in range(kept, places):
            item[row, k], weight[row, k] = NOBODY, 0.0
