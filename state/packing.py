"""MessagePack and JSON documents for many rows at once, filled in from columns.

A **form** is a document with slots: constant bytes (keys, and values that never change) with places
between them for a number, a flag, a text, or a list or map of as many entries as the row has. It is
compiled once to a short program, and one loop runs the program for all rows of a commit. Numbers
take as few bytes as they need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from events.texts import I32, I64, PAD, U64, Texts, words_of

U8 = NDArray[np.uint8]

_NOTHING, _INT, _FLOAT, _FLAG, _TEXT, _MANY, _DIGITS, _QUOTED, _RAW = range(9)
_KINDS: Final = {
    "int": _INT,
    "float": _FLOAT,
    "flag": _FLAG,
    "text": _TEXT,
    "digits": _DIGITS,
    "quoted": _QUOTED,
    "raw": _RAW,
}
_TEXTS: Final = ("text", "quoted", "raw")
_NO_COLUMN: Final = -1
_LARGEST: Final = 20
"""Bytes of a number; the head of a text or a list takes fewer."""

_BYTES: Final = np.uint64(0x00FF00FF00FF00FF)
_PAIRS: Final = np.uint64(0x0000FFFF0000FFFF)
_NULL: Final = np.uint64(int.from_bytes(b"null", "little"))
_QUOTE, _MINUS, _ZERO = ord('"'), ord("-"), ord("0")


@dataclass(slots=True, frozen=True)
class Slot:
    """A place for a value.

    Attributes:
        column: where it comes from.
        kind: of the value. MessagePack: ``int``, ``float``, ``flag``, and ``text``, null where it
            is absent. JSON: an integer as ``digits``; ``quoted``, a text without anything to
            escape, null where it is absent. Either: ``raw``, bytes that are encoded already.
        when: an int column; where it is 0, null is written instead of a number. MessagePack only.
    """

    column: str
    kind: Literal["int", "float", "flag", "text", "digits", "quoted", "raw"] = "int"
    when: str = ""


@dataclass(slots=True, frozen=True)
class Many:
    """A place for a list, or a map, of as many entries as the row has.

    Attributes:
        name: under which ``Form.fill`` is told whose entries are which.
        kind: of a map's entries, the first part is the key.
        parts: of each entry; its columns have a value per entry.
    """

    name: str
    kind: Literal["list", "map"]
    parts: Sequence[bytes | Slot]


def pack(value: Any) -> bytes:
    """Any plain value as MessagePack."""
    return msgspec.msgpack.encode(value)


def map_head(entries: int) -> bytes:
    """The bytes that open a map."""
    return bytes([0x80 | entries]) if entries < 16 else b"\xde" + entries.to_bytes(2, "big")


class Form:
    """A document with slots.

    Args:
        parts: of the document, in order.

    >>> form = Form([map_head(2), pack("n"), Slot("n"), pack("tags"),
    ...     Many("tags", "list", [Slot("tag", "text")])])
    >>> tags = Texts.of(["a", "b", "c"])
    >>> numbers, bounds = {"n": np.array([7, -1])}, {"tags": np.array([0, 1, 3])}
    >>> [msgspec.msgpack.decode(raw) for raw in form.fill(numbers, {"tag": tags}, bounds)]
    [{'n': 7, 'tags': ['a']}, {'n': -1, 'tags': ['b', 'c']}]
    """

    def __init__(self, parts: Sequence[bytes | Slot | Many]) -> None:
        self._constants = b""
        self._numbers: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._lists: dict[str, int] = {}
        self._floats: set[str] = set()
        lists: list[Many] = [part for part in parts if isinstance(part, Many)]
        program = self._steps(parts)
        self._rows = len(program)
        for each in lists:
            place = self._lists[each.name]
            steps = self._steps(each.parts)
            for line in program[: self._rows]:
                if line[2:4] == [_MANY, place]:
                    line[4:6] = len(program), len(steps)
            program += steps
        self._program = np.array(program, dtype=np.int64)

    def fill(
        self,
        columns: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Texts],
        bounds: Mapping[str, I64],
    ) -> list[bytes]:
        """The documents of n rows.

        Args:
            columns: of numbers and flags, n each, or as many as there are entries.
            texts: of texts, likewise.
            bounds: for each ``Many`` the entries of row i, from ``bounds[i]`` up to, not including,
                ``bounds[i + 1]``; int64[n + 1].
        """
        numbers, number_at = _flat([self._as_words(name, columns[name]) for name in self._numbers])
        joined = Texts.joined([texts[name] for name in self._texts]) if texts else Texts.of([])
        _, text_at = _flat([texts[name].start for name in self._texts])
        lists, list_at = _flat([bounds[name] for name in self._lists])
        rows = len(next(iter(columns.values())))
        out = np.empty(self._most_bytes(rows, joined, lists), dtype=np.uint8)
        ends = np.empty(rows + 1, dtype=np.int64)
        _fill(
            self._program,
            self._rows,
            words_of(self._constants + PAD),
            numbers,
            number_at,
            joined.words,
            joined.start,
            joined.length,
            text_at,
            lists,
            list_at,
            out,
            _open_words(out),
            ends,
        )
        blob = out[: int(ends[-1])].tobytes()
        return [blob[a:b] for a, b in pairwise(ends.tolist())]

    def _steps(self, parts: Sequence[bytes | Slot | Many]) -> list[list[int]]:
        """The program of some parts: per step a constant, then what comes behind it."""
        program = []
        begin = len(self._constants)
        for part in (*parts, None):
            if isinstance(part, bytes):
                self._constants += part
                continue
            constant = [begin, len(self._constants) - begin]
            begin = len(self._constants)
            if isinstance(part, Many):
                place = self._lists.setdefault(part.name, len(self._lists))
                program.append([*constant, _MANY, place, 0, 0, part.kind == "map"])
            elif part is None:
                program.append([*constant, _NOTHING, 0, 0, 0, 0])
            elif part.kind in _TEXTS:
                place = self._texts.setdefault(part.column, len(self._texts))
                program.append([*constant, _KINDS[part.kind], place, 0, 0, 0])
            else:
                if part.kind == "float":
                    self._floats.add(part.column)
                place, when = self._number(part.column), self._number(part.when)
                program.append([*constant, _KINDS[part.kind], place, when, 0, 0])
        return program

    def _number(self, column: str) -> int:
        return self._numbers.setdefault(column, len(self._numbers)) if column else _NO_COLUMN

    def _as_words(self, name: str, values: NDArray[Any]) -> I64:
        if name in self._floats:
            return values.astype(np.float64).view(np.int64)
        return values.astype(np.int64)

    def _most_bytes(self, rows: int, texts: Texts, lists: I64) -> int:
        """No documents are longer than this together."""
        whole = self._program[:, 1] + _LARGEST
        entries = int(lists.max(initial=0)) * len(self._lists)
        outer, inner = int(whole[: self._rows].sum()), int(whole[self._rows :].sum())
        held = int(np.maximum(texts.length, 0).sum())
        return rows * outer + entries * inner + held + len(PAD)


def _flat(columns: Sequence[I64]) -> tuple[I64, I64]:
    """Columns behind one another, and where each begins."""
    ends = np.cumsum([0, *map(len, columns)])
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *columns]), ends.astype(np.int64)


def _open_words(out: U8) -> U64:
    """Every place of an array as a word that may be written."""
    words: U64 = np.ndarray((len(out) - 7,), dtype="<u8", buffer=out.data, strides=(1,))
    return words


@inlined
def _turned(word: Any) -> Any:
    """The bytes of a word in the other order."""
    word = ((word & _BYTES) << np.uint64(8)) | ((word >> np.uint64(8)) & _BYTES)
    word = ((word & _PAIRS) << np.uint64(16)) | ((word >> np.uint64(16)) & _PAIRS)
    return (word << np.uint64(32)) | (word >> np.uint64(32))


@inlined
def _put_bytes(words: U64, at: int, held: U64, start: int, length: int) -> Any:
    """Copy bytes, whole words at a time; what is too much is written over by what follows."""
    for k in range(0, length, 8):
        words[at + k] = held[start + k]
    return at + length


@inlined
def _put_int(out: U8, words: U64, at: int, value: int) -> Any:
    if 0 <= value < 0x80:
        out[at] = value
        return at + 1
    if 0 <= value < 0x1_0000_0000:
        size = 2 if value < 0x1_0000 else 4
        out[at] = 0xCD if value < 0x1_0000 else 0xCE
        words[at + 1] = _turned(np.uint64(value) << np.uint64(64 - 8 * size))
        return at + 1 + size
    out[at] = 0xD3
    words[at + 1] = _turned(np.uint64(value))
    return at + 9


@inlined
def _put_text(out: U8, words: U64, at: int, held: U64, start: int, length: int) -> Any:
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
    return _put_bytes(words, at, held, start, length)


@inlined
def _put_quoted(out: U8, words: U64, at: int, held: U64, start: int, length: int) -> Any:
    if length < 0:
        words[at] = _NULL
        return at + 4
    out[at] = _QUOTE
    at = _put_bytes(words, at + 1, held, start, length)
    out[at] = _QUOTE
    return at + 1


@inlined
def _put_digits(out: U8, at: int, value: int) -> Any:
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
def _put_head(out: U8, at: int, count: int, is_map: int) -> Any:
    """What opens a list or a map."""
    if count < 16:
        out[at] = (0x80 if is_map else 0x90) | count
        return at + 1
    out[at], out[at + 1], out[at + 2] = (0xDE if is_map else 0xDC), count >> 8, count & 255
    return at + 3


@inlined
def _put_number(
    out: U8, words: U64, at: int, kind: int, a: int, b: int, i: int, numbers: I64, number_at: I64
) -> Any:
    """A number or flag of the row or entry ``i``."""
    if b >= 0 and numbers[number_at[b] + i] == 0:
        out[at] = 0xC0
        return at + 1
    value = numbers[number_at[a] + i]
    if kind == _INT:
        return _put_int(out, words, at, value)
    if kind == _DIGITS:
        return _put_digits(out, at, value)
    if kind == _FLOAT:
        out[at] = 0xCB
        words[at + 1] = _turned(np.uint64(value))
        return at + 9
    out[at] = 0xC3 if value else 0xC2
    return at + 1


@compiled
def _fill(
    program: I64,
    rows: int,
    constants: U64,
    numbers: I64,
    number_at: I64,
    held: U64,
    start: I64,
    length: I32,
    text_at: I64,
    lists: I64,
    list_at: I64,
    out: U8,
    words: U64,
    ends: I64,
) -> None:
    """Run the program's first ``rows`` steps for every row, and its others for their entries."""
    at = 0
    ends[0] = 0
    for i in range(len(ends) - 1):
        for s in range(rows):
            kind, a, b = program[s, 2], program[s, 3], program[s, 4]
            at = _put_bytes(words, at, constants, program[s, 0], program[s, 1])
            if kind == _TEXT:
                place = text_at[a] + i
                at = _put_text(out, words, at, held, start[place], length[place])
            elif kind == _QUOTED:
                place = text_at[a] + i
                at = _put_quoted(out, words, at, held, start[place], length[place])
            elif kind == _RAW:
                place = text_at[a] + i
                at = _put_bytes(words, at, held, start[place], length[place])
            elif kind == _MANY:
                bound = list_at[a] + i
                first, stop = lists[bound], lists[bound + 1]
                at = _put_head(out, at, stop - first, program[s, 6])
                for entry in range(first, stop):
                    for k in range(b, b + program[s, 5]):
                        at = _put_bytes(words, at, constants, program[k, 0], program[k, 1])
                        inner = program[k, 2]
                        if inner == _TEXT:
                            place = text_at[program[k, 3]] + entry
                            at = _put_text(out, words, at, held, start[place], length[place])
                        elif inner == _RAW:
                            place = text_at[program[k, 3]] + entry
                            at = _put_bytes(words, at, held, start[place], length[place])
                        elif inner != _NOTHING:
                            at = _put_number(
                                out, words, at, inner, program[k, 3], program[k, 4], entry, numbers,
                                number_at,
                            )  # fmt: skip
            elif kind != _NOTHING:
                at = _put_number(out, words, at, kind, a, b, i, numbers, number_at)
        ends[i + 1] = at
