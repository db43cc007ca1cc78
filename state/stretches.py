"""Stretches of activity: intervals of time with what happened in them, united where they touch.

Uniting is the whole of session arithmetic. It is done for many owners at once by putting all their
intervals on one line, one owner's time after the other's, each far enough from the next: then a
single running maximum of the ends tells where a new stretch begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Stretches:
    """Intervals of several owners, n of them.

    Attributes:
        owner: whose, int64[n], none negative.
        start, end: first and last event, int64[n].
        views, carts: product views and additions to the cart in it, int64[n].
    """

    owner: I64
    start: I64
    end: I64
    views: I64
    carts: I64

    def __len__(self) -> int:
        return len(self.owner)

    def __add__(self, other: Stretches) -> Stretches:
        """Both one after the other."""
        return Stretches(
            np.concatenate([self.owner, other.owner]),
            np.concatenate([self.start, other.start]),
            np.concatenate([self.end, other.end]),
            np.concatenate([self.views, other.views]),
            np.concatenate([self.carts, other.carts]),
        )

    def __getitem__(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Stretches:
        """Those at ``which``."""
        return Stretches(
            self.owner[which],
            self.start[which],
            self.end[which],
            self.views[which],
            self.carts[which],
        )

    def moved_to(self, owner_of: I64) -> Stretches:
        """The same with ``owner_of[owner]`` as the owner."""
        return Stretches(owner_of[self.owner], self.start, self.end, self.views, self.carts)

    def joined(self, starts: I64) -> Stretches:
        """One stretch from each of ``starts`` (int64[k]) up to the next, all of one owner."""
        return Stretches(
            self.owner[starts],
            np.minimum.reduceat(self.start, starts),
            np.maximum.reduceat(self.end, starts),
            np.add.reduceat(self.views, starts),
            np.add.reduceat(self.carts, starts),
        )

    def united(self, gap_ms: int) -> Stretches:
        """An owner's stretches with no more than ``gap_ms`` between them made one.

        Sorted by owner and start. Repeating it, or doing it in parts, changes nothing.

        >>> owner, none = np.array([1, 0, 1]), np.zeros(3, dtype=np.int64)
        >>> start, end = np.array([90, 5, 60]), np.array([95, 9, 80])
        >>> whole = Stretches(owner, start, end, np.array([1, 1, 1]), none).united(10)
        >>> whole.owner.tolist(), whole.start.tolist(), whole.end.tolist(), whole.views.tolist()
        ([0, 1], [5, 60], [9, 95], [1, 2])
        """
        if len(self) == 0:
            return self
        s = self[np.lexsort((self.start, self.owner))]
        earliest = s.start.min()
        line = s.owner * (s.end.max() - earliest + gap_ms + 1) - earliest
        reached = np.maximum.accumulate(line + s.end)
        first = np.ones(len(s), dtype=np.bool_)
        first[1:] = line[1:] + s.start[1:] > reached[:-1] + gap_ms
        return s.joined(np.flatnonzero(first))
