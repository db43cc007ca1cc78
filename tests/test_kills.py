"""The whole engine killed for real, again and again, while a shop goes on publishing.

Broker and store are the embedded ones, and the store is killed too. In the end every profile must
be what an undisturbed lane, the naive oracle and the ledger make of the same events, and whoever
reads the whole change topic must hold the memberships of the store.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from cli.common import FENCED_OFF
from dataflows import plans
from dataflows import reference as naive
from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.ledger import Ledger
from dataflows.sections.profiles import DecayedFeature
from dataflows.settings import Settings, load
from events.batch import Read, Span
from events.decode import Decoder
from events.shop import BROKEN, GOOD, Habits, Shop
from state.lane import Lane
from state.store import Store
from tests.brokers import Broker, new_broker
from tests.folding import (
    Document,
    assert_counted,
    assert_folded,
    assert_values,
    documents,
    fold,
    unique,
)

pytestmark = [pytest.mark.servers, pytest.mark.slow]

KILLS: Final = 20
RATE: Final = 500
HABITS: Final = Habits(users=200, rate_per_s=RATE, zipf=0.7)
SETS: Final = (
    *("metrics.address=", "segments.away.enter=age(last_seen) >= 2s"),
    *("models.every=1s", "models.rate=1.0", "models.tasks.purchase_7d.horizon=2s"),
    *("models.tasks.purchase_30d.horizon=4s", "models.tasks.churn_30d.horizon=4s"),
)
"""Beside what ships, a segment that silence alone brings people into, and models that learn, all
within seconds."""

STEP_S: Final = 0.05
PATIENCE_S: Final = 60.0
TOPICS: Final = ("events", "events.dead", "segment-changes")
VALUES: Final = (
    *("as_of", "first_seen", "last_seen", "last_order", "lifetime", "window", "decayed"),
    *("engagement", "intent", "session"),
)


class OpenShop(threading.Thread):
    """Publishes a shop's events at their rate, as they happen, and keeps a copy.

    Attributes:
        sent: every message, in order.
        log_ms: when each was sent.
        good: those of them that count.
        broken: how many are none.
        ledger: what they come to.
    """

    def __init__(self, bootstrap: str, seed: int) -> None:
        super().__init__(daemon=True)
        config = {"bootstrap.servers": bootstrap, "linger.ms": 2, "log_level": 0}
        self._producer = Producer(config)
        self._shop = Shop(seed, time.time_ns() // 1_000_000, HABITS, duplicate_share=0.03)
        self._closed = threading.Event()
        self.sent: list[bytes] = []
        self.log_ms: list[int] = []
        self.good: list[bytes] = []
        self.broken = 0
        self.ledger = Ledger()

    def run(self) -> None:
        """Until it is closed."""
        while not self._closed.wait(STEP_S):
            self._publish(int(RATE * STEP_S))

    def close(self) -> None:
        """Publish nothing more; returns when all is in the log."""
        self._closed.set()
        self.join()
        assert self._producer.flush(20) == 0

    def _publish(self, count: int) -> None:
        block = self._shop.block(count, time.time_ns() // 1_000_000)
        for payload, user, kind in zip(block.payloads, block.users, block.kind, strict=True):
            self._producer.produce("events", payload, user if isinstance(user, str) else None)
            if kind == GOOD:
                self.good.append(payload)
                self.ledger.enter(payload)
            self.broken += int(kind == BROKEN)
        self.sent += block.payloads
        self.log_ms += block.log_ms.tolist()
        self._producer.poll(0)


@dataclass
class Scene:
    """The embedded parts, the shop, and an engine to be killed.

    Attributes:
        exits: how engines ended that nobody had killed.
    """

    broker: Broker
    server: EmbeddedStore
    shop: OpenShop
    engine: Engine
    store: Store
    exits: list[int] = field(default_factory=list)

    def epoch(self) -> int:
        """How many engines have taken over the shard that is loaded last."""
        return int(self.store.record(self.store.shards - 1).get("epoch", b"0"))

    def commits(self) -> int:
        """How many commits there were, of all shards."""
        return sum(int(self.store.record(s).get("seq", b"0")) for s in range(self.store.shards))

    def learned(self) -> dict[str, int]:
        """How many outcomes each model has learned."""
        saved = self.store.shared("trainer")
        state = msgspec.msgpack.decode(saved) if saved else {"tasks": {}}
        return {name: task["seen"] for name, task in state["tasks"].items()}

    def caught_up(self) -> bool:
        """Whether every shard has taken everything that was sent."""
        return sum(self.store.positions().values()) == len(self.shop.sent)

    def supervise(self) -> None:
        """Start the engine again if it has ended by itself."""
        code = self.engine.exit_code()
        if code is not None:
            assert code != FENCED_OFF, self.tail()
            self.exits.append(code)
            self.engine.start()

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something, as a supervisor of the engine."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"in vain for {what}; {self.tail()}"
            self.supervise()
            time.sleep(0.02)

    def until_committed(self) -> None:
        """Wait for a commit after now."""
        before = self.commits()
        self.until(lambda: self.commits() > before, "a commit")

    def restart_server(self) -> None:
        """Start the store again on what is left in its file, and wait until that is loaded."""
        self.server.start()
        with redis.Redis.from_url(self.server.url) as client:
            while client.info("persistence")["loading"]:
                time.sleep(0.01)

    def kill_engine(self) -> None:
        """Kill -9, and start it again."""
        assert self.engine.exit_code() is None, self.tail()
        self.engine.kill()
        self.engine.start()

    def finish(self) -> None:
        """Close the shop, let the engine take all of it, then end in good order."""
        self.shop.close()
        self.until(self.caught_up, "everything to be committed")
        assert self.engine.stop() == 0, self.tail()

    def tail(self) -> str:
        """The end of the engine's log."""
        return f"the engine's log ends: {self.engine.log.read_text(errors='replace')[-2000:]}"


@contextmanager
def opened(directory: Path, seed: int) -> Iterator[Scene]:
    """All parts, at work; ended at the end."""
    with EmbeddedStore(directory / "data") as server, new_broker() as broker:
        broker.create(*TOPICS)
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": server.url}
        options = [part for text in SETS for part in ("--set", text)]
        engine = Engine(options, env, directory / "engine.log")
        shop, store = OpenShop(broker.bootstrap, seed), Store(server.url)
        store.client.hset("ag:meta", "salt", 0)  # the oracle's, which breaks ties by hashes
        scene = Scene(broker, server, shop, engine, store)
        engine.start()
        shop.start()
        try:
            yield scene
        finally:
            engine.kill()
            shop.close()
            store.close()


def read_all(bootstrap: str, topic: str) -> list[Message]:
    """Everything in a topic, as a consumer gets it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "log_level": 0})
    try:
        places = [
            TopicPartition(topic, p, OFFSET_BEGINNING)
            for p in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        ranges = [consumer.get_watermark_offsets(place, timeout=10) for place in places]
        assert {low for low, _ in ranges} == {0}, "the broker has dropped what must be read"
        total = sum(high for _, high in ranges)
        consumer.assign(places)
        out: list[Message] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while len(out) < total:
            assert time.monotonic() < deadline_s
            out += [m for m in consumer.consume(1_000, 0.2) if m.error() is None]
        return out
    finally:
        consumer.close()


def left_in_peace(settings: Settings, shop: OpenShop, as_of: Mapping[str, int]) -> list[Any]:
    """The documents of a lane that took everything at once, each user at a given time."""
    sent = shop.sent
    lane = Lane(plans.lane_plan(settings), range(settings.redis.shards))
    read = Read(
        topic="events",
        payloads=sent,
        record_ts_ms=np.array(shop.log_ms, dtype=np.int64),
        partition=np.zeros(len(sent), dtype=np.int32),
        offset=np.arange(len(sent), dtype=np.int64),
        spans=[Span(0, 0, len(sent), at_end=True)],
    )
    batch, _ = Decoder(plans.event_rules(settings))(read)
    lane.apply(batch)
    rows = np.arange(lane.table.size)
    assert set(lane.users.ids) == as_of.keys()
    lane.table["as_of"][rows] = [as_of[user] for user in lane.users.ids]
    return [msgspec.msgpack.decode(raw) for raw in lane.portraits.encode(rows).bytes_list()]


def oracle_settings(settings: Settings) -> naive.Settings:
    """What the naive oracle must know."""
    engagement, intent = settings.features["engagement"], settings.features["intent"]
    assert isinstance(engagement, DecayedFeature)
    assert isinstance(intent, DecayedFeature)
    return naive.Settings(
        window_ms=settings.rfm.window,
        half_life_ms=settings.rfm.half_life,
        session_gap_ms=settings.session.gap,
        return_gap_ms=settings.session.return_gap,
        cart_ttl_ms=settings.cart.ttl,
        engagement=engagement.weights,
        engagement_half_life_ms=engagement.half_life,
        intent=intent.weights,
        intent_half_life_ms=intent.half_life,
    )


def by_user(settings: Settings, good: list[bytes]) -> dict[str, list[dict[str, Any]]]:
    """The events that count, as the oracle takes them."""
    hashes = hashes_of(settings, good)
    events: dict[str, list[dict[str, Any]]] = {}
    for payload, event_hash in zip(good, hashes, strict=True):
        event = msgspec.json.decode(payload)
        event["amount_minor"] = round(100 * event.get("amount", 0))
        event["event_hash"] = event_hash
        events.setdefault(event["user_id"], []).append(event)
    return events


def hashes_of(settings: Settings, good: list[bytes]) -> list[int]:
    """The engine's hash of every good event: it decides between two of one time."""
    n = len(good)
    nowhere = np.full(n, -1, dtype=np.int64)
    read = Read("events", good, nowhere, nowhere.astype(np.int32), nowhere, [])
    batch, letters = Decoder(plans.event_rules(settings))(read)
    assert not letters
    return [int(h) for h in batch.event_hash]


def assert_as_peace(found: Mapping[str, Document], settings: Settings, shop: OpenShop) -> None:
    as_of = {user: document["as_of"] for user, document in found.items()}
    for truth in left_in_peace(settings, shop, as_of):
        names = (*VALUES, "cart", *settings.features)
        assert_values(found[truth["user_id"]], truth, names)


def assert_as_oracle(found: Mapping[str, Document], settings: Settings, shop: OpenShop) -> None:
    events, chosen = by_user(settings, shop.good), oracle_settings(settings)
    assert found.keys() == events.keys()
    for user, document in found.items():
        truth = naive.profile(events[user], document["as_of"], chosen)
        assert_values(document, truth, VALUES)
        lines = {line["item_id"]: line["added"] for line in document["cart"]["lines"]}
        assert lines == truth["cart"]["lines"], user


def assert_dead_letters(scene: Scene) -> None:
    """Each broken message is a dead letter, once or more."""
    places = set()
    for message in read_all(scene.broker.bootstrap, "events.dead"):
        headers = dict(message.headers() or [])
        places.add((headers["partition"], headers["offset"]))
    assert len(places) == scene.shop.broken


def assert_exact(scene: Scene) -> None:
    """Nobody could tell that anything was killed."""
    settings, store = load(sets=SETS, env={}), scene.store
    assert scene.shop.ledger.compare(store) == (len(scene.shop.good), [])
    found = documents(store)
    assert_as_peace(found, settings, scene.shop)
    assert_as_oracle(found, settings, scene.shop)
    records = [m.value() or b"" for m in read_all(scene.broker.bootstrap, "segment-changes")]
    changes = unique(records)
    assert len({change.user_id for change in changes}) > len(found) / 2
    names = [*settings.segments, *(label for f in settings.families.values() for label in f.labels)]
    assert_folded(fold(changes), store, names)
    assert_counted(changes, store)
    assert all(store.outbox.entries(shard) == [] for shard in range(store.shards))
    assert_dead_letters(scene)


@pytest.mark.timeout(600)
def test_twenty_kills_of_the_engine(tmp_path: Path) -> None:
    chance = random.Random(20)
    learned: dict[str, int] = {}
    with opened(tmp_path, seed=20) as scene:
        scene.until_committed()
        for kill in range(KILLS):
            if kill % 4 == 3:
                time.sleep(chance.uniform(0, 1.5))  # also while it starts
            else:
                scene.until_committed()
                time.sleep(chance.uniform(0, 1))
            scene.kill_engine()
            before, learned = learned, scene.learned()
            assert all(learned[name] >= seen for name, seen in before.items())
        scene.finish()
        assert min(scene.learned().values()) > 500
        assert scene.exits == []
        assert scene.epoch() > KILLS * 3 // 4
        assert_exact(scene)


@pytest.mark.timeout(600)
def test_kills_of_the_store_and_of_the_engine(tmp_path: Path) -> None:
    chance = random.Random(5)
    with opened(tmp_path, seed=5) as scene:
        for kill in range(6):
            scene.until_committed()
            time.sleep(chance.uniform(0, 1))
            scene.server.kill()
            if kill % 2:
                scene.engine.kill()
            time.sleep(chance.uniform(0, 0.5))
            scene.restart_server()
            if kill % 2:
                scene.engine.start()
        scene.finish()
        assert_exact(scene)
