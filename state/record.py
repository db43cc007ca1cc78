"""The engine's private state of one user as a record of fixed layout.

A lane is written and read in bulk: a column is copied for all rows at once, a word at a time. The
layout (names, types, shapes) is stored
beside the records; a later version finds its columns by name, so it reads what an earlier one
wrote, and columns that are new start at their initial value. Numbers are little-endian, as the
machines are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import bytes_at, compiled, inlined, words_at
from events.texts import I32, I64, U64, Texts
from events.words import PAD, open_words, put_bytes
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
    >>> blobs.length.tolist()
    [20, 20]
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
        self._offsets = [int(fields[c.name][1]) for c in self._columns]
        self._places: tuple[Table, int, I64] | None = None

    @property
    def size_bytes(self) -> int:
        """Length of one record."""
        return self._dtype.itemsize

    def layout(self) -> Layout:
        """The record's columns as plain data, to be stored beside the records."""
        return [(c.stored_as, _little(c.dtype), c.shape) for c in self._columns]

    def pack(self, table: Table, rows: I64, texts: Texts | None = None) -> Texts:
        """The records of ``rows``, in their order, each followed by a text if there are any.

        Rows that ascend are many times faster than rows in no order: what lies close together is
        then read together.
        """
        size = self._dtype.itemsize
        lengths = np.full(len(rows), size, dtype=np.int32)
        if texts is not None:
            lengths += np.maximum(texts.length, 0)
        ends = np.cumsum(lengths, dtype=np.int64)
        starts = ends - lengths
        out = np.empty(int(lengths.sum()) + len(PAD), dtype=np.uint8)
        if texts is not None:  # first, because a whole word reaches into the record behind it
            _copy_texts(texts.words, texts.start, texts.length, open_words(out), starts + size)
        _read_cells(self._places_in(table), rows, out, starts)
        return Texts(out, starts, lengths)

    def _places_in(self, table: Table) -> I64:
        """Where the columns of a table lie, as ``_stretches`` says it."""
        if self._places is None or self._places[0] is not table or self._places[1] != table.moves:
            held = [table[column.name] for column in self._columns]
            places = _stretches(list(zip(held, self._offsets, strict=True)))
            self._places = table, table.moves, places
        return self._places[2]

    def unpack(
        self, table: Table, rows: I64, records: Texts, layout: Layout, *, followed: bool = False
    ) -> None:
        """Write ``records``, packed with ``layout``, to ``rows``; other columns are not touched.

        Args:
            table: to write to.
            rows: distinct, int64[n].
            records: n.
            layout: what they were packed with.
            followed: whether texts follow them, which are not looked at.

        Raises:
            ValueError: they are too few, too many, too short or too long.
        """
        stored = _dtype(layout)
        beyond = records.length - stored.itemsize
        if len(records) != len(rows) or (beyond < 0 if followed else beyond != 0).any():
            raise ValueError(
                f"{len(rows)} state records of {stored.itemsize} bytes were expected, but "
                f"{len(records)} of {records.length.min(initial=0)} to "
                f"{records.length.max(initial=0)} came: the stored layout does not fit them"
            )
        fields: Mapping[str, Any] = stored.fields or {}
        alike = []
        moved: NDArray[Any] | None = None
        for column in self._columns:
            name = column.stored_as if column.stored_as in fields else column.name
            if name not in fields:  # by name alone: from before there were units
                continue
            kind, offset = fields[name][:2]
            held = table[column.name]
            if kind.shape == column.shape and kind.base == held.dtype:
                alike.append((held, int(offset)))
                continue
            if moved is None:
                moved = stored_rows(records, layout)
            values = moved[name]
            if values.shape[1:] == column.shape:
                held[rows] = values
            elif column.ranked and values.ndim == 1 + len(column.shape) == 2:
                width = min(values.shape[1], *column.shape)
                held[rows, :width] = values[:, :width]
        _write_cells(_stretches(alike), rows, records.words, records.start)


def stored_rows(records: Texts, layout: Layout) -> NDArray[Any]:
    """Records of one layout as a structured array; what follows each is left out."""
    kind = _dtype(layout)
    exact = records.at(records.start, np.full(len(records), kind.itemsize, dtype=np.int32))
    return np.frombuffer(b"".join(exact.bytes_list()), dtype=kind)


def _dtype(layout: Layout) -> np.dtype[Any]:
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in layout])


def _little(kind: str) -> str:
    return np.dtype(kind).newbyteorder("<").str


def _stretches(columns: Sequence[tuple[NDArray[Any], int]]) -> I64:
    """Where columns lie, and the offsets of their cells in records; int64[stretches, 4].

    Each stretch has the address of its first cell, the bytes from one row to the next, the bytes
    of a cell and the offset. Cells that lie side by side in both are one.
    """
    out: list[list[int]] = []
    for cells, offset in columns:
        address, step, size = cells.ctypes.data, cells.strides[0], cells[:1].nbytes
        if out and out[-1][1] == step:
            first, _, length, begin = out[-1]
            if (first + length, begin + length) == (address, offset):
                out[-1][2] += size
                continue
        out.append([address, step, size, offset])
    return np.array(out, dtype=np.int64).reshape(-1, 4)


@inlined
def _copy_cell(target: int, source: int, size: int) -> None:
    """Copy so many bytes between addresses and no more, eight at a time where there are as many."""
    whole = size // 8
    words, held = words_at(target), words_at(source)
    for k in range(whole):
        words[k] = held[k]
    rest, last = bytes_at(target), bytes_at(source)
    for k in range(8 * whole, size):
        rest[k] = last[k]


@compiled
def _read_cells(places: I64, rows: I64, out: U8, starts: I64) -> None:
    """Copy the cells of rows to their records."""
    for i in range(len(rows)):
        for j in range(len(places)):
            cell, record = places[j, 0] + rows[i] * places[j, 1], out.ctypes.data + starts[i]
            _copy_cell(record + places[j, 3], cell, places[j, 2])


@compiled
def _write_cells(places: I64, rows: I64, words: U64, starts: I64) -> None:
    """Copy the cells of records to their rows."""
    for i in range(len(rows)):
        for j in range(len(places)):
            cell, record = places[j, 0] + rows[i] * places[j, 1], words.ctypes.data + starts[i]
            _copy_cell(cell, record + places[j, 3], places[j, 2])


@compiled
def _copy_texts(held: U64, start: I64, length: I32, out: U64, starts: I64) -> None:
    for i in range(len(start)):
        put_bytes(out, starts[i], held, start[i], length[i])
