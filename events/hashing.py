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
_ONES: Final = np.array([(1 << (8 * k)) - 1 for k in range(8)] + [2**64 - 1], dtype=np.uint64)


def hash_texts(texts: Sequence[str]) -> U64:
    """A 64-bit hash of each text, uint64[n].

    >>> a, b = hash_texts(["ann", "ann"]), hash_texts(["bob", "ann"])
    >>> bool(a[0] == a[1] == b[1]), bool(b[0] == b[1])
    (True, False)
    """
    joined = "".join(texts)
    raw = joined.encode()
    if len(raw) == len(joined):
        length = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        length = np.fromiter((len(text.encode()) for text in texts), np.int64, len(texts))
    start = np.cumsum(length) - length
    # every position of the bytes as the beginning of an eight-byte word
    words = np.ndarray((len(raw) + 1,), dtype="<u8", buffer=raw + bytes(8), strides=(1,))
    out = length.astype(np.uint64) * _WORD ^ _SEED
    row = np.flatnonzero(length > 0)
    at = 0
    while len(row):
        left = length[row] - at
        word = words[start[row] + at] & _ONES[np.minimum(left, 8)]
        mixed = (out[row] ^ word) * _WORD
        out[row] = mixed ^ (mixed >> np.uint64(29))
        at += 8
        row = row[left > 8]
    return _finish(out)


def combine(first: U64, second: U64) -> U64:
    """One hash of two, in which their order matters; uint64[n] each."""
    return _finish(first * _WORD + second)


def shard_of(users: Sequence[str], shards: int) -> I64:
    """The shard of each user: crc32 of the UTF-8 id, modulo; int64[n]."""
    return np.fromiter((zlib.crc32(u.encode()) % shards for u in users), np.int64, len(users))


def _finish(x: U64) -> U64:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
