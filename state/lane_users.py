"""The users of a lane: what is remembered of them, and what they are in now.

What happens to them, and in which order, is the lane's (``state.lane``). Its steps work on this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.clock import Clock
from state.counters import Counters
from state.deciding import Decider, Occasion
from state.dedup import Dedup, bucket_length_ms
from state.definition_plans import compile_definitions
from state.definition_set import DefinitionSet
from state.ends import Ends
from state.features import RowView
from state.forms import WRITTEN, Forms
from state.labels import Labels
from state.learner import Learner
from state.measures import Measures
from state.offering import Offering
from state.offers import OfferPlan
from state.plan import LanePlan
from state.population import Population
from state.positions import Positions
from state.recommending import Lists, Recommender, Served
from state.redefining import Redefiner
from state.segments import SegmentPlan
from state.sessions import COUNTRY, DEVICE
from state.side import SideTable
from state.table import Column, Table
from state.times import NEVER_MS
from state.users import COLUMNS as USER_COLUMNS
from state.users import Users

I64 = NDArray[np.int64]

_OWN: Final = ("shard", "seq", DEVICE, COUNTRY)
"""Columns that are stored otherwise than in the users' records."""


class LaneUsers:
    """The users of some shards; none yet.

    Args:
        plan: what is measured and decided, compiled from the settings.
        shards: the shards.
        learner: models that score users; their scores are features.
        recommender: makes lists of items for users.

    Attributes:
        forms: of the users' records.
        ends: when users are to be forgotten; None for never.
        outdated: how many users were restored whom other settings had measured.
    """

    def __init__(
        self,
        plan: LanePlan,
        shards: Sequence[int],
        learner: Learner | None = None,
        recommender: Recommender | None = None,
    ) -> None:
        self.shards = tuple(shards)
        self.counters = Counters()
        self.clock = Clock(plan.lateness_ms, plan.wall_delay_ms)
        self.table = Table([WRITTEN, *USER_COLUMNS, Column("seq", "i8")], together=True)
        self.users = Users(self.table, plan.shards)
        self.measures = Measures(plan, self.table)
        self.learner = learner
        if learner is not None:
            self.measures.features |= learner.attach(self.measures.features)
        self.recommender = recommender
        if recommender is not None:
            self.table.add_columns("", recommender.columns())
        self.plan = plan
        segments, offers = self.compiled(plan.definitions)
        self.offering = None if offers is None else Offering(offers, self.table)
        self.decider = Decider(
            segments, self.measures.rfm, self.table, self.users.ids, self.offering
        )
        if recommender is not None:
            recommender.tell_apart(Labels(self.decider, self.table))
        self.redefiner = Redefiner(self.decider, self.table, plan.definitions.mark)
        self.positions = Positions(shards)
        self.population = Population(
            self.measures.rfm, plan.cuts_every_ms, measures=0 in self.shards
        )
        self.dedup = Dedup(
            shards,
            plan.dedup_window_ms,
            bucket_length_ms(plan.dedup_window_ms),
            plan.dedup_cap,
        )
        self.ends = Ends(self.table, plan.retention_ms) if plan.retention_ms else None
        layouts = {name: side.entries.layout() for name, side in self.side_parts().items()}
        skip = [*_OWN, *self.measures.transient()]
        skip += [] if self.offering is None else self.offering.transient
        self.forms = Forms(self.table, self.decider, self.redefiner, skip, layouts, plan.mark)
        self._touched: list[I64] = []
        self.outdated = 0
        self._outdated: list[I64] = []

    def compiled(self, definitions: DefinitionSet) -> tuple[SegmentPlan, OfferPlan | None]:
        """Other definitions over the features of this lane, and its offers over them.

        Raises:
            SegmentError, OfferError: with what is wrong.
        """
        return compile_definitions(self.plan, self.measures.features, definitions)

    def touch(self, rows: I64) -> None:
        """These rows belong to the next commit, changed or not."""
        self._touched.append(rows)

    def side_parts(self) -> dict[str, SideTable]:
        """The side tables by name."""
        tables = self.measures.tables()
        if self.learner is not None:
            tables["parked"] = SideTable.plain(self.learner.parked)
        return tables

    def measured_otherwise(self, rows: I64) -> None:
        """Restored users whose stored values were measured by other settings."""
        self._outdated.append(rows)
        self.outdated += len(rows)

    # -- deciding -----------------------------------------------------------------------------

    def redefine(self, rows: I64, wall_ms: int | None) -> None:
        """Let those of some rows go over to the definitions in force that have not yet."""
        rows = self.redefiner.stale(rows)
        if not len(rows):
            return
        occasion = Occasion("definition", self.decided_at(wall_ms))
        self.redefiner.redefine(self.view(rows, self.times(rows)), occasion)
        self._decided(rows)
        if not self.redefiner.left:
            self.forms.forget()

    def decide(self, rows: I64, now_ms: I64, occasion: Occasion) -> RowView:
        """Decide segments and labels of some rows, each at a time of its own; how they stood."""
        self.redefine(rows, occasion.decided_at_ms)
        view = self.view(rows, now_ms)
        if len(rows):
            self.decider.decide(view, occasion)
            self._decided(rows)
        return view

    def view(self, rows: I64, now_ms: I64) -> RowView:
        """Some rows at times of their own, which must not lie before what they have seen."""
        return self.measures.view(rows, now_ms, self.population.cuts, self.users.ids)

    def view_now(self, rows: I64) -> RowView:
        """Some rows as of now: at the clock, or at what they have seen if that is later."""
        return self.view(rows, self.times(rows))

    def times(self, rows: I64) -> I64:
        """When rows are evaluated: at the clock, or at what they have seen if that is later."""
        times = np.empty(len(rows), dtype=np.int64)
        _latest(rows, self.table["last_seen"], self.table["as_of"], self.clock.now_ms, times)
        return times

    def decided_at(self, wall_ms: int | None, seen_ms: int = NEVER_MS) -> int:
        """The wall clock; in a replay the lane's, or what was seen if that is later."""
        return max(self.clock.now_ms, seen_ms) if wall_ms is None else wall_ms

    # -- lists of items -----------------------------------------------------------------------

    def lists(self, rows: I64) -> Lists:
        """New lists of items for some users, as of now."""
        if self.recommender is None:
            return Lists.none()
        ids, now_ms = self.users.ids.texts(rows), self.times(rows)
        return self.recommender.make(self.table, ids, now_ms, rows, self._served(rows, now_ms))

    # -- inside -------------------------------------------------------------------------------

    def _decided(self, rows: I64) -> None:
        self._touched.append(rows)
        self.counters.decided += len(rows)
        if self.ends is not None:
            self.ends.hasten(rows)

    def _served(self, rows: I64, now_ms: I64) -> Served:
        experiments = self.measures.experiments
        if not len(experiments):
            return Served.plainly(len(rows))
        which, changes = experiments.overrides(self.table, rows, now_ms)
        held_out = experiments.held_out(self.table, rows)
        return Served(which, changes, held_out, *experiments.entries(self.table, rows, now_ms))


@compiled
def _latest(rows: I64, first_ms: I64, then_ms: I64, now_ms: int, out: I64) -> None:
    """The latest of two columns and now, for each row."""
    for k in range(len(rows)):
        out[k] = max(first_ms[rows[k]], then_ms[rows[k]], now_ms)
