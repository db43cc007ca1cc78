"""A lane that dies anywhere, over a real store: its heirs end where nothing had happened.

A crash is a lane thrown away. The next one opens from the store and reads the log again from the
lowest position. In the end all values equal those of a lane left in peace and of the naive oracle,
and whoever folds the published changes holds the memberships that the store holds.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis

from dataflows import reference as naive
from dataflows.embedded import EmbeddedStore
from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from events.texts import Texts
from operators.courier import Position
from operators.recovery import lost_shards, yet_to_be_told
from state.changes import Change, decode_entry
from state.checkpoint import Checkpoint, Committed
from state.commit import ShardCommit
from state.declared import DecayedSpec, PanesSpec
from state.definitions import FamilySpec, SegmentSpec
from state.lane import Lane
from state.plan import LanePlan
from state.store import Store
from state.store_errors import FencedOff, StoreUnavailable
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.folding import (
    Document,
    assert_counted,
    assert_folded,
    assert_values,
    documents,
    fold,
    fold_epochs,
    unique,
)

pytestmark = pytest.mark.servers

Event = dict[str, Any]

START_MS = 1_780_000_000_000
SHARDS = 64
PARTITIONS = 3
TYPES = ["product_view"] * 4 + ["add_to_cart", "remove_from_cart", "purchase", "purchase", "refund"]
ENGAGEMENT = {"product_view": 1.0, "add_to_cart": 3.0, "purchase": 10.0}
INTENT = {"product_view": 1.0, "add_to_cart": 4.0}
SEGMENTS = [
    SegmentSpec("keen", "intent >= 5", "intent < 2"),
    SegmentSpec("looking", "views_7d >= 3", min_dwell_ms=10 * MINUTE_MS),
    SegmentSpec("warm", "intent >= 3", "intent < 2.5", cooldown_ms=20 * MINUTE_MS),
    SegmentSpec("buyer", "lifetime.orders >= 1"),
    SegmentSpec("left_cart", "cart.items > 0 and age(cart.touched) >= 10m"),
]
FAMILIES = [
    FamilySpec("size", [("big", "lifetime.spend >= 10000"), ("small", "lifetime.orders >= 1")])
]
WITHOUT_MEMORY = {"buyer", "left_cart", "big", "small"}
NAMES = [spec.name for spec in SEGMENTS] + [label for f in FAMILIES for label, _ in f.members]
VALUES = (
    *("as_of", "first_seen", "last_seen", "last_order", "lifetime", "window", "decayed"),
    *("engagement", "intent"),
)
ORACLE = naive.Settings(engagement=ENGAGEMENT, intent=INTENT, intent_half_life_ms=HOUR_MS)


class Crash(Exception):
    """The engine is dead."""


class Mortal(Store):
    """A store whose engine dies at a chosen write: nothing after it leaves the process.

    Attributes:
        fuse: how many writes still go out; endless if None.
        order: gives the order in which the shards of a commit are written.
        torn: how many commits wrote some of their shards and not the others.
    """

    fuse: int | None = None
    torn: int = 0
    order: Callable[[Sequence[ShardCommit]], Sequence[ShardCommit]] | None = None

    def commit(self, commits: Sequence[ShardCommit]) -> dict[int, int]:
        """Shard by shard while the fuse burns."""
        if self.fuse is None:
            return super().commit(commits)
        self.torn += 0 < self.fuse < len(commits)
        behind: dict[int, int] = {}
        for commit in self.order(commits) if self.order else commits:
            self._burn()
            behind |= super().commit([commit])
        return behind

    def share(self, name: str, value: bytes) -> None:
        """One write."""
        self._burn()
        super().share(name, value)

    def trim(self, sequences: Iterable[tuple[int, int]]) -> None:
        """Shard by shard."""
        for sequence in sequences:
            self._burn()
            self.outbox.trim([sequence])

    def _burn(self) -> None:
        if self.fuse == 0:
            raise Crash
        if self.fuse is not None:
            self.fuse -= 1


def random_events(
    chance: random.Random, count: int, users: Sequence[str], first: int = 0
) -> list[Event]:
    """Hours of a shop, in order of time but for some that are late, some of them sent twice."""
    out: list[Event] = []
    for n in range(first, first + count):
        if out and chance.random() < 0.05:
            out.append(chance.choice(out[-12:]))
            continue
        kind = chance.choice(TYPES)
        event: Event = {
            "event_id": f"e{n}",
            "user_id": chance.choice(users),
            "type": kind,
            "ts": START_MS + n * MINUTE_MS // 2 - chance.choice([0, 0, 0, 4 * MINUTE_MS]),
        }
        if kind in ("purchase", "refund"):
            event |= {"amount": chance.randrange(10_000) / 100, "order_id": f"o{n // 9}"}
        if kind in ("add_to_cart", "remove_from_cart"):
            event["item_id"] = f"i{chance.randrange(3)}"
        out.append(event)
    return out


def somebody(count: int) -> list[str]:
    return [f"u{n}" for n in range(count)]


class Log:
    """Events dealt to partitions in turn, whoever's they are, to be read from any place."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = list(events)
        self.parts: list[list[Event]] = [[] for _ in range(PARTITIONS)]
        for n, event in enumerate(self.events):
            self.parts[n % PARTITIONS].append(event)
        self._decode = Decoder(EventRules())

    @property
    def ends(self) -> dict[int, int]:
        """The offset after the last one of each partition."""
        return {p: len(part) for p, part in enumerate(self.parts)}

    def batch(self, at: Mapping[int, int], count: int) -> Batch:
        """The next events of every partition, at most ``count`` of each."""
        places = [
            (p, offset)
            for p, part in enumerate(self.parts)
            for offset in range(at[p], min(at[p] + count, len(part)))
        ]
        spans = [
            Span(p, at[p], stop := min(at[p] + count, len(part)), at_end=stop == len(part))
            for p, part in enumerate(self.parts)
        ]
        read = Read(
            topic="t",
            payloads=[msgspec.json.encode(self.parts[p][offset]) for p, offset in places],
            record_ts_ms=np.full(len(places), -1, dtype=np.int64),
            partition=np.array([p for p, _ in places], dtype=np.int32),
            offset=np.array([offset for _, offset in places], dtype=np.int64),
            spans=spans,
        )
        batch, letters = self._decode(read)
        assert not letters
        return batch


@dataclass
class Topic:
    """The change topic, with what the publisher notes beside it.

    Attributes:
        records: what was published, in order.
        reached: how far each shard is published.
    """

    records: list[bytes] = field(default_factory=list)
    reached: dict[int, Position] = field(default_factory=dict)

    def take(self, committed: Iterable[Committed], most: int | None = None) -> None:
        """Publish changes; no more than ``most`` of them."""
        entries = list(committed)
        records = [value for c in entries for _, value in decode_entry(c.changes)]
        self.records += records[:most]
        if most is None:
            self.reached |= {c.shard: Position(epoch_of(c), c.seq) for c in entries}

    def memberships(self) -> dict[str, list[str]]:
        """The segments that each user was said to be in last."""
        changes = [msgspec.json.decode(record) for record in self.records]
        return {change["user_id"]: change["segments"] for change in changes}


def epoch_of(committed: Committed) -> int:
    """The epoch under which an entry's changes were decided."""
    epoch: int = msgspec.json.decode(decode_entry(committed.changes)[-1][1])["epoch"]
    return epoch


def new_lane() -> Lane:
    plan = LanePlan(
        decayed=[
            DecayedSpec("engagement", 7 * DAY_MS, ENGAGEMENT),
            DecayedSpec("intent", HOUR_MS, INTENT),
        ],
        panes=[PanesSpec("views_7d", 7 * DAY_MS, 7, ("product_view",))],
        segments=SEGMENTS,
        families=FAMILIES,
        lateness_ms=5 * MINUTE_MS,
        dedup_window_ms=2 * HOUR_MS,
    )
    return Lane(plan, range(SHARDS))


class Life:
    """One engine, from its start to its crash: a lane over what outlives it."""

    def __init__(self, store: Mortal, log: Log, topic: Topic) -> None:
        self._log, self.store, self.topic = log, store, topic
        self.lane = new_lane()
        self._checkpoint = Checkpoint(self.lane, store)
        left = self._checkpoint.open()
        lost = lost_shards(topic.reached, self.lane.sequences())
        told = topic.memberships() if lost else {}
        mine = {user: names for user, names in told.items() if self.lane.shard_of(user) in lost}
        mine |= yet_to_be_told([c for c in left if c.shard in lost], topic.reached)
        self.lane.recover(mine, 0)
        self.at = {p: store.positions().get(p, 0) for p in log.ends}
        self.publish(left)

    @property
    def done(self) -> bool:
        """Whether the log is read to its end."""
        return self.at == self._log.ends

    def read(self, count: int) -> None:
        """Apply the next events."""
        batch = self._log.batch(self.at, count)
        self.lane.apply(batch)
        self.at = {span.partition: span.stop for span in batch.spans}

    def commit(self, *, heartbeat: bool = False) -> list[Committed]:
        """Write what changed."""
        return self._checkpoint.commit(heartbeat=heartbeat)

    def publish(self, committed: Iterable[Committed]) -> None:
        """Bring changes to the topic, then forget them in the outbox."""
        done = list(committed)
        self.topic.take(done)
        self.store.trim((c.shard, c.seq) for c in done)

    def step(self, count: int, *, heartbeat: bool = False) -> None:
        """Read, commit and publish."""
        self.read(count)
        self.publish(self.commit(heartbeat=heartbeat))

    def live_on(self, count: int) -> None:
        """Read to the end in steps, then bring everybody to one time."""
        while not self.done:
            self.step(count)
        self.lane.finish(end_ms(self._log))
        self.publish(self.commit(heartbeat=True))


def end_ms(log: Log) -> int:
    """When the values are compared: after all events."""
    return max(int(event["ts"]) for event in log.events) + 15 * MINUTE_MS


def of_lane(lane: Lane) -> dict[str, Document]:
    """The documents that a lane would write now."""
    raw = lane.portraits.encode(np.arange(lane.table.size)).bytes_list()
    return {d["user_id"]: d for d in map(msgspec.msgpack.decode, raw)}


def left_in_peace(log: Log) -> dict[str, Document]:
    """What a lane says to which nothing happens."""
    lane, at = new_lane(), dict.fromkeys(log.ends, 0)
    while at != log.ends:
        batch = log.batch(at, 25)
        lane.apply(batch)
        at = {span.partition: span.stop for span in batch.spans}
    lane.finish(end_ms(log))
    return of_lane(lane)


def as_oracle(log: Log) -> dict[str, naive.Profile]:
    """What the oracle says at the end."""
    events = [e | {"amount_minor": round(100 * e.get("amount", 0))} for e in log.events]
    return naive.profiles(naive.without_duplicates(events), end_ms(log), ORACLE)


def assert_as_oracle(found: Mapping[str, Document], log: Log) -> None:
    truth = as_oracle(log)
    assert found.keys() == truth.keys()
    for user, document in found.items():
        assert_values(document, truth[user], VALUES)
        cart, held = truth[user]["cart"], document["cart"]
        assert {line["item_id"]: line["added"] for line in held["lines"]} == cart["lines"], user


def assert_as_peace(found: Mapping[str, Document], log: Log) -> None:
    truth = left_in_peace(log)
    assert found.keys() == truth.keys()
    for user, document in found.items():
        assert_values(document, truth[user], (*VALUES, "cart"))
        inside = WITHOUT_MEMORY & document["segments"].keys()
        assert inside == WITHOUT_MEMORY & truth[user]["segments"].keys(), user


def assert_restored(store: Store) -> None:
    """A new lane finds in the store what the profiles there say."""
    heir = new_lane()
    Checkpoint(heir, store).open()
    found = of_lane(heir)
    stored = documents(store)
    assert found.keys() == stored.keys()
    for user, document in found.items():
        assert_values(document, stored[user], (*VALUES, "cart", "session", "segments", "changes"))


def assert_alternating(changes: Iterable[Change]) -> None:
    """Nobody is told twice of one entry or exit, whatever was lost in between."""
    inside: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        held = inside[change.user_id]
        assert (change.segment in held) == (change.action == "exited"), change
        held ^= {change.segment}


def assert_ends_well(store: Store, log: Log, topic: Topic) -> None:
    """Nothing that happened on the way is to be seen."""
    found = documents(store)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    changes = unique(topic.records)
    assert len({change.user_id for change in changes}) > len(found) / 2
    assert_folded(fold(changes), store, NAMES)
    assert_counted(changes, store)
    assert_restored(store)


@pytest.fixture
def store(store_url: str) -> Iterator[Mortal]:
    opened = Mortal(store_url, "t", SHARDS, give_up_s=0.3)
    yield opened
    opened.close()


def live_and_die(chance: random.Random, store: Mortal, log: Log, topic: Topic) -> None:
    """One engine after another dies at some write, until the log is read to its end."""
    done = False
    while not done:
        store.fuse = chance.randrange(80)
        with suppress(Crash):
            life = Life(store, log, topic)
            while not life.done:
                life.step(chance.randrange(1, 30), heartbeat=chance.random() < 0.2)
            done = True
    store.fuse = None


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_at_any_write_inside_a_commit(store: Mortal, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 500, somebody(40))), Topic()
    store.order = lambda commits: chance.sample(commits, len(commits))
    live_and_die(chance, store, log, topic)
    assert store.torn >= 5
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)


def unpublished(_life: Life, _committed: Sequence[Committed], _chance: random.Random) -> None:
    """Dies at once."""


def partly_published(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies when some changes have gone out, of the last shard perhaps not all."""
    total = sum(len(decode_entry(c.changes)) for c in committed)
    life.topic.take(committed, chance.randint(0, total))


def later_unpublished(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies when the first commits are published and forgotten, and the later ones are not."""
    life.publish(committed[: chance.randint(0, len(committed))])


def untrimmed(life: Life, committed: Sequence[Committed], _chance: random.Random) -> None:
    """Dies when all changes have gone out and the outbox still has them."""
    life.topic.take(committed)


def partly_trimmed(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies while the outbox is trimmed."""
    life.store.fuse = chance.randint(0, len(committed))
    with suppress(Crash):
        life.publish(committed)
    life.store.fuse = None


Death = Callable[[Life, Sequence[Committed], random.Random], None]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "death", [unpublished, partly_published, later_unpublished, untrimmed, partly_trimmed]
)
def test_a_crash_after_a_commit(store: Mortal, death: Death, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 400, somebody(30))), Topic()
    done = False
    while not done:
        life = Life(store, log, topic)
        life.step(chance.randrange(1, 12))
        committed: list[Committed] = []
        for _ in range(chance.randint(1, 3)):
            life.read(chance.randrange(1, 12))
            committed += life.commit(heartbeat=chance.random() < 0.5)
        death(life, committed, chance)
        done = life.done
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)
    copies = len(topic.records) - len(unique(topic.records))
    assert (copies == 0) == (death in (unpublished, later_unpublished))


QUIET_FROM, QUIET_TO = 120, 520
"""Events between which only a few shards have any."""


def log_with_idle_shards(chance: random.Random) -> Log:
    """Everybody acts, then for hours only the users of three shards do, then everybody again."""
    users = somebody(60)
    shards = shard_of(Texts.of(users), SHARDS).tolist()
    few = {shard for shard, _ in Counter(shards).most_common(3)}
    busy = [user for user, shard in zip(users, shards, strict=True) if shard in few]
    return Log(
        [
            *random_events(chance, QUIET_FROM, users),
            *random_events(chance, QUIET_TO - QUIET_FROM, busy, QUIET_FROM),
            *random_events(chance, 120, users, QUIET_TO),
        ]
    )


def read_quiet_time(life: Life, count: int, *, heartbeat: bool) -> None:
    """Step nearly to the end of the time in which most shards are idle."""
    while max(life.at.values()) + count < QUIET_TO // PARTITIONS:
        life.step(count, heartbeat=heartbeat)


@pytest.mark.parametrize("seed", range(2))
def test_heartbeats_take_idle_shards_along(store: Mortal, seed: int) -> None:
    log, topic = log_with_idle_shards(random.Random(seed)), Topic()
    life = Life(store, log, topic)
    read_quiet_time(life, 10, heartbeat=True)
    heir = Life(store, log, topic)
    assert heir.at == life.at
    heir.live_on(10)
    assert_ends_well(store, log, topic)


@pytest.mark.parametrize("seed", range(2))
def test_what_idle_shards_make_be_read_again_is_skipped(store: Mortal, seed: int) -> None:
    log, topic = log_with_idle_shards(random.Random(seed)), Topic()
    life = Life(store, log, topic)
    read_quiet_time(life, 10, heartbeat=False)
    before, published = documents(store), len(topic.records)
    heir = Life(store, log, topic)
    assert max(heir.at.values()) <= QUIET_FROM // PARTITIONS
    while heir.at != life.at:
        heir.read(10)
        assert heir.commit() == []
    assert heir.lane.counters.events == heir.lane.counters.duplicates == 0
    assert documents(store) == before
    assert len(topic.records) == published
    heir.live_on(10)
    assert_ends_well(store, log, topic)


@pytest.mark.parametrize("seed", range(3))
def test_crashes_while_shards_are_idle(store: Mortal, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = log_with_idle_shards(chance), Topic()
    live_and_die(chance, store, log, topic)
    assert store.torn >= 5
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "data") as running:
        yield running


@pytest.fixture
def lossy(server: EmbeddedStore) -> Iterator[Mortal]:
    """A store on a server of the test's own."""
    opened = Mortal(server.url, "t", SHARDS)
    yield opened
    opened.close()


def set_back(server: EmbeddedStore, older: Path) -> None:
    """Stop the server and start it again with an older append-only file."""
    server.kill()
    shutil.rmtree(server.directory)
    shutil.copytree(older, server.directory)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        while client.info("persistence")["loading"]:
            time.sleep(0.01)


def first_timeline(
    store: Mortal, server: EmbeddedStore, older: Path, log: Log, topic: Topic
) -> Life:
    """An engine's life, with a copy of the store's file taken on the way."""
    life = Life(store, log, topic)
    for number in range(12):
        if number == 5:
            shutil.copytree(server.directory, older)
        life.step(8, heartbeat=number % 4 == 0)
    return life


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [8, 3, 40], ids="read again in {} steps".format)
def test_a_store_that_is_set_back_while_no_engine_runs(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, seed: int, count: int
) -> None:
    log, topic = Log(random_events(random.Random(seed), 400, somebody(30))), Topic()
    first = first_timeline(lossy, server, tmp_path / "older", log, topic)
    set_back(server, tmp_path / "older")
    heir = Life(lossy, log, topic)
    assert all(heir.at[p] < first.at[p] for p in log.ends)
    heir.live_on(count)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


@pytest.mark.parametrize("seed", range(4))
def test_engines_that_die_before_they_have_published_what_they_take_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    set_back(server, tmp_path / "older")
    for _ in range(3):
        life, committed = Life(lossy, log, topic), []
        for _ in range(2):
            life.read(chance.choice([1, 3, 8, 20]))
            committed += life.commit(heartbeat=chance.random() < 0.5)
        life.publish(committed[: chance.choice([0, 0, 5])])
    Life(lossy, log, topic).live_on(20)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)
    changes = unique(topic.records)
    assert_folded(fold_epochs(changes), lossy, NAMES)
    assert_alternating(changes)


def test_epochs_do_not_come_twice_when_a_store_is_set_back_over_a_start(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(1), 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    second = Life(lossy, log, topic)
    for _ in range(4):
        second.step(8)
    set_back(server, tmp_path / "older")
    Life(lossy, log, topic).live_on(8)
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


def test_an_engine_whose_store_is_set_back_to_before_its_start_writes_nothing(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(2), 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    second = Life(lossy, log, topic)
    second.step(8)
    set_back(server, tmp_path / "older")
    second.read(8)
    before = documents(lossy)
    with pytest.raises(FencedOff):
        second.commit(heartbeat=True)
    assert documents(lossy) == before
    Life(lossy, log, topic).live_on(8)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)


def test_changes_that_wait_for_the_publisher_survive_a_store_set_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    """The lane lives when the store is set back, and dies before anything more is published."""
    log, topic = Log(random_events(random.Random(4), 400, somebody(30))), Topic()
    life = first_timeline(lossy, server, tmp_path / "older", log, topic)
    life.read(8)
    life.commit(heartbeat=True)
    set_back(server, tmp_path / "older")
    life.read(8)
    life.commit(heartbeat=True)
    Life(lossy, log, topic).live_on(8)
    assert_ends_well(lossy, log, topic)


def test_a_heartbeat_repairs_a_store_that_was_set_back_on_a_quiet_log(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(5), 400, somebody(30))), Topic()
    life = first_timeline(lossy, server, tmp_path / "older", log, topic)
    life.publish(life.commit(heartbeat=True))
    before = documents(lossy)
    set_back(server, tmp_path / "older")
    assert documents(lossy) != before
    life.publish(life.commit(heartbeat=True))
    after = documents(lossy)
    assert after.keys() == before.keys()
    for user, document in after.items():
        assert_values(document, before[user], (*VALUES, "cart", "session", "segments", "changes"))
    life.live_on(8)
    assert_ends_well(lossy, log, topic)


def test_what_only_the_lost_timeline_decided_is_taken_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    """Ann was warm once; read again in one go, together with later events, she never was."""

    def event(user: str, kind: str, hours: float = 0.0) -> Event:
        ts = START_MS + int(hours * HOUR_MS)
        named = {"event_id": f"{kind}-{hours}", "user_id": user, "type": kind, "ts": ts}
        return named | ({"item_id": "i"} if "cart" in kind else {})

    first_read = [event("ann", "add_to_cart"), event("bob", "click"), event("cid", "click")]
    second_read = [event("ann", "remove_from_cart", 0.1), event("ann", "click", 5)]
    log, topic = Log([*first_read, *second_read, event("bob", "click", 5)]), Topic()
    first = Life(lossy, log, topic)
    shutil.copytree(server.directory, tmp_path / "older")
    first.step(1)
    assert fold(unique(topic.records)) == {"ann": {"warm"}}
    set_back(server, tmp_path / "older")
    Life(lossy, log, topic).step(2)
    assert documents(lossy)["ann"]["segments"] == {}
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


@pytest.mark.parametrize("kind", ["profile", "state", "members", "outbox"])
def test_a_script_that_stops_half_way_and_then_a_crash(
    store: Mortal, store_url: str, kind: str
) -> None:
    log, topic = Log(random_events(random.Random(3), 300, somebody(30))), Topic()
    life = Life(store, log, topic)
    life.step(20, heartbeat=True)
    life.read(20)
    hurt = [store.key(kind, s, "buyer" if kind == "members" else "") for s in range(SHARDS)]
    with redis.Redis.from_url(store_url) as client:
        there = [key for key in hurt if client.exists(key)]
        for key in hurt:
            if key in there:
                client.rename(key, f"{key}:aside")
            client.set(key, b"in the way")
        with pytest.raises(StoreUnavailable):
            life.commit(heartbeat=True)
        for key in hurt:
            client.delete(key)
            if key in there:
                client.rename(f"{key}:aside", key)
    Life(store, log, topic).live_on(20)
    assert_ends_well(store, log, topic)


def test_a_store_that_has_started_has_loaded_its_file(server: EmbeddedStore) -> None:
    with redis.Redis.from_url(server.url) as client:
        pipe = client.pipeline(transaction=False)
        for n in range(200_000):
            pipe.set(f"key-{n}", b"value")
        pipe.execute()
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url, retry=None) as client:
        assert client.dbsize() == 200_000
