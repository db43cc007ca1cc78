"""Candidates as a value: for each of many users a list of items, and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

UNRANKED: Final = 255
"""The rank of an item in a source that does not name it."""


@dataclass(slots=True, frozen=True)
class Candidates:
    """Lists of n users, of at most m items each, the best first.

    Attributes:
        item: rows of the item table, int32[n, m]; -1 behind the end of a list.
        score: fused, falling, float32[n, m].
        source: which source says most for it, place in ``SOURCES``, uint8[n, m].
        because: the user's item that it goes with, a row; -1 for none, int32[n, m].
        ranks: by source from 0, ``UNRANKED`` where it does not name the item, uint8[n, m, sources].
        count: items of each list, int64[n].
    """

    item: I32
    score: F32
    source: U8
    because: I32
    ranks: U8
    count: I64

    def ordered(self, values: F64, length: int) -> Candidates:
        """Each list by other values, float64[n, m], falling, cut to a length."""
        held = np.arange(self.item.shape[1]) < self.count[:, None]
        order = np.argsort(np.where(held, -values, np.inf), axis=1, kind="stable")[:, :length]
        return Candidates(
            np.take_along_axis(self.item, order, 1),
            np.take_along_axis(values, order, 1).astype(np.float32),
            np.take_along_axis(self.source, order, 1),
            np.take_along_axis(self.because, order, 1),
            np.take_along_axis(self.ranks, order[..., None], 1),
            np.minimum(self.count, length),
        )

    def take(self, which: Bools) -> Candidates:
        """Some of the lists, bool[n]."""
        return Candidates(
            *(self.item[which], self.score[which], self.source[which]),
            *(self.because[which], self.ranks[which], self.count[which]),
        )

    def of(self, users: I64, items: I64) -> Candidates:
        """For some pairs of a list and an item, lists of that item alone, int64[k] each.

        An item that its list does not hold has no ranks and the score 0; an unknown one, -1, stays
        one.
        """
        match = self.item[users] == items[:, None]
        place = match.argmax(axis=1)
        found = match.any(axis=1) & (items >= 0)
        at = users, place
        return Candidates(
            items.astype(np.int32)[:, None],
            np.where(found, self.score[at], 0.0).astype(np.float32)[:, None],
            self.source[at][:, None],
            self.because[at][:, None],
            np.where(found[:, None], self.ranks[at], UNRANKED).astype(np.uint8)[:, None],
            np.ones(len(users), dtype=np.int64),
        )
