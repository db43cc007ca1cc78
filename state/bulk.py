"""Many arguments of commands at once, in the form in which servers read them.

Redis and Valkey take a command as a count and then every argument behind its length. Thousands of
short arguments cost more as objects than all else that is done with them, so they are written from
where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from events.texts import I32, I64, U64, Texts
from events.words import PAD, open_words, put_bytes
from state.writing import put_digits

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
    """

    raw: memoryview
    count: int

    def __len__(self) -> int:
        return self.count

    @classmethod
    def of(cls, fields: Texts, values: Texts | None = None) -> Bulk:
        """Each field, with its value behind it if there are any; nothing is absent."""
        return cls.several([0, len(fields)], fields, values)[0]

    @classmethod
    def several(
        cls, bounds: Sequence[int], fields: Texts, values: Texts | None = None
    ) -> list[Bulk]:
        """The arguments of several commands, between each two bounds those of one.

        >>> first, second = Bulk.several([0, 1, 3], Texts.of("abc"), Texts.of("xyz"))
        >>> len(first), len(second)
        (2, 4)
        """
        each = 1 if values is None else 2
        second = Texts.absent(0) if values is None else values
        room = int(fields.length.sum() + second.length.sum()) + _AROUND * each * len(fields)
        out = np.empty(room + len(PAD), dtype=np.uint8)
        ends = np.empty(len(fields) + 1, dtype=np.int64)
        _write(
            *(fields.words, fields.start, fields.length),
            *(second.words, second.start, second.length),
            *(out, open_words(out), ends),
        )
        raw, places = out.data, ends[list(bounds)].tolist()
        sizes = (each * (b - a) for a, b in pairwise(bounds))
        return [cls(raw[a:b], n) for (a, b), n in zip(pairwise(places), sizes, strict=True)]


NOTHING: Final = Bulk(memoryview(b""), 0)


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
    ends: I64,
) -> None:
    """Write fields, and values behind them if there are any, and where each ends."""
    ends[0] = at = 0
    for i in range(len(start)):
        at = _put(out, words, at, held, start[i], length[i])
        if len(more_start):
            at = _put(out, words, at, more, more_start[i], more_length[i])
        ends[i + 1] = at
