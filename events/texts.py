"""A column of texts as one block of bytes and the place of each text in it.

A few thousand short texts as Python strings cost more to make than all else that is done with them.
As places in the bytes that came from the log they cost nothing, and a text becomes a string only
where a person or a server wants to see it. Hashing, comparing and copying read eight bytes at a
time, the last ones masked, which is why a block ends with ``PAD`` bytes that belong to no text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined, word_at
from events.words import PAD, open_words, place_of, put_bytes, words_of

U8 = NDArray[np.uint8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

ONES: Final = np.array([(1 << (8 * k)) - 1 for k in range(8)] + [2**64 - 1], dtype=np.uint64)
"""Masks of the first k bytes of a word."""

_ODD: Final = re.compile(rb'["\\\\\x00-\x1f]').search
_FEW: Final = 24
"""Texts that are looked at one by one: to load the first compiled loop takes half a second, and no
command that only reads settings needs another."""
_SEED: Final = np.uint64(0x2545F4914F6CDD1D)
_WORD: Final = np.uint64(0x9FB21C651E98DF25)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


class Texts:
    """n texts, any of which may be absent.

    Documents and other bytes that are no text are kept alike; only what makes strings of them
    (``[i]``, ``tolist``, ``strings``) needs UTF-8.

    Args:
        block: UTF-8 bytes, ended by ``PAD``; not written to.
        start: where each text begins, int64[n].
        length: its bytes, int32[n]; -1 where it is absent.
        hashes: of each, uint64[n], where they are known already.

    Attributes:
        words: the block as a word of eight bytes from every place on, uint64[len(block) - 7].
        start, length: as above.

    >>> texts = Texts.of(["ann", None, "bob"])
    >>> texts.tolist(), texts[2], texts.take(np.array([2, 0])).tolist()
    (['ann', None, 'bob'], 'bob', ['bob', 'ann'])
    """

    __slots__ = ("_block", "_hashes", "length", "start", "words")

    def __init__(
        self, block: bytes | U8, start: I64, length: I32, hashes: U64 | None = None
    ) -> None:
        self._hold(block, words_of(block), start, length, hashes)

    def _hold(
        self, block: bytes | U8, words: U64, start: I64, length: I32, hashes: U64 | None = None
    ) -> None:
        self._block, self.words = block, words
        self.start, self.length, self._hashes = start, length, hashes

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Texts:
        """The texts of a list."""
        return cls.of_bytes([None if text is None else text.encode() for text in texts])

    @classmethod
    def of_bytes(cls, texts: Sequence[bytes | None]) -> Texts:
        """The texts of a list of UTF-8 bytes."""
        held = [text or b"" for text in texts]
        length = np.fromiter(map(len, held), np.int32, len(held))
        start = np.cumsum(length, dtype=np.int64) - length
        if None in texts:
            length[[text is None for text in texts]] = -1
        return cls(b"".join([*held, PAD]), start, length)

    @classmethod
    def of_size(cls, block: bytes, size: int) -> Texts:
        """The texts that lie one behind another in a block, all of so many bytes."""
        n = len(block) // size
        return cls(block + PAD, np.arange(n) * size, np.full(n, size, dtype=np.int32))

    @classmethod
    def absent(cls, n: int) -> Texts:
        """As many absent texts."""
        return cls(PAD, np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int32))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of all parts, one part after another, in a block that holds nothing else."""
        counts = np.cumsum([0, *map(len, parts)])
        length = np.concatenate([np.empty(0, np.int32), *(part.length for part in parts)])
        size = int(np.maximum(length, 0).sum())
        block, start = np.empty(size + len(PAD), np.uint8), np.empty(counts[-1], np.int64)
        out, at = open_words(block), 0
        for part, first, stop in zip(parts, counts[:-1], counts[1:], strict=True):
            at = _copy_all(part.words, part.start, part.length, out, at, start[first:stop])
        block[size:] = 0
        return cls(block, start, length)

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, i: int) -> str | None:
        length, start = int(self.length[i]), int(self.start[i])
        if length < 0:
            return None
        return bytes(self._block[start : start + length]).decode()

    @property
    def present(self) -> Bools:
        """Which texts there are, bool[n]."""
        out: Bools = self.length >= 0
        return out

    def tolist(self) -> list[str | None]:
        """All of them as strings."""
        return [None if raw is None else raw.decode() for raw in self.tobytes()]

    def strings(self) -> list[str]:
        """All of them as strings, the absent ones empty."""
        return [text or "" for text in self.tolist()]

    def tobytes(self) -> list[bytes | None]:
        """All of them as bytes."""
        block = bytes(self._block) if len(self) > 64 else self._block
        places = zip(self.start.tolist(), self.length.tolist(), strict=True)
        return [None if n < 0 else bytes(block[at : at + n]) for at, n in places]

    def bytes_list(self) -> list[bytes]:
        """All of them as bytes, the absent ones empty."""
        return [raw or b"" for raw in self.tobytes()]

    def take(self, index: I64) -> Texts:
        """Some of them, int64[k]; the block is shared."""
        return self._some(index)

    def between(self, first: int, stop: int) -> Texts:
        """Those from ``first`` on, but not ``stop`` and beyond; everything is shared."""
        return self._some(slice(first, stop))

    def at(self, start: I64, length: I32) -> Texts:
        """As many texts at other places of the same block.

        >>> texts = Texts.of(["abcd", "efg"])
        >>> texts.at(texts.start + 2, texts.length - 2).tolist()
        ['cd', 'g']
        """
        out = object.__new__(Texts)
        out._hold(self._block, self.words, start, length)
        return out

    def hashes(self) -> U64:
        """A hash of each, uint64[n]; of what is absent, the hash of nothing.

        It depends on the bytes alone: not on the process, the platform, or what else is in the
        column. It mixes a word in by multiplication and shift and finishes with SplitMix64's
        finaliser (Steele, Lea and Flood, OOPSLA 2014). It is no defence against somebody who looks
        for collisions, so nothing rests on it that one user could do to another.
        """
        if self._hashes is None:
            self._hashes = np.empty(len(self), dtype=np.uint64)
            _hash_all(self.words, self.start, self.length, self._hashes)
        return self._hashes

    def escaped(self) -> Texts:
        """The same as they stand between the quotes of JSON."""
        odd = self._odd()
        if not odd.any():
            return self
        texts = self.tobytes()
        for i in np.flatnonzero(odd).tolist():
            texts[i] = msgspec.json.encode(self[i])[1:-1]
        return Texts.of_bytes(texts)

    def packed(self) -> Texts:
        """The same in a block that holds nothing else."""
        block = np.empty(int(np.maximum(self.length, 0).sum()) + len(PAD), np.uint8)
        start = np.empty(len(self), dtype=np.int64)
        end = _copy_all(self.words, self.start, self.length, open_words(block), 0, start)
        block[end:] = 0
        return Texts(block, start, self.length, self._hashes)

    def _odd(self) -> Bools:
        """Which texts cannot stand in JSON as they are, bool[n]."""
        if len(self) <= _FEW:
            return np.array([bool(_ODD(raw)) for raw in self.bytes_list()], dtype=np.bool_)
        out = np.empty(len(self), dtype=np.bool_)
        _find_odd(self.words, self.start, self.length, out)
        return out

    def _some(self, which: I64 | slice) -> Texts:
        out = object.__new__(Texts)
        hashes = None if self._hashes is None else self._hashes[which]
        out._hold(self._block, self.words, self.start[which], self.length[which], hashes)
        return out

    def __reduce__(self) -> tuple[object, tuple[bytes, I32, U64 | None]]:
        return _unpickled, (bytes(self.packed()._block), self.length, self._hashes)


def addresses(columns: Sequence[Texts]) -> I64:
    """Where the bytes of each column lie, int64[n]; who asks keeps the columns."""
    return np.array([each.words.ctypes.data for each in columns], dtype=np.int64)


def _unpickled(block: bytes, length: I32, hashes: U64 | None) -> Texts:
    held = np.maximum(length, 0).astype(np.int64)
    return Texts(block, np.cumsum(held) - held, length, hashes)


@inlined
def finished(x: Any) -> Any:
    """SplitMix64's finaliser."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@inlined
def hash_at(at: int, n: int) -> Any:
    """The hash of the ``n`` bytes from an address on."""
    out = np.uint64(n) * _WORD ^ _SEED
    while n > 0:
        word = word_at(at)
        if n < 8:
            word &= ONES[n]
        mixed = (out ^ word) * _WORD
        out = mixed ^ (mixed >> np.uint64(29))
        at += 8
        n -= 8
    return finished(out)


@inlined
def combined(first: Any, second: Any) -> Any:
    """One hash of two, in which their order matters."""
    return finished(first * _WORD + second)


@inlined
def event_hash_of(user: Any, event: Any, salt: Any) -> Any:
    """The hash of a user's event from those of both ids; without a salt anybody can tell it."""
    if salt != np.uint64(0):
        user = finished(user ^ salt)
    return combined(user, event)


@inlined
def same_at(at: int, there: int, n: int) -> Any:
    """Whether the ``n`` bytes from two addresses on are equal."""
    while n >= 8:
        if word_at(at) != word_at(there):
            return False
        at += 8
        there += 8
        n -= 8
    return n <= 0 or (word_at(at) ^ word_at(there)) & ONES[n] == np.uint64(0)


@compiled
def _hash_all(words: U64, start: I64, length: I32, out: U64) -> None:
    for i in range(len(start)):
        out[i] = hash_at(place_of(words) + start[i], max(length[i], 0))


@compiled
def _find_odd(words: U64, start: I64, length: I32, out: Bools) -> None:
    """Which texts hold a quote, a backslash or a control character."""
    for i in range(len(start)):
        out[i] = False
        for at in range(start[i], start[i] + max(length[i], 0)):
            byte = words[at] & np.uint64(255)
            out[i] |= byte in (34, 92) or byte < 32


@compiled
def _copy_all(words: U64, start: I64, length: I32, out: U64, at: int, places: I64) -> int:
    """Copy texts one behind another from a place on; where the next one would begin."""
    for i in range(len(start)):
        places[i] = at
        at = put_bytes(out, at, words, start[i], max(length[i], 0))
    return at
