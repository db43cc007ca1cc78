"""CSV as cells: a header, and rows with the line in which each begins.

A comma in a cell without quotes makes one cell too many, and what stands in which column is not
known any more: such a row is none. Empty cells behind the last column are what spreadsheets leave.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence


class Cells:
    r"""The rows of a CSV that are not blank, each with its line, from 1 on.

    Args:
        text: opened with ``newline=""``.

    Attributes:
        header: names of columns; empty where nothing is there.

    >>> cells = Cells(["id,size\n", "\n", '1,"a\n', 'b"\n', "2,1\n"])
    >>> cells.header, list(cells)
    (['id', 'size'], [(3, ['1', 'a\nb']), (5, ['2', '1'])])

    Raises:
        csv.Error: what comes is none; also while rows are read.
    """

    def __init__(self, text: Iterable[str]) -> None:
        self._rows = _rows(text)
        _, self.header = next(self._rows, (0, []))

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self._rows


def _rows(text: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(text)
    before = 0
    for row in rows:
        if row:
            yield before + 1, row
        before = rows.line_num


def too_many(line: int, row: Sequence[str], header: Sequence[str]) -> str:
    """What is wrong with a row that has more cells than the header; empty if it has not.

    >>> too_many(2, ["mug", "1", "234.50"], ["item_id", "price"])
    'line 2 has 3 cells, the header has 2; put a cell with a comma in quotes'
    """
    if not any(row[len(header) :]):
        return ""
    return (
        f"line {line:,} has {len(row):,} cells, the header has {len(header):,}; put a cell with a "
        "comma in quotes"
    )
