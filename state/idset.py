"""A set of 64-bit hashes with a small tag each, asked and filled whole arrays at a time.

Open addressing as in ``state.hashset``, with less to it, since millions of ids must fit: ten bytes
a place, and from four tenths to five eighths of the places in use, so 16 to 25 bytes per id. A walk
goes through all places of a cache line before it takes a stride to another, because a line is what
memory gives at once; and the first is asked for some ids ahead. The number of lines is prime: any
stride meets every line, and sizes can be chosen so.

A full table is not rewritten at once: at millions of ids that would stop the stream for a second.
A new one is begun, and every addition carries some places of the old one over; until that is done
both are asked. What was carried may stay in the old one too, this being a set.

Ids leave by tag, all of some tags at once, in one pass over the tags.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import come_closer, compiled, inlined
from state.hashset import mixed

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]

MOST_TAGS: Final = 2**16
LEAST_HASH: Final = np.uint64(2)
"""Hashes below are marks of the table: 0 for a free place, 1 for one whose id has left."""

_REMOVED: Final = np.uint64(1)
_LOW: Final = np.uint64(2**32 - 1)
_HALF: Final = np.uint64(32)
_NO_PLACES: Final = np.zeros(0, dtype=np.uint64)
_LINE: Final = 8
"""Places of a line, as the processor's caches have it."""
_IN_LINE: Final = np.uint64(_LINE - 1)
_FULL: Final = 0.625
_AT_FIRST: Final = 0.4
_AHEAD: Final = 12
"""So many ids before it is looked for, the first place of an id's walk is asked for."""
_CARRY: Final = 16
"""Places carried over per id added, so that the old table is empty before the new one is full."""


class IdSet:
    """Hashes and their tags. All hashes must be ``LEAST_HASH`` or more.

    >>> ids = IdSet()
    >>> ids.add(np.array([5, 6, 5, 7], np.uint64), np.array([1, 1, 1, 2], np.uint16)).tolist()
    [True, True, False, True]
    >>> ids.drop(1, 2)
    >>> [each.tolist() for each in ids.listed()], len(ids)
    ([[7], [2]], 1)
    """

    def __init__(self) -> None:
        self._size = 0
        self._table = _Places(64)
        self._old: _Places | None = None
        self._carried = 0

    def __len__(self) -> int:
        return self._size

    def add(self, hashes: U64, tags: U16) -> Bools:
        """Add what is not in the set, with its tag.

        Args:
            hashes: uint64[n].
            tags: uint16[n].

        Returns:
            What was new, bool[n]; of equal hashes the first one.
        """
        self._make_room(len(hashes))
        new = self._table.add(hashes, tags, self._old)
        self._size += int(np.count_nonzero(new))
        return new

    def drop(self, first: int, stop: int) -> None:
        """Take out all ids with tags from ``first`` up to, not including, ``stop``."""
        self._size -= self._table.drop(first, stop, 0)
        if self._old is not None:
            self._size -= self._old.drop(first, stop, self._carried)

    def listed(self) -> tuple[U64, U16]:
        """All hashes and their tags, in no order."""
        hashes, tags = self._table.listed(slice(None))
        if self._old is not None:
            more, their = self._old.listed(slice(self._carried, None))
            hashes, tags = np.concatenate([hashes, more]), np.concatenate([tags, their])
        return hashes, tags

    def bytes_held(self) -> int:
        """Bytes of the tables, free places included."""
        old = 0 if self._old is None else self._old.nbytes
        return self._table.nbytes + old

    def _make_room(self, count: int) -> None:
        self._carry_over(_CARRY * count)
        if not self._table.takes(count):
            self._begin_new(count)

    def _begin_new(self, count: int) -> None:
        """Make room for ``count`` more; an old table that is still there is finished first."""
        if self._old is not None:
            self._carry_over(self._old.count)
        if not self._table.takes(count):
            self._old, self._carried = self._table, 0
            self._table = _Places(int((self._size + count) / _AT_FIRST))

    def _carry_over(self, places: int) -> None:
        if self._old is None:
            return
        stop = min(self._carried + places, self._old.count)
        self._table.put(*self._old.listed(slice(self._carried, stop)))
        self._carried = stop
        if stop == self._old.count:
            self._old = None


class _Places:
    """One table of at least ``count`` places; ``used`` of them hold an id or the mark of one."""

    def __init__(self, count: int) -> None:
        self.count = _LINE * _prime_from(-(-count // _LINE))
        self.used = 0
        self._hashes = np.zeros(self.count, dtype=np.uint64)
        self._tags = np.zeros(self.count, dtype=np.uint16)

    @property
    def nbytes(self) -> int:
        return self._hashes.nbytes + self._tags.nbytes

    def takes(self, count: int) -> bool:
        return self.used + count <= _FULL * self.count

    def put(self, hashes: U64, tags: U16) -> None:
        """Write new hashes to the first free places of their walks."""
        self.used += _put(self._hashes, self._tags, hashes, tags)

    def add(self, hashes: U64, tags: U16, old: _Places | None) -> Bools:
        """Write those that are neither here nor in an older table; which they were, bool[n]."""
        new = np.empty(len(hashes), dtype=np.bool_)
        others = _NO_PLACES if old is None else old._hashes
        self.used += _add(self._hashes, self._tags, others, hashes, tags, new)
        return new

    def drop(self, first: int, stop: int, counted_from: int) -> int:
        """Mark all with such a tag as removed; how many of them stood at ``counted_from`` or on."""
        places = np.flatnonzero((self._tags >= first) & (self._tags < stop))
        places = places[self._hashes[places] >= LEAST_HASH]
        self._hashes[places] = _REMOVED
        return int(np.count_nonzero(places >= counted_from))

    def listed(self, where: slice) -> tuple[U64, U16]:
        live = self._hashes[where] >= LEAST_HASH
        return self._hashes[where][live], self._tags[where][live]


@inlined
def _walk(word: Any, count: int) -> Any:
    """Where a walk starts, and its stride from line to line: from 1 line to all but one."""
    whole, lines = mixed(word), np.uint64(count // _LINE)
    line = ((whole >> _HALF) * lines) >> _HALF
    stride = (((whole & _LOW) * (lines - np.uint64(1))) >> _HALF) + np.uint64(1)
    return np.int64(line) * _LINE + np.int64(whole & _IN_LINE), np.int64(stride) * _LINE


@inlined
def _beyond(place: int, stride: int, steps: int, count: int) -> Any:
    """The place after so many steps: all of a line, from anywhere on, then those of another."""
    if steps % _LINE:
        return place - place % _LINE + (place + 1) % _LINE
    place += stride
    return place - count if place >= count else place


@inlined
def _ask_for(held: U64, tags: U16, word: Any) -> None:
    """Let the first place of a walk come closer."""
    place = _walk(word, len(held))[0]
    come_closer(held, place)
    come_closer(tags, place)


@inlined
def _holds(held: U64, word: Any, count: int) -> Any:
    (place, stride), steps = _walk(word, count), 0
    while held[place] != word and held[place] != 0:
        steps += 1
        place = _beyond(place, stride, steps, count)
    return held[place] == word


@compiled
def _put(held: U64, held_tags: U16, hashes: U64, tags: U16) -> int:
    """How many places were never used before."""
    count, used = len(held), 0
    for i in range(len(hashes)):
        if i + _AHEAD < len(hashes):
            _ask_for(held, held_tags, hashes[i + _AHEAD])
        (place, stride), steps = _walk(hashes[i], count), 0
        while held[place] >= LEAST_HASH:
            steps += 1
            place = _beyond(place, stride, steps, count)
        used += held[place] == 0
        held[place], held_tags[place] = hashes[i], tags[i]
    return used


@compiled
def _add(held: U64, held_tags: U16, old: U64, hashes: U64, tags: U16, new: Bools) -> int:
    """Put what neither table holds; how many places were never used before."""
    count, used = len(held), 0
    for i in range(len(hashes)):
        if i + _AHEAD < len(hashes):
            _ask_for(held, held_tags, hashes[i + _AHEAD])
            if len(old):
                come_closer(old, _walk(hashes[i + _AHEAD], len(old))[0])
        new[i] = False
        if len(old) and _holds(old, hashes[i], len(old)):
            continue
        (place, stride), steps = _walk(hashes[i], count), 0
        vacant = np.int64(-1)
        while held[place] != hashes[i] and held[place] != 0:
            if held[place] == _REMOVED and vacant < 0:
                vacant = place
            steps += 1
            place = _beyond(place, stride, steps, count)
        if held[place] == hashes[i]:
            continue
        if vacant < 0:
            vacant = place
            used += 1
        held[vacant], held_tags[vacant] = hashes[i], tags[i]
        new[i] = True
    return used


def _prime_from(least: int) -> int:
    """The smallest prime of at least ``least``, and at least 3."""
    candidate = max(least, 3) | 1
    while any(candidate % d == 0 for d in range(3, int(candidate**0.5) + 1, 2)):
        candidate += 2
    return candidate
