"""Distinct texts, numbered in the order of first sight.

The index of a lane's users, and of the texts of columns: devices, countries, items. A number means
something within one process only, so what is stored carries the texts. An index only grows, until
its owner asks it to ``keep`` those that are in use. The texts lie one after
another in one growing block. A hash table with open addressing finds them: a place holds a text's
number and half of its hash, so that a search compares bytes only where the answer is almost surely
yes. Texts are always compared whole. A place takes eight bytes, and from a quarter to a half of
them are in use.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.texts import I32, I64, U64, Texts, same_at
from events.words import PAD, words_of

U8 = NDArray[np.uint8]

_LEAST_PLACES: Final = 64
_LEAST_BYTES: Final = 1024
_HIGH: Final = np.uint64(0xFFFFFFFF00000000)
_LOW: Final = np.uint64(0xFFFFFFFF)


class TextIndex:
    """Text ↔ number, whole columns at a time; a number is never given twice.

    >>> index = TextIndex()
    >>> index.number(Texts.of(["ann", "bob", None, "ann"])).tolist()
    [0, 1, -1, 0]
    >>> index.find(Texts.of(["bob", "eve"])).tolist(), index[1], len(index)
    ([1, -1], 'bob', 2)
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._size = 0
        self._places = np.zeros(_LEAST_PLACES, dtype=np.uint64)
        self._block = np.zeros(_LEAST_BYTES, dtype=np.uint8)
        self._words = words_of(self._block)
        self._ends = np.zeros(_LEAST_PLACES, dtype=np.int64)  # text i ends at _ends[i + 1]
        self._asked: dict[str, int] = {}

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < self._size:
            raise IndexError(f"the number of a text must be below {self._size}, but is {number}")
        return self._block[self._ends[number] : self._ends[number + 1]].tobytes().decode()

    def texts(self, numbers: NDArray[np.integer]) -> Texts:
        """The texts of some numbers, absent for -1; they share the index's block as it is now."""
        known = np.maximum(numbers, 0)
        start = self._ends[known]
        length = (self._ends[known + 1] - start).astype(np.int32)
        return Texts(self._block, start, np.where(numbers < 0, np.int32(-1), length))

    def find(self, texts: Texts) -> I64:
        """The number of each text, int64[n]; -1 for an unknown one, and where there is none."""
        return self._find(texts)[0]

    def number_of(self, text: str) -> int:
        """The number of one text, -1 for an unknown one; for the few that are asked for often."""
        number = self._asked.get(text, -1)
        if number < 0 and (number := int(self.find(Texts.of([text]))[0])) >= 0:
            self._asked[text] = number
        return number

    def number(self, texts: Texts) -> I64:
        """The number of each text, int64[n]; unknown texts get the next ones. -1 without text."""
        out, some_are_new = self._find(texts)
        if some_are_new:
            unknown = np.flatnonzero((out < 0) & texts.present)
            out[unknown] = self._add(texts.take(unknown))
        return out

    def keep(self, numbers: I64) -> I64:
        """Forget all texts but those of some distinct numbers; those are counted from 0 on.

        Returns:
            The new number of each old one, int64[len(self)]; -1 for those that are forgotten.
        """
        moved = np.full(len(self), -1, dtype=np.int64)
        moved[numbers] = np.arange(len(numbers))
        kept = self.texts(numbers).packed()
        self._begin()
        self.number(kept)
        return moved

    def bytes_held(self) -> int:
        """Bytes of block, places and ends in use."""
        return int(self._ends[self._size]) + self._places.nbytes + 8 * self._size

    def _find(self, texts: Texts) -> tuple[I64, bool]:
        """The number of each text, int64[n], and whether there is a text among those without."""
        out = np.empty(len(texts), dtype=np.int64)
        words, start, length, hashes = texts.words, texts.start, texts.length, texts.hashes()
        held = self._places, self._words, self._ends
        return out, _find(words, start, length, hashes, *held, out)

    def _add(self, texts: Texts) -> I64:
        """Number texts that may be new; the same text may come more than once."""
        self._reserve(len(texts), int(texts.length.sum()))
        words, start, length, hashes = texts.words, texts.start, texts.length, texts.hashes()
        places, block, held, ends = self._places, self._block, self._words, self._ends
        out = np.empty(len(texts), dtype=np.int64)
        self._size = _add(words, start, length, hashes, places, block, held, ends, self._size, out)
        return out

    def _reserve(self, count: int, size: int) -> None:
        """Room for as many more texts, of so many bytes in all."""
        need = int(self._ends[self._size]) + size + len(PAD)
        if need > len(self._block):
            block = np.zeros(2 * need, dtype=np.uint8)
            block[: len(self._block)] = self._block
            self._block, self._words = block, words_of(block)
        if self._size + count >= len(self._ends):
            ends = np.zeros(2 * (self._size + count), dtype=np.int64)
            ends[: self._size + 1] = self._ends[: self._size + 1]
            self._ends = ends
        if 2 * (self._size + count) > len(self._places):
            old = self._places
            size = 1 << (4 * (self._size + count) - 1).bit_length()
            self._places = np.zeros(max(size // 2, 2 * len(old)), dtype=np.uint64)
            hashes = self.texts(np.arange(self._size)).hashes()
            _replace(hashes, self._places)


@compiled
def _find(
    words: U64,
    start: I64,
    length: I32,
    hashes: U64,
    places: U64,
    held: U64,
    ends: I64,
    out: I64,
) -> bool:
    """Whether any text is unknown."""
    mask = np.uint64(len(places) - 1)
    unknown = False
    for i in range(len(start)):
        out[i] = -1
        n = length[i]
        if n < 0:
            continue
        at = hashes[i] & mask
        while places[at] != 0:
            if (places[at] ^ hashes[i]) & _HIGH == 0:
                number = np.int64(places[at] & _LOW) - 1
                begin = ends[number]
                if ends[number + 1] - begin == n and same_at(words, start[i], held, begin, n):
                    out[i] = number
                    break
            at = (at + np.uint64(1)) & mask
        unknown |= out[i] < 0
    return unknown


@compiled
def _add(
    words: U64,
    start: I64,
    length: I32,
    hashes: U64,
    places: U64,
    block: U8,
    held: U64,
    ends: I64,
    size: int,
    out: I64,
) -> int:
    """As ``_find``, but what is missing is added; the number of texts after it."""
    mask = np.uint64(len(places) - 1)
    for i in range(len(start)):
        n = length[i]
        at = hashes[i] & mask
        found: Any = -1
        while places[at] != 0 and found < 0:
            if (places[at] ^ hashes[i]) & _HIGH == 0:
                number = np.int64(places[at] & _LOW) - 1
                begin = ends[number]
                if ends[number + 1] - begin == n and same_at(words, start[i], held, begin, n):
                    found = number
            at = (at + np.uint64(1)) & mask
        if found < 0:
            found = size
            size += 1
            places[at] = (hashes[i] & _HIGH) | np.uint64(size)
            begin = ends[found]
            for k in range(n):
                block[begin + k] = words[start[i] + k] & np.uint64(255)
            ends[size] = begin + n
        out[i] = found
    return size


@compiled
def _replace(hashes: U64, places: U64) -> None:
    """Write the numbers of all texts to an empty table."""
    mask = np.uint64(len(places) - 1)
    for i in range(len(hashes)):
        at = hashes[i] & mask
        while places[at] != 0:
            at = (at + np.uint64(1)) & mask
        places[at] = (hashes[i] & _HIGH) | np.uint64(i + 1)
