"""Lanes that follow the definitions in the store, each for itself."""

from __future__ import annotations

import math

import pytest

from events.decode import Decoder
from events.schema import EventRules
from operators.definitions import DefinitionFollower
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.definitions import Guard, SegmentSpec
from state.lane import Lane
from state.revisions import Revision, follow
from state.store import Store
from state.times import HOUR_MS, MINUTE_MS
from tests.state.streams import START_MS, plan, read_of
from tests.state.test_lifecycle import purchases

pytestmark = pytest.mark.servers

SHARDS = 4
BUYER = SegmentSpec("buyer", "lifetime.orders >= 1")
ACTIVE = SegmentSpec(
    "active", "age(last_seen) < 1h", guard=Guard(share=0.5, within_ms=10 * MINUTE_MS, least=10)
)


class Worker:
    """One of two lanes over one store, and its follower."""

    def __init__(self, url: str, place: int, revision: Revision, offset: int = 0) -> None:
        self.store = Store(url, "t", SHARDS)
        wanted = revision.definitions
        shards = range(place, SHARDS, 2)
        self.offset = offset
        self.lane = Lane(
            plan(shards=SHARDS, segments=wanted.segments, paused=wanted.paused), shards
        )
        self.checkpoint = Checkpoint(self.lane, self.store)
        self.checkpoint.open()
        self.follower = DefinitionFollower(self.lane, DefinitionStore(self.store), revision)

    def step(self) -> None:
        self.lane.catch_up()
        self.checkpoint.commit(heartbeat=True)
        self.follower._looked_s = 0.0  # a second has passed
        self.follower.step(START_MS)

    def act(self, count: int, at_ms: int) -> None:
        """So many new users of its own buy something."""
        every = purchases(self.lane.table.size * 4, count * 4, at_ms)
        mine = [e for e in every if self.lane.shard_of(e["user_id"]) in self.lane.shards][:count]
        assert len(mine) == count
        batch, letters = Decoder(EventRules())(read_of(mine, self.offset))
        assert not letters
        self.lane.apply(batch)
        self.offset += count

    def names(self) -> tuple[str, ...]:
        return self.lane.decider.plan.names


@pytest.fixture
def revisions(store_url: str) -> DefinitionStore:
    found = DefinitionStore(Store(store_url, "t", SHARDS))
    first = follow(
        Revision(number=0, at_ms=0, author=""),
        at_ms=1,
        author="ann",
        definitions=DefinitionSet([BUYER]),
    )
    assert found.live() is None
    assert found.publish(first)
    assert not found.publish(first)  # a number is given once
    return found


def workers(url: str, revisions: DefinitionStore) -> list[Worker]:
    live = revisions.live()
    assert live is not None
    both = [Worker(url, place, live) for place in range(2)]
    for worker in both:
        worker.act(50, START_MS)
        worker.step()
    return both


def publish(revisions: DefinitionStore, definitions: DefinitionSet) -> None:
    live = revisions.live()
    assert live is not None
    assert revisions.publish(follow(live, at_ms=2, author="bob", definitions=definitions))


def test_every_lane_takes_over_what_is_published(store_url, revisions) -> None:
    both = workers(store_url, revisions)
    publish(revisions, DefinitionSet([SegmentSpec("twice", "lifetime.orders >= 2")]))
    for worker in both:
        for _ in range(3):
            worker.step()
        assert worker.names() == ("twice",)
        assert worker.follower.revision.number == 2


def test_what_one_lane_s_guard_stops_is_paused_in_all(store_url, revisions) -> None:
    both = workers(store_url, revisions)
    guard = Guard(share=0.5, within_ms=MINUTE_MS, least=10)
    publish(revisions, DefinitionSet([SegmentSpec("buyer", "lifetime.orders >= 9", guard=guard)]))
    for _ in range(4):
        both[0].step()
    live = revisions.live()
    assert live is not None
    assert (live.number, live.author, live.paused) == (3, "guard", ["buyer"])
    assert live.note == "buyer would move 50 of 50 members"
    for worker in both:
        for _ in range(6):
            worker.step()
        assert worker.follower.revision.number == 3
        assert worker.lane.decider.plan.paused == {"buyer"}
        assert worker.lane.decider.sizes.tolist() == [50]  # nobody has moved
    resumed = follow(live, at_ms=3, author="ann", paused=[], exempt=["buyer"])
    assert revisions.publish(resumed)
    for worker in both:
        for _ in range(6):
            worker.step()
        assert worker.lane.decider.sizes.tolist() == [0]


def test_a_guard_that_trips_in_the_flow_is_told_to_all(store_url, revisions) -> None:
    guard = Guard(share=0.1, within_ms=MINUTE_MS, least=60)
    publish(revisions, DefinitionSet([SegmentSpec("buyer", "lifetime.orders >= 1", guard=guard)]))
    both = workers(store_url, revisions)
    both[0].act(30, START_MS + 30_000)
    for worker in both:
        for _ in range(4):
            worker.step()
        assert worker.lane.decider.plan.paused == {"buyer"}
    assert both[0].lane.decider.sizes.tolist() == [50]


def test_definitions_that_mean_nothing_here_change_nothing(store_url, revisions) -> None:
    both = workers(store_url, revisions)
    publish(revisions, DefinitionSet([SegmentSpec("odd", "no_such_thing > 1")]))
    for _ in range(3):
        both[0].step()
    assert both[0].names() == ("buyer",)
    assert both[0].follower.revision.number == 2


# -- what guards stop in the flow --------------------------------------------------------------


def tripped(url: str, revisions: DefinitionStore) -> Worker:
    """A lane whose guard has stopped a segment that users leave in silence; it is committed."""
    publish(revisions, DefinitionSet([ACTIVE]))
    live = revisions.live()
    assert live is not None
    worker = Worker(url, 0, live)
    for n in range(8):
        worker.act(8, START_MS + n * 20 * MINUTE_MS)
        worker.checkpoint.commit(heartbeat=True)
    worker.act(100, START_MS + 4 * HOUR_MS)
    worker.checkpoint.commit(heartbeat=True)
    assert worker.lane.decider.plan.paused == {"active"}
    return worker


def again(url: str, worker: Worker, revision: Revision) -> Worker:
    """The lane has died; another one begins with these definitions."""
    worker.store.close()
    return Worker(url, 0, revision, worker.offset)


def resume(revisions: DefinitionStore) -> Revision:
    """Let a person take every pause back."""
    live = revisions.live()
    assert live is not None
    then = follow(live, at_ms=9, author="ann", paused=[], exempt=live.paused)
    assert revisions.publish(then)
    return then


def assert_all_will_leave(worker: Worker) -> None:
    """There are members, nobody is one who should have left, and each has a timer to leave."""
    table, rows = worker.lane.table, worker.lane.users.everybody()
    inside = rows[worker.lane.decider.held(rows).index]
    ends_ms = table["last_seen"][inside] + HOUR_MS
    assert len(inside)
    assert (ends_ms > worker.lane.clock.now_ms).all()
    assert table["due_ms"][inside].tolist() == ends_ms.tolist()


def author_and_paused(revisions: DefinitionStore) -> tuple[str, list[str]]:
    live = revisions.live()
    assert live is not None
    return live.author, live.paused


def test_a_lane_that_died_before_it_wrote_a_pause_down_has_paused(store_url, revisions) -> None:
    worker = tripped(store_url, revisions)
    members = worker.lane.decider.sizes.tolist()
    assert author_and_paused(revisions) == ("bob", [])
    live = revisions.live()
    assert live is not None
    heir = again(store_url, worker, live)
    assert heir.lane.decider.plan.paused == {"active"}
    heir.act(5, START_MS + 5 * HOUR_MS)
    heir.step()
    assert author_and_paused(revisions) == ("guard", ["active"])
    for _ in range(3):
        heir.step()
    assert heir.lane.redefiner.mark == revisions.live().definitions.mark  # type: ignore[union-attr]
    assert heir.lane.decider.sizes.tolist() == members
    resume(revisions)
    for _ in range(4):
        heir.step()
    assert_all_will_leave(heir)


def test_a_pause_is_written_down_when_the_store_is_back(store_url, revisions) -> None:
    worker = tripped(store_url, revisions)
    away = Store("redis://127.0.0.1:1", "t", SHARDS, timeout_s=0.1)
    worker.follower._revisions = DefinitionStore(away)
    for _ in range(2):
        worker.step()
    worker.follower._revisions = revisions
    worker.step()
    assert author_and_paused(revisions) == ("guard", ["active"])
    for _ in range(3):
        worker.step()
    assert worker.lane.decider.guarding.tripped() == {}
    assert worker.follower.revision == revisions.live()
    resume(revisions)
    for _ in range(4):
        worker.step()
    assert_all_will_leave(worker)
    away.close()


def test_what_is_too_heavy_is_not_taken_over_before_its_pause_is_written(
    store_url, revisions
) -> None:
    worker, _ = workers(store_url, revisions)
    guard = Guard(share=0.5, within_ms=MINUTE_MS, least=10)
    publish(revisions, DefinitionSet([SegmentSpec("buyer", "lifetime.orders >= 9", guard=guard)]))
    for _ in range(2):
        worker.step()
    away = Store("redis://127.0.0.1:1", "t", SHARDS, timeout_s=0.1)
    worker.follower._revisions = DefinitionStore(away)
    for _ in range(3):
        worker.step()
    assert worker.lane.decider.plan.paused == set()
    worker.follower._revisions = revisions
    for _ in range(5):
        worker.step()
    assert author_and_paused(revisions) == ("guard", ["buyer"])
    assert worker.follower.revision == revisions.live()
    assert worker.lane.decider.sizes.tolist() == [50]
    away.close()


def test_a_guard_that_trips_while_other_definitions_are_weighed_pauses_them_too(
    store_url, revisions
) -> None:
    guard = Guard(share=0.1, within_ms=MINUTE_MS, least=60)
    guarded = SegmentSpec("buyer", "lifetime.orders >= 1", guard=guard)
    publish(revisions, DefinitionSet([guarded]))
    worker, _ = workers(store_url, revisions)
    publish(revisions, DefinitionSet([guarded, SegmentSpec("twice", "lifetime.orders >= 2")]))
    for _ in range(2):
        worker.step()
    assert worker.names() == ("buyer",)  # it weighs
    worker.act(30, START_MS + 30_000)
    for _ in range(4):
        worker.step()
    assert worker.names() == ("buyer", "twice")
    assert author_and_paused(revisions) == ("guard", ["buyer"])
    assert worker.lane.decider.plan.paused == {"buyer"}
    assert worker.lane.decider.sizes.tolist() == [50, 0]


def test_a_pause_that_is_taken_back_before_the_lane_has_followed_it(store_url, revisions) -> None:
    worker = tripped(store_url, revisions)
    worker.follower._looked_s = math.inf
    worker.follower.step(START_MS)  # written, and not looked at
    assert author_and_paused(revisions) == ("guard", ["active"])
    resume(revisions)
    for _ in range(6):
        worker.step()
    assert worker.lane.decider.plan.paused == set()
    assert worker.follower.revision == revisions.live()
    assert_all_will_leave(worker)


def test_a_pause_that_some_users_have_gone_over_to_holds_for_the_others(
    store_url, revisions
) -> None:
    """The lane dies in the middle of that, and the pause is taken back meanwhile."""
    worker = tripped(store_url, revisions)
    worker.follower.step(START_MS)
    paused = revisions.live()
    assert paused is not None
    lane = worker.lane
    lane.adopt(paused.definitions)
    lane.redefine(lane.users.everybody()[::2], None)
    worker.checkpoint.commit(heartbeat=True)
    heir = again(store_url, worker, resume(revisions))
    for _ in range(4):
        heir.step()
    assert author_and_paused(revisions) == ("guard", ["active"])
    resume(revisions)
    for _ in range(6):
        heir.step()
    assert_all_will_leave(heir)
    # nothing is left of it
    assert again(store_url, heir, resume(revisions)).lane.decider.plan.paused == set()
