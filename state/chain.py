"""Which entries belong to an owner: doubly linked lists, kept in arrays and edited many at once.

Owners with few entries are gathered by walking all their lists in step, one round per entry of the
longest. Taking out entries that lie next to each other would need them one after the other; instead
every one of them first looks for its nearest neighbour that stays, by doubling its jumps, so that a
stretch of n entries takes log n rounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.table import Column, Table

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Chain:
    """The list of every owner.

    >>> chain = Chain()
    >>> chain.link(np.array([4, 4, 9, 4]), np.array([0, 1, 2, 3]))
    >>> chain.unlink(np.array([4, 4]), np.array([0, 1]))
    >>> slots, place, _ = chain.walk(np.array([9, 4]), rounds=10)
    >>> slots.tolist(), place.tolist(), chain.counts(np.array([4, 5])).tolist()
    ([2, 3], [0, 1], [1, 0])
    """

    def __init__(self) -> None:
        self._owners = Table([Column("head", "i4", -1), Column("count", "i4")])
        self._slots = Table(
            [Column("next", "i4", -1), Column("prev", "i4", -1), Column("leaving", "?")]
        )

    def link(self, owners: I64, slots: I64) -> None:
        """Put slots, each once and in no list yet, at the front of their owners' lists."""
        if len(slots) == 0:
            return
        _reach(self._owners, owners)
        _reach(self._slots, slots)
        order = np.argsort(owners, kind="stable")
        owner, slot = owners[order], slots[order]
        first = np.append(True, owner[1:] != owner[:-1])
        last = np.append(first[1:], True)
        head, next_, prev = self._owners["head"], self._slots["next"], self._slots["prev"]
        heads = head[owner[last]]
        next_[slot[~last]], next_[slot[last]] = slot[1:][~first[1:]], heads
        prev[slot[~first]], prev[slot[first]] = slot[:-1][~last[:-1]], -1
        old = heads >= 0
        prev[heads[old]] = slot[last][old]
        head[owner[first]] = slot[first]
        np.add.at(self._owners["count"], owner, 1)

    def unlink(self, owners: I64, slots: I64) -> None:
        """Take slots, each once, out of their owners' lists."""
        if len(slots) == 0:
            return
        leaving = self._slots["leaving"]
        leaving[slots] = True
        after, before = self._staying("next", slots), self._staying("prev", slots)
        leaving[slots] = False
        inner, front, back = before >= 0, before < 0, after >= 0
        self._slots["next"][before[inner]] = after[inner]
        self._owners["head"][owners[front]] = after[front]
        self._slots["prev"][after[back]] = before[back]
        np.subtract.at(self._owners["count"], owners, 1)

    def counts(self, owners: I64) -> I64:
        """How many entries each owner has, int64[n]."""
        return self._of_owners("count", owners, 0)

    def walk(self, owners: I64, rounds: int) -> tuple[I64, I64, I64]:
        """Gather the lists of distinct owners.

        Args:
            owners: int64[n].
            rounds: how far to walk; longer lists are given up.

        Returns:
            slots: the entries found, int64[k].
            place: position in ``owners`` of each one's owner, int64[k].
            long: positions of the owners that were given up; they have nothing in the first two.
        """
        slot = self._of_owners("head", owners, -1)
        place = np.arange(len(owners))
        slots, places = [], []
        for _ in range(rounds):
            on = slot >= 0
            slot, place = slot[on], place[on]
            if len(slot) == 0:
                break
            slots.append(slot)
            places.append(place)
            slot = self._slots["next"][slot].astype(np.int64)
        long = place[slot >= 0]
        nothing = np.empty(0, dtype=np.int64)
        found, whose = np.concatenate([nothing, *slots]), np.concatenate([nothing, *places])
        if len(long):
            short = ~np.isin(whose, long)
            found, whose = found[short], whose[short]
        return found, whose, long

    def bytes_held(self) -> int:
        """Bytes of all arrays, reserve included."""
        return self._owners.bytes_held() + self._slots.bytes_held()

    def _of_owners(self, column: str, owners: I64, missing: int) -> I64:
        known = owners < self._owners.size
        values: I64 = self._owners[column][np.where(known, owners, 0)].astype(np.int64)
        return np.where(known, values, missing)

    def _staying(self, direction: str, slots: I64) -> I64:
        """The nearest neighbour of each in one direction that is not leaving, -1 for none."""
        link, leaving = self._slots[direction], self._slots["leaving"]
        while True:
            to: I64 = link[slots].astype(np.int64)
            jump = (to >= 0) & leaving[to]
            if not jump.any():
                return to
            link[slots[jump]] = link[to[jump]]


def _reach(table: Table, index: I64) -> None:
    """Grow the table so that it has every index."""
    table.grow(max(0, int(index.max()) + 1 - table.size))
