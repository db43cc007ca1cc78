"""Deciding: rows are evaluated at a time, memberships flip, and each flip becomes a change.

A decision is made once. It is written to the columns of its row at once and waits here as an
undated change until the commit that makes it public; should the engine die before, neither the
columns nor the change ever existed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from state.changes import Cause, Facts, Kind, Undated
from state.features import RowView
from state.scoring import RfmFeatures
from state.segments import Outcome, SegmentPlan, SegmentState
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS

I64 = NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Occasion:
    """What brings an evaluation about.

    Attributes:
        kind: for the cause of the changes.
        decided_at_ms: by the lane's wall clock, or its clock in a replay.
        event_ids: the event behind each row, n; None where there is none.
        late: whether that event came after the clock had passed it, bool[n].
    """

    kind: Kind
    decided_at_ms: int
    event_ids: Sequence[str] | None = None
    late: NDArray[np.bool_] | None = None

    def cause(self, i: int, values: Facts, thresholds: Facts) -> Cause:
        """The cause of a change of row ``i``."""
        return Cause(
            kind=self.kind,
            event_id=None if self.event_ids is None else self.event_ids[i],
            late=self.late is not None and bool(self.late[i]),
            values=values,
            thresholds=thresholds,
        )


class Decider:
    """Keeps memberships and the changes that wait for a commit.

    Args:
        plan: the compiled segments.
        rfm: the scores, kept as columns beside the memberships.
        table: the lane's table, having ``columns()``.
    """

    def __init__(self, plan: SegmentPlan, rfm: RfmFeatures, table: Table) -> None:
        self.plan = plan
        self.waiting: list[Undated] = []
        self._rfm = rfm
        self._table = table

    @staticmethod
    def columns(plan: SegmentPlan) -> list[Column]:
        """Memberships, their times, the last scores and the time of the next look."""
        return [
            Column("members", "u8"),
            Column("since", "i8", NEVER_MS, (len(plan.segments),)),
            Column("family", "i1", -1, (len(plan.families),)),
            Column("family_since", "i8", NEVER_MS, (len(plan.families),)),
            Column("rfm", "i1", 0, (3,)),
            Column("changes", "u4"),
            Column("as_of", "i8", NEVER_MS),
            Column("due_ms", "i8", FAR_MS),
        ]

    def decide(self, view: RowView, occasion: Occasion) -> None:
        """Evaluate the view's rows at their times and take over what comes of it."""
        table, rows = self._table, view.rows
        state = self.state(rows)
        outcome = self.plan.evaluate(view, state)
        table["members"][rows] = outcome.members
        table["since"][rows] = outcome.since_ms
        table["family"][rows] = outcome.family
        table["family_since"][rows] = outcome.family_since_ms
        table["due_ms"][rows] = outcome.due_ms
        table["rfm"][rows] = self._rfm.scores(view)
        table["as_of"][rows] = view.now_ms
        if len(outcome.flip_row):
            self._record(view, state, outcome, occasion)

    def state(self, rows: I64) -> SegmentState:
        """The memberships of some rows."""
        table = self._table
        return SegmentState(
            members=table["members"][rows],
            since_ms=table["since"][rows],
            family=table["family"][rows],
            family_since_ms=table["family_since"][rows],
        )
