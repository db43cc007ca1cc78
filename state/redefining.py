"""Redefining: a lane's users go over from one set of definitions to the next.

The columns of all users are moved to the new places at once, which evaluates nothing. Each user is
then **stale**: what was decided of it was decided by older definitions, and the memberships it had
under them are remembered in one mask. A stale user is redefined before anything else happens to it:
memberships that do not go on end, and the new definitions are evaluated, both with cause
``definition`` and in one commit. Users who act are redefined when they act, the others by a sweep
that takes some rows at a step. So a reader sees each user wholly under the old definitions or
wholly under the new ones.

Each row carries the mark of the definitions it was decided by, and each state record that of the
layout it was written in. So a lane that starts in the middle of a sweep, or with other definitions
than the last one had, knows what each row is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from state.deciding import VALID_TO, Decider, Occasion
from state.ending import ended
from state.naming import Naming
from state.remap import Remap
from state.segments import SegmentPlan
from state.table import Column, Table

if TYPE_CHECKING:
    from state.features import RowView

I64 = NDArray[np.int64]

MARK: Final = "definitions"
"""The column of the mark of the definitions that a row was decided by."""
BEFORE: Final = "segments.before"
"""The column of a stale row's memberships, by place in the naming of its mark."""


class Redefiner:
    """Knows which rows of a lane are stale, and by what they were decided.

    Args:
        decider: keeps the memberships.
        table: the lane's table; gets the columns.
        mark: of the definitions in force, not 0.

    Attributes:
        mark: of the definitions in force.
        namings: every naming that rows may still be decided by, by mark.
        names: every segment that somebody may have been in since this lane began.
        left: how many rows are stale.
    """

    def __init__(self, decider: Decider, table: Table, mark: int) -> None:
        self.mark = mark
        self.namings: dict[int, Naming] = {mark: decider.plan.naming}
        self.names = set(decider.plan.names)
        self.left = 0
        self._decider, self._table = decider, table
        self._cursor = 0
        table.add_columns("", [Column(MARK, "u4", mark, apart=True), Column(BEFORE, "u8")])

    def adopt(self, plan: SegmentPlan, mark: int) -> None:
        """Put other definitions in force; everybody is stale then.

        Raises:
            RuntimeError: rows are still stale from the last time.
        """
        if self.left:
            raise RuntimeError(f"{self.left} rows are still to be redefined; sweep them first")
        decider, table = self._decider, self._table
        old, everybody = decider.plan, np.arange(table.size)
        state = old.read(table, everybody)
        before = old.masks(state)
        remap = Remap(old.naming, plan.naming)
        ends_ms = remap.ends(table[VALID_TO][: table.size])
        decider.adopt(plan, remap.state(state), ends_ms)
        table[BEFORE][: table.size] = before
        self.namings[mark] = plan.naming
        self.mark = mark
        table.replace(Column(MARK, "u4", mark, apart=True))
        self.restored()

    def restored(self) -> None:
        """Rows were loaded or moved: count those that are stale and sweep from the first row."""
        marks = self._table[MARK][: self._table.size]
        self.left, self._cursor = int(np.count_nonzero(marks != self.mark)), 0
        self.names.update(name for naming in self.namings.values() for name in naming.names)

    def skip(self, rows: I64) -> None:
        """These rows are nobody's, so they cannot be stale."""
        self._table[MARK][rows] = self.mark
        self.restored()

    def forget(self) -> None:
        """Nobody is stale: earlier definitions are not asked for any more."""
        self.namings = {self.mark: self._decider.plan.naming}

    def stale(self, rows: I64) -> I64:
        """Those of some rows that are stale."""
        if not self.left:
            return rows[:0]
        found: I64 = rows[self._table[MARK][rows] != self.mark]
        return found

    def sweep(self, most: int) -> I64:
        """The next stale rows, at most so many."""
        if not self.left:
            return np.empty(0, dtype=np.int64)
        marks = self._table[MARK][self._cursor : self._table.size]
        found = np.flatnonzero(marks != self.mark)[:most] + self._cursor
        self._cursor = int(found[-1]) + 1 if len(found) else self._table.size
        return found

    def told(self, rows: I64) -> dict[int, list[str]]:
        """What stale rows were in, by row: names that consumers know."""
        stale = self.stale(rows)
        table = self._table
        return {
            row: self.namings[mark].named(before)
            for row, mark, before in zip(
                stale.tolist(),
                table[MARK][stale].tolist(),
                table[BEFORE][stale].tolist(),
                strict=True,
            )
        }

    def leaving(self, rows: I64) -> I64:
        """Those of some rows that are stale and were in something, whether that goes on or not."""
        stale = self.stale(rows)
        found: I64 = stale[self._table[BEFORE][stale] != 0]
        return found

    def redefine(self, view: RowView, occasion: Occasion) -> None:
        """Let stale rows, all of the view, go over at their times."""
        rows = view.rows
        marks = self._table[MARK][rows]
        for mark in np.unique(marks).tolist():
            some = np.flatnonzero(marks == mark)
            lost = Remap(self.namings[mark], self._decider.plan.naming).lost
            self._end(self.namings[mark], lost, rows[some], view.now_ms[some], occasion)
        self._table[MARK][rows] = self.mark
        self._table[BEFORE][rows] = 0
        self.left -= len(rows)
        self._decider.decide(view, occasion)

    def _end(
        self, naming: Naming, lost: np.uint64, rows: I64, now_ms: I64, occasion: Occasion
    ) -> None:
        """Say that memberships end which do not go on."""
        table = self._table
        exits = ended(
            *(table, naming, rows, table[BEFORE][rows], lost, now_ms),
            *(occasion.kind, occasion.decided_at_ms),
        )
        if exits is not None:
            self._decider.waiting.add(exits)
