"""Documents written step by step, for a block of rows at a time.

A step writes the same constant and then one value of each row, so that a loop over the rows of a
block knows at its start what sort of value it writes, and the processor works at several rows at
once. For that each row of a block gets as much room as it may need at most. When the block is
through, its documents move together.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined, step
from events.texts import I32, I64, U64
from events.words import copy_bytes, put_bytes

U8 = NDArray[np.uint8]

NOTHING, INT, FLOAT, FLAG, DIGITS, LIST, MAP, TEXT, QUOTED, RAW = range(10)
"""What a step writes behind its constant: nothing, a number, what opens a list or a map of so many
entries, a text."""

LARGEST: Final = 20
"""Bytes of a number; what stands before a text takes fewer."""
CONSTANT: Final = 16
"""Bytes of a step's constant at most: two words."""
BLOCK: Final = 256
"""Rows of a block: what is written of it stays in the processor's cache."""

_BYTES: Final = np.uint64(0x00FF00FF00FF00FF)
_PAIRS: Final = np.uint64(0x0000FFFF0000FFFF)
_NULL: Final = np.uint64(int.from_bytes(b"null", "little"))
_QUOTE, _MINUS, _ZERO = ord('"'), ord("-"), ord("0")
_INT_MARKS: Final = np.array([0, 0xCD, 0xCE, 0xD3], dtype=np.uint8)
_INT_SIZES: Final = np.array([1, 3, 5, 9])
_INT_SHIFTS: Final = np.array([0, 48, 32, 0], dtype=np.uint64)


@inlined
def _turned(word: Any) -> Any:
    """The bytes of a word in the other order."""
    word = ((word & _BYTES) << np.uint64(8)) | ((word >> np.uint64(8)) & _BYTES)
    word = ((word & _PAIRS) << np.uint64(16)) | ((word >> np.uint64(16)) & _PAIRS)
    return (word << np.uint64(32)) | (word >> np.uint64(32))


@inlined
def _put_int(out: U8, words: U64, at: int, value: int) -> Any:
    """MessagePack's integer of one, three, five or nine bytes, without a branch."""
    word = np.uint64(value)
    size = np.int64(word > 0x7F) + np.int64(word > 0xFFFF) + np.int64(word > 0xFFFF_FFFF)
    words[at + 1] = _turned(word << _INT_SHIFTS[size])
    out[at] = np.uint8(word) if size == 0 else _INT_MARKS[size]
    return at + _INT_SIZES[size]


@inlined
def _put_raw(out: U8, at: int, source: int, length: int) -> Any:
    """Bytes that lie at an address; what is too much is written over by what follows."""
    copy_bytes(out.ctypes.data + at, source, length)
    return at + length


@inlined
def _put_text(out: U8, at: int, source: int, length: int) -> Any:
    if length < 0:
        out[at] = 0xC0
        return at + 1
    if length < 32:
        out[at] = 0xA0 | length
        at += 1
    elif length < 256:
        out[at], out[at + 1] = 0xD9, length
        at += 2
    else:
        out[at], out[at + 1], out[at + 2] = 0xDA, length >> 8, length & 255
        at += 3
    return _put_raw(out, at, source, length)


@inlined
def _put_quoted(out: U8, words: U64, at: int, source: int, length: int) -> Any:
    if length < 0:
        words[at] = _NULL
        return at + 4
    out[at] = _QUOTE
    at = _put_raw(out, at + 1, source, length)
    out[at] = _QUOTE
    return at + 1


@inlined
def put_digits(out: U8, at: int, value: int) -> Any:
    """An integer in decimal."""
    if value < 0:
        out[at] = _MINUS
        at += 1
        value = -value
    count, rest = 1, value // 10
    while rest > 0:
        count += 1
        rest //= 10
    for k in range(count - 1, -1, -1):
        out[at + k] = _ZERO + value % 10
        value //= 10
    return at + count


@inlined
def _put_head(out: U8, at: int, count: int, mark: int) -> Any:
    """What opens a list or a map, of which ``mark`` is the shorter form."""
    if count < 16:
        out[at] = mark | count
        return at + 1
    out[at], out[at + 1], out[at + 2] = (0xDE if mark == 0x80 else 0xDC), count >> 8, count & 255
    return at + 3


@step
def _constants(at: I64, words: U64, first: int, second: int, length: int) -> None:
    """Write the same bytes to every row."""
    if length > 8:
        for i in range(len(at)):
            words[at[i]], words[at[i] + 8] = np.uint64(first), np.uint64(second)
            at[i] += length
    elif length > 0:
        for i in range(len(at)):
            words[at[i]] = np.uint64(first)
            at[i] += length


@step
def _numbers(kind: int, at: I64, out: U8, words: U64, values: I64) -> None:
    if kind == INT:
        for i in range(len(at)):
            at[i] = _put_int(out, words, at[i], values[i])
    elif kind == FLOAT:
        for i in range(len(at)):
            out[at[i]] = 0xCB
            words[at[i] + 1] = _turned(np.uint64(values[i]))
            at[i] += 9
    elif kind == FLAG:
        for i in range(len(at)):
            out[at[i]] = 0xC3 if values[i] else 0xC2
            at[i] += 1
    elif kind == DIGITS:
        for i in range(len(at)):
            at[i] = put_digits(out, at[i], values[i])
    else:
        mark = 0x80 if kind == MAP else 0x90
        for i in range(len(at)):
            at[i] = _put_head(out, at[i], values[i], mark)


@step
def _nulls(at: I64, before: I64, out: U8, when: I64) -> None:
    """Write null instead of what has just been written, where a row has nothing to write."""
    for i in range(len(at)):
        if when[i] == 0:
            out[before[i]] = 0xC0
            at[i] = before[i] + 1


@step
def _texts(kind: int, at: I64, out: U8, words: U64, held: int, start: I64, length: I32) -> None:
    if kind == TEXT:
        for i in range(len(at)):
            at[i] = _put_text(out, at[i], held + start[i], length[i])
    elif kind == QUOTED:
        for i in range(len(at)):
            at[i] = _put_quoted(out, words, at[i], held + start[i], length[i])
    else:
        for i in range(len(at)):
            at[i] = _put_raw(out, at[i], held + start[i], length[i])


@compiled
def write(
    program: I64,
    numbers: I64,
    held: I64,
    start: I64,
    length: I32,
    most: int,
    scratch: I64,
    out: U8,
    words: U64,
    ends: I64,
) -> None:
    """Run a program for all rows.

    Args:
        program: a line for each step: two words of its constant, the constant's bytes, the sort of
            value, its row in ``numbers`` or in ``start`` and ``length``, and that of the numbers
            that are 0 where there is no value, or -1.
        numbers: int64[columns, n]; a float by its bits.
        held: where the bytes of each column of texts lie, int64[columns].
        start: where each text begins in them, int64[columns, n].
        length: its bytes, int32[columns, n].
        most: bytes of a document without its texts.
        scratch: int64[3, BLOCK].
        out: room for all documents at their longest.
        words: the same as words.
        ends: where each row's document ends, int64[n + 1] with a 0 before all; filled.
    """
    ends[0] = done = 0
    for first in range(0, len(ends) - 1, BLOCK):
        stop = min(first + BLOCK, len(ends) - 1)
        rows = stop - first
        begin, at, before = scratch[0, :rows], scratch[1, :rows], scratch[2, :rows]
        place = done
        for i in range(rows):
            begin[i] = at[i] = place
            place += most
            for column in range(len(length)):
                place += max(length[column, first + i], 0)
        for s in range(len(program)):
            kind, a, b = program[s, 3], program[s, 4], program[s, 5]
            _constants(at, words, program[s, 0], program[s, 1], program[s, 2])
            if kind >= TEXT:
                _texts(kind, at, out, words, held[a], start[a, first:stop], length[a, first:stop])
            elif kind != NOTHING:
                for i in range(rows):
                    before[i] = at[i]
                _numbers(kind, at, out, words, numbers[a, first:stop])
                if b >= 0:
                    _nulls(at, before, out, numbers[b, first:stop])
        for i in range(rows):
            done = put_bytes(words, done, words, begin[i], at[i] - begin[i])
            ends[first + i + 1] = done
