"""MessagePack documents for many rows at once.

A document whose numbers all have a fixed width is the same bytes for every row but for those
numbers: keys and type marks are constant. ``Template`` lays such a piece out once as a numpy record
whose constant bytes are already in place, and fills in one column per number. What varies in
length (texts, the segments a user is in) is added as ready pieces and joined row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

_WIDE: Final[dict[str, tuple[bytes, str]]] = {
    "int": (b"\xd3", ">i8"),
    "count": (b"\xce", ">u4"),
    "short": (b"\xcd", ">u2"),
    "float": (b"\xcb", ">f8"),
    "byte": (b"", "u1"),  # a ready MessagePack byte: 0..127, NIL, TRUE or FALSE
    "map": (b"\xde", ">u2"),  # the number of entries of a map whose entries follow
}

NIL: Final = 0xC0
FALSE: Final = 0xC2
TRUE: Final = 0xC3


@dataclass(slots=True, frozen=True)
class Slot:
    """A number to be filled in: its column and one of int, count, short, float, byte, map."""

    column: str
    kind: str = "int"


def pack(value: Any) -> bytes:
    """Any plain value as MessagePack."""
    return msgspec.msgpack.encode(value)


def map_head(entries: int) -> bytes:
    """The bytes that open a map."""
    return bytes([0x80 | entries]) if entries < 16 else b"\xde" + entries.to_bytes(2, "big")


class Template:
    """A piece of MessagePack: constant bytes with slots between them.

    Attributes:
        size_bytes: its length.
        slots: the columns that fill its slots.

    >>> t = Template([map_head(2), pack("n"), Slot("n", "count"), pack("x"), Slot("x", "float")])
    >>> [msgspec.msgpack.decode(p) for p in t.fill({"n": np.array([1, 2]), "x": 0.5}, 2)]
    [{'n': 1, 'x': 0.5}, {'n': 2, 'x': 0.5}]
    """

    def __init__(self, parts: Sequence[bytes | Slot]) -> None:
        blank, fields, at = b"", {}, 0
        for part in parts:
            if isinstance(part, Slot):
                mark, kind = _WIDE[part.kind]
                blank += mark
                fields[part.column] = (kind, len(blank))
                blank += bytes(np.dtype(kind).itemsize)
            else:
                blank += part
            at = len(blank)
        self.size_bytes = at
        self.slots = tuple(fields)
        self._blank = np.frombuffer(blank, dtype=np.uint8)
        self._dtype = np.dtype(
            {
                "names": list(fields),
                "formats": [kind for kind, _ in fields.values()],
                "offsets": [offset for _, offset in fields.values()],
                "itemsize": at,
            }
        )

    def matrix(self, columns: Mapping[str, Any], rows: int) -> NDArray[np.uint8]:
        """The filled pieces as uint8[rows, size_bytes]; each column is rows long or one value."""
        out = np.empty((rows, self.size_bytes), dtype=np.uint8)
        out[:] = self._blank
        records = out.reshape(-1).view(self._dtype)
        for name in self.slots:
            records[name] = columns[name]
        return out

    def fill(self, columns: Mapping[str, Any], rows: int) -> list[bytes]:
        """The filled pieces as byte strings."""
        blob, size = self.matrix(columns, rows).tobytes(), self.size_bytes
        return [blob[at : at + size] for at in range(0, len(blob), size)]


def ragged(rows: int, pieces: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]]) -> list[bytes]:
    """Append pieces to some of the rows, in the order given, and return each row's bytes.

    Args:
        rows: how many rows.
        pieces: row indices int64[k] (each at most once per piece) and their bytes uint8[k, width].

    >>> ab, c = np.array([[97, 98], [97, 66]], np.uint8), np.array([[99]], np.uint8)
    >>> ragged(3, [(np.array([0, 2]), ab), (np.array([2]), c)])
    [b'ab', b'', b'aBc']
    """
    lengths = np.zeros(rows, dtype=np.int64)
    for index, matrix in pieces:
        lengths[index] += matrix.shape[1]
    ends = np.cumsum(lengths)
    free = ends - lengths
    arena = np.empty(int(ends[-1]) if rows else 0, dtype=np.uint8)
    for index, matrix in pieces:
        width = matrix.shape[1]
        arena[free[index][:, None] + np.arange(width)] = matrix
        free[index] += width
    blob = arena.tobytes()
    return [blob[a:b] for a, b in pairwise([0, *ends.tolist()])]
