"""Numbers of 64-bit hashes, asked whole arrays at a time.

Open addressing with at most half of the places in use; a place holds the hash and its number side
by side. Nothing is ever removed: who forgets some numbers builds a new index of the others. The
hash 0 stands for nothing and is never found; of two texts that share a hash, the first is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined

I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_LEAST: Final = 64
_NONE: Final = np.uint64(0)


class HashIndex:
    """Hash → number.

    >>> index = HashIndex()
    >>> index.add(np.array([50, 60, 50], np.uint64), np.array([0, 1, 2]))
    >>> index.find(np.array([50, 60, 70], np.uint64)).tolist(), len(index)
    ([0, 1, -1], 2)
    """

    def __init__(self) -> None:
        self._size = 0
        self._places = np.zeros((_LEAST, 2), dtype=np.uint64)

    def __len__(self) -> int:
        return self._size

    def find(self, hashes: U64) -> I64:
        """The number of each, in the shape of ``hashes``; -1 for an unknown one."""
        flat = np.ascontiguousarray(hashes).reshape(-1)
        out = np.empty(len(flat), dtype=np.int64)
        _find(self._places, flat, out)
        return out.reshape(hashes.shape)

    def add(self, hashes: U64, numbers: I64) -> None:
        """Give numbers, int64[n], to hashes, uint64[n]; one that has a number keeps it."""
        if 2 * (self._size + len(hashes)) > len(self._places):
            self._grow(self._size + len(hashes))
        self._size += _add(self._places, hashes, numbers)

    def bytes_held(self) -> int:
        """Bytes of all places."""
        return self._places.nbytes

    def _grow(self, count: int) -> None:
        old = self._places
        self._places = np.zeros((1 << (4 * count - 1).bit_length(), 2), dtype=np.uint64)
        _move(old, self._places)


def numbered(hashes: U64) -> tuple[I64, I64]:
    """Number hashes in the order in which each comes first, equal ones alike; 0 is one, too.

    Args:
        hashes: uint64[n].

    Returns:
        first: where each distinct one comes first, int64[u].
        which: the number of each, int64[n].

    >>> first, which = numbered(np.array([9, 0, 9, 5], np.uint64))
    >>> first.tolist(), which.tolist()
    ([0, 1, 3], [0, 1, 0, 2])
    """
    first, which = np.empty((2, len(hashes)), dtype=np.int64)
    places = np.zeros(1 << max(2 * len(hashes) - 1, 1).bit_length(), dtype=np.uint32)
    return first[: _number(places, hashes, first, which)], which


@inlined
def _first(hashed: Any, mask: Any) -> Any:
    """Where a search begins; the hash may be any number, so it is mixed once more."""
    mixed = hashed * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ (mixed >> np.uint64(32))) & mask


@compiled
def _find(places: U64, hashes: U64, out: I64) -> None:
    mask = np.uint64(len(places) - 1)
    for i in range(len(hashes)):
        at = _first(hashes[i], mask)
        out[i] = -1
        while places[at, 1] != _NONE:
            if places[at, 0] == hashes[i]:
                out[i] = np.int64(places[at, 1]) - 1
                break
            at = (at + np.uint64(1)) & mask


@compiled
def _add(places: U64, hashes: U64, numbers: I64) -> int:
    """How many are new."""
    mask, new = np.uint64(len(places) - 1), 0
    for i in range(len(hashes)):
        if hashes[i] == _NONE:
            continue
        at = _first(hashes[i], mask)
        while places[at, 1] != _NONE and places[at, 0] != hashes[i]:
            at = (at + np.uint64(1)) & mask
        if places[at, 1] == _NONE:
            new += 1
            places[at, 0], places[at, 1] = hashes[i], np.uint64(numbers[i] + 1)
    return new


@compiled
def _number(places: U32, hashes: U64, first: I64, which: I64) -> int:
    """How many are distinct; ``places`` hold numbers, one more than each."""
    mask, distinct = np.uint64(len(places) - 1), 0
    for i in range(len(hashes)):
        at = _first(hashes[i], mask)
        while places[at] and hashes[first[places[at] - 1]] != hashes[i]:
            at = (at + np.uint64(1)) & mask
        if not places[at]:
            first[distinct] = i
            distinct += 1
            places[at] = distinct
        which[i] = places[at] - 1
    return distinct


@compiled
def _move(old: U64, new: U64) -> None:
    mask = np.uint64(len(new) - 1)
    for i in range(len(old)):
        if old[i, 1] != _NONE:
            at = _first(old[i, 0], mask)
            while new[at, 1] != _NONE:
                at = (at + np.uint64(1)) & mask
            new[at, 0], new[at, 1] = old[i, 0], old[i, 1]
