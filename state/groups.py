"""Events of one batch gathered by user row, so that one ufunc call serves every user.

Sorting is done once per batch and shared by all features. Row and position are packed into one
integer, because numpy sorts plain int64 several times faster than it argsorts, and the packed
position makes the order stable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


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
        index, row_of, rows, starts = np.empty((4, np.count_nonzero(mask)), dtype=np.int64)
        distinct = _keep(self.index, self.row_of, mask, index, row_of, rows, starts)
        return Groups(index, row_of, rows[:distinct], starts[:distinct])

    def ends(self) -> I64:
        """Where each row's events end in ``index``, int64[u]."""
        ends = np.empty_like(self.starts)
        ends[:-1], ends[-1:] = self.starts[1:], len(self.index)
        return ends

    def counts(self) -> I64:
        """Events per distinct row, int64[u]."""
        return self.ends() - self.starts


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
    index, row_of, distinct_rows, starts = np.empty((4, len(packed)), dtype=np.int64)
    distinct = _unpack(packed, bits, index, row_of, distinct_rows, starts)
    return Groups(index, row_of, distinct_rows[:distinct], starts[:distinct])


def distinct(rows: I64) -> I64:
    """The distinct rows, ascending, int64[u].

    >>> distinct(np.array([7, 3, 7])).tolist()
    [3, 7]
    """
    ordered = np.sort(rows)
    return ordered[: _squeeze(ordered)]


def begins(values: NDArray[Any]) -> I64:
    """Where a value is another than the one before it, the first among them, int64[u].

    >>> begins(np.array([7, 7, 3, 3, 7])).tolist()
    [0, 2, 4]
    """
    is_other = np.empty(len(values), dtype=np.bool_)
    is_other[:1] = True
    np.not_equal(values[1:], values[:-1], out=is_other[1:])
    return is_other.nonzero()[0]


@inlined
def _bound(k: int, row: int, distinct: int, rows: I64, starts: I64) -> Any:
    """Begin a group at the ``k``-th event if its row is another; how many groups there are."""
    if distinct == 0 or rows[distinct - 1] != row:
        rows[distinct], starts[distinct] = row, k
        distinct += 1
    return distinct


@compiled
def _unpack(packed: I64, bits: int, index: I64, row_of: I64, rows: I64, starts: I64) -> int:
    """Take rows and positions apart again; how many distinct rows."""
    distinct = 0
    for k in range(len(packed)):
        index[k], row_of[k] = packed[k] & ((1 << bits) - 1), packed[k] >> bits
        distinct = _bound(k, row_of[k], distinct, rows, starts)
    return distinct


@compiled
def _keep(
    old_index: I64,
    old_row_of: I64,
    mask: NDArray[np.bool_],
    index: I64,
    row_of: I64,
    rows: I64,
    starts: I64,
) -> int:
    """Copy the events that the mask keeps; how many distinct rows."""
    k = distinct = 0
    for old in range(len(mask)):
        if mask[old]:
            index[k], row_of[k] = old_index[old], old_row_of[old]
            distinct = _bound(k, row_of[k], distinct, rows, starts)
            k += 1
    return distinct


@compiled
def _squeeze(ordered: I64) -> int:
    """Bring the distinct of ascending numbers to the front; how many."""
    n = 0
    for k in range(len(ordered)):
        if n == 0 or ordered[k] != ordered[n - 1]:
            ordered[n] = ordered[k]
            n += 1
    return n
