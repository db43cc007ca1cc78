"""The engine's private state of one user as a record of fixed layout.

A lane is written and read in bulk: packing copies each column once for all rows, unpacking is one
``frombuffer`` over the joined values. The layout (names, types, shapes) is stored beside the
records; a later version finds its columns by name, so it reads what an earlier one wrote, and
columns that are new start at their initial value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from state.table import Column, Table

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

    @property
    def size_bytes(self) -> int:
        """Length of one record."""
        return self._dtype.itemsize

    def layout(self) -> Layout:
        """The record's columns as plain data, to be stored beside the records."""
        return [(c.name, _little(c.dtype), c.shape) for c in self._columns]

    def pack(self, table: Table, rows: NDArray[np.int64]) -> list[bytes]:
        """The records of ``rows``, in their order."""
        out = np.empty(len(rows), dtype=self._dtype)
        for column in self._columns:
            out[column.name] = table[column.name][rows]
        blob, size = out.tobytes(), self._dtype.itemsize
        return [blob[at : at + size] for at in range(0, len(blob), size)]

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
