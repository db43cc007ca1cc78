"""Which entries belong to an owner: doubly linked lists, kept in arrays and edited many at once.

A list also knows its length. So what is gathered has its room before it is walked, and a list that
is too long to walk is known without a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.table import Column, Table

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Chain:
    """The list of every owner.

    >>> chain = Chain()
    >>> chain.link(np.array([4, 4, 9, 4]), np.array([0, 1, 2, 3]))
    >>> chain.unlink(np.array([4, 4]), np.array([0, 1]))
    >>> slots, place, _ = chain.walk(np.array([9, 4]), longest=10)
    >>> slots.tolist(), place.tolist(), chain.counts(np.array([4, 5])).tolist()
    ([2, 3], [0, 1], [1, 0])
    """

    def __init__(self) -> None:
        self._owners = Table([Column("head", "i4", -1), Column("count", "i4")], together=True)
        self._slots = Table([Column("next", "i4", -1), Column("prev", "i4", -1)], together=True)

    def link(self, owners: I64, slots: I64) -> None:
        """Put slots, each once and in no list yet, at the front of their owners' lists."""
        if len(slots) == 0:
            return
        self._owners.reach(owners)
        self._slots.reach(slots)
        _link(owners, slots, *self._arrays())

    def unlink(self, owners: I64, slots: I64) -> None:
        """Take slots, each once, out of their owners' lists."""
        _unlink(owners, slots, *self._arrays())

    def counts(self, owners: I64) -> I64:
        """How many entries each owner has, int64[n]."""
        out = np.empty(len(owners), dtype=np.int64)
        _count(owners, self._owners["count"][: self._owners.size], out)
        return out

    def walk(self, owners: I64, longest: int) -> tuple[I64, I64, I64]:
        """Gather the lists of distinct owners.

        Args:
            owners: int64[n].
            longest: the list that is still walked; longer ones are given up.

        Returns:
            slots: the entries found, int64[k].
            place: position in ``owners`` of each one's owner, ascending, int64[k].
            long: positions of the owners that were given up; they have nothing in the first two.
        """
        counts = self.counts(owners)
        long = np.flatnonzero(counts > longest)
        counts[long] = 0
        slots, place = np.empty((2, int(counts.sum())), dtype=np.int64)
        _gather(owners, counts, self._owners["head"], self._slots["next"], slots, place)
        return slots, place, long

    def bytes_held(self) -> int:
        """Bytes of all arrays, reserve included."""
        return self._owners.bytes_held() + self._slots.bytes_held()

    def _arrays(self) -> tuple[I32, I32, I32, I32]:
        owners, slots = self._owners, self._slots
        return owners["head"], owners["count"], slots["next"], slots["prev"]


@compiled
def _link(owners: I64, slots: I64, head: I32, count: I32, next_: I32, prev: I32) -> None:
    """The last goes to the front first, so that slots of one owner lie in the order given."""
    for k in range(len(slots) - 1, -1, -1):
        owner, slot = owners[k], slots[k]
        first = head[owner]
        next_[slot], prev[slot] = first, -1
        if first >= 0:
            prev[first] = slot
        head[owner] = slot
        count[owner] += 1


@compiled
def _unlink(owners: I64, slots: I64, head: I32, count: I32, next_: I32, prev: I32) -> None:
    for k in range(len(slots)):
        owner, before, after = owners[k], prev[slots[k]], next_[slots[k]]
        if before >= 0:
            next_[before] = after
        else:
            head[owner] = after
        if after >= 0:
            prev[after] = before
        count[owner] -= 1


@compiled
def _count(owners: I64, count: I32, out: I64) -> None:
    for i in range(len(owners)):
        out[i] = count[owners[i]] if owners[i] < len(count) else 0


@compiled
def _gather(owners: I64, counts: I64, head: I32, next_: I32, slots: I64, place: I64) -> None:
    """Walk the first ``counts`` entries of each owner's list."""
    k = 0
    for i in range(len(owners)):
        if counts[i] == 0:
            continue
        slot = head[owners[i]]
        for _ in range(counts[i]):
            slots[k], place[k] = slot, i
            slot = next_[slot]
            k += 1
