"""The engine's private state of one user as a record of fixed layout.

A lane is written and read in bulk: packing copies each column once for all rows, unpacking is one
``frombuffer`` over the joined values. The layout (names, types, shapes) is stored beside the
records; a later version finds its columns by name, so it reads what an earlier one wrote, and
columns that are new start at their initial value. Numbers are little-endian, as the machines are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.texts import I32, U64, Texts
from state.table import Column, Table

U8 = NDArray[np.uint8]
Layout = list[tuple[str, str, tuple[int, ...]]]


class RecordFormat:
    """Packs rows of a table, all persisted columns of each, into equal byte strings.

    >>> table = Table([Column("n", "i4"), Column("slots", "i8", -1, (2,))])
    >>> rows = table.grow(2)
    >>> table["n"][:2] = [7, 8]
    >>> form = RecordFormat(table)
    >>> blobs = form.pack(table, rows)
    >>> len(blobs), len(blobs[0])
    (2, 20)
    >>> fresh = Table([*table, Column("new", "f8", 1.5)])
    >>> RecordFormat(fresh).unpack(fresh, fresh.grow(2), blobs, form.layout())
    >>> fresh["n"][:2].tolist(), fresh["slots"][0].tolist(), fresh["new"][:2].tolist()
    ([7, 8], [-1, -1], [1.5, 1.5])
    """

    def __init__(self, columns: Iterable[Column], skip: Iterable[str] = ()) -> None:
        left_out = set(skip)
        self._columns = [c for c in columns if c.name not in left_out]
        self._dtype = _dtype([(c.name, _little(c.dtype), c.shape) for c in self._columns])
        fields: Mapping[str, Any] = self._dtype.fields or {}
        self._offsets = {c.name: int(fields[c.name][1]) for c in self._columns}

    @property
    def size_bytes(self) -> int:
        """Length of one record."""
        return self._dtype.itemsize

    def layout(self) -> Layout:
        """The record's columns as plain data, to be stored beside the records."""
        return [(c.name, _little(c.dtype), c.shape) for c in self._columns]

    def pack(
        self, table: Table, rows: NDArray[np.int64], texts: Texts | None = None
    ) -> list[bytes]:
        """The records of ``rows``, in their order, each followed by a text if there are any."""
        size = self._dtype.itemsize
        lengths = np.full(len(rows), size, dtype=np.int64)
        if texts is not None:
            lengths += texts.length
        ends = np.cumsum(lengths)
        starts = ends - lengths
        out = np.empty(int(lengths.sum()), dtype=np.uint8)
        for column in self._columns:
            cells = table[column.name]
            raw = cells.view(np.uint8).reshape(len(cells), -1)
            _copy_cells(raw, rows, out, starts + self._offsets[column.name])
        if texts is not None:
            _copy_texts(texts.words, texts.start, texts.length, out, starts + size)
        blob = out.tobytes()
        return [blob[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]

    def unpack(
        self, table: Table, rows: NDArray[np.int64], records: Sequence[bytes], layout: Layout
    ) -> None:
        """Write ``records``, packed with ``layout``, to ``rows``; other columns are not touched."""
        stored = np.frombuffer(b"".join(records), dtype=_dtype(layout))
        if len(stored) != len(rows):
            raise ValueError(
                f"{len(rows)} state records were expected, but {len(stored)} of "
                f"{stored.dtype.itemsize} bytes came: the stored layout does not fit them"
            )
        for column in self._columns:
            if stored.dtype.names and column.name in stored.dtype.names:
                values = stored[column.name]
                if values.shape[1:] == column.shape:
                    table[column.name][rows] = values


def _dtype(layout: Layout) -> np.dtype[Any]:
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in layout])


def _little(kind: str) -> str:
    return np.dtype(kind).newbyteorder("<").str


@compiled
def _copy_cells(cells: U8, rows: NDArray[np.int64], out: U8, starts: NDArray[np.int64]) -> None:
    width = cells.shape[1]
    for i in range(len(rows)):
        for k in range(width):
            out[starts[i] + k] = cells[rows[i], k]


@compiled
def _copy_texts(
    words: U64, start: NDArray[np.int64], length: I32, out: U8, starts: NDArray[np.int64]
) -> None:
    for i in range(len(start)):
        for k in range(length[i]):
            out[starts[i] + k] = words[start[i] + k] & np.uint64(255)
