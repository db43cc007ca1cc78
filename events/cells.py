"""CSV as cells: a header, and rows with the line in which each begins.

A comma in a cell without quotes makes one cell too many, and what stands in which column is not
known any more: such a row is none. Empty cells behind the last column are what spreadsheets leave.

A quote that is not closed takes the lines up to the next one into its cell, and nobody can tell
that from a text of several lines. So whoever reads is told of all rows that go over several.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

OnLines = Callable[[int, int], None]
"""Told of a row that goes over several lines the first and the last of them."""
_DIGITS: Final = 18
"""Of an integer that surely fits into 64 bits."""
_ZEROS: Final = re.compile(r"\.0+\Z")


def untold(_first: int, _last: int) -> None:
    """Nobody is told."""


class Cells:
    r"""The rows of a CSV that are not blank, each with its line, from 1 on.

    Args:
        text: opened with ``newline=""``.
        on_lines: told of each row that goes over several lines.

    Attributes:
        header: names of columns; empty where nothing is there.

    >>> cells = Cells(["id,size\n", "\n", '1,"a\n', 'b"\n', "2,1\n"])
    >>> cells.header, list(cells)
    (['id', 'size'], [(3, ['1', 'a\nb']), (5, ['2', '1'])])

    Raises:
        csv.Error: what comes is none; also while rows are read.
    """

    def __init__(self, text: Iterable[str], on_lines: OnLines = untold) -> None:
        self._rows = _rows(text, on_lines)
        _, self.header = next(self._rows, (0, []))

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        return self._rows


def _rows(text: Iterable[str], on_lines: OnLines) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(text)
    before = 0
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise csv.Error(
                f"{error} in the row that begins in line {before + 1:,}; is a quote not closed "
                "there?"
            ) from error
        if row is None:
            return
        if rows.line_num > before + 1:
            on_lines(before + 1, rows.line_num)
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


def _integer(text: str) -> int | str:
    """A whole number, also one written as a float; else the text, which the engine refuses."""
    digits = _ZEROS.sub("", text)
    if digits.isascii() and digits.removeprefix("-").isdigit() and len(digits) <= _DIGITS:
        return int(digits)
    return text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {
    "ts": _integer,
    "quantity": _integer,
    "value": _number,
}
"""What is not a text in the contract; an amount may stay a decimal text."""
