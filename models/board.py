"""A small board of items: a spot for each, found by its row in a table that fits the first cache.

A list touches some hundred items out of perhaps a million. What is added up for them in arrays over
all items costs a slow read each time; on a board it stands close together. Spots are records whose
field ``row`` says whose they are, given one after another; how many are given, the caller counts.
Spots are found by open addressing; a slot holds the round of use and, below it, the spot, so that
emptying a board only begins another round.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import step

U64 = NDArray[np.uint64]

_ROOM: Final = 4
"""Slots for every spot, so that two items seldom want the same."""
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
"""Two to the 64 by the golden section: rows that are neighbours get slots far from each other."""
_LOWER: Final = np.uint64(0xFFFFFFFF)
_UPPER: Final = np.uint64(32)


def new_slots(spots: int) -> U64:
    """An empty table for so many spots: a power of two of slots, and behind them the round."""
    slots = np.zeros((1 << max(spots * _ROOM - 1, 1).bit_length()) + 1, dtype=np.uint64)
    slots[-1] = 1
    return slots


@step
def clear(slots: U64) -> None:
    """Forget all spots."""
    slots[-1] = (slots[-1] + np.uint64(1)) & _LOWER
    if slots[-1] == 0:  # after four thousand million rounds they begin again
        slots[:] = 0
        slots[-1] = 1


@step
def spot_of(slots: U64, spots: Any, row: int, given: int) -> int:
    """The spot of an item; the next one, ``given``, if it has none: then that is its own."""
    mask = np.uint64(len(slots) - 2)
    at = ((np.uint64(row) * _SPREAD) >> _UPPER) & mask
    now = slots[-1]
    while True:
        held = slots[at]
        if held >> _UPPER != now:
            slots[at] = (now << _UPPER) | np.uint64(given)
            spots[given].row = row
            return given
        spot = int(np.int64(held & _LOWER))
        if spots[spot].row == row:
            return spot
        at = (at + np.uint64(1)) & mask


@step
def find_spot(slots: U64, spots: Any, row: int, given: int) -> int:
    """The spot of an item; ``given`` if it has none, and then it gets none."""
    mask = np.uint64(len(slots) - 2)
    at = ((np.uint64(row) * _SPREAD) >> _UPPER) & mask
    now = slots[-1]
    while slots[at] >> _UPPER == now:
        spot = int(np.int64(slots[at] & _LOWER))
        if spots[spot].row == row:
            return spot
        at = (at + np.uint64(1)) & mask
    return given
