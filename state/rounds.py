"""The events of a batch in rounds: what lies apart in time is taken one after another.

A batch may hold hours, when an engine catches up or a file is replayed. If all events of a user
were taken at once, what the user was in between would be passed over: a segment that was entered
and left again, a timer that came due. So events of one user go together only if they are close in
time; what comes later waits for the next round, in which timers fire first. What is late is decided
as of the clock, and counts as if it came then. So where a stream is followed as it comes, a batch
holds no more than the allowed lateness and some milliseconds, and there is one round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.groups import Groups

I64 = NDArray[np.int64]

MOST_ROUNDS: Final = 50
"""In a running engine; so nobody slows it down by a user who acts for hours in one batch."""


def rounds(
    groups: Groups, ts_ms: I64, clock_ms: int, apart_ms: int, most: int = 0
) -> Iterator[Groups]:
    """One round after another; each event is in one of them, and each user once in a round.

    Args:
        groups: the events of a batch.
        ts_ms: the time of each event of the batch, int64[n].
        clock_ms: earlier events count as if they were of this time.
        apart_ms: events of a user up to so long after the first of a round go with it.
        most: rounds at most, with events further apart in them if need be; 0 for any number.

    >>> from state.groups import group
    >>> events = group(np.array([7, 3, 7, 7]))
    >>> ts_ms = np.array([0, 5, 900, 5_000])
    >>> [part.index.tolist() for part in rounds(events, ts_ms, clock_ms=0, apart_ms=1_000)]
    [[1, 0, 2], [3]]
    """
    round_of = np.empty(len(groups), dtype=np.int64)
    last = _number(groups.index, groups.row_of, ts_ms, clock_ms, apart_ms, round_of)
    while most and last >= most:
        apart_ms = max(2 * apart_ms, 1)
        last = _number(groups.index, groups.row_of, ts_ms, clock_ms, apart_ms, round_of)
    if last == 0:
        yield groups
        return
    for number in range(last + 1):
        yield groups.where(round_of == number)


@compiled
def _number(
    index: I64, row_of: I64, ts_ms: I64, clock_ms: int, apart_ms: int, round_of: I64
) -> int:
    """Number the round of each event; the last round. What goes back goes with what came before."""
    most, number, first_ms = 0, 0, np.int64(0)
    for k in range(len(index)):
        at_ms = max(ts_ms[index[k]], clock_ms)
        if k == 0 or row_of[k] != row_of[k - 1]:
            number, first_ms = 0, at_ms
        elif at_ms > first_ms + apart_ms:
            number, first_ms = number + 1, at_ms
        round_of[k] = number
        most = max(most, number)
    return most
