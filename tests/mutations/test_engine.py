"""A running engine accounts for mutated events as a lane does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Record

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.ledger import Ledger
from dataflows.plans import event_rules
from dataflows.settings import load
from events.decode import Decoder
from state.store import Store
from tests.brokers import new_broker
from tests.mutations.kinds import APPLIED, DUPLICATE
from tests.mutations.running import CUTS, read_of, run
from tests.mutations.streams import Sent, mixed, others
from tests.operators.logs import consume

Place = tuple[int, int]
"""Partition and offset."""


def publish(bootstrap: str, sent: Sequence[Sent]) -> dict[Place, Sent]:
    """Send everything under its user and time; where each message stands in the log."""
    placed: dict[Place, Sent] = {}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})

    def deliver(each: Sent) -> Callable[[KafkaError | None, Record], None]:
        def delivered(error: KafkaError | None, record: Record) -> None:
            partition, offset = record.partition(), record.offset()
            assert error is None
            assert partition is not None
            assert offset is not None
            placed[partition, offset] = each

        return delivered

    for each in sent:
        key, told = each.user.encode(), deliver(each)
        producer.produce("events", each.payload, key, timestamp=each.log_ms, on_delivery=told)
        producer.poll(0)
    assert producer.flush(20) == 0
    assert len(placed) == len(sent)
    return placed


def wait_for_commits(store: Store, count: int, log: Path) -> None:
    """Until every shard's positions cover so many messages."""
    deadline_s = time.monotonic() + 40
    while sum(store.positions().values()) < count:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    assert sum(store.positions().values()) == count


def headers(letter: Record) -> dict[str, str]:
    """What a dead letter says of itself."""
    said = dict(letter.headers() or [])
    return {name: value.decode() for name, value in said.items() if isinstance(value, bytes)}


def assert_lettered(letters: Sequence[Record], placed: Mapping[Place, Sent]) -> set[Place]:
    """Each letter is the message of its place, with why, whose, whence and when; the places."""
    decode, places = Decoder(event_rules(load(env={}))), set()
    for letter in letters:
        said = headers(letter)
        place = int(said["partition"]), int(said["offset"])
        sent = placed[place]
        assert (letter.value() or b"") == sent.payload
        assert letter.key() == sent.user.encode()
        assert (said["topic"], int(said["at"])) == ("events", sent.log_ms)
        _, (truth,) = decode(read_of([sent], 0))
        assert (said["reason"], said["path"]) == (truth.reason, truth.path)
        assert said["detail"] == truth.detail != ""
        places.add(place)
    assert len(places) == len(letters)
    return places


@pytest.mark.servers
@pytest.mark.slow
def test_a_running_engine_accounts_for_each_and_keeps_the_books_of_others(tmp_path: Path) -> None:
    good = others(2_000, 11, time.time_ns() // 1_000_000 - 60_000)
    sent, log = mixed(good, 5_000, seed=12), tmp_path / "engine.log"
    with EmbeddedStore() as server, new_broker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        placed = publish(broker.bootstrap, sent)
        sets = ["metrics.address=", "lane.heartbeat=500ms", CUTS]
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": server.url}
        engine = Engine([part for text in sets for part in ("--set", text)], env, log)
        store = Store(server.url)
        engine.start()
        try:
            wait_for_commits(store, len(sent), log)
            assert engine.stop() == 0, log.read_text()
        finally:
            engine.kill()
        expected = run([sent], [sent[-1].log_ms])
        letters = consume(broker.bootstrap, "events.dead", len(expected.letters))
        ledger = Ledger()
        for each, outcome in zip(sent, expected.outcomes, strict=True):
            if outcome == APPLIED and not each.mutation:
                ledger.enter(each.payload)
        events, wrong = ledger.compare(store)
        store.close()
    dead = assert_lettered(letters, placed)
    duplicates = expected.outcomes.count(DUPLICATE)
    assert events + duplicates + len(dead) == len(sent)
    assert len(dead) == len(expected.letters)
    assert len(ledger.accounts) > 20
    assert not ledger.accounts.keys() & set(wrong)
