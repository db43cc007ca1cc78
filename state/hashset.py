"""An index from (owner, key) to a slot number that is asked whole arrays at a time.

A dict answers one key per call, in Python; this answers thousands per call. It is a hash table with
open addressing: an entry sits at the first free place of its own walk over the places, and a search
follows the same walk until it meets the entry or a place that never held one. The stride of a walk
comes from the hash as well: with a stride of one, walks clump and the longest is several times as
long.

An entry is two words side by side, the key and ``owner << 32 | slot``, so that one cache line
answers one step, and both key and owner are compared whole. What was removed leaves a mark that
searches walk over and inserts fill again. A table whose entries and marks take half the places is
written anew, without marks, and larger if it needs to be. 32 to 64 bytes per entry while growing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined, step

Ints = NDArray[np.integer]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_EMPTY: Final = -1
_REMOVED: Final = -2
_OWNER_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)
_SMALLEST: Final = 64
_BOUND: Final = 1 << 31
_LOW: Final = _BOUND - 1


class KeyIndex:
    """(owner, key) → slot, for arrays of owners and keys.

    >>> index = KeyIndex()
    >>> owners, keys = np.array([1, 1, 2], np.int32), np.array([50, 60, 50], np.uint64)
    >>> index.insert(owners, keys, np.array([7, 8, 9], np.int32))
    >>> index.find(np.array([2, 2], np.int32), np.array([50, 60], np.uint64)).tolist()
    [9, -1]
    >>> index.remove(owners[:1], keys[:1]).tolist(), len(index)
    ([7], 2)
    """

    def __init__(self) -> None:
        self._live = 0
        self._marks = 0
        self._places = _blank(_SMALLEST)

    def __len__(self) -> int:
        return self._live

    def find(self, owners: Ints, keys: U64) -> I64:
        """The slot of each pair, int64[n]; -1 where it is not in the index.

        Args:
            owners: int[n], none negative.
            keys: uint64[n]. A pair may occur more than once.
        """
        slots = np.empty(len(keys), dtype=np.int64)
        _find(self._places, owners, keys, slots)
        return slots

    def insert(self, owners: Ints, keys: U64, slots: Ints) -> None:
        """Add pairs that are not in the index, each once per call.

        Args:
            owners: int[n], none negative.
            keys: uint64[n].
            slots: int[n], none negative; as owners, they fit int32.
        """
        if not _fit(owners, slots):
            raise ValueError(
                "owners and slots must not be negative and must fit int32; "
                "look missing rows up first"
            )
        self._make_room(len(owners))
        self._marks -= _insert(self._places, owners, keys, slots)
        self._live += len(owners)

    def number(self, owners: Ints, keys: U64, free: I64, size: int) -> tuple[I64, I64]:
        """Find pairs, or add them with the next slots: those that are free, then from ``size`` on.

        Args:
            owners: int[n], none negative; they fit int32.
            keys: uint64[n]. A pair may occur more than once.
            free: slots, int64[k].
            size: the first slot that was never used.

        Returns:
            slots: of each pair, int64[n].
            first: where each pair that was added comes first, int64[u].
        """
        slots, first = np.empty((2, len(keys)), dtype=np.int64)
        if not _fit(owners, owners):
            raise ValueError("owners must not be negative and must fit int32")
        self._make_room(len(keys))
        added, marks = _number(self._places, owners, keys, free, size, slots, first)
        self._marks -= marks
        self._live += added
        return slots, first[:added]

    def remove(self, owners: Ints, keys: U64) -> I64:
        """Take pairs out, each at most once per call; the slots they had, int64[n], -1 if none."""
        slots = np.empty(len(keys), dtype=np.int64)
        gone = _remove(self._places, owners, keys, slots)
        self._live -= gone
        self._marks += gone
        return slots

    def bytes_held(self) -> int:
        """Bytes of the table, free places included."""
        return self._places.nbytes

    def _make_room(self, count: int) -> None:
        if 2 * (self._live + self._marks + count) > len(self._places):
            self._rebuild(self._live + count)

    def _rebuild(self, expected: int) -> None:
        """Write the table anew without marks, with room for a third more than ``expected``."""
        old = self._places
        self._places = _blank(max(_SMALLEST, 1 << (3 * expected - 1).bit_length()))
        self._marks = 0
        _carry_over(old, self._places)


@inlined
def mixed(word: Any) -> Any:
    """Spread every bit of a word over the whole word; different words stay so."""
    word ^= word >> np.uint64(32)
    word *= _MIX_FACTOR
    return word ^ (word >> np.uint64(32))


@inlined
def _walk(owner: Any, key: Any, count: int) -> Any:
    """Where a pair's walk starts and its odd stride, so that it meets every place."""
    whole = mixed(np.uint64(key) ^ (np.uint64(owner) * _OWNER_FACTOR))
    mask = np.uint64(count - 1)
    return np.int64(whole & mask), np.int64(((whole >> np.uint64(32)) & mask) | np.uint64(1))


@step
def _place_of(places: I64, owner: Any, key: Any) -> Any:
    """The place of a pair; -1 where it is missing."""
    place, stride = _walk(owner, key, len(places))
    while places[place, 1] != _EMPTY:
        if places[place, 0] == np.int64(key) and places[place, 1] >> 32 == owner:
            return place
        place = (place + stride) & (len(places) - 1)
    return -1


@step
def _put(places: I64, owner: Any, key: Any, slot: Any) -> Any:
    """Write a pair to the first free place of its walk; whether that was a removed one's."""
    place, stride = _walk(owner, key, len(places))
    while places[place, 1] >= 0:
        place = (place + stride) & (len(places) - 1)
    was_mark = places[place, 1] == _REMOVED
    places[place, 0], places[place, 1] = np.int64(key), (owner << 32) | slot
    return was_mark


@compiled
def _fit(owners: Ints, slots: Ints) -> bool:
    fits = True
    for i in range(len(owners)):
        fits &= 0 <= owners[i] < _BOUND and 0 <= slots[i] < _BOUND
    return fits


@compiled
def _find(places: I64, owners: Ints, keys: U64, slots: I64) -> None:
    for i in range(len(keys)):
        place = _place_of(places, np.int64(owners[i]), keys[i])
        slots[i] = places[place, 1] & _LOW if place >= 0 else -1


@compiled
def _insert(places: I64, owners: Ints, keys: U64, slots: Ints) -> int:
    """How many marks of removed entries were written over."""
    marks = 0
    for i in range(len(keys)):
        marks += _put(places, np.int64(owners[i]), keys[i], np.int64(slots[i]))
    return marks


@compiled
def _number(
    places: I64, owners: Ints, keys: U64, free: I64, size: int, slots: I64, first: I64
) -> tuple[int, int]:
    """How many pairs were added, and how many marks were written over."""
    added = marks = 0
    for i in range(len(keys)):
        owner = np.int64(owners[i])
        place = _place_of(places, owner, keys[i])
        if place >= 0:
            slots[i] = places[place, 1] & _LOW
            continue
        slots[i] = free[added] if added < len(free) else size + added - len(free)
        marks += _put(places, owner, keys[i], slots[i])
        first[added] = i
        added += 1
    return added, marks


@compiled
def _remove(places: I64, owners: Ints, keys: U64, slots: I64) -> int:
    """How many there were, and their slots."""
    gone = 0
    for i in range(len(keys)):
        slots[i] = -1
        place = _place_of(places, np.int64(owners[i]), keys[i])
        if place >= 0:
            slots[i] = places[place, 1] & _LOW
            places[place, 1] = _REMOVED
            gone += 1
    return gone


@compiled
def _carry_over(old: I64, places: I64) -> None:
    for i in range(len(old)):
        if old[i, 1] >= 0:
            _put(places, old[i, 1] >> 32, np.uint64(old[i, 0]), old[i, 1] & _LOW)


def _blank(places: int) -> I64:
    return np.full((places, 2), _EMPTY, dtype=np.int64)
