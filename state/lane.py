"""The lane: the users of some shards, kept current batch by batch.

One batch goes through it in this order::

    admit (skip what is covered, drop duplicates) ▸ fire the timers that come before it
    ▸ update every feature ▸ decide segments ▸ move the clock ▸ fire the timers it passed

Events of one user that lie apart in time go through the middle one after another, see
``state.rounds``.

All of it is in memory. ``collect`` then says what one atomic write per shard must hold, and
``settle`` takes note that it was written. The lane reads no clock and touches no server; the same
batches and the same times always lead to the same state.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import compiled
from events.hashing import shard_of
from events.texts import Texts
from state.clock import Clock
from state.commit import Found, ShardCommit, StoredShard
from state.counters import Counters
from state.deciding import Decider, Occasion
from state.dedup import Dedup, bucket_length_ms
from state.definition_plans import compile_definitions
from state.definition_set import DefinitionSet
from state.features import RowView
from state.forgetting import Forgetting
from state.forms import WRITTEN
from state.groups import Groups, distinct, group
from state.labels import Labels
from state.learner import Learner
from state.measures import Measures
from state.offering import Offering
from state.offers import OfferPlan
from state.plan import LanePlan
from state.population import Population
from state.portraits import Portraits
from state.positions import Positions
from state.recommending import Lists, Recommender, Served
from state.recovering import recover
from state.redefining import Redefiner
from state.rounds import MOST_ROUNDS, rounds
from state.saving import Saver
from state.segments import SegmentPlan
from state.side import SideTable
from state.table import Column, Table
from state.timers import Timers
from state.times import NEVER_MS
from state.users import COLUMNS as USER_COLUMNS
from state.users import Users

I64 = NDArray[np.int64]

_NOBODY: Final = np.empty(0, dtype=np.int64)


class Lane:
    """A lane of some shards, empty until it is restored.

    Args:
        plan: what is measured and decided, compiled from the settings.
        shards: the shards it owns.
        learner: models that score users; their scores are features.
        recommender: makes lists of items for users.

    Attributes:
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
        self.forgetting: Forgetting | None = None
        if plan.retention_ms:
            steps = plan.retention_every_ms, plan.retention_rows
            self.forgetting = Forgetting(self, plan.retention_ms, *steps)
        self.timers = Timers(self)
        self.portraits = Portraits(self)
        self._saver = Saver(self)
        self._touched: list[I64] = []
        self._listed = Lists.none()
        self.outdated = 0
        self._outdated: list[I64] = []
        self._wall_ms: int | None = None

    # -- events -------------------------------------------------------------------------------

    def apply(self, batch: Batch, wall_ms: int | None = None) -> None:
        """Take in a batch, then let time go on.

        Args:
            batch: good events, with the spans that were read for them.
            wall_ms: the wall clock; None in a replay, where events alone move time.

        Raises:
            GapError: the batch does not follow on what was taken before.
        """
        self._wall_ms = wall_ms
        rows, at = self._admit(batch)
        if not len(rows):
            pass
        elif self.forgetting is None:
            self._take(batch, group(rows, at), wall_ms)
        else:
            for groups in self.forgetting.lives(batch, rows, at, wall_ms):
                self._take(batch, groups, wall_ms)
        self.positions.advance(batch.spans)
        self.clock.observe(batch.spans, wall_ms, batch.partitions)
        self.tick(wall_ms)

    def tick(self, wall_ms: int | None = None) -> None:
        """Do what the clock makes due: windows, timers, cuts, labels that have matured."""
        self.timers.step(wall_ms)

    def steer(self, wall_ms: int | None) -> None:
        """Let the catalogue and the rules of the shop take effect on lists of items."""
        if self.recommender is not None:
            now_ms = self.clock.now_ms
            self.recommender.steer(self.table, now_ms, now_ms if wall_ms is None else wall_ms)

    def finish(self, at_ms: int) -> None:
        """Bring every user to one time: the values, cuts and labels of a replay's end."""
        self.timers.finish(at_ms)

    # -- definitions --------------------------------------------------------------------------

    def compiled(self, definitions: DefinitionSet) -> tuple[SegmentPlan, OfferPlan | None]:
        """Other definitions over the features of this lane, and its offers over them.

        Raises:
            SegmentError, OfferError: with what is wrong.
        """
        return compile_definitions(self.plan, self.measures.features, definitions)

    def adopt(self, definitions: DefinitionSet) -> None:
        """Put other definitions in force; users go over to them when they act, or in a sweep.

        Everything decided so far must be committed.

        Raises:
            SegmentError, OfferError: they mean nothing here; those in force stay.
        """
        if definitions.mark == self.redefiner.mark:
            return
        segments, offers = self.compiled(definitions)
        self.redefiner.adopt(segments, definitions.mark)
        self.redefiner.skip(self.users.vacant())
        if self.offering is not None and offers is not None:
            self.offering.plan = offers
        self.portraits = Portraits(self)
        self._saver.forms.renew()

    def catch_up(self) -> None:
        """Let everybody go over to the definitions in force at once."""
        self.redefine(self.users.everybody(), self._wall_ms)

    # -- checkpoint ---------------------------------------------------------------------------

    @property
    def side_tables(self) -> tuple[str, ...]:
        """Names of the tables that are stored beside the users' states."""
        return self._saver.side_tables

    def shard_of(self, user: str) -> int:
        """The shard of a user, of this lane or not."""
        return int(shard_of(Texts.of([user]), self.plan.shards)[0])

    def sequences(self) -> dict[int, int]:
        """The sequence of each shard's last commit."""
        return self._saver.sequences()

    def expect(self, counts: Mapping[str, int]) -> None:
        """Make room for what will be restored: users under ``state``, entries by side table."""
        self.table.expect(counts["state"])
        for name, side in self.side_parts().items():
            side.entries.expect(counts[name])

    def restore(self, stored: StoredShard) -> None:
        """Take over a shard from the store."""
        self._saver.restore(stored)

    def reread(self, rows: I64) -> None:
        """Take over what some rows' records say, which changes nothing."""
        self._saver.reread(rows)

    def restored(
        self, cuts: bytes | None, memory: bytes | None = None, published: bytes | None = None
    ) -> None:
        """All shards are loaded: take over what is kept beside them, work out what is not kept."""
        self.dedup.restored()
        self.population.restore(cuts, self.table.size)
        self.measures.restore(self.clock.now_ms)
        self.decider.restored()
        self.redefiner.restored()
        if not self.redefiner.left:
            self._saver.forms.forget()
        if self.learner is not None:
            self.learner.restore(memory, published)
        if self.recommender is not None:
            self.recommender.restored(self.table)
        if self.forgetting is not None:
            self.forgetting.hasten(self.users.everybody())
        if self.population.is_foreign:
            everybody = self.population.sample(self.table.size)
            self.timers.measure(self.users.here(everybody), self.clock.now_ms)
        for rows in self._outdated:  # decided anew as timers are: some at a time
            self.table["due_ms"][rows] = self.times(rows)
        self._outdated.clear()

    def measured_otherwise(self, rows: I64) -> None:
        """Restored users whose stored values were measured by other settings."""
        self._outdated.append(rows)
        self.outdated += len(rows)

    def members(self, shards: Collection[int]) -> list[str]:
        """The users of some shards who are in a segment."""
        rows = self.users.everybody()
        rows = rows[np.isin(self.table["shard"][rows], list(shards))]
        inside = np.unique(self.decider.held(rows).index)
        return self.users.ids.texts(rows[inside]).strings()

    def recover(self, told: Mapping[str, Sequence[str]], at_ms: int) -> int:
        """Take back what only a lost history has told consumers, and tell what it has untold.

        Args:
            told: per user the segments that were published last.
            at_ms: the wall clock.

        Returns:
            How many changes that takes.
        """
        return recover(self, told, at_ms)

    def touch(self, rows: I64) -> None:
        """These rows belong to the next commit, changed or not."""
        self._touched.append(rows)

    def side_parts(self) -> dict[str, SideTable]:
        """The side tables by name."""
        tables = self.measures.tables()
        if self.learner is not None:
            tables["parked"] = SideTable.plain(self.learner.parked)
        return tables

    def collect(
        self,
        *,
        heartbeat: bool = False,
        stored: Mapping[int, int] | None = None,
        lists_later: bool = False,
    ) -> list[ShardCommit]:
        """What changed since the last commit, per shard; idle shards only for a heartbeat.

        Args:
            heartbeat: also the shards whose positions alone have moved.
            stored: sequences found in the store; a shard that is older there is written too.
            lists_later: only the lists of items that are made already; else all whose turn it is.
        """
        if not lists_later:
            self.make_lists()
        rows = self.users.here(distinct(np.concatenate([*self._touched, _NOBODY])))
        self.redefine(rows, self._wall_ms)
        lists = self._listed
        here = self.users.is_here(lists.rows)
        if not here.all():
            lists = lists.take(np.flatnonzero(here))
        return self._saver.collect(rows, lists, heartbeat=heartbeat, stored=stored or {})

    def make_lists(self) -> None:
        """Make the lists of items whose turn it is; they go with the next commit."""
        if self.recommender is None:
            return
        rows = self.users.here(self.recommender.due(self._wall_ms))
        self.redefine(rows, self._wall_ms)
        self._listed = self._listed.then(self.lists(rows))

    def lists(self, rows: I64) -> Lists:
        """New lists of items for some users, as of now."""
        if self.recommender is None:
            return Lists.none()
        ids, now_ms = self.users.ids.texts(rows), self.times(rows)
        return self.recommender.make(self.table, ids, now_ms, rows, self._served(rows, now_ms))

    def settle(self, commits: Sequence[ShardCommit]) -> None:
        """The store has these; what they held is not dirty any more."""
        self._saver.settle(commits)
        self._touched.clear()
        self._listed = Lists.none()

    def forward(self, commit: ShardCommit, found: Found) -> ShardCommit:
        """A commit for a store that came back older: all that is newer."""
        return self._saver.forward(commit, found)

    # -- deciding ---------------------------------------------------------------------------

    def redefine(self, rows: I64, wall_ms: int | None) -> None:
        """Let those of some rows go over to the definitions in force that have not yet."""
        rows = self.redefiner.stale(rows)
        if not len(rows):
            return
        occasion = Occasion("definition", self.decided_at(wall_ms))
        self.redefiner.redefine(self.view(rows, self.times(rows)), occasion)
        self._decided(rows)
        if not self.redefiner.left:
            self._saver.forms.forget()

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

    # -- inside -------------------------------------------------------------------------------

    def _admit(self, batch: Batch) -> tuple[I64, I64]:
        """Rows and places of the batch's events, without what is covered and duplicates."""
        fresh = self.positions.fresh(
            batch.spans,
            lambda: shard_of(batch.users, self.plan.shards),
            batch.partition,
            batch.offset,
        )
        at = np.arange(len(batch)) if fresh is None else np.flatnonzero(fresh)
        users, hashes, ts_ms, seen_ms = batch.users, batch.event_hash, batch.ts_ms, batch.seen_ms
        if len(at) < len(batch):
            users, hashes, ts_ms = users.take(at), hashes[at], ts_ms[at]
            seen_ms = batch.seen()[at]
        rows = self.users.rows(users)
        shards = self.table["shard"][rows].astype(np.int64)
        newest_ms = self.clock.newest_ms
        new, unchecked = self.dedup.check(hashes, ts_ms, shards, newest_ms, seen_ms)
        self.counters.unchecked += int(np.count_nonzero(unchecked))
        if not new.all():
            self.counters.duplicates += int(np.count_nonzero(~new))
            rows, at = rows[new], at[new]
        return rows, at

    def _take(self, batch: Batch, groups: Groups, wall_ms: int | None) -> None:
        most = 0 if wall_ms is None else MOST_ROUNDS
        for part in rounds(groups, batch.ts_ms, self.clock.now_ms, self.plan.apart_ms, most):
            self._take_round(batch, part, wall_ms)

    def _take_round(self, batch: Batch, groups: Groups, wall_ms: int | None) -> None:
        self.redefine(groups.rows, wall_ms)
        ts = batch.ts_ms[groups.index]
        decided_at_ms = self.decided_at(wall_ms, int(ts.max()))
        first_ms = np.minimum.reduceat(ts, groups.starts)
        self.timers.fire_before(groups.rows, first_ms, decided_at_ms)
        late = batch.ts_ms < self.clock.now_ms
        self.counters.events += len(groups)
        self.counters.late += int(np.count_nonzero(late[groups.index]))
        self.measures.update(groups, batch, self.clock.now_ms)
        if self.recommender is not None:
            self.recommender.observe(self.table, groups, batch)
        last = groups.index[groups.ends() - 1]
        occasion = Occasion(
            "event",
            decided_at_ms,
            event_ids=batch.event_ids,
            events=last,
            late=late[last],
        )
        view = self.decide(groups.rows, self.times(groups.rows), occasion)
        if self.learner is not None:
            self.learner.observe(view, groups, batch)

    def _decided(self, rows: I64) -> None:
        self._touched.append(rows)
        self.counters.decided += len(rows)
        if self.forgetting is not None:
            self.forgetting.hasten(rows)

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
