"""Guards: a segment of which too many members move in too short a time is paused.

Moves are counted in panes of event time. What an evaluation would move is weighed before it is
taken over, so never more than the guard allows does move. Changes of definitions do not count here:
they are weighed as a whole before they are put in force (``state.foreseeing``). Counts live in
memory and begin anew when a lane starts. A pause does not: it holds in this lane from the moment a
guard trips, is committed with what was decided under it (``state.forms``), and is written down as a
revision, which all lanes follow (``operators.definitions``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.memberships import Family, Flips, Tag
from state.segments import SegmentPlan

I64 = NDArray[np.int64]

_PANES: Final = 10


class Guarding:
    """Counts what moves, for one plan.

    Args:
        plan: whose guards these are; what trips is added to its ``paused``.

    Attributes:
        stopped: what was paused here, written down as a revision or not.
    """

    def __init__(self, plan: SegmentPlan) -> None:
        self._plan = plan
        every: list[Tag | Family] = [*plan.tags, *plan.families]
        self._places = {u.name: _range(plan, u.names) for u in every if u.name in plan.guards}
        self._panes = {unit: _Panes(guard.within_ms) for unit, guard in plan.guards.items()}
        self.stopped: set[str] = set()
        self._tripped: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._panes)

    def trips(self, flips: Flips, at_ms: int, sizes: I64) -> bool:
        """Whether these flips would be too many; what they are too many of is paused then.

        Args:
            flips: what an evaluation decided.
            at_ms: event time.
            sizes: members by place, before these flips.
        """
        tripped = False
        for unit, panes in self._panes.items():
            if unit in self._plan.paused:
                continue
            guard, (first, stop) = self._plan.guards[unit], self._places[unit]
            moves, _ = _count(flips, first, stop)
            if not moves:
                continue
            moved, grown = panes.within(at_ms)
            members = int(sizes[first:stop].sum()) - grown
            if moved + moves > max(guard.least, guard.share * members):
                self._stop(
                    unit,
                    f"would have moved {moved + moves:,} of {members:,} members within "
                    f"{guard.within_ms / 1000:g} s",
                )
                tripped = True
        return tripped

    def take(self, flips: Flips, at_ms: int) -> None:
        """These were taken over."""
        for unit, panes in self._panes.items():
            moves, growth = _count(flips, *self._places[unit])
            if moves:
                panes.add(at_ms, moves, growth)

    def tripped(self) -> dict[str, str]:
        """What was paused here and is not yet known to be written down, and why."""
        return dict(self._tripped)

    def told(self, units: Collection[str]) -> None:
        """The pauses of these are written down."""
        for unit in units:
            self._tripped.pop(unit, None)

    def uphold(self, units: Collection[str]) -> None:
        """These were paused in a lane that has ended, perhaps before it could write that down."""
        for unit in sorted(self._panes.keys() & set(units) - self._plan.paused):
            self._stop(unit, "was paused by its guard before the engine started")

    def _stop(self, unit: str, why: str) -> None:
        self._plan.paused.add(unit)
        self.stopped.add(unit)
        self._tripped[unit] = why


class _Panes:
    """Moves and growth over the latest panes."""

    def __init__(self, within_ms: int) -> None:
        self._pane_ms = max(within_ms // _PANES, 1)
        self._newest = 0
        self._counts: I64 = np.zeros((_PANES, 2), dtype=np.int64)

    def within(self, at_ms: int) -> tuple[int, int]:
        """Moves and growth within the time that ends now."""
        self._turn(at_ms)
        moved, grown = self._counts.sum(axis=0).tolist()
        return moved, grown

    def add(self, at_ms: int, moves: int, growth: int) -> None:
        """Count in the newest pane."""
        self._turn(at_ms)
        self._counts[self._newest % _PANES] += (moves, growth)

    def _turn(self, at_ms: int) -> None:
        pane = max(at_ms // self._pane_ms, self._newest)
        for ended in range(max(self._newest, pane - _PANES) + 1, pane + 1):
            self._counts[ended % _PANES] = 0
        self._newest = pane


def _count(flips: Flips, first: int, stop: int) -> tuple[int, int]:
    """How many rows move between some places, and how many more are in one of them after it."""
    mine = (flips.segment >= first) & (flips.segment < stop)
    entered = int(np.count_nonzero(flips.entered[mine]))
    count = int(np.count_nonzero(mine))
    if stop - first == 1:
        return count, 2 * entered - count
    return len(np.unique(flips.row[mine])), 2 * entered - count


def _range(plan: SegmentPlan, names: tuple[str, ...]) -> tuple[int, int]:
    first = plan.names.index(names[0])
    return first, first + len(names)
