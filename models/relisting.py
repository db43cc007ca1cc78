"""Whose lists must be made anew although they did nothing: what a list holds is not to be shown.

For every user 32 bits of each item of their list are kept. When items may not be recommended any
more, one pass over all users finds whose lists hold them; in two billion comparisons about one is
taken for another, and makes a list anew for nothing. Those that were active last come first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.table import Column, Table
from state.times import NEVER_MS

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_BITS: Final = 22
"""Of a hash, by which most lists are passed over at the first look."""


class Relisting:
    """The users of one lane whose lists wait for their turn.

    Args:
        length: items in a list.
        listed: the column with the time of each user's list.
        active: the column with the times of what each user did, the last first.
    """

    def __init__(self, length: int, listed: str, active: str) -> None:
        self._length, self._listed, self._active = length, listed, active
        self._items = "list.items"
        self._waiting = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._waiting)

    def columns(self) -> list[Column]:
        """The items of each user's list."""
        return [Column(self._items, "u4", 0, (self._length,))]

    def note_lists(self, table: Table, rows: I64, hashes: U64) -> None:
        """Some users have new lists, of items uint64[n, m]; 0 behind their ends."""
        held = np.zeros((len(rows), self._length), dtype=np.uint32)
        held[:, : hashes.shape[1]] = np.where(hashes == 0, 0, _short(hashes))
        table[self._items][rows] = held

    def want_without(self, table: Table, items: U64, since_ms: int) -> None:
        """Lists that were made since a time and hold any of these items must be made anew."""
        if not len(items) or not table.size:
            return
        wanted = np.sort(_short(items))
        hit = np.zeros(table.size, dtype=np.bool_)
        _find(table[self._items][: table.size], _seen(wanted), wanted, hit)
        self._add(table, hit & self._in_use(table, since_ms))

    def want_all(self, table: Table, since_ms: int) -> None:
        """All lists that were made since a time must be made anew."""
        self._add(table, self._in_use(table, since_ms))

    def take(self, most: int) -> I64:
        """The users whose turn it is, at most so many; they wait no more."""
        out, self._waiting = self._waiting[:most], self._waiting[most:]
        return out

    def _in_use(self, table: Table, since_ms: int) -> Bools:
        listed = table[self._listed][: table.size]
        out: Bools = (listed != NEVER_MS) & (listed >= since_ms)
        return out

    def _add(self, table: Table, wanted: Bools) -> None:
        wanted = wanted.copy()
        wanted[self._waiting] = True
        rows = np.flatnonzero(wanted)
        active_ms = table[self._active][rows, 0]
        self._waiting = rows[np.argsort(-active_ms, kind="stable")]


def _short(hashes: U64) -> U32:
    """32 bits of each, none of them 0, which stands for no item."""
    low = (hashes & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return np.maximum(low, np.uint32(1))


def _seen(wanted: U32) -> Bools:
    """Which low bits occur."""
    out = np.zeros(1 << _BITS, dtype=np.bool_)
    out[wanted & np.uint32((1 << _BITS) - 1)] = True
    return out


@compiled
def _find(held: U32, seen: Bools, wanted: U32, hit: Bools) -> None:
    """Which lists hold any of the wanted items, which are sorted."""
    mask = np.uint32((1 << _BITS) - 1)
    for i in range(len(held)):
        for k in range(held.shape[1]):
            item = held[i, k]
            if item == 0:
                break
            if seen[item & mask]:
                at = np.searchsorted(wanted, item)
                if at < len(wanted) and wanted[at] == item:
                    hit[i] = True
                    break
