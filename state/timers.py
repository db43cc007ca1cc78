"""Timers: what becomes due in a lane because time goes on, though nobody acts.

A step of the clock fires the timers of silent users, ends windows, brings the cuts up to date and
lets labels mature. Timers, sweeps and forgetting have a budget at each step; what is left over
comes with the next, of timers the oldest first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from state.deciding import Occasion
from state.times import NEVER_MS

if TYPE_CHECKING:
    from state.lane import Lane

I64 = NDArray[np.int64]


class Timers:
    """Does what time makes due in one lane.

    Args:
        lane: whose users.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._stepped_ms = self._swept_ms = NEVER_MS

    # -- time goes on -------------------------------------------------------------------------

    def step(self, wall_ms: int | None) -> None:
        """Do what the lane's clock makes due, if it has moved far enough since the last step."""
        lane, plan = self._lane, self._lane.plan
        now = lane.clock.now_ms
        if now == NEVER_MS or now - self._stepped_ms < plan.timer_step_ms:
            return
        self._stepped_ms = now
        occasion = Occasion("timer", lane.decided_at(wall_ms))
        lane.redefine(lane.redefiner.sweep(plan.redefined_rows), wall_ms)
        self.fire(self._due(now), now, occasion)
        if lane.forgetting is not None:
            lane.forgetting.step(now, wall_ms)
        expired = self._lasting(lane.measures.expire(now))
        if len(expired):
            lane.decide(expired, lane.times(expired), occasion)
        if lane.population.is_stale(now, lane.counters.events):
            self.measure(lane.users.here(lane.population.sample(lane.table.size)), now)
        self._learn(now)
        if now - self._swept_ms >= plan.sweep_every_ms:
            self._swept_ms = now
            self._sweep(Occasion("cuts", occasion.decided_at_ms))

    def finish(self, at_ms: int) -> None:
        """Bring every user to one time, however long that takes."""
        lane = self._lane
        lane.clock.restore(at_ms)
        occasion = Occasion("timer", at_ms)
        lane.redefine(lane.users.everybody(), at_ms)
        while len(rows := self._due(at_ms)):
            self.fire(rows, at_ms, occasion)
        if lane.forgetting is not None:
            lane.forgetting.forget(lane.forgetting.over(at_ms), at_ms)
        lane.measures.expire(at_ms)
        self._learn(at_ms)
        everyone = lane.users.everybody()
        self.measure(everyone, at_ms)
        lane.decide(everyone, lane.times(everyone), Occasion("cuts", at_ms))

    def measure(self, rows: I64, now_ms: int) -> None:
        """Put the cuts at the quintiles of some users."""
        lane = self._lane
        buyers = lane.measures.buyers(rows)
        lane.population.remeasure(buyers, lane.view_now, now_ms, lane.table.size)

    # -- silent users -------------------------------------------------------------------------

    def fire(self, rows: I64, until_ms: int | I64, occasion: Occasion) -> None:
        """Evaluate rows at the time of their timers, again and again up to a time (of each)."""
        lane, table = self._lane, self._lane.table
        until = np.broadcast_to(until_ms, rows.shape)
        if lane.forgetting is not None:
            until = np.minimum(until, lane.forgetting.ends_ms(rows) - 1)
        stale = len(lane.redefiner.stale(rows))
        if stale:
            lane.redefine(rows, occasion.decided_at_ms)
        if stale or lane.forgetting is not None:
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

    def _due(self, until_ms: int) -> I64:
        """Rows with a timer up to a time: the oldest first where there are too many."""
        lane, budget = self._lane, self._lane.plan.timer_budget
        due = lane.table["due_ms"][: lane.table.size]
        rows = np.flatnonzero(due <= until_ms)
        if lane.forgetting is not None:
            rows = lane.forgetting.timers(rows)
        if len(rows) > budget:
            oldest = np.argpartition(due[rows], budget)
            rows = np.sort(rows[oldest[:budget]])
        return rows

    def _lasting(self, rows: I64) -> I64:
        """Those of some users whose time has not ended."""
        lane = self._lane
        if lane.forgetting is None:
            return rows
        return lane.forgetting.lasting(rows, lane.clock.now_ms)

    # -- all users ----------------------------------------------------------------------------

    def _sweep(self, occasion: Occasion) -> None:
        """One step on the way of the newest cuts through all users."""
        lane = self._lane
        moved = lane.population.moved(lane.plan.sweep_rows, lane.view_now, lane.table)
        moved = self._lasting(lane.users.here(moved))
        if len(moved):
            lane.decide(moved, lane.times(moved), occasion)

    def _learn(self, now_ms: int) -> None:
        """Let labels mature, and models see the population if they ask for it."""
        lane = self._lane
        if lane.learner is None:
            return
        lane.learner.mature(now_ms)
        if lane.learner.wants_population(now_ms):
            sample = lane.users.here(lane.population.sample(lane.table.size))
            lane.learner.learn_population(lane.view_now(sample))
