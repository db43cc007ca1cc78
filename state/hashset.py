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

from events.compiled import compiled, inlined

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_EMPTY: Final = -1
_REMOVED: Final = -2
_OWNER_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)
_SMALLEST: Final = 64


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

    def find(self, owners: I32, keys: U64) -> I32:
        """The slot of each pair, int32[n]; -1 where it is not in the index.

        Args:
            owners: int32[n], none negative.
            keys: uint64[n]. A pair may occur more than once.
        """
        return self._slots(self._search(owners, keys))

    def insert(self, owners: I32, keys: U64, slots: I32) -> None:
        """Add pairs that are not in the index, each once per call.

        Args:
            owners: int32[n], none negative.
            keys: uint64[n].
            slots: int32[n], none negative.
        """
        if len(owners) == 0:
            return
        if min(int(owners.min()), int(slots.min())) < 0:
            raise ValueError("owners and slots must not be negative; look missing rows up first")
        entries = np.empty((len(owners), 2), dtype=np.int64)
        entries[:, 0] = keys.view(np.int64)
        entries[:, 1] = (owners.astype(np.int64) << 32) | slots
        if 2 * (self._live + self._marks + len(entries)) > len(self._places):
            self._rebuild(self._live + len(entries))
        self._place(entries)

    def remove(self, owners: I32, keys: U64) -> I32:
        """Take pairs out, each at most once per call; the slots they had, int32[n], -1 if none."""
        places = self._search(owners, keys)
        slots = self._slots(places)
        gone = places[places >= 0]
        self._places[gone, 1] = _REMOVED
        self._live -= len(gone)
        self._marks += len(gone)
        return slots

    def bytes_held(self) -> int:
        """Bytes of the table, free places included."""
        return self._places.nbytes

    def _slots(self, places: I64) -> I32:
        slots: I32 = self._places[places, 1].astype(np.int32)  # the low half of the word
        slots[places < 0] = -1
        return slots

    def _search(self, owners: I32, keys: U64) -> I64:
        """The place of each pair, int64[n]; -1 where it is missing."""
        found = np.empty(len(keys), dtype=np.int64)
        _search(self._places, owners, keys, found)
        return found

    def _place(self, entries: I64) -> None:
        """Write entries (int64[n, 2]) to the first free place of their walks."""
        self._live += len(entries)
        self._marks -= _place(self._places, entries)

    def _rebuild(self, expected: int) -> None:
        """Write the table anew without marks, with room for a third more than ``expected``."""
        entries = self._places[self._places[:, 1] >= 0]
        self._places = _blank(max(_SMALLEST, 1 << (3 * expected - 1).bit_length()))
        self._live = self._marks = 0
        self._place(entries)


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


@compiled
def _search(places: I64, owners: I32, keys: U64, found: I64) -> None:
    count = len(places)
    for i in range(len(keys)):
        found[i] = -1
        key, owner = np.int64(keys[i]), np.int64(owners[i])
        place, stride = _walk(owner, keys[i], count)
        while places[place, 1] != _EMPTY:
            if places[place, 0] == key and places[place, 1] >> 32 == owner:
                found[i] = place
                break
            place = (place + stride) & (count - 1)


@compiled
def _place(places: I64, entries: I64) -> int:
    """How many marks of removed entries were written over."""
    count, marks = len(places), 0
    for i in range(len(entries)):
        place, stride = _walk(entries[i, 1] >> 32, entries[i, 0], count)
        while places[place, 1] >= 0:
            place = (place + stride) & (count - 1)
        marks += places[place, 1] == _REMOVED
        places[place, 0], places[place, 1] = entries[i, 0], entries[i, 1]
    return marks


def _blank(places: int) -> I64:
    return np.full((places, 2), _EMPTY, dtype=np.int64)
