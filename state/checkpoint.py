"""The lane and the store: load at the start, commit, and write forward.

The lane's memory is the truth from the moment it is loaded. A commit hands all that changed since
the last one to the store, shard by shard, and is done when every shard is known to be written;
then, and not before, its changes may be published. The lane may go on in between. A store that came
back older than its last acknowledged commit (it lost its tail, or a replica took over) gets
everything that is newer than what it has, once more and from memory; nothing is decided again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from state.commit import Found, ShardCommit
from state.item_store import ItemStore
from state.lane import Lane
from state.sharing import ItemSharing
from state.store import Store
from state.store_errors import StoreUnavailable


@dataclass(slots=True, frozen=True)
class Committed:
    """The changes of one shard's commit, ready to be published: the outbox entry ``seq``."""

    shard: int
    seq: int
    changes: bytes


class Checkpoint:
    """Keeps one lane in one store.

    Args:
        lane: a fresh lane; ``open`` fills it.
        store: where its shards are kept.
        alive: called after each step of what takes long.
    """

    def __init__(self, lane: Lane, store: Store, alive: Callable[[], None] = lambda: None) -> None:
        self._lane = lane
        self._store = store
        self._alive = alive
        self._sent: list[ShardCommit] = []
        self._sharing: ItemSharing | None = None
        if lane.recommender is not None and lane.recommender.exchange_ms:
            self._sharing = ItemSharing(lane.recommender, ItemStore(store), alive=alive)

    def open(self) -> list[Committed]:
        """Take the fence of every shard of the lane and load what is stored.

        Returns:
            What the outbox holds: changes of an earlier run that may not be published yet.

        Raises:
            StoreMismatch: the data were written for other settings.
        """
        self._store.meta.begin()
        tables = self._lane.side_tables
        self._lane.expect(self._store.sizes(("state", *tables), self._lane.shards))
        for shard in self._lane.shards:
            stored = self._store.load(shard, tables)
            self._lane.restore(stored)
            self._alive()
        if self._sharing is not None:
            self._sharing.open()
        shared = self._store.shared
        self._lane.restored(shared("cuts"), shared("trainer"), shared("models"))
        self._lane.measures.experiments.adopt(shared("experiments"))
        return [
            Committed(shard, seq, changes)
            for shard in self._lane.shards
            for seq, changes in self._store.outbox.entries(shard)
        ]

    def commit(self, *, heartbeat: bool = False) -> list[Committed]:
        """Write what changed; with ``heartbeat`` also the positions and clock of idle shards.

        Raises:
            FencedOff: another engine owns a shard; nothing more may be written.
            StoreUnavailable: the store did not take it in time; a restart resumes from before.
        """
        return self.finish() + self._commit(self._look() if heartbeat else {}, heartbeat=heartbeat)

    def begin(self, *, heartbeat: bool = False, lists_later: bool = False) -> list[Committed]:
        """As ``commit``, but do not wait: the lane may go on, and this must be finished first.

        What was begun before is finished between collecting and sending, so that the store has
        all the time until then. For the lane the changes are stored from here on. A shard whose
        commit is refused, because the store came back older, is one that lost its tail a moment
        later.

        Args:
            heartbeat: also the positions and clock of idle shards.
            lists_later: only with the lists of items that are made already.

        Returns:
            What the commit begun before decided, unless it was finished already.
        """
        done = self.finish() if heartbeat else []  # or the store may be asked in the middle of it
        stored = self._look() if heartbeat else {}
        commits = self._lane.collect(heartbeat=heartbeat, stored=stored, lists_later=lists_later)
        before, behind = self._finished()
        done += before
        if behind:
            others = behind.keys() - {commit.shard for commit in commits}
            done += self._written(commits)
            done += self._commit({shard: behind[shard] for shard in others})
        else:
            self._lane.settle(commits)
            self._store.send(commits)
            self._sent = commits
        return done

    def finish(self) -> list[Committed]:
        """Wait for what was begun, if anything was; returns and raises what ``commit`` does."""
        done, behind = self._finished()
        if behind:
            done += self._commit(behind)
        return done

    def _finished(self) -> tuple[list[Committed], dict[int, int]]:
        """What was begun has arrived; what it decided, and the shards that must be written again.

        These are published after they were written with what follows.
        """
        sent, self._sent = self._sent, []
        behind = self._store.finish()
        done = _decided(sent)
        for each in done:
            if each.shard in behind:
                self._store.outbox.committed(each.shard, each.seq, each.changes)
        if sent:
            self._share_cuts()
        return done, behind

    def _commit(self, stored: dict[int, int], *, heartbeat: bool = False) -> list[Committed]:
        return self._written(self._lane.collect(heartbeat=heartbeat, stored=stored))

    def _written(self, commits: list[ShardCommit]) -> list[Committed]:
        """Write what was collected and wait for it."""
        self._write(commits)
        self._lane.settle(commits)
        self._share_cuts()
        return _decided(commits)

    def _look(self) -> dict[int, int]:
        """What a heartbeat looks after: the sequences in the store, and what others share."""
        stored = self._store.sequences()  # first: who was replaced must write nothing below
        self._store.outbox.forget_published(stored)
        if stored:
            with suppress(StoreUnavailable):  # whoever commits waits for the store
                self._exchange()
        return stored

    def _share_cuts(self) -> None:
        cuts = self._lane.population.new_cuts()
        if cuts is not None:
            self._store.share("cuts", cuts)

    def share_items(self) -> None:
        """Exchange with the other lanes what users did with items."""
        if self._sharing is not None:
            with suppress(StoreUnavailable):  # it waits; whoever commits waits for the store
                self._sharing.exchange()

    def _exchange(self) -> None:
        """Take over what other lanes measure and learn; learn what is there to be learned."""
        lane, learner, shared = self._lane, self._lane.learner, self._store.shared
        if not lane.population.measures:
            lane.population.adopt(shared("cuts"), lane.table.size)
        self._rule()
        if learner is None:
            return
        if not learner.trains:
            learner.adopt(shared("models"))
            return
        asked = shared("reset")
        if asked:
            learner.reset(msgspec.json.decode(asked, type=list[str]))
        is_new = learner.learn(self._store.examples.after(learner.positions()))
        if is_new or asked:
            self.keep_models()
        if asked:
            self._store.share("reset", b"")  # a store's user may set, and perhaps not delete

    def _rule(self) -> None:
        """One lane rules about experiments from the totals of all shards; the others follow."""
        experiments = self._lane.measures.experiments
        if not len(experiments):
            return
        experiments.adopt(self._store.shared("experiments"))
        if self._lane.population.measures:
            ruled = experiments.judged(self._store.record_fields(experiments.fields))
            self._store.share("experiments", ruled)
            experiments.adopt(ruled)

    def keep_models(self) -> None:
        """Store what the models have learned, then forget what they have learned it from.

        In this order: after a crash in between, the examples are found and known to be learned.
        """
        learner = self._lane.learner
        if learner is not None and learner.trains:
            self._store.share("trainer", learner.memory())
            self._store.share("models", learner.published())
            self._store.examples.forget(learner.positions())

    def _write(self, commits: list[ShardCommit]) -> None:
        waiting = {c.shard: c for c in commits}
        while behind := self._store.commit(list(waiting.values())):
            waiting = {
                shard: self._lane.forward(waiting[shard], self._found(shard, have))
                for shard, have in behind.items()
            }

    def _found(self, shard: int, have: int) -> Found:
        names, store = (*self._lane.side_tables, "state"), self._store
        fields = {name: store.fields(name, shard) for name in names}
        return Found(have, fields, store.buckets(shard))


def _decided(commits: Sequence[ShardCommit]) -> list[Committed]:
    return [Committed(c.shard, c.seq, c.changes) for c in commits if c.changes]
