"""Deciding: rows are evaluated at a time, memberships flip, and each flip becomes a change.

A decision is made once. It is written to the columns of its row at once and waits here as an
undated change until the commit that makes it public; should the engine die before, neither the
columns nor the change ever existed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.texts import Texts
from state.changes import Cause, Kind, Undated
from state.decisions import Decided, Decisions
from state.ending import ended
from state.features import RowView
from state.guarding import Guarding
from state.memberships import SegmentState
from state.offering import Offering
from state.scoring import RfmFeatures
from state.segments import Held, Outcome, SegmentPlan
from state.table import Column, Table
from state.text_index import TextIndex
from state.times import FAR_MS, NEVER_MS

I64 = NDArray[np.int64]

VALID_TO = "segments.valid_to"


@dataclass(slots=True, frozen=True)
class Occasion:
    """What brings an evaluation about.

    Attributes:
        kind: for the cause of the changes.
        decided_at_ms: by the lane's wall clock, or its clock in a replay.
        event_ids: of the events that brought it about; None where there are none.
        events: the place among them of the event behind each row, int64[n].
        late: whether that event came after the clock had passed it, bool[n].
    """

    kind: Kind
    decided_at_ms: int
    event_ids: Texts | None = None
    events: I64 | None = None
    late: NDArray[np.bool_] | None = None

    def event_ids_of(self, index: I64) -> Texts:
        """The id of the event behind some rows; absent where there is none."""
        if self.event_ids is None or self.events is None:
            return Texts.absent(len(index))
        return self.event_ids.take(self.events[index]).packed()

    def late_of(self, index: I64) -> NDArray[np.bool_]:
        """Whether it came late, bool[n]."""
        return np.zeros(len(index), np.bool_) if self.late is None else self.late[index]


class Decider:
    """Keeps memberships, and the changes that wait for a commit.

    Args:
        plan: the compiled segments.
        rfm: the scores, kept as columns beside the memberships.
        table: the lane's table; gets the columns.
        ids: the lane's users.
        offering: their offers; None where there are none.

    Attributes:
        waiting: decided and not yet committed.
        sizes: how many users each of the plan's segments holds, int64[len(plan.names)].
        suppressed: flips that were held back, by tag or family and by what did it.
        guarding: counts what moves.
    """

    def __init__(
        self,
        plan: SegmentPlan,
        rfm: RfmFeatures,
        table: Table,
        ids: TextIndex,
        offering: Offering | None = None,
    ) -> None:
        self.plan = plan
        self.waiting = Decisions(ids)
        self.sizes: I64 = np.zeros(len(plan.names), dtype=np.int64)
        self.suppressed: Counter[tuple[str, str]] = Counter()
        self.guarding = Guarding(plan)
        self._rfm = rfm
        self._offering = offering
        self._table = table
        table.add_columns("", plan.columns())
        table.add_columns("", self._columns())

    def adopt(self, plan: SegmentPlan, state: SegmentState, ends_ms: I64) -> None:
        """Decide by another plan from now on.

        Args:
            plan: the compiled segments.
            state: what is remembered of all rows, in the plan's places.
            ends_ms: when silence may first end what they are in, int64[n, S + F].
        """
        table = self._table
        for column, value in zip(plan.columns(), state.parts(), strict=True):
            table.replace(column, value)
        table.replace(Column(VALID_TO, "i8", FAR_MS, ends_ms.shape[1:]), ends_ms)
        self.plan = plan
        self.guarding = Guarding(plan)
        self._count()

    def decide(self, view: RowView, occasion: Occasion) -> None:
        """Evaluate the view's rows at their times and take over what comes of it."""
        table, rows = self._table, view.rows
        state = self.plan.read(table, rows)
        outcome = self._evaluate(view, state, occasion)
        self.plan.write(table, rows, outcome.state)
        if self._offering is not None:
            self._offering.decide(outcome.on, rows, outcome.due_ms)
        table[VALID_TO][rows] = outcome.valid_to_ms
        table["due_ms"][rows] = outcome.due_ms
        table["rfm"][rows] = self._rfm.scores(view)
        table["cuts_version"][rows] = view.cuts.version
        table["as_of"][rows] = view.now_ms
        self.suppressed.update(outcome.suppressed)
        if len(outcome.flips):
            self._record(view, state, outcome, occasion)

    def _evaluate(self, view: RowView, state: SegmentState, occasion: Occasion) -> Outcome:
        """What the plan makes of some rows, as far as guards let it."""
        tests = self._offering.plan.tests if self._offering is not None else ()
        outcome, guarding = self.plan.evaluate(view, state, tests), self.guarding
        if len(guarding) and occasion.kind != "definition" and len(outcome.flips):
            at_ms = int(view.now_ms.max())
            while guarding.trips(outcome.flips, at_ms, self.sizes):
                outcome = self.plan.evaluate(view, state, tests)
            guarding.take(outcome.flips, at_ms)
        return outcome

    def retell(
        self,
        rows: I64,
        told: Sequence[Sequence[str]],
        at_ms: I64,
        occasion: Occasion,
        stale: Mapping[int, list[str]] = MappingProxyType({}),
    ) -> list[int]:
        """Note what brings a consumer from the memberships it was told to those there are.

        Args:
            rows: int64[n], distinct.
            told: the names of the segments that each row was said to be in, n.
            at_ms: the time of each row's changes, int64[n].
            occasion: why and when it is decided.
            stale: what rows that are still to be redefined were in, by row.

        Returns:
            The row of each change that this takes.
        """
        changed: list[int] = []
        plan, table = self.plan, self._table
        held = map(plan.naming.named, plan.masks(plan.read(table, rows)).tolist())
        versions = dict(zip(plan.names, plan.versions, strict=True))
        each = zip(rows.tolist(), held, map(list, told), at_ms.tolist(), strict=True)
        for row, now, segments, ts_ms in each:
            names = stale.get(row, now)
            left = [name for name in segments if name not in names]
            joined = [name for name in names if name not in segments]
            for name in (*left, *joined):
                if name in left:
                    segments.remove(name)
                else:
                    segments.append(name)
                table["changes"][row] += 1
                changed.append(row)
                self.waiting.retell(
                    Undated(
                        row=row,
                        segment=name,
                        action="exited" if name in left else "entered",
                        ts=ts_ms,
                        decided_at=occasion.decided_at_ms,
                        version=versions.get(name, 0),
                        n=int(table["changes"][row]),
                        segments=segments.copy(),
                        cause=Cause(kind=occasion.kind),
                    )
                )
        return changed

    def forget(
        self,
        rows: I64,
        now_ms: I64,
        decided_at_ms: int,
        values: Sequence[bytes],
        thresholds: bytes,
    ) -> None:
        """Users leave: every membership ends, and their offers stand no more.

        Args:
            rows: int64[n], distinct, none of them stale.
            now_ms: when, int64[n].
            decided_at_ms: when that was decided.
            values: for the cause of each row's exits, as JSON, n.
            thresholds: for all of them.
        """
        plan, table = self.plan, self._table
        before, everything = plan.masks(plan.read(table, rows)), np.uint64(2**64 - 1)
        exits = ended(
            *(table, plan.naming, rows, before, everything, now_ms, "retention", decided_at_ms),
            *(values, thresholds),
        )
        if exits is not None:
            self.waiting.add(exits)
            self.sizes -= np.bincount(exits.segment, minlength=len(self.sizes))
        if self._offering is not None:
            self._offering.forget(rows)

    def restored(self) -> None:
        """All rows are loaded: count who is in what."""
        self._count()
        if self._offering is not None:
            self._offering.restored()

    def held(self, rows: I64) -> Held:
        """All memberships of some rows."""
        return self.plan.held(self.plan.read(self._table, rows), self._table[VALID_TO][rows])

    def _count(self) -> None:
        segments = self.held(np.arange(self._table.size)).segment
        self.sizes = np.bincount(segments, minlength=len(self.plan.names)).astype(np.int64)

    def _columns(self) -> list[Column]:
        kept = len(self.plan.tags) + len(self.plan.families)
        return [
            Column(VALID_TO, "i8", FAR_MS, (kept,)),
            Column("rfm", "i1", 0, (3,)),
            Column("cuts_version", "u4"),
            Column("changes", "u4"),
            Column("as_of", "i8", NEVER_MS),
            Column("due_ms", "i8", FAR_MS, apart=True),
        ]

    def _record(
        self, view: RowView, before: SegmentState, outcome: Outcome, occasion: Occasion
    ) -> None:
        """Note the flips as changes, each with the memberships after it."""
        plan, flips = self.plan, outcome.flips
        rows, masks = view.rows[flips.row], plan.masks(before.take(flips.row))
        n = np.empty(len(flips), dtype=np.int64)
        changes = self._table["changes"]
        _count(flips.row, rows, flips.segment, flips.entered, changes, self.sizes, n, masks)
        values, thresholds = plan.causes(outcome)
        self.waiting.add(
            Decided(
                naming=plan.naming,
                row=rows,
                segment=flips.segment,
                entered=flips.entered,
                ts_ms=view.now_ms[flips.row],
                n=n,
                mask=masks,
                kind=occasion.kind,
                decided_at_ms=occasion.decided_at_ms,
                event_id=occasion.event_ids_of(flips.row),
                late=occasion.late_of(flips.row),
                values=values,
                thresholds=thresholds,
            )
        )


@compiled
def _count(
    index: I64,
    rows: I64,
    segment: I64,
    entered: NDArray[np.bool_],
    changes: NDArray[np.uint32],
    sizes: I64,
    n: I64,
    masks: NDArray[np.uint64],
) -> None:
    """Count flips, which are in the order of their rows, and turn memberships to those after."""
    for k in range(len(index)):
        changes[rows[k]] += np.uint32(1)
        n[k] = changes[rows[k]]
        sizes[segment[k]] += 1 if entered[k] else -1
        if k and index[k] == index[k - 1]:
            masks[k] = masks[k - 1]
        masks[k] ^= np.uint64(1) << np.uint64(segment[k])
