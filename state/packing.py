"""MessagePack and JSON documents for many rows at once, filled in from columns.

A **form** is a document with slots: constant bytes (keys, and values that never change) with places
between them for a number, a flag, a text, or a list or map of as many entries as the row has. It is
compiled once to a short program that ``state.writing`` runs. A list or map has a form of its own:
the entries of all rows are written first, and those of one row go into its document as they are.
Numbers take as few bytes as they need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.texts import I32, I64, Texts, addresses
from events.words import PAD, open_words
from state import writing

U8 = NDArray[np.uint8]
Step = tuple[int, int, int, int, int, int]

_KINDS: Final = {
    "int": writing.INT,
    "float": writing.FLOAT,
    "flag": writing.FLAG,
    "digits": writing.DIGITS,
    "list": writing.LIST,
    "map": writing.MAP,
    "text": writing.TEXT,
    "quoted": writing.QUOTED,
    "raw": writing.RAW,
}
_NO_COLUMN: Final = -1


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
    >>> filled = form.fill(numbers, {"tag": tags}, bounds)
    >>> [msgspec.msgpack.decode(raw) for raw in filled.bytes_list()]
    [{'n': 7, 'tags': ['a']}, {'n': -1, 'tags': ['b', 'c']}]
    """

    def __init__(self, parts: Sequence[bytes | Slot | Many]) -> None:
        self._numbers: dict[str, int] = {}
        self._floats: set[str] = set()
        self._texts: dict[str, int] = {}
        self._lists: dict[str, Form] = {}
        self._program = np.array(list(self._steps(parts)), dtype=np.int64)
        self._most = int((self._program[:, 2] + writing.LARGEST).sum())

    def fill(
        self,
        columns: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Texts],
        bounds: Mapping[str, I64],
    ) -> Texts:
        """The documents of n rows.

        Args:
            columns: of numbers and flags, n each, or as many as there are entries.
            texts: of texts, likewise.
            bounds: for each ``Many`` the entries of row i, from ``bounds[i]`` up to, not including,
                ``bounds[i + 1]``; int64[n + 1].
        """
        return _between(*self._write(columns, texts, bounds))

    def _write(
        self,
        columns: Mapping[str, NDArray[Any]],
        texts: Mapping[str, Texts],
        bounds: Mapping[str, I64],
    ) -> tuple[U8, I64]:
        """The documents one behind another, and where each ends, with a 0 before all."""
        for name, form in self._lists.items():
            block, ends = form._write(columns, texts, bounds)
            columns = {**columns, name: np.diff(bounds[name])}
            texts = {**texts, name: _between(block, ends[bounds[name]])}
        held = [texts[name] for name in self._texts]
        first = next(iter(self._numbers), None)
        rows = len(held[0]) if first is None else len(columns[first])
        start, length = self._places(held, rows)
        room = rows * self._most + int(np.maximum(length, 0).sum()) + len(PAD)
        out, ends = np.empty(room, dtype=np.uint8), np.empty(rows + 1, dtype=np.int64)
        writing.write(
            self._program,
            self._as_words(columns, rows),
            addresses(held),
            start,
            length,
            self._most,
            np.empty((3, writing.BLOCK), dtype=np.int64),
            out,
            open_words(out),
            ends,
        )
        return out[: int(ends[-1]) + len(PAD)], ends

    def _places(self, held: Sequence[Texts], rows: int) -> tuple[I64, I32]:
        """Where the texts of each column begin in its bytes, and their lengths; [columns, n]."""
        start = np.empty((len(held), rows), dtype=np.int64)
        length = np.empty((len(held), rows), dtype=np.int32)
        for place, each in enumerate(held):
            start[place], length[place] = each.start, each.length
        return start, length

    def _as_words(self, columns: Mapping[str, NDArray[Any]], rows: int) -> I64:
        """The numbers of each column, int64[columns, n]; floats by their bits."""
        words = np.empty((len(self._numbers), rows), dtype=np.int64)
        floats = words.view(np.float64)
        for name, place in self._numbers.items():
            (floats if name in self._floats else words)[place] = columns[name]
        return words

    def _steps(self, parts: Sequence[bytes | Slot | Many]) -> Iterator[Step]:
        """The program of some parts: per step a constant, then what comes behind it."""
        constant = b""
        for part in parts:
            if isinstance(part, bytes):
                constant += part
                continue
            while len(constant) > writing.CONSTANT:
                yield _step(constant[: writing.CONSTANT])
                constant = constant[writing.CONSTANT :]
            yield from self._value(constant, part)
            constant = b""
        for at in range(0, len(constant), writing.CONSTANT):
            yield _step(constant[at : at + writing.CONSTANT])

    def _value(self, constant: bytes, part: Slot | Many) -> Iterator[Step]:
        """A value with the constant before it."""
        kind = _KINDS[part.kind]
        if isinstance(part, Many):
            self._lists[part.name] = Form(part.parts)
            yield _step(constant, kind, _place(self._numbers, part.name))
            yield _step(b"", writing.RAW, _place(self._texts, part.name))
        elif kind >= writing.TEXT:
            yield _step(constant, kind, _place(self._texts, part.column))
        else:
            if kind == writing.FLOAT:
                self._floats.add(part.column)
            when = _place(self._numbers, part.when) if part.when else _NO_COLUMN
            yield _step(constant, kind, _place(self._numbers, part.column), when)


def _place(places: dict[str, int], name: str) -> int:
    """The place of a column; a new one gets the next."""
    return places.setdefault(name, len(places))


def _step(
    constant: bytes, kind: int = writing.NOTHING, place: int = 0, when: int = _NO_COLUMN
) -> Step:
    """A line of a program."""
    words = np.frombuffer(constant.ljust(writing.CONSTANT, b"\0"), dtype="<i8").tolist()
    return words[0], words[1], len(constant), kind, place, when


def _between(block: U8, ends: I64) -> Texts:
    """What lies between each two ends."""
    return Texts(block, ends[:-1], np.diff(ends).astype(np.int32))
