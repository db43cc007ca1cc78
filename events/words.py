"""Bytes looked at eight at a time.

A block of bytes is seen as words that begin at every one of its places, so a text is read and
copied in whole words wherever it begins. That reads and writes a little beyond its end, which is
why a block ends with ``PAD`` bytes that belong to no text.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import inlined, words_at

U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

PAD: Final = bytes(16)
"""What ends a block, so that eight bytes can be read wherever a text begins."""


def words_of(block: bytes | U8) -> U64:
    """The words of a block, one from every place on, uint64[len(block) - 7]; not to be written."""
    if len(block) < len(PAD):
        raise ValueError(f"a block must end with {len(PAD)} bytes of no text, but has {len(block)}")
    words: U64 = np.ndarray((len(block) - 7,), dtype="<u8", buffer=block, strides=(1,))
    words.flags.writeable = False
    return words


def open_words(out: U8) -> U64:
    """Every place of an array as a word that may be written."""
    return np.ndarray((len(out) - 7,), dtype="<u8", buffer=out.data, strides=(1,))


@inlined
def place_of(words: U64) -> Any:
    """In a compiled loop: the address of a block's first byte."""
    return np.int64(words.ctypes.data)


@inlined
def copy_bytes(target: int, source: int, length: int) -> None:
    """Copy bytes between addresses, whole words at a time; up to seven more may come along.

    Words that lie behind one another the processor takes as many at once as it can.
    """
    held, out = words_at(source), words_at(target)
    for k in range((length + 7) >> 3):
        out[k] = held[k]


@inlined
def put_bytes(words: U64, at: int, held: U64, start: int, length: int) -> Any:
    """Copy bytes between blocks; what is too much is written over by what follows."""
    copy_bytes(words.ctypes.data + at, held.ctypes.data + start, length)
    return at + length
