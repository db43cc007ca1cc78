"""Timers: what becomes due in a lane because time goes on, though nobody acts.

A step of the clock fires the timers of silent users, ends windows, brings the cuts up to date and
lets labels mature. Timers, sweeps and forgetting have a budget at each step; what is left over
comes with the next, of timers the oldest first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.deciding import Occasion
from state.firing import Firing
from state.forgetting import Forgetting
from state.lane_users import LaneUsers
from state.times import NEVER_MS

I64 = NDArray[np.int64]


class Timers:
    """Does what time makes due in one lane.

    Args:
        lane: whose users.
        firing: of their timers.
        forgetting: of those who have ended; None where nobody is forgotten.
    """

    def __init__(self, lane: LaneUsers, firing: Firing, forgetting: Forgetting | None) -> None:
        self._lane, self._firing, self._forgetting = lane, firing, forgetting
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
        self._firing.fire(self._firing.due(now), now, occasion)
        if self._forgetting is not None:
            self._forgetting.step(now, wall_ms)
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
        while len(rows := self._firing.due(at_ms)):
            self._firing.fire(rows, at_ms, occasion)
        if self._forgetting is not None:
            self._forgetting.finish(at_ms)
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

    def _lasting(self, rows: I64) -> I64:
        """Those of some users whose time has not ended."""
        lane = self._lane
        return rows if lane.ends is None else lane.ends.lasting(rows, lane.clock.now_ms)

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
