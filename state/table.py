"""The lane's users as a struct of arrays: one row per user, one numpy array per column.

Columns double in length when rows run out, so adding a user costs amortised constant time and a
column is always one contiguous array that a whole-array operation can take. Growth replaces the
arrays: fetch ``table["name"]`` anew after rows were added. Rows beyond ``size`` are zero and not
written to, and long columns are pages of their own that the system gives and takes back whole. So
the reserve is address space and no memory.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled

_PAGES_BYTES: Final = 1 << 20
"""From this length on a column is mapped; shorter ones come from the heap."""

_HUGE_BYTES: Final = 2 << 20
"""From this length on in huge pages, where the system has them: rows are read here and there, and
most of what that costs is finding the page. Of a shorter column they would leave too much unused.
"""


@dataclass(slots=True, frozen=True)
class Column:
    """One column.

    Attributes:
        name: of the column.
        dtype: of numpy.
        initial: the value of a new row.
        shape: of one cell.
        ranked: a cell's first values matter most, so a stored one of another length is cut or
            filled up; other columns begin anew when their shape has changed.
    """

    name: str
    dtype: str
    initial: int | float = 0
    shape: tuple[int, ...] = ()
    ranked: bool = False


class Table:
    """A growing struct of arrays.

    Attributes:
        size: rows.
        moves: grows whenever an array is replaced by another.

    >>> t = Table([Column("views", "i4"), Column("last_ms", "i8", -1)], capacity=2)
    >>> t.grow(3).tolist()
    [0, 1, 2]
    >>> t["views"][[0, 2]] += 5
    >>> t["views"][: t.size].tolist(), t["last_ms"][: t.size].tolist()
    ([5, 0, 5], [-1, -1, -1])
    """

    def __init__(self, columns: Sequence[Column] = (), capacity: int = 1024) -> None:
        self.size = self.moves = 0
        self._capacity = max(capacity, 1)
        self._columns: dict[str, Column] = {}
        self._arrays: dict[str, NDArray[Any]] = {}
        self.add_columns("", columns)

    def add_columns(self, prefix: str, columns: Sequence[Column]) -> None:
        """Declare columns, each under ``prefix + name``; rows that exist get the initial value."""
        for column in columns:
            name = prefix + column.name
            if name in self._columns:
                raise ValueError(f"column names must be unique, but {name!r} is declared twice")
            self._columns[name] = replace(column, name=name)
            self._arrays[name] = self._fresh(column)
            self._arrays[name][: self.size] = column.initial
        self.moves += 1

    def replace(self, column: Column, values: NDArray[Any] | None = None) -> None:
        """Declare a column in the place of the one of that name, with the values of all rows.

        Args:
            column: the new one.
            values: [size, *shape]; None keeps what is there.
        """
        held = self._arrays[column.name]
        self._columns[column.name] = column
        self.moves += 1
        if values is not None:
            held = self._arrays[column.name] = self._fresh(column)
            held[: self.size] = values

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def expect(self, count: int) -> None:
        """Make room for so many more rows, and some beyond, at once instead of step by step."""
        if self.size + count > self._capacity:
            self._reserve(self.size + count + (self.size + count) // 4)

    def grow(self, count: int) -> NDArray[np.int64]:
        """Append ``count`` rows of initial values and return their indices, int64[count]."""
        first, stop = self.size, self.size + count
        if stop > self._capacity:
            self._reserve(max(stop, 2 * self._capacity))
        self.size = stop
        if count:
            for name, array in self._arrays.items():
                if initial := self._columns[name].initial:
                    array[first:stop] = initial
        return np.arange(first, stop, dtype=np.int64)

    def reset(self, rows: NDArray[np.int64], keep: Collection[str] = ()) -> None:
        """Give rows, int64[n], their initial values again, but for some columns."""
        for name, array in self._arrays.items():
            if name not in keep:
                array[rows] = self._columns[name].initial

    def reach(self, rows: NDArray[np.int64]) -> None:
        """Append rows until there is each of these, int64[n]."""
        missing = _highest(rows) + 1 - self.size
        if missing > 0:
            self.grow(missing)

    def bytes_held(self) -> int:
        """Bytes of all rows."""
        return sum(array[: self.size].nbytes for array in self._arrays.values())

    def _reserve(self, capacity: int) -> None:
        self._capacity = capacity
        self.moves += 1
        for name, old in self._arrays.items():
            new = self._fresh(self._columns[name])
            new[: self.size] = old[: self.size]
            self._arrays[name] = new

    def _fresh(self, column: Column) -> NDArray[Any]:
        shape, dtype = (self._capacity, *column.shape), np.dtype(column.dtype)
        length = math.prod(shape) * dtype.itemsize
        if length < _PAGES_BYTES:
            return np.zeros(shape, dtype)
        pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if length >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        return np.frombuffer(pages, dtype).reshape(shape)


@compiled
def _highest(rows: NDArray[np.int64]) -> int:
    """The highest row, -1 without any."""
    highest = -1
    for i in range(len(rows)):
        highest = max(highest, rows[i])
    return highest
