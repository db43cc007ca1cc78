"""Events of one batch gathered by user row, so that one ufunc call serves every user.

Sorting is done once per batch and shared by all features. Row and position are packed into one
integer, because numpy sorts plain int64 several times faster than it argsorts, and the packed
position makes the order stable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Groups:
    """The events of a batch in row order.

    Attributes:
        index: positions into the batch, sorted by row and, within a row, in log order; int64[n].
        row_of: the row of each sorted event, int64[n].
        rows: the distinct rows, ascending, int64[u].
        starts: where each row's events begin in ``index``, int64[u].

    >>> g = group(np.array([7, 3, 7, 3, 3]))
    >>> g.rows.tolist(), g.index.tolist(), g.starts.tolist()
    ([3, 7], [1, 3, 4, 0, 2], [0, 3])
    >>> amounts = np.array([10, 1, 20, 2, 3])
    >>> np.add.reduceat(amounts[g.index], g.starts).tolist()
    [6, 30]
    """

    index: I64
    row_of: I64
    rows: I64
    starts: I64

    def __len__(self) -> int:
        return len(self.index)

    def where(self, mask: NDArray[np.bool_]) -> Groups:
        """Only the sorted events that ``mask`` (bool[n]) keeps; rows left empty drop out."""
        return _bounded(self.index[mask], self.row_of[mask])

    def counts(self) -> I64:
        """Events per distinct row, int64[u]."""
        return np.diff(self.starts, append=len(self.index))


def group(rows: I64, at: I64 | None = None) -> Groups:
    """Gather events by their row.

    Args:
        rows: each event's row in log order, int64[n].
        at: positions of the events in their batch, ascending, int64[n]; None for all of a batch.

    >>> group(np.array([7, 3]), np.array([4, 9])).index.tolist()
    [9, 4]
    """
    at = np.arange(len(rows), dtype=np.int64) if at is None else at
    bits = max(int(at[-1]), 1).bit_length() if len(at) else 1
    packed = np.sort((rows.astype(np.int64) << bits) | at)
    return _bounded(packed & ((1 << bits) - 1), packed >> bits)


def _bounded(index: I64, row_of: I64) -> Groups:
    first = np.ones(len(row_of), dtype=np.bool_)
    np.not_equal(row_of[1:], row_of[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    return Groups(index=index, row_of=row_of, rows=row_of[starts], starts=starts)
