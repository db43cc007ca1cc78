"""Distinct texts, numbered in the order of first sight.

The index of a lane's users, and of the texts of columns: devices, countries, items. A number means
something within one process only, so what is stored carries the texts. An index only grows, until
its owner asks it to ``keep`` those that are in use, or to ``forget`` some: these are not found any
more, and their numbers are given anew once the owner has ``release``d them. The texts lie in one
block, which is written anew when much of it is nobody's. A hash table with open addressing finds
them: a place holds a text's number and half of its hash, so that a search compares bytes only where
the answer is almost surely yes. Texts are always compared whole. A place takes eight bytes, and
from a quarter to a half of them are in use.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import come_closer, compiled
from events.texts import I32, I64, U64, Texts, same_at
from events.words import PAD, place_of

U8 = NDArray[np.uint8]

_LEAST_PLACES: Final = 64
_LEAST_BYTES: Final = 1024
_HIGH: Final = np.uint64(0xFFFFFFFF00000000)
_LOW: Final = np.uint64(0xFFFFFFFF)
_AHEAD: Final = 8
"""So many texts before one is compared, what is needed for that is asked for."""
_MARK: Final = np.uint64(1 << 32)
"""A place whose text was forgotten: searches walk over it, and it names no number."""


class TextIndex:
    """Text ↔ number, whole columns at a time; a number stands for one text until it is released.

    >>> index = TextIndex()
    >>> index.number(Texts.of(["ann", "bob", None, "ann"])).tolist()
    [0, 1, -1, 0]
    >>> index.find(Texts.of(["bob", "eve"])).tolist(), index[1], len(index)
    ([1, -1], 'bob', 2)
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._size = self._gone = self._marks = 0
        self._places = np.zeros(_LEAST_PLACES, dtype=np.uint64)
        self._use(np.zeros(_LEAST_BYTES, dtype=np.uint8))
        self._starts = np.zeros(_LEAST_PLACES, dtype=np.int64)
        self._lengths = np.zeros(_LEAST_PLACES, dtype=np.int32)
        self._end = self._unused = 0  # bytes of the block: written, and nobody's of them
        self._free = np.empty(0, dtype=np.int64)
        self._asked: dict[str, int] = {}

    def __len__(self) -> int:
        """How many numbers there are, those of forgotten texts included."""
        return self._size

    @property
    def known(self) -> int:
        """How many texts can be found."""
        return self._size - self._gone

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < self._size:
            raise IndexError(f"the number of a text must be below {self._size}, but is {number}")
        start = self._starts[number]
        return self._block[start : start + self._lengths[number]].tobytes().decode()

    def texts(self, numbers: NDArray[np.integer]) -> Texts:
        """The texts of some numbers, absent for -1; they share the index's block as it is now."""
        known = np.maximum(numbers, 0)
        length = np.where(numbers < 0, np.int32(-1), self._lengths[known])
        return self._none.at(self._starts[known], length)

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
        return self.numbered(texts)[0]

    def numbered(self, texts: Texts) -> tuple[I64, I64]:
        """As ``number``, and the numbers that this call gave, in the order of first sight."""
        out, some_are_new = self._find(texts)
        if not some_are_new:
            return out, out[:0]
        unknown = np.flatnonzero((out < 0) & texts.present)
        out[unknown], new = self._add(texts.take(unknown))
        return out, new

    def forget(self, numbers: I64) -> None:
        """Find the texts of some distinct numbers no more; they can still be read by number.

        >>> index = TextIndex()
        >>> ann, bob = index.number(Texts.of(["ann", "bob"]))
        >>> index.forget(np.array([ann]))
        >>> index.find(Texts.of(["ann", "bob"])).tolist(), index[ann], index.known
        ([-1, 1], 'ann', 1)
        >>> index.release(np.array([ann]))
        >>> index.number(Texts.of(["bob", "eve", "ann"])).tolist(), len(index)
        ([1, 0, 2], 3)
        """
        _forget(self.texts(numbers).hashes(), numbers, self._places)
        self._marks += len(numbers)
        self._gone += len(numbers)
        self._asked.clear()

    def release(self, numbers: I64) -> None:
        """Nobody reads these forgotten texts any more: their numbers may be given anew."""
        self._unused += int(self._lengths[numbers].sum())
        self._lengths[numbers] = 0
        self._free = np.concatenate([self._free, numbers])

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
        """Bytes of block, places, starts and lengths in use."""
        return self._end + self._places.nbytes + (8 + 4) * self._size

    def _find(self, texts: Texts) -> tuple[I64, bool]:
        """The number of each text, int64[n], and whether there is a text among those without."""
        out = np.empty(len(texts), dtype=np.int64)
        words, start, length, hashes = texts.words, texts.start, texts.length, texts.hashes()
        held = self._places, self._none.words, self._starts, self._lengths
        return out, _find(words, start, length, hashes, *held, out)

    def _add(self, texts: Texts) -> tuple[I64, I64]:
        """Number texts that may be new; the same text may come more than once.

        Returns:
            The number of each, and those that are new, in order.
        """
        self._reserve(len(texts), int(texts.length.sum()))
        words, start, length, hashes = texts.words, texts.start, texts.length, texts.hashes()
        places, block, held = self._places, self._block, self._none.words
        out, new = np.empty((2, len(texts)), dtype=np.int64)
        count = _add(
            *(words, start, length, hashes, places, block, held, self._starts, self._lengths),
            *(self._end, self._free, self._size, new, out),
        )
        new = new[:count]
        again = min(count, len(self._free))
        self._free = self._free[again:]
        self._gone -= again
        self._size += count - again
        self._end += int(self._lengths[new].sum())
        return out, new

    def _reserve(self, count: int, size: int) -> None:
        """Room for as many more texts, of so many bytes in all."""
        if self._end + size + len(PAD) > len(self._block):
            need = self._end - self._unused + size + len(PAD)
            self._rewrite(max(2 * need, len(self._block)))
        if self._size + count > len(self._starts):
            for name in ("_starts", "_lengths"):
                held = getattr(self, name)
                longer = np.zeros(2 * (self._size + count), dtype=held.dtype)
                longer[: self._size] = held[: self._size]
                setattr(self, name, longer)
        if 2 * (self.known + self._marks + count) > len(self._places):
            old, live = self._places, self.known + count
            length = len(old)
            if 4 * live > length:
                length = max(2 * length, (1 << (4 * live - 1).bit_length()) // 2)
            numbers = (old[old & _LOW != 0] & _LOW).astype(np.int64) - 1
            numbers.sort()  # texts are read from front to back
            self._places, self._marks = np.zeros(length, dtype=np.uint64), 0
            _replace(self.texts(numbers).hashes(), numbers, self._places)

    def _rewrite(self, size: int) -> None:
        """Write the block anew, without what is nobody's; who holds the old one keeps it."""
        block = np.zeros(size, dtype=np.uint8)
        if self._unused:
            self._end = _rewrite(
                self._block, self._starts[: self._size], self._lengths[: self._size], block
            )
            self._unused = 0
        else:
            block[: self._end] = self._block[: self._end]
        self._use(block)

    def _use(self, block: U8) -> None:
        self._block = block
        # of the block, but without a text: it lends its words to all that are asked for
        self._none = Texts(block, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))


@compiled
def _find(
    words: U64,
    start: I64,
    length: I32,
    hashes: U64,
    places: U64,
    held: U64,
    starts: I64,
    lengths: I32,
    out: I64,
) -> bool:
    """Whether any text is unknown."""
    mask = np.uint64(len(places) - 1)
    unknown = False
    for i in range(len(start)):
        if i + 2 * _AHEAD < len(start):
            come_closer(places, np.int64(hashes[i + 2 * _AHEAD] & mask))
        if i + _AHEAD < len(start):
            number = np.int64(places[hashes[i + _AHEAD] & mask] & _LOW) - 1
            come_closer(starts, number)
            come_closer(lengths, number)
        out[i] = -1
        n = length[i]
        if n < 0:
            continue
        at = hashes[i] & mask
        while places[at] != 0:
            if (places[at] ^ hashes[i]) & _HIGH == 0:
                number = np.int64(places[at] & _LOW) - 1
                if (
                    number >= 0
                    and lengths[number] == n
                    and same_at(place_of(words) + start[i], place_of(held) + starts[number], n)
                ):
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
    starts: I64,
    lengths: I32,
    end: int,
    free: I64,
    size: int,
    new: I64,
    out: I64,
) -> int:
    """As ``_find``, but what is missing is added; how many, with their numbers in ``new``."""
    mask = np.uint64(len(places) - 1)
    count = 0
    for i in range(len(start)):
        n = length[i]
        at = hashes[i] & mask
        found: Any = -1
        while places[at] != 0 and found < 0:
            if (places[at] ^ hashes[i]) & _HIGH == 0:
                number = np.int64(places[at] & _LOW) - 1
                if (
                    number >= 0
                    and lengths[number] == n
                    and same_at(place_of(words) + start[i], place_of(held) + starts[number], n)
                ):
                    found = number
            at = (at + np.uint64(1)) & mask
        if found < 0:
            found = free[count] if count < len(free) else size + count - len(free)
            new[count] = found
            count += 1
            places[at] = (hashes[i] & _HIGH) | np.uint64(found + 1)
            for k in range(n):
                block[end + k] = words[start[i] + k] & np.uint64(255)
            starts[found], lengths[found] = end, n
            end += n
        out[i] = found
    return count


@compiled
def _forget(hashes: U64, numbers: I64, places: U64) -> None:
    """Mark the places of some numbers."""
    mask = np.uint64(len(places) - 1)
    for i in range(len(hashes)):
        at = hashes[i] & mask
        while places[at] != 0 and np.int64(places[at] & _LOW) - 1 != numbers[i]:
            at = (at + np.uint64(1)) & mask
        if places[at] != 0:
            places[at] = _MARK


@compiled
def _replace(hashes: U64, numbers: I64, places: U64) -> None:
    """Write the numbers of texts to an empty table."""
    mask = np.uint64(len(places) - 1)
    for i in range(len(hashes)):
        at = hashes[i] & mask
        while places[at] != 0:
            at = (at + np.uint64(1)) & mask
        places[at] = (hashes[i] & _HIGH) | np.uint64(numbers[i] + 1)


@compiled
def _rewrite(held: U8, starts: I64, lengths: I32, block: U8) -> int:
    """Copy texts to a new block, one after another; where the last one ends."""
    end = 0
    for i in range(len(starts)):
        begin = starts[i]
        for k in range(lengths[i]):
            block[end + k] = held[begin + k]
        starts[i] = end
        end += lengths[i]
    return end
