"""Stable hashes of texts, whole columns at a time.

The hash of a text depends on its UTF-8 bytes alone: not on the process, the platform, or on what
else is in the column. It reads eight bytes at a time, the last ones masked, mixes each word in by
multiplication and shift, and finishes with SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA
2014). It is no defence against somebody who looks for collisions, so nothing rests on it that one
user could do to another. ``VERSION`` changes with any change of the function, because hashes are
stored.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

VERSION: Final = 1

_SEED: Final = np.uint64(0x2545F4914F6CDD1D)
_WORD: Final = np.uint64(0x9FB21C651E98DF25)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_SHIFT: Final = np.uint64(29)
_NEWLINE: Final = ord("\n")
_ONES: Final = np.array([(1 << (8 * k)) - 1 for k in range(8)] + [2**64 - 1], dtype=np.uint64)


def hash_texts(texts: Sequence[str]) -> U64:
    """A 64-bit hash of each text, uint64[n].

    >>> a, b = hash_texts(["ann", "ann"]), hash_texts(["bob", "ann"])
    >>> bool(a[0] == a[1] == b[1]), bool(b[0] == b[1])
    (True, False)
    """
    raw = "\n".join([*texts, ""]).encode()
    start, left = _places(raw, texts)
    # every position of the bytes as the beginning of an eight-byte word
    words = np.ndarray((len(raw) + 1,), dtype="<u8", buffer=raw + bytes(8), strides=(1,))
    out = left.astype(np.uint64) * _WORD ^ _SEED
    row: I64 | slice = slice(None)
    while True:
        more = left > 0
        if not more.all():
            row = np.flatnonzero(more) if isinstance(row, slice) else row[more]
            start, left = start[more], left[more]
        if not len(left):
            return _finish(out)
        word = words[start] & _ONES[np.minimum(left, 8)]
        mixed = (out[row] ^ word) * _WORD
        out[row] = mixed ^ (mixed >> _SHIFT)
        start, left = start + 8, left - 8


def _places(raw: bytes, texts: Sequence[str]) -> tuple[I64, I64]:
    """Where each text begins in bytes in which a newline ends each, and its length in bytes."""
    stop = np.flatnonzero(np.frombuffer(raw, dtype=np.uint8) == _NEWLINE)
    if len(stop) != len(texts):  # some text holds a newline itself
        length = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
        stop = np.cumsum(length + 1) - 1
    start = np.zeros_like(stop)
    start[1:] = stop[:-1] + 1
    return start, stop - start


def combine(first: U64, second: U64) -> U64:
    """One hash of two, in which their order matters; uint64[n] each."""
    return _finish(first * _WORD + second)


def shard_of(users: Sequence[str], shards: int) -> I64:
    """The shard of each user: crc32 of the UTF-8 id, modulo; int64[n]."""
    hashes = np.fromiter(map(zlib.crc32, map(str.encode, users)), np.int64, len(users))
    return hashes % shards


def _finish(x: U64) -> U64:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
