"""Forgetting: users who were silent for longer than the retention time leave the lane.

A user **ends** when the retention time has passed since the last event (``state.ends``). Whoever
has ended is forgotten some time later, at most so many at a step, or at once when the next event
comes: that event begins a new life. So what is decided does not depend on when the steps are; where
a batch holds several lives of a user, they are taken one after another.

Forgetting ends every membership with cause ``retention``, deletes what the side tables hold, and
gives the row back (``state.users``). The commit that publishes the exits takes the user out of the
store. Decided in ``docs/decisions/0012-forgotten-users-begin-anew.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import compiled
from state.deciding import Occasion
from state.ends import Ends
from state.firing import Firing
from state.groups import Groups, group
from state.lane_users import LaneUsers
from state.times import NEVER_MS

I64 = NDArray[np.int64]


class Forgetting:
    """Forgets the users of one lane.

    Args:
        lane: whose users.
        ends: theirs.
        firing: of their timers.
        every_ms: least time of the lane's clock between two steps.
        most: users forgotten at a step.
    """

    def __init__(
        self, lane: LaneUsers, ends: Ends, firing: Firing, every_ms: int, most: int
    ) -> None:
        self._lane, self._ends, self._firing = lane, ends, firing
        self._every_ms, self._most = every_ms, most
        self._next_ms = NEVER_MS

    # -- events -------------------------------------------------------------------------------

    def lives(self, batch: Batch, rows: I64, at: I64, wall_ms: int | None) -> Iterator[Groups]:
        """Some events by row, one life of each user after another; forgets who ends in between.

        Args:
            batch: the events.
            rows: the row of each, int64[n].
            at: their places in the batch, int64[n].
            wall_ms: the wall clock.
        """
        lane, ts_ms, after_ms = self._lane, batch.ts_ms, self._ends.after_ms
        clock_ms, last_seen = lane.clock.now_ms, lane.table["last_seen"]
        groups = group(rows, at)
        if not _may_end(rows, at, ts_ms, last_seen, after_ms, clock_ms):
            yield groups
            return
        life = np.empty(len(groups), dtype=np.int64)
        ends, held = groups.ends(), (ts_ms, last_seen)
        lives = _number(
            groups.index,
            groups.row_of,
            groups.starts,
            ends,
            *held,
            self._ends.after_ms,
            clock_ms,
            life,
        )
        for number in range(lives + 1):
            part = groups.where(life == number)
            if number and len(part):
                users = batch.users.take(part.index[part.starts])
                self.forget(np.sort(lane.users.ids.find(users)), wall_ms)
                where = np.sort(part.index)
                part = group(lane.users.rows(batch.users.take(where)), where)
            if len(part):
                yield part

    # -- time ---------------------------------------------------------------------------------

    def step(self, now_ms: int, wall_ms: int | None) -> None:
        """Forget some of those who have ended by the clock, the longest gone first."""
        if now_ms < self._next_ms:
            return
        rows = self._ends.over(now_ms)
        if len(rows) <= self._most:
            self._next_ms = now_ms + self._every_ms
        else:
            oldest = np.argpartition(self._lane.table["last_seen"][rows], self._most)
            rows = np.sort(rows[oldest[: self._most]])
        self.forget(rows, wall_ms)

    def finish(self, at_ms: int) -> None:
        """Forget all who have ended by a time."""
        self.forget(self._ends.over(at_ms), at_ms)

    def forget(self, rows: I64, wall_ms: int | None) -> None:
        """Forget the users of distinct rows as of their ends."""
        if not len(rows):
            return
        lane = self._lane
        ends_ms = self._ends.of(rows)
        decided_at_ms = lane.decided_at(wall_ms, int(ends_ms.max()))
        lane.redefine(rows, decided_at_ms)
        self._firing.fire(rows, ends_ms - 1, Occasion("timer", decided_at_ms))
        at_ms = np.maximum(ends_ms, lane.table["as_of"][rows])
        last_seen = lane.table["last_seen"][rows].tolist()
        lane.decider.forget(
            rows,
            at_ms,
            decided_at_ms,
            [b'{"last_seen":%d}' % last for last in last_seen],
            b'{"retention.after_ms":%d}' % self._ends.after_ms,
        )
        lane.measures.forget(rows)
        if lane.learner is not None:
            lane.learner.forget(rows)
        if lane.recommender is not None:
            lane.recommender.forget(rows)
        lane.users.leave(rows)
        lane.counters.forgotten += len(rows)


@compiled
def _may_end(rows: I64, at: I64, ts_ms: I64, last_seen: I64, after_ms: int, clock_ms: int) -> bool:
    """Whether any user of some events may have ended before one of them."""
    first = last = ts_ms[at[0]] if len(at) else 0
    for k in range(len(rows)):
        ts, seen = ts_ms[at[k]], last_seen[rows[k]]
        first, last = min(first, ts), max(last, ts)
        if seen != NEVER_MS and seen + after_ms <= max(ts, clock_ms):
            return True
    return last - first >= after_ms


@compiled
def _number(
    index: I64,
    row_of: I64,
    starts: I64,
    ends: I64,
    ts_ms: I64,
    last_seen: I64,
    after_ms: int,
    clock_ms: int,
    life: I64,
) -> int:
    """Number the lives of each user, 0 the one that goes on or is the first; the highest."""
    most = 0
    for u in range(len(starts)):
        last, number = last_seen[row_of[starts[u]]], 0
        for k in range(starts[u], ends[u]):
            ts = ts_ms[index[k]]
            until = max(ts, clock_ms) if k == starts[u] else ts
            if last != NEVER_MS and last + after_ms <= until:
                number += 1
                last = ts
            else:
                last = max(last, ts)
            life[k] = number
        most = max(most, number)
    return most
