"""Firing timers: users are decided again at the times that their last decision has asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.deciding import Occasion
from state.lane_users import LaneUsers

I64 = NDArray[np.int64]


class Firing:
    """Fires the timers of one lane's users.

    Args:
        lane: whose users.
    """

    def __init__(self, lane: LaneUsers) -> None:
        self._lane = lane

    def fire(self, rows: I64, until_ms: int | I64, occasion: Occasion) -> None:
        """Evaluate rows at the time of their timers, again and again up to a time (of each)."""
        lane, table = self._lane, self._lane.table
        until = np.broadcast_to(until_ms, rows.shape)
        if lane.ends is not None:
            until = np.minimum(until, lane.ends.of(rows) - 1)
        stale = len(lane.redefiner.stale(rows))
        if stale:
            lane.redefine(rows, occasion.decided_at_ms)
        if stale or lane.ends is not None:
            again = table["due_ms"][rows] <= until
            rows, until = rows[again], until[again]
        while len(rows):
            lane.decide(rows, table["due_ms"][rows], occasion)
            again = table["due_ms"][rows] <= until
            rows, until = rows[again], until[again]

    def fire_before(self, rows: I64, first_ms: I64, decided_at_ms: int) -> None:
        """Fire the timers of some users that come before their new events."""
        waiting = self._lane.table["due_ms"][rows] <= first_ms
        if waiting.any():
            occasion = Occasion("timer", decided_at_ms)
            self.fire(rows[waiting], first_ms[waiting], occasion)

    def due(self, until_ms: int) -> I64:
        """Rows with a timer up to a time: the oldest first where there are too many."""
        lane, budget = self._lane, self._lane.plan.timer_budget
        due = lane.table["due_ms"][: lane.table.size]
        rows = np.flatnonzero(due <= until_ms)
        if lane.ends is not None:
            rows = lane.ends.timers(rows)
        if len(rows) > budget:
            oldest = np.argpartition(due[rows], budget)
            rows = np.sort(rows[oldest[:budget]])
        return rows
