"""Rows of a CSV that go over several lines: what somebody wrote, or a quote that is not closed.

Such a quote takes whole rows into its cell, and nobody would hear of it.
"""

from __future__ import annotations

import sys
from pathlib import Path


class LongRows:
    """How many rows of a file go over several lines, and where the first of them stands.

    Args:
        file: what is read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._count = 0
        self._first = (0, 0)

    def take(self, first: int, last: int) -> None:
        """Count a row by its first line and its last."""
        self._first = self._first if self._count else (first, last)
        self._count += 1

    def warn(self) -> None:
        """Say on standard error that there are some."""
        if not self._count:
            return
        first, last = self._first
        more = f"; there are {self._count:,} such rows" if self._count > 1 else ""
        print(
            f"warning: {self._file}: lines {first:,} to {last:,} are one row, for a cell in quotes "
            f"goes over them{more}. If no text of several lines is meant, a quote is not closed in "
            f"line {first:,}, and the rows up to the next quote are lost",
            file=sys.stderr,
        )
