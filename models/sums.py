"""What is added up for items beside those of a user: sums, and the own item behind most of each.

Sums stand on a board (``models.board``). ``add_near`` has ``add_amount`` written out in its own
loop: to call it there costs a quarter of the time that a list takes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import step
from models.board import spot_of

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

HIDDEN: Final = np.float32(-1.0)
"""The sum of what is never recommended, below every other."""

NEAR: Final = np.dtype([("row", "i4"), ("sum", "f4"), ("best", "f4"), ("because", "i4")])
"""A neighbour: its amounts summed up, the largest of them and the user's item that it is beside."""


@step
def add_amount(
    row: int, amount: Any, because: int, blocked: Bools, slots: U64, near: Any, given: int
) -> int:
    """Add an amount, float32 above 0, to what speaks for an item; how many spots are given then."""
    spot = spot_of(slots, near, row, given)
    if spot == given:
        given += 1
        near[spot].sum = HIDDEN if blocked[row] else np.float32(0.0)
        near[spot].best = 0.0
    if near[spot].sum >= 0.0:
        near[spot].sum += amount
        if amount > near[spot].best:
            near[spot].best, near[spot].because = amount, because
    return given


@step
def add_near(
    own: I64,
    fades: F64,
    damping: float,
    popularity: F64,
    item: I32,
    weight: F32,
    blocked: Bools,
    slots: U64,
    near: Any,
    given: int,
) -> int:
    """Sum up the neighbours of some items; how many spots are given then."""
    for back in range(min(len(fades), len(own))):
        row = own[back]
        if row < 0:  # the table has forgotten it, or never knew it
            continue
        counts = fades[back]
        if damping > 0.0:
            counts /= (popularity[row] + 1e-9) ** damping
        for k in range(item.shape[1]):
            other = item[row, k]
            if other < 0:
                break
            amount = np.float32(counts * weight[row, k])
            if amount <= 0.0:
                continue
            spot = spot_of(slots, near, other, given)
            if spot == given:
                given += 1
                near[spot].sum = HIDDEN if blocked[other] else np.float32(0.0)
                near[spot].best = 0.0
            if near[spot].sum < 0.0:
                continue
            near[spot].sum += amount
            if amount > near[spot].best:
                near[spot].best, near[spot].because = amount, row
    return given
