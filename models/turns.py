"""Whose lists are made next, where there are more to be made than time for them.

Those who acted want a list at once. Lists that others have made stale, by a rule or by an item that
is not to be had any more, wait beside them (``models.relisting``) and get a share of the time.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.relisting import Relisting
from state.hash_index import numbered
from state.times import NEVER_MS, SECOND_MS

I64 = NDArray[np.int64]

_NEWEST: Final = 0.75
"""Share of the lists in a second that goes to the newest of those who wait; the oldest get the
rest, so that nobody waits for ever."""
_FOR_OTHERS: Final = 0.25
"""Share of the lists in a second that goes to users whose lists others have made stale."""
_SLICE: Final = 0.1
"""Share of the lists in a second that such users get in one commit, which others wait for."""


class Turns:
    """The users of one lane who wait for a list.

    Args:
        lists_per_s: how many may be made in a second of the wall clock.
        stale: who waits because of others.

    >>> turns = Turns(lists_per_s=4, stale=Relisting(20, "list.at", "recent.at"))
    >>> turns.want(np.array([3, 1, 3, 2, 1, 0, 7, 6]))
    >>> turns.take(0).tolist(), len(turns)  # the last three, and the one who has waited longest
    ([0, 3, 6, 7], 3)
    """

    def __init__(self, lists_per_s: int, stale: Relisting) -> None:
        self._per_s, self._stale = lists_per_s, stale
        self._waiting: list[I64] = []
        self._budget, self._filled_ms = float(lists_per_s), NEVER_MS

    def __len__(self) -> int:
        """How many wait, some perhaps counted twice."""
        return sum(map(len, self._waiting)) + len(self._stale)

    def want(self, rows: I64) -> None:
        """These users have acted, in this order; int64[n]."""
        self._waiting.append(rows)

    def restored(self, rows: I64) -> None:
        """These users wait, and nobody else who acted."""
        self._waiting = [rows]

    def take(self, wall_ms: int | None) -> I64:
        """Those whose turn it is, ascending; they wait no more.

        Args:
            wall_ms: the wall clock; None where there is no hurry, and all may be made.
        """
        if not len(self):
            return np.empty(0, dtype=np.int64)
        most = self._allowed(wall_ms)
        acted = self._acted(most - min(len(self._stale), int(most * _FOR_OTHERS)))
        slice_ = most if wall_ms is None else max(int(self._per_s * _SLICE), 1)
        others = self._stale.take(min(most - len(acted), slice_))
        self._budget -= len(acted) + len(others)
        return np.union1d(acted, others) if len(others) else acted

    def _acted(self, most: int) -> I64:
        """Those of the users who acted whose turn it is.

        The newest are those who acted last, the oldest those who have waited longest since their
        last list, however often they have acted again.
        """
        if not self._waiting:
            return np.empty(0, dtype=np.int64)
        asked = np.concatenate(self._waiting)
        self._waiting.clear()
        first, which = numbered(asked.view(np.uint64))  # users in the order they first asked
        if len(first) <= most:
            return np.sort(asked[first])
        last = np.empty_like(first)
        last[which] = np.arange(len(asked))
        chosen = np.zeros(len(first), dtype=np.bool_)
        newest = int(most * _NEWEST)
        chosen[np.argpartition(-last, newest)[:newest]] = True
        chosen[np.flatnonzero(~chosen)[: most - newest]] = True
        waits = np.zeros(len(asked), dtype=np.bool_)
        waits[first[~chosen]] = waits[last[~chosen]] = True
        self._waiting.append(asked[waits])
        return np.sort(asked[first[chosen]])

    def _allowed(self, wall_ms: int | None) -> int:
        """How many lists may be made now."""
        if wall_ms is None:
            return 2**62
        if self._filled_ms != NEVER_MS:
            passed_ms = max(wall_ms - self._filled_ms, 0)
            self._budget = min(self._budget + passed_ms * self._per_s / SECOND_MS, self._per_s)
        self._filled_ms = wall_ms
        return max(int(self._budget), 0)
