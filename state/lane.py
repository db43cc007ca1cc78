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
from events.hashing import shard_of
from events.texts import Texts
from state.commit import Found, ShardCommit, StoredShard
from state.deciding import Occasion
from state.definition_set import DefinitionSet
from state.firing import Firing
from state.forgetting import Forgetting
from state.groups import Groups, distinct, group
from state.lane_users import LaneUsers
from state.learner import Learner
from state.plan import LanePlan
from state.portraits import Portraits
from state.recommending import Lists, Recommender
from state.recovering import recover
from state.rounds import MOST_ROUNDS, rounds
from state.saving import Saver
from state.timers import Timers

I64 = NDArray[np.int64]

_NOBODY: Final = np.empty(0, dtype=np.int64)


class Lane(LaneUsers):
    """A lane of some shards, empty until it is restored.

    Args:
        plan: what is measured and decided, compiled from the settings.
        shards: the shards it owns.
        learner: models that score users; their scores are features.
        recommender: makes lists of items for users.
    """

    def __init__(
        self,
        plan: LanePlan,
        shards: Sequence[int],
        learner: Learner | None = None,
        recommender: Recommender | None = None,
    ) -> None:
        super().__init__(plan, shards, learner, recommender)
        self._firing = Firing(self)
        self._forgetting: Forgetting | None = None
        if self.ends is not None:
            steps = plan.retention_every_ms, plan.retention_rows
            self._forgetting = Forgetting(self, self.ends, self._firing, *steps)
        self._timers = Timers(self, self._firing, self._forgetting)
        self.portraits = Portraits(self)
        self._saver = Saver(self, self.portraits)
        self._listed = Lists.none()
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
        elif self._forgetting is None:
            self._take(batch, group(rows, at), wall_ms)
        else:
            for groups in self._forgetting.lives(batch, rows, at, wall_ms):
                self._take(batch, groups, wall_ms)
        self.positions.advance(batch.spans)
        self.clock.observe(batch.spans, wall_ms, batch.partitions)
        self.tick(wall_ms)

    def tick(self, wall_ms: int | None = None) -> None:
        """Do what the clock makes due: windows, timers, cuts, labels that have matured."""
        self._timers.step(wall_ms)

    def steer(self, wall_ms: int | None) -> None:
        """Let the catalogue and the rules of the shop take effect on lists of items."""
        if self.recommender is not None:
            now_ms = self.clock.now_ms
            self.recommender.steer(self.table, now_ms, now_ms if wall_ms is None else wall_ms)

    def finish(self, at_ms: int) -> None:
        """Bring every user to one time: the values, cuts and labels of a replay's end."""
        self._timers.finish(at_ms)

    # -- definitions --------------------------------------------------------------------------

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
        self.portraits.renew()
        self.forms.renew()

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

    def outrank(self, epochs: Mapping[int, int]) -> None:
        """The next commits are of higher epochs than these, of some shards of this lane.

        Epochs are times, and the machine that published before may have been ahead.
        """
        self._saver.outrank(epochs)

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
            self.forms.forget()
        if self.learner is not None:
            self.learner.restore(memory, published)
        if self.recommender is not None:
            self.recommender.restored(self.table)
        if self.ends is not None:
            self.ends.hasten(self.users.everybody())
        if self.population.is_foreign:
            everybody = self.population.sample(self.table.size)
            self._timers.measure(self.users.here(everybody), self.clock.now_ms)
        for rows in self._outdated:  # decided anew as timers are: some at a time
            self.table["due_ms"][rows] = self.times(rows)
        self._outdated.clear()

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

    def settle(self, commits: Sequence[ShardCommit]) -> None:
        """The store has these; what they held is not dirty any more."""
        self._saver.settle(commits)
        self._touched.clear()
        self._listed = Lists.none()

    def forward(self, commit: ShardCommit, found: Found) -> ShardCommit:
        """A commit for a store that came back older: all that is newer."""
        return self._saver.forward(commit, found)

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
        self._firing.fire_before(groups.rows, first_ms, decided_at_ms)
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
