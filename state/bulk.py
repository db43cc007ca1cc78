"""Many arguments of a command at once, in the form in which servers read them.

Redis and Valkey take a command as a count and then every argument behind its length. Thousands of
short arguments cost more as objects than all else that is done with them, so they are written from
where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from events.texts import I32, I64, PAD, U64, Texts
from state.writing import open_words, put_bytes, put_digits

U8 = NDArray[np.uint8]

_AROUND: Final = 24
"""Bytes around an argument at most: the sign, the digits of its length, two ends of line."""
_DOLLAR, _RETURN, _NEWLINE = ord("$"), ord("\r"), ord("\n")


@dataclass(slots=True, frozen=True)
class Bulk:
    r"""Arguments as they travel.

    Attributes:
        raw: the bytes of all of them.
        count: how many they are.

    >>> bytes(Bulk.of(Texts.of(["a", "bcd"])).raw)
    b'$1\r\na\r\n$3\r\nbcd\r\n'
    >>> Bulk.pairs(Texts.of(["a", "b"]), Texts.of(["x", "y"])).count
    4
    """

    raw: memoryview
    count: int

    def __len__(self) -> int:
        return self.count

    @classmethod
    def of(cls, texts: Texts) -> Bulk:
        """An argument for each text, of which none is absent."""
        return cls.pairs(texts, Texts.absent(0))

    @classmethod
    def pairs(cls, fields: Texts, values: Texts) -> Bulk:
        """Each field with the value behind it, of which none is absent."""
        count = len(fields) + len(values)
        room = int(fields.length.sum() + values.length.sum()) + _AROUND * count + len(PAD)
        out = np.empty(room, dtype=np.uint8)
        first = fields.words, fields.start, fields.length
        second = values.words, values.start, values.length
        size = _write(*first, *second, out, open_words(out))
        return cls(out.data[:size], count)


@inlined
def _put(out: U8, words: U64, at: int, held: U64, start: int, length: int) -> Any:
    """One argument."""
    out[at] = _DOLLAR
    at = put_digits(out, at + 1, length)
    out[at], out[at + 1] = _RETURN, _NEWLINE
    at = put_bytes(words, at + 2, held, start, length)
    out[at], out[at + 1] = _RETURN, _NEWLINE
    return at + 2


@compiled
def _write(
    held: U64,
    start: I64,
    length: I32,
    more: U64,
    more_start: I64,
    more_length: I32,
    out: U8,
    words: U64,
) -> int:
    """Write fields, and values behind them if there are any; the bytes that were written."""
    at = 0
    for i in range(len(start)):
        at = _put(out, words, at, held, start[i], length[i])
        if len(more_start):
            at = _put(out, words, at, more, more_start[i], more_length[i])
    return at
