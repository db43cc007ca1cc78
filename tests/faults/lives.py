"""Lanes over a real store that die, what they live on, and what must be true in the end.

A crash is a lane thrown away. The next one opens from the store and reads the log again from the
lowest position. In the end all values equal those of a lane left in peace and of the naive oracle,
and whoever folds the published changes holds the memberships that the store holds.
"""

from __future__ import annotations

import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis

from dataflows import reference as naive
from dataflows.embedded import EmbeddedStore
from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.schema import EventRules
from operators.courier import Position
from operators.recovery import lost_shards, yet_to_be_told
from state.changes import Change, decode_entry, is_gone
from state.checkpoint import Checkpoint, Committed
from state.commit import ShardCommit
from state.declared import DecayedSpec, PanesSpec
from state.definitions import FamilySpec, SegmentSpec
from state.lane import Lane
from state.plan import LanePlan
from state.store import Store
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.folding import (
    Document,
    assert_counted,
    assert_folded,
    assert_values,
    documents,
    fold,
    unique,
)

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
        dies: what was sent last is not all that there was.
    """

    fuse: int | None = None
    torn: int = 0
    dies: bool = False
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

    def send(self, commits: Sequence[ShardCommit]) -> None:
        """Only what the fuse lets out; who waits for the rest dies."""
        chosen = self.order(commits) if self.order else commits
        if self.fuse is not None:
            self.torn += 0 < self.fuse < len(commits)
            self.dies = self.fuse < len(commits)
            chosen = chosen[: self.fuse]
            self.fuse -= len(chosen)
        super().send(chosen)

    def finish(self) -> dict[int, int]:
        """What went out is written."""
        behind = super().finish()
        if self.dies:
            self.dies = False
            raise Crash
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
        self.records += [value for value in records[:most] if not is_gone(value)]
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

    def begin(self, *, heartbeat: bool = False) -> list[Committed]:
        """Begin to write what changed, once what was begun before is written."""
        return self._checkpoint.begin(heartbeat=heartbeat)

    def finish(self) -> list[Committed]:
        """Wait until it is written."""
        return self._checkpoint.finish()

    def publish(self, committed: Iterable[Committed]) -> None:
        """Bring changes to the topic, then forget them in the outbox."""
        done = list(committed)
        self.topic.take(done)
        self.store.trim((c.shard, c.seq) for c in done)

    def step(self, count: int, *, heartbeat: bool = False) -> None:
        """Read, commit and publish."""
        self.read(count)
        self.publish(self.commit(heartbeat=heartbeat))

    def step_ahead(self, count: int, *, heartbeat: bool = False) -> None:
        """Read while the last commit is on its way, publish that, and begin the next."""
        self.read(count)
        self.publish(self.begin(heartbeat=heartbeat))

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


def live_and_die(
    chance: random.Random, store: Mortal, log: Log, topic: Topic, *, ahead: bool = False
) -> None:
    """One engine after another dies at some write, until the log is read to its end.

    Ahead: each reads on while its commits are on their way.
    """
    done = False
    while not done:
        store.fuse = chance.randrange(80)
        with suppress(Crash):
            life = Life(store, log, topic)
            step = life.step_ahead if ahead else life.step
            while not life.done:
                step(chance.randrange(1, 30), heartbeat=chance.random() < 0.2)
            life.publish(life.finish())
            done = True
    store.fuse = None
