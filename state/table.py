"""The lane's users: one row per user, one numpy array per column.

A column is an array that a whole-array operation can take. Where its cells lie is another question.
A batch reads most columns of some hundred rows here and there, so the cells of a row lie side by
side (**together**): a row is then a few cache lines, and not one for each of its columns. A column
that is looked through from end to end lies **apart** (decision 20).

Columns double in length when rows run out, so adding a user costs amortised constant time. Growth
replaces the arrays: fetch ``table["name"]`` anew after rows were added. Rows beyond ``size`` are
zero and not written to, and what is long has pages of its own that the system gives and takes back
whole. So the reserve is address space and no memory.
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
"""From this length on arrays are mapped; shorter ones come from the heap."""

_HUGE_BYTES: Final = 2 << 20
"""From this length on in huge pages, where the system has them: rows are read here and there, and
most of what that costs is finding the page. Of shorter ones they would leave too much unused."""


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
        apart: its cells lie behind one another, whatever the table does with the others.
        unit: what its numbers are counted in, where settings say that; a stored column of another
            unit is another column.
    """

    name: str
    dtype: str
    initial: int | float = 0
    shape: tuple[int, ...] = ()
    ranked: bool = False
    apart: bool = False
    unit: str = ""

    @property
    def stored_as(self) -> str:
        """Its name in a record's layout."""
        return f"{self.name}@{self.unit}" if self.unit else self.name


class Table:
    """Growing columns.

    Args:
        columns: to begin with.
        capacity: rows there is room for at first.
        together: the cells of a row lie side by side.

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

    def __init__(
        self, columns: Sequence[Column] = (), capacity: int = 1024, *, together: bool = False
    ) -> None:
        self.size = self.moves = 0
        self._capacity = max(capacity, 1)
        self._together = together
        self._columns: dict[str, Column] = {}
        self._offsets: dict[str, int] = {}
        self._gaps: list[range] = []
        self._width = 0
        self._block: NDArray[np.uint8] = np.zeros((self._capacity, 0), dtype=np.uint8)
        self._arrays: dict[str, NDArray[Any]] = {}
        self.add_columns("", columns)

    def add_columns(self, prefix: str, columns: Sequence[Column]) -> None:
        """Declare columns, each under ``prefix + name``; rows that exist get the initial value."""
        names = []
        for column in columns:
            name = prefix + column.name
            if name in self._columns:
                raise ValueError(f"column names must be unique, but {name!r} is declared twice")
            self._columns[name] = replace(column, name=name)
            names.append(name)
            if self._together and not column.apart:
                self._offsets[name] = self._room_for(_kind(column))
            else:
                self._arrays[name] = self._fresh(column)
        if self._offsets:
            self._lay()
        for name in names:
            self._arrays[name][: self.size] = self._columns[name].initial
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
            if held.shape[1:] != column.shape or held.dtype != column.dtype:
                self._offsets.pop(column.name, None)  # its place stays empty
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
            if name not in self._offsets:
                new = self._fresh(self._columns[name])
                new[: self.size] = old[: self.size]
                self._arrays[name] = new
        if self._offsets:
            self._lay()

    def _room_for(self, kind: np.dtype[Any]) -> int:
        """Where in a row a cell may begin: in a gap that others have left, or behind them all."""
        size, unit = kind.itemsize, kind.alignment
        for k, gap in enumerate(self._gaps):
            at = gap.start + -gap.start % unit
            if at + size <= gap.stop:
                self._gaps[k : k + 1] = range(gap.start, at), range(at + size, gap.stop)
                return at
        at = self._width + -self._width % unit
        self._gaps.append(range(self._width, at))
        self._width = at + size
        return at

    def _lay(self) -> None:
        """Lay the cells of each row side by side, in a block that is long and wide enough."""
        # shorter than the table where none of its columns lay together when it grew
        old, width = self._block[: self.size], max(self._width + -self._width % 8, 8)
        self._block = _zeros((self._capacity, width), np.dtype(np.uint8))
        self._block[: len(old), : old.shape[1]] = old
        kind = np.dtype(
            {
                "names": list(self._offsets),
                "formats": [_kind(self._columns[name]) for name in self._offsets],
                "offsets": list(self._offsets.values()),
                "itemsize": width,
            }
        )
        rows = self._block.view(kind)[:, 0]
        self._arrays |= {name: rows[name] for name in self._offsets}

    def _fresh(self, column: Column) -> NDArray[Any]:
        return _zeros((self._capacity, *column.shape), np.dtype(column.dtype))


def _kind(column: Column) -> np.dtype[Any]:
    """The type of a whole cell."""
    return np.dtype((column.dtype, column.shape))


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
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
