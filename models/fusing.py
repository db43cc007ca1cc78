"""Fusing what sources say: neighbours become ranks, and ranks add up, on boards of one user.

A board of neighbours is used by one source after another; the board of candidates stands until the
user's list is made. The first spots of both belong to what is not to be recommended.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import step
from models.board import clear, find_spot, spot_of
from models.candidates import UNRANKED
from models.item_plan import SOURCES
from models.sums import HIDDEN

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

FUSED: Final = np.dtype(
    [
        *(("row", "i4"), ("score", "f4"), ("most", "f4"), ("because", "i4")),
        *(("source", "u1"), ("ranks", "u1", (len(SOURCES),))),
    ]
)
"""A candidate: what all sources say for it, what the one says that says most, and its ranks."""


@step
def rank(near: Any, given: int, order: I32, sums: F32) -> int:
    """The spots with the largest sums, falling, of equals the first, in ``order``; how many."""
    n = 0
    for spot in range(given):
        value = near[spot].sum
        if value < 0.0:
            continue
        if n < len(order):
            at = n
            n += 1
        elif value > sums[n - 1]:
            at = n - 1
        else:
            continue
        while at > 0 and sums[at - 1] < value:
            order[at], sums[at] = order[at - 1], sums[at - 1]
            at -= 1
        order[at], sums[at] = spot, value
    return n


@step
def candidate_of(row: int, slots: U64, fused: Any, given: int) -> int:
    """The spot of a candidate, for which nothing was said yet if it is ``given``."""
    spot = spot_of(slots, fused, row, given)
    if spot == given:
        fused[spot].score, fused[spot].most, fused[spot].because = 0.0, 0.0, -1
        fused[spot].source = 0
        fused[spot].ranks[:] = UNRANKED
    return spot


@step
def speak(spot: int, rank: int, source: int, because: int, says: float, fused: Any) -> None:
    """Let a source speak for a candidate."""
    fused[spot].ranks[source] = rank
    fused[spot].score += np.float32(says)
    if np.float32(says) > fused[spot].most:
        fused[spot].most, fused[spot].source = says, source
        fused[spot].because = because


@step
def fuse_near(
    n: int, order: I32, near: Any, source: int, weight: float, offset: float, slots: U64,
    fused: Any, given: int,
) -> int:  # fmt: skip
    """Let neighbours in order speak; how many spots are given then."""
    for rank in range(n):
        row, because = near[order[rank]].row, near[order[rank]].because
        spot = candidate_of(row, slots, fused, given)
        speak(spot, rank, source, because, weight / (offset + rank + 1.0), fused)
        given = max(given, spot + 1)
    return given


@step
def fuse_own(
    own: I64, source: int, weight: float, offset: float, blocked: Bools, slots: U64, fused: Any,
    hidden: int, given: int,
) -> int:  # fmt: skip
    """Let a user's own items speak for themselves, but for the first; how many spots are given."""
    rank: Any = np.int64(0)  # no literal: a step is compiled anew for each
    for k in range(1, len(own)):
        row = own[k]
        if row < 0:
            continue
        if not blocked[row]:
            spot = candidate_of(row, slots, fused, given)
            if spot >= hidden:
                speak(spot, rank, source, row, weight / (offset + rank + 1.0), fused)
                given = max(given, spot + 1)
        rank += 1
    return given


@step
def fuse_listed(
    rows: I32, most: int, source: int, because: int, weight: float, offset: float, blocked: Bools,
    slots: U64, fused: Any, hidden: int, given: int, is_full: bool,
) -> int:  # fmt: skip
    """Let items that are in order already speak; how many spots are given then.

    Where the list is full whatever is said, they speak only for who is a candidate already.
    """
    rank: Any = np.int64(0)  # no literal: a step is compiled anew for each
    for k in range(len(rows)):
        row = rows[k]
        if rank >= most or row < 0:
            break
        if blocked[row]:
            continue
        if is_full:
            spot = find_spot(slots, fused, row, given)
        else:
            spot = candidate_of(row, slots, fused, given)
        if spot < hidden:
            continue
        if spot < given or not is_full:
            speak(spot, rank, source, because, weight / (offset + rank + 1.0), fused)
            given = max(given, spot + 1)
        rank += 1
    return given


@step
def hide(own: I64, count: int, slots: U64, fused: Any, hidden: int) -> int:
    """Give the first spots to what is not to be recommended; how many are given then."""
    for k in range(count):
        if own[k] >= 0 and spot_of(slots, fused, own[k], hidden) == hidden:
            hidden += 1
    return hidden


@step
def begin_near(slots: U64, near: Any, fused: Any, hidden: int) -> None:
    """Forget all neighbours but what is hidden."""
    clear(slots)
    for spot in range(hidden):
        spot_of(slots, near, fused[spot].row, spot)
        near[spot].sum = HIDDEN
