"""Users who are silent for too long: gone everywhere at once, and new when they come back.

A naive model cuts each user's events into lives: one ends when the retention time has passed since
its last event, by the next event's time or by the clock. Lanes on random streams, in random
batches, with losses of memory and of the store's tail, are held against it.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afterglow_client.fold import Fold
from afterglow_client.news import change_of
from dataflows import plans
from dataflows import reference as naive
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.batch import Span
from events.decode import Decoder
from events.schema import EventRules
from state.changes import decode_entry, is_gone
from state.checkpoint import Checkpoint
from state.definitions import FamilySpec, SegmentSpec
from state.lane import Lane
from state.store import Store
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.folding import documents as stored_documents
from tests.state.streams import START_MS, as_oracle, event_lists, plan, read_of
from tests.state.test_lane import SETTINGS, SPEC, assert_equal

AFTER_MS = 20 * DAY_MS
SEGMENTS = [
    SegmentSpec("keen", "lifetime.events >= 2"),
    SegmentSpec("quiet", "age(last_seen) >= 3d"),
    SegmentSpec("leaving", "age(last_seen) >= 20d"),  # on the end, or behind it, nothing fires
    SegmentSpec("buyer", "lifetime.orders >= 1"),
]
FAMILIES = [FamilySpec("size", [("large", "lifetime.events >= 4"), ("small", "true")])]


@dataclass
class Lives:
    """The naive model: the events of each user's present life."""

    after_ms: int
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ended: int = 0

    def take(self, events: list[dict[str, Any]], clock_ms: int) -> None:
        """A batch, taken at a clock."""
        met = set()
        for event in events:
            user = event["user_id"]
            own = self.held.setdefault(user, [])
            until_ms = event["ts"] if user in met else max(event["ts"], clock_ms)
            if own and self.end_ms(user) <= until_ms:
                own.clear()
                self.ended += 1
            met.add(user)
            own.append(event)

    def end_ms(self, user: str) -> int:
        return max(event["ts"] for event in self.held[user]) + self.after_ms

    def present(self, clock_ms: int) -> dict[str, list[dict[str, Any]]]:
        """Those who have not ended by a clock."""
        return {u: own for u, own in self.held.items() if self.end_ms(u) > clock_ms}


class Consumer:
    """Folds all that a lane's commits tell, as consumers do; nothing may have to be corrected."""

    def __init__(self) -> None:
        self.fold = Fold()
        self.causes: list[str] = []

    def count(self, user: str) -> int:
        """How many changes are known of a user's present life."""
        return self.fold.place(user)[1] if user in dict(self.fold.everyone()) else 0

    def take(self, entries: list[bytes]) -> None:
        for entry in entries:
            for key, value in decode_entry(entry):
                if is_gone(value):
                    told = msgspec.json.decode(value)
                    place = told["epoch"], told["n"]
                    assert self.fold.place(key.decode()) == place
                    assert self.fold.forget(key.decode(), place) == []
                else:
                    change = change_of(value, "")
                    assert self.fold.change(change) == [change]
                    self.causes.append(change.cause["kind"])


def commit(lane: Lane, consumer: Consumer) -> None:
    commits = lane.collect()
    consumer.take([c.changes for c in commits if c.changes])
    lane.settle(commits)


def forgetful(every_ms: int, most: int) -> Lane:
    """A lane that remembers for ``AFTER_MS``, and looks who has ended at such steps."""
    segmented = plan(
        rfm=SPEC,
        segments=SEGMENTS,
        families=FAMILIES,
        retention_ms=AFTER_MS,
        retention_every_ms=every_ms,
        retention_rows=most,
    )
    return Lane(segmented, range(64))


@settings(deadline=None, max_examples=120)
@given(event_lists(), st.data())
def test_profiles_are_those_of_the_present_lives(events, data):
    events = data.draw(st.permutations(events))
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
    every_ms = data.draw(st.sampled_from([0, DAY_MS, 400 * DAY_MS]))
    lane = forgetful(every_ms, data.draw(st.sampled_from([1, 1000])))
    lives, consumer, decoder = Lives(AFTER_MS), Consumer(), Decoder(EventRules())
    truth = as_oracle(events)
    bounds = sorted({0, *cuts, len(events)})
    for a, b in pairwise(bounds):
        lives.take(truth[a:b], lane.clock.now_ms)
        batch, letters = decoder(read_of(events[a:b], a))
        assert not letters
        lane.apply(batch)
        if data.draw(st.booleans()):
            commit(lane, consumer)
    at_ms = max(lane.clock.now_ms, START_MS + data.draw(st.integers(0, 300)) * DAY_MS)
    lane.finish(at_ms)
    commit(lane, consumer)
    present = lives.present(at_ms)
    rows = lane.users.everybody()
    raw = lane.portraits.encode(rows).bytes_list()
    found = {d["user_id"]: d for d in map(msgspec.msgpack.decode, raw)}
    assert found.keys() == present.keys()
    assert len(lane.users) == len(present)
    for user, document in found.items():
        assert_equal(document, naive.profile(present[user], at_ms, SETTINGS))
        assert consumer.fold.segments(user) == tuple(sorted(document["segments"]))
        assert consumer.count(user) == document["changes"]
    assert set(dict(consumer.fold.everyone())) <= present.keys()
    held = [name for d in found.values() for name in d["segments"]]
    names = lane.decider.plan.names
    assert lane.decider.sizes.tolist() == [held.count(name) for name in names]
    if lives.ended or len(present) < len(lives.held):
        assert "retention" in consumer.causes


def test_steps_change_nothing_but_when():
    """However often users are forgotten, and however many at once, the same is decided."""
    chance, told = random.Random(4), []
    at_ms, events = START_MS, []
    for n in range(400):
        at_ms += chance.choice([MINUTE_MS, HOUR_MS, 12 * HOUR_MS])
        user = f"u{int(chance.paretovariate(0.3)) % 40}"
        events.append({"event_id": f"e{n}", "user_id": user, "type": "product_view", "ts": at_ms})
    ways = [(0, 1000, 7), (0, 1, 7), (9 * DAY_MS, 1000, 7), (DAY_MS, 2, 1), (DAY_MS, 2, 400)]
    for every_ms, most, size in ways:
        lane = forgetful(every_ms, most)
        changes = []
        for a in range(0, len(events), size):
            batch, _ = Decoder(EventRules())(read_of(events[a : a + size], a))
            lane.apply(batch)
        lane.finish(at_ms)
        for commit_ in lane.collect():
            for key, value in decode_entry(commit_.changes) if commit_.changes else ():
                if not is_gone(value):
                    c = change_of(value, "")
                    changes.append((key, c.ts, c.segment, c.action, c.cause["kind"]))
        told.append(sorted(changes))
    first, *others = told
    assert any(kind == "retention" for *_, kind in first)
    assert others[:2] == [first, first]
    # a user's events in one batch are decided together, so in others they may meet other labels
    ends = [{(key, ts) for key, ts, *_, kind in some if kind == "retention"} for some in told]
    assert all(other == ends[0] for other in ends)


def test_an_exit_by_retention_says_why():
    lane = Lane(plan(segments=SEGMENTS, retention_ms=AFTER_MS, lateness_ms=0), range(64))
    view = {"event_id": "e1", "user_id": "ann", "type": "product_view", "ts": START_MS}
    order = {"event_id": "e2", "user_id": "ann", "type": "purchase", "amount": 3, "ts": START_MS}
    lane.apply(Decoder(EventRules())(read_of([view, order]))[0])
    other = {"event_id": "e3", "user_id": "bob", "type": "search", "ts": START_MS + AFTER_MS}
    lane.apply(Decoder(EventRules())(read_of([other], 2))[0])
    (entry,) = [
        c.changes for c in lane.collect() if c.changes and b"ann" in c.users.bytes_list() + c.gone
    ]
    records = [change_of(v, "") for k, v in decode_entry(entry) if k == b"ann" and not is_gone(v)]
    exits = [c for c in records if c.cause["kind"] == "retention"]
    assert [c.segment for c in exits] == ["keen", "quiet", "buyer"]
    assert {c.ts for c in exits} == {START_MS + AFTER_MS}
    assert exits[-1].segments == []
    raw = [msgspec.json.decode(v) for _, v in decode_entry(entry)]
    cause = next(r["cause"] for r in raw if r.get("cause", {}).get("kind") == "retention")
    assert cause["values"] == {"last_seen": START_MS}
    assert cause["thresholds"] == {"retention.after_ms": AFTER_MS}
    assert [c.n for c in records] == [1, 2, 3, 4, 5, 6]


def test_what_a_replay_decides_is_decided_when_it_is_seen_to_end():
    """Also in a first batch with several lives of a user, before which there is no clock."""
    lane = Lane(plan(segments=SEGMENTS, retention_ms=AFTER_MS), range(64))
    times = [START_MS, START_MS + 50 * DAY_MS, START_MS + 51 * DAY_MS, START_MS + 100 * DAY_MS]
    views = [
        {"event_id": f"e{at_ms}", "user_id": user, "type": "product_view", "ts": at_ms}
        for at_ms in times
        for user in ("ann", "bob")
    ]
    lane.apply(Decoder(EventRules())(read_of(views))[0])
    decided = [(c.cause.kind, c.ts, c.decided_at) for c in lane.decider.waiting]
    assert {kind for kind, *_ in decided} == {"event", "timer", "retention"}
    for kind, ts, decided_at_ms in decided:
        assert ts <= decided_at_ms <= times[-1], kind
    ends = {(ts, decided_at_ms) for kind, ts, decided_at_ms in decided if kind == "retention"}
    assert ends == {(times[0] + AFTER_MS,) * 2, (times[2] + AFTER_MS,) * 2}


@pytest.mark.servers
def test_a_shard_without_users_knows_the_ids_of_their_events(store_url: str) -> None:
    """The wall goes on, everybody is forgotten, and an event of that time comes again."""
    event = {"event_id": "1", "user_id": "ann", "type": "purchase", "ts": START_MS, "amount": 1.0}

    def begun(store: Store) -> tuple[Lane, Checkpoint]:
        lane = forgetful(every_ms=0, most=100)
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        return lane, checkpoint

    def read(at: int, *events: dict[str, Any]) -> Any:
        batch, _ = Decoder(EventRules())(read_of(list(events), at))
        batch.spans = [Span(0, at, at + len(events), at_end=True)]
        return batch

    store = Store(store_url)
    lane, checkpoint = begun(store)
    lane.apply(read(0, event), START_MS)
    checkpoint.commit(heartbeat=True)
    gone_ms = START_MS + AFTER_MS + DAY_MS
    lane.apply(read(1), gone_ms)
    checkpoint.commit(heartbeat=True)
    assert len(lane.users) == 0
    lane, checkpoint = begun(store)
    lane.apply(read(1, event), gone_ms)
    assert (lane.counters.events, lane.counters.duplicates) == (0, 1)
    store.close()


def test_nothing_grows_while_users_come_and_go():
    """Many generations, each of other users, take the room of two."""
    chosen = load(env={}, sets=SMALL)
    lane = Lane(
        replace(plans.lane_plan(chosen), retention_ms=5 * DAY_MS, timer_step_ms=1),
        range(64),
        plans.learner(chosen, trains=True),
        plans.recommender(chosen, keeps=True, shares=False),
    )
    chance, offset, held = random.Random(3), 0, []
    for generation in range(60):
        start_ms = START_MS + generation * 6 * DAY_MS
        events = shop(chance, [f"user-{generation}-{n}" for n in range(150)], start_ms, 600, offset)
        for a in range(0, len(events), 100):
            batch, letters = Decoder(plans.event_rules(chosen))(
                read_of(events[a : a + 100], offset)
            )
            assert not letters
            lane.apply(batch, start_ms + a)
            lane.steer(start_ms + a)
            lane.settle(lane.collect())
            offset += len(batch)
        parts = {name: side.entries for name, side in lane.side_parts().items()}
        held.append(
            {
                "rows": lane.table.size,
                "table": lane.table.bytes_held(),
                "ids": lane.users.ids.bytes_held(),
                **{name: entries.bytes_held() for name, entries in parts.items()},
                "orders": lane.measures.orders.bytes_held(),
                "carts": lane.measures.carts.bytes_held(),
            }
        )
    assert lane.counters.forgotten == 150 * 59
    assert len(lane.users) == 150
    assert lane.table.size <= 300
    for name in held[0]:
        early = max(sizes[name] for sizes in held[:30])
        late = max(sizes[name] for sizes in held[30:])
        assert late <= early * 1.25, (name, [sizes[name] for sizes in held])


SMALL = (
    *("models.every=1h", "models.rate=1.0", "models.tasks.purchase_7d.horizon=12h"),
    *("models.tasks.purchase_30d.horizon=3d", "models.tasks.churn_30d.horizon=4d"),
    *("segments.away.enter=age(last_seen) >= 2d", "dedup.window=10m"),
)


def shop(
    chance: random.Random, users: list[str], start_ms: int, count: int, first: int
) -> list[dict[str, Any]]:
    """A day of a shop."""
    out = []
    for n in range(count):
        kind = chance.choice(["product_view"] * 4 + ["add_to_cart", "purchase", "refund"])
        event = {
            "event_id": f"e{first + n}",
            "user_id": users[n % len(users)] if n < len(users) else chance.choice(users),
            "type": kind,
            "ts": start_ms + n * DAY_MS // count,
            "item_id": f"i{chance.randrange(9)}",
        }
        if kind in ("purchase", "refund"):
            event |= {"amount": chance.randrange(10_000) / 100, "order_id": f"o{first + n // 9}"}
        out.append(event)
    return out


class World:
    """A lane with all that ships, on a store, and the model of who is known."""

    def __init__(self, store: Store, seed: int) -> None:
        self.chance = random.Random(seed)
        self.settings = load(
            env={},
            sets=[
                *SMALL,
                f"redis.shards={store.shards}",
                "holdout.share=0.1",
                "experiments.layout.arms={ control = 50, variant = 50 }",
            ],
        )
        self.store = store
        self.lives, self.consumer = Lives(10 * DAY_MS), Consumer()
        self.offset, self.at_ms = 0, START_MS
        self.waiting: list[list[dict[str, Any]]] = []
        self.start()

    def start(self) -> None:
        chosen = self.settings
        every_ms = self.chance.choice([0, HOUR_MS, 3 * DAY_MS])
        lane_plan = replace(
            plans.lane_plan(chosen),
            retention_ms=10 * DAY_MS,
            retention_every_ms=every_ms,
            retention_rows=self.chance.choice([1, 3, 1000]),
            timer_step_ms=1,
        )
        learner = plans.learner(chosen, trains=True)
        recommender = plans.recommender(chosen, keeps=True)
        self.lane = Lane(lane_plan, range(self.store.shards), learner, recommender)
        self.checkpoint = Checkpoint(self.lane, self.store)
        self.checkpoint.open()

    def act(self, count: int) -> None:
        """Some events in one batch, a few of them late."""
        self.at_ms += self.chance.choice([HOUR_MS, 6 * HOUR_MS, DAY_MS, 3 * DAY_MS])
        users = [f"u{int(self.chance.paretovariate(0.4)) % 60}" for _ in range(count)]
        events = shop(self.chance, users, self.at_ms, count, self.offset)
        for event in events:
            if self.chance.random() < 0.05:
                event["ts"] -= self.chance.choice([2, 8, 15]) * DAY_MS
        batch, letters = Decoder(plans.event_rules(self.settings))(read_of(events, self.offset))
        assert not letters
        self.lives.take(as_oracle(events), self.lane.clock.now_ms)
        self.lane.apply(batch)
        self.offset += count

    def commit(self, *, heartbeat: bool = True) -> None:
        done = self.checkpoint.commit(heartbeat=heartbeat)
        self.consumer.take([c.changes for c in done])

    def lose_memory(self) -> None:
        """A lane dies with what it has not committed, which is read and decided again."""
        self.commit()
        saved = msgspec.msgpack.encode(self.lives.held), self.offset, self.at_ms, self.lives.ended
        state = self.chance.getstate()
        self.act(5)
        raw, self.offset, self.at_ms, self.lives.ended = saved
        self.lives.held = msgspec.msgpack.decode(raw)
        self.chance.setstate(state)
        self.start()

    def check(self) -> None:
        """The store holds the present lives and nothing of anybody else."""
        self.commit()
        lane, store = self.lane, self.store
        documents_ = stored_documents(store)
        present = self.lives.present(lane.clock.now_ms)
        assert present.keys() <= documents_.keys()
        for user in documents_.keys() - present.keys():  # ended, and not forgotten yet
            assert self.lives.end_ms(user) <= lane.clock.now_ms
        for user, document in documents_.items():
            own = self.lives.held[user]
            truth = naive.profile(own, document["as_of"], naive.Settings())
            for name in ("first_seen", "last_seen", "lifetime", "window"):
                assert document[name] == truth[name], (user, name)
            assert self.consumer.fold.segments(user) == tuple(sorted(document["segments"]))
            assert self.consumer.count(user) == document["changes"]
        known = documents_.keys()
        assert set(dict(self.consumer.fold.everyone())) <= known
        names = lane.decider.plan.names
        sizes = dict.fromkeys(names, 0)
        for shard in range(store.shards):
            for kind in ("state", "candidates"):
                here = {user.decode() for user in store.fields(kind, shard)}
                assert here <= known, kind
            for name in names:
                members = store.members(shard, name)
                sizes[name] += len(members)
                for user in members:
                    assert name in documents_[user]["segments"]
        assert lane.decider.sizes.tolist() == list(sizes.values())
        assert sum(sizes.values()) == sum(len(d["segments"]) for d in documents_.values())
        again = Lane(
            plans.lane_plan(self.settings),
            range(store.shards),
            plans.learner(self.settings, trains=False),
            plans.recommender(self.settings, keeps=False),
        )
        for shard in range(store.shards):
            again.restore(store.look(shard, again.side_tables))  # refuses entries of nobody
        again.restored(None)
        for name, side in again.side_parts().items():
            mine = self.lane.side_parts()[name].entries
            assert len(side.entries) == len(mine), name
        totals = zip(
            again.measures.experiments.totals(), lane.measures.experiments.totals(), strict=True
        )
        assert all((a == b).all() for (_, a), (_, b) in totals)


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(8))
def test_random_histories_on_a_store(store_url: str, seed: int) -> None:
    store = Store(store_url, f"w{seed}", 4, give_up_s=1.0)
    world = World(store, seed)
    for _ in range(60):
        what = world.chance.choice(["act", "act", "act", "commit", "lose", "check"])
        if what == "act":
            world.act(world.chance.randint(1, 30))
        elif what == "commit":
            world.commit(heartbeat=world.chance.random() < 0.5)
        elif what == "lose":
            world.lose_memory()
        else:
            world.check()
    world.check()
    assert "retention" in world.consumer.causes
    assert world.lives.ended
    store.close()


@pytest.mark.servers
def test_a_store_that_came_back_older_forgets_again(tmp_path):
    server = EmbeddedStore(tmp_path / "data").start()
    try:
        store = Store(server.url, "t", 4)
        world = World(store, 11)
        for step in range(60):
            world.act(20)
            world.commit(heartbeat=step % 3 == 0)
            if step == 30:
                shutil.copytree(server.directory, tmp_path / "older")
            if step in (33, 45):
                server.kill()
                shutil.rmtree(server.directory)
                shutil.copytree(tmp_path / "older", server.directory)
                server.start()
                world.check()
        world.check()
        assert "retention" in world.consumer.causes
        store.close()
    finally:
        server.stop()
