"""Foreseeing: what other definitions would make of a lane's users, without doing it.

It goes the way that a change of definitions goes: what is remembered is moved to the new places
(``state.remap``) and evaluated there (``SegmentPlan.evaluate``). A preview, the weighing before a
change and the change itself therefore agree on every user at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state.lane_users import LaneUsers
from state.memberships import U64
from state.naming import Naming
from state.remap import Remap
from state.segments import SegmentPlan

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Foreseen:
    """What some rows are in and would be in.

    Attributes:
        rows: int64[n].
        before, after: memberships by place in each naming, uint64[n].
        old, new: the namings.
    """

    rows: I64
    before: U64
    after: U64
    old: Naming
    new: Naming

    def sides(self, name: str) -> tuple[Bools, Bools]:
        """Who is in a segment, and who would be, bool[n] each."""
        return _has(self.old, self.before, name), _has(self.new, self.after, name)

    def moved(self, unit: str) -> int:
        """How many rows enter, leave or change the label of a tag or family."""
        names = {unit, *self.old.families.get(unit, ()), *self.new.families.get(unit, ())}
        moves = np.zeros(len(self.rows), dtype=np.bool_)
        for name in names:
            was, will = self.sides(name)
            moves |= was != will
        return int(np.count_nonzero(moves))

    def members(self, unit: str) -> int:
        """How many rows are in a tag, or have a label of a family."""
        inside = np.zeros(len(self.rows), dtype=np.bool_)
        for name in self.old.families.get(unit, (unit,)):
            inside |= _has(self.old, self.before, name)
        return int(np.count_nonzero(inside))


def foresee(lane: LaneUsers, target: SegmentPlan, rows: I64) -> Foreseen:
    """What a plan would make of some rows of a lane now; nobody may be stale there."""
    plan = lane.decider.plan
    state = plan.read(lane.table, rows)
    moved = Remap(plan.naming, target.naming).state(state)
    outcome = target.evaluate(lane.view_now(rows), moved)
    after = target.masks(outcome.state)
    return Foreseen(rows, plan.masks(state), after, plan.naming, target.naming)


class Weighing:
    """Adds up what other definitions would move in a lane, some rows at a time.

    Args:
        lane: nobody is stale in it.
        target: the other definitions.
        exempt: names of those that no guard stops.

    Attributes:
        moves, members: of each tag and family with a guard.
    """

    def __init__(self, lane: LaneUsers, target: SegmentPlan, exempt: Collection[str] = ()) -> None:
        self._lane, self._target = lane, target
        self._guards = {unit: g for unit, g in target.guards.items() if unit not in exempt}
        self.moves = dict.fromkeys(self._guards, 0)
        self.members = dict.fromkeys(self._guards, 0)

    def steps(self, rows_at_once: int) -> Iterator[None]:
        """Weigh everybody; gives way after each step."""
        first = 0
        while self.moves and first < self._lane.table.size:
            rows = np.arange(first, min(first + rows_at_once, self._lane.table.size))
            found = foresee(self._lane, self._target, self._lane.users.here(rows))
            for unit in self.moves:
                self.moves[unit] += found.moved(unit)
                self.members[unit] += found.members(unit)
            first += rows_at_once
            yield

    def too_heavy(self) -> dict[str, str]:
        """The tags and families whose guards would not let it, and why."""
        return {
            unit: f"would move {self.moves[unit]:,} of {self.members[unit]:,} members"
            for unit, guard in self._guards.items()
            if self.moves[unit] > max(guard.least, guard.share * self.members[unit])
        }


def _has(naming: Naming, masks: U64, name: str) -> Bools:
    if name not in naming.names:
        return np.zeros(len(masks), dtype=np.bool_)
    inside: Bools = (masks >> np.uint64(naming.names.index(name)) & np.uint64(1)) != 0
    return inside
