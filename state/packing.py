"""MessagePack documents for many rows at once, filled in from columns.

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

from events.compiled import compiled, inlined, step
from events.texts import I32, I64, U64, Texts

U8 = NDArray[np.uint8]

_CONSTANT, _INT, _FLOAT, _FLAG, _TEXT, _MANY = range(6)
_KINDS: Final = {"int": _INT, "float": _FLOAT, "flag": _FLAG, "text": _TEXT}
_NO_COLUMN: Final = -1
_LARGEST: Final = 9
"""Bytes of a number; the head of a text or a list takes fewer."""


@dataclass(slots=True, frozen=True)
class Slot:
    """A place for a value.

    Attributes:
        column: where it comes from.
        kind: of the value; a text may be absent, which is written as null.
        when: an int column; where it is 0, null is written instead of an int.
    """

    column: str
    kind: Literal["int", "float", "flag", "text"] = "int"
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
        parts: MessagePack, in order.

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
        inner: list[list[int]] = []
        outer = [self._step(part, inner, len(parts)) for part in parts]
        self._program = np.array([*outer, *inner], dtype=np.int64)
        self._steps = len(outer)

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
        constants = np.frombuffer(self._constants, dtype=np.uint8)
        _fill(
            self._program,
            self._steps,
            constants,
            numbers,
            number_at,
            joined.words,
            joined.start,
            joined.length,
            text_at,
            lists,
            list_at,
            out,
            ends,
        )
        blob = out[: int(ends[-1])].tobytes()
        return [blob[a:b] for a, b in pairwise(ends.tolist())]

    def _step(self, part: bytes | Slot | Many, inner: list[list[int]], outer: int) -> list[int]:
        """One step of the program; the steps of entries are added to ``inner``."""
        if isinstance(part, bytes):
            self._constants += part
            return [_CONSTANT, len(self._constants) - len(part), len(part), 0, 0]
        if isinstance(part, Many):
            place = self._lists.setdefault(part.name, len(self._lists))
            steps = [self._step(each, [], 0) for each in part.parts]
            first = outer + len(inner)
            inner += steps
            return [_MANY, place, first, len(steps), part.kind == "map"]
        if part.kind == "text":
            return [_TEXT, self._texts.setdefault(part.column, len(self._texts)), 0, 0, 0]
        if part.kind == "float":
            self._floats.add(part.column)
        return [_KINDS[part.kind], self._number(part.column), self._number(part.when), 0, 0]

    def _number(self, column: str) -> int:
        return self._numbers.setdefault(column, len(self._numbers)) if column else _NO_COLUMN

    def _as_words(self, name: str, values: NDArray[Any]) -> I64:
        if name in self._floats:
            return values.astype(np.float64).view(np.int64)
        return values.astype(np.int64)

    def _most_bytes(self, rows: int, texts: Texts, lists: I64) -> int:
        """No documents are longer than this together."""
        entries = rows + int(lists.max(initial=0))
        slots = len(self._program) * _LARGEST
        return entries * (len(self._constants) + slots) + int(np.maximum(texts.length, 0).sum()) + 1


def _flat(columns: Sequence[I64]) -> tuple[I64, I64]:
    """Columns behind one another, and where each begins."""
    ends = np.cumsum([0, *map(len, columns)])
    nothing = np.empty(0, dtype=np.int64)
    return np.concatenate([nothing, *columns]), ends.astype(np.int64)


@inlined
def _put_big(out: U8, at: int, value: int, size: int) -> Any:
    """A big-endian integer of some bytes."""
    for k in range(size):
        out[at + k] = (value >> (8 * (size - 1 - k))) & 255
    return at + size


@step
def _put_int(out: U8, at: int, value: int) -> Any:
    if value < 0:
        out[at] = 0xD3
        return _put_big(out, at + 1, value, 8)
    if value < 0x80:
        out[at] = value
        return at + 1
    if value < 0x1_0000:
        out[at] = 0xCD
        return _put_big(out, at + 1, value, 2)
    if value < 0x1_0000_0000:
        out[at] = 0xCE
        return _put_big(out, at + 1, value, 4)
    out[at] = 0xD3
    return _put_big(out, at + 1, value, 8)


@step
def _put_text(out: U8, at: int, words: U64, start: int, length: int) -> Any:
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
        out[at] = 0xDA
        at = _put_big(out, at + 1, length, 2)
    for k in range(length):
        out[at + k] = words[start + k] & np.uint64(255)
    return at + length


@step
def _put_head(out: U8, at: int, count: int, is_map: int) -> Any:
    """What opens a list or a map."""
    if count < 16:
        out[at] = (0x80 if is_map else 0x90) | count
        return at + 1
    out[at] = 0xDE if is_map else 0xDC
    return _put_big(out, at + 1, count, 2)


@step
def _put(
    line: I64,
    i: int,
    constants: U8,
    numbers: I64,
    number_at: I64,
    words: U64,
    start: I64,
    length: I32,
    text_at: I64,
    out: U8,
    at: int,
) -> Any:
    """Any step but a list's, for the row or entry ``i``; where the next one writes."""
    kind, a, b = line[0], line[1], line[2]
    if kind == _CONSTANT:
        for k in range(b):
            out[at + k] = constants[a + k]
        return at + b
    if kind == _TEXT:
        place = text_at[a] + i
        return _put_text(out, at, words, start[place], length[place])
    value = numbers[number_at[a] + i]
    if kind == _FLOAT:
        out[at] = 0xCB
        return _put_big(out, at + 1, value, 8)
    if kind == _FLAG:
        out[at] = 0xC3 if value else 0xC2
        return at + 1
    if b >= 0 and numbers[number_at[b] + i] == 0:
        out[at] = 0xC0
        return at + 1
    return _put_int(out, at, value)


@compiled
def _fill(
    program: I64,
    steps: int,
    constants: U8,
    numbers: I64,
    number_at: I64,
    words: U64,
    start: I64,
    length: I32,
    text_at: I64,
    lists: I64,
    list_at: I64,
    out: U8,
    ends: I64,
) -> None:
    """Run the program for every row."""
    at = 0
    ends[0] = 0
    for i in range(len(ends) - 1):
        for s in range(steps):
            line = program[s]
            if line[0] == _MANY:
                bound = list_at[line[1]] + i
                first, stop = lists[bound], lists[bound + 1]
                at = _put_head(out, at, stop - first, line[4])
                for entry in range(first, stop):
                    for k in range(line[2], line[2] + line[3]):
                        inner = program[k]
                        at = _put(
                            inner, entry, constants, numbers, number_at, words, start, length,
                            text_at, out, at,
                        )  # fmt: skip
            else:
                at = _put(
                    line, i, constants, numbers, number_at, words, start, length, text_at, out, at
                )
        ends[i + 1] = at
