"""A hundred thousand mutated events hurt nobody: each is accounted for, and others see nothing."""

from __future__ import annotations

import random
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import msgspec
import numpy as np
import pytest
from confluent_kafka import Producer

from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore
from dataflows.plans import event_rules, lane_plan
from dataflows.settings import load
from events.batch import DeadLetter, Read, Span
from events.decode import Decoder
from events.schema import REASONS
from events.shop import Shop
from events.shop_habits import Habits
from state.lane import Lane
from state.rfm import Cuts
from tests.mutants import mutate
from tests.operators.logs import consume

START_MS = 1_790_000_000_000
HABITS = Habits(users=300, rate_per_s=100)
BLOCK = 500
MUTANTS = 100_000
FIXED = Cuts(1, 0, (1.0, 3.0, 9.0, 30.0), (1.0, 2.0, 3.0, 4.0), (10.0, 11.0, 12.0, 13.0))
"""Cuts that do not move: those of a population would rightly follow whoever is in it."""


@dataclass(frozen=True)
class Message:
    """A message, when the log took it, and whether it was tampered with."""

    payload: bytes
    log_ms: int
    mutant: bool


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Mutated events of users of their own."""
    chance = random.Random(seed)
    shop = Shop(seed=seed, start_ms=START_MS, habits=HABITS, broken_share=0)
    for payload in shop.payloads(count):
        yield mutate(chance, payload.replace(b'"user_id":"u', b'"user_id":"mutant-'))


def mixed(good: int, bad: int) -> list[list[Message]]:
    """Blocks of a shop's messages with mutated ones in between."""
    chance = random.Random(1)
    shop, others = Shop(seed=1, start_ms=START_MS, habits=HABITS), mutants(bad, seed=2)
    blocks = []
    for _ in range(good // BLOCK):
        block = shop.block(BLOCK)
        log_ms = block.log_ms.tolist()
        messages = [
            Message(payload, at, False) for payload, at in zip(block.payloads, log_ms, strict=True)
        ]
        for _ in range(bad * BLOCK // good):
            place = chance.randrange(len(messages))
            messages.insert(place, Message(next(others), messages[place].log_ms, True))
        blocks.append(messages)
    return blocks


@dataclass
class Run:
    """One lane over some messages.

    Attributes:
        lane: as it ended.
        letters: its dead letters.
        decoded: offsets of the messages that became events.
        total: how many messages came.
    """

    lane: Lane
    letters: list[DeadLetter]
    decoded: list[int]
    total: int = 0

    def documents(self) -> dict[str, dict[str, Any]]:
        """Every profile."""
        rows = np.arange(self.lane.table.size)
        raw = self.lane.portraits.encode(rows, self.lane.users.ids)
        return {d["user_id"]: d for d in map(msgspec.msgpack.decode, raw)}


def run(blocks: Sequence[Sequence[Message]]) -> Run:
    """Decode and apply, a block at a time, as a log that is read at once."""
    shipped = load(env={})
    plan = lane_plan(shipped)
    plan = replace(plan, rfm=replace(plan.rfm, fixed=FIXED))
    decode, out = Decoder(event_rules(shipped)), Run(Lane(plan, range(plan.shards)), [], [])
    for messages in blocks:
        n = len(messages)
        read = Read(
            topic="events",
            payloads=[message.payload for message in messages],
            record_ts_ms=np.array([message.log_ms for message in messages], dtype=np.int64),
            partition=np.zeros(n, dtype=np.int32),
            offset=np.arange(out.total, out.total + n, dtype=np.int64),
            spans=[Span(0, out.total, out.total + n, at_end=True)],
        )
        batch, letters = decode(read)
        out.decoded += batch.offset.tolist()
        out.letters += letters
        out.lane.apply(batch, wall_ms=max(message.log_ms for message in messages))
        out.total += n
    out.lane.finish(out.lane.clock.now_ms + 1)
    return out


@pytest.mark.slow
def test_each_is_accounted_for_and_nobody_else_sees_them() -> None:
    blocks = mixed(50_000, MUTANTS)
    with_them = run(blocks)
    assert with_them.total == 50_000 + MUTANTS

    letters, counters = with_them.letters, with_them.lane.counters
    offsets = [letter.offset for letter in letters] + with_them.decoded
    assert sorted(offsets) == list(range(with_them.total))
    assert counters.events + counters.duplicates == len(with_them.decoded)
    reasons = Counter(letter.reason for letter in letters)
    assert reasons.keys() <= REASONS.keys()
    assert len(reasons) >= 9, reasons
    assert all(letter.detail for letter in letters)
    messages = [message for block in blocks for message in block]
    assert all(letter.payload == messages[letter.offset].payload for letter in letters)
    of_mutants = sum(messages[letter.offset].mutant for letter in letters)
    assert MUTANTS / 2 < of_mutants < MUTANTS * 0.95

    without = run([[m for m in block if not m.mutant] for block in blocks])
    found, truth = with_them.documents(), without.documents()
    assert len(truth) > HABITS.users / 2
    for user, document in truth.items():
        assert found[user] == document, user
    strangers = found.keys() - truth.keys()
    assert strangers
    assert not any(user.startswith("u0") for user in strangers)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def counted(port: int) -> Counter[str]:
    """The engine's counters, those with labels added up."""
    out: Counter[str] = Counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        for line in answer.read().decode().splitlines():
            name, _, value = line.rpartition(" ")
            if "_total" in name and not line.startswith("#"):
                out[name.partition("{")[0]] += int(float(value))
    return out


@pytest.mark.servers
@pytest.mark.slow
def test_a_running_engine_takes_them_all(tmp_path: Path) -> None:
    payloads = list(mutants(5_000, seed=3))
    port = free_port()
    with EmbeddedStore() as store, EmbeddedBroker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        options = ["--set", f"metrics.address=127.0.0.1:{port}"]
        engine = Engine(options, env, tmp_path / "engine.log")
        engine.start()
        try:
            producer = Producer({"bootstrap.servers": broker.bootstrap, "compression.type": "zstd"})
            for payload in payloads:
                producer.produce("events", payload, b"k")
                producer.poll(0)
            assert producer.flush(20) == 0
            held = accounted = Counter[str]()
            deadline_s = time.monotonic() + 60
            while sum(accounted.values()) < len(payloads) and time.monotonic() < deadline_s:
                time.sleep(0.2)
                with suppress(URLError):  # it does not listen yet
                    held = counted(port)
                accounted = Counter(
                    {
                        name: held[f"afterglow_{name}_total"]
                        for name in ("events", "duplicates", "dead_letters")
                    }
                )
            assert sum(accounted.values()) == len(payloads), engine.log.read_text()
            letters = consume(broker.bootstrap, "events.dead", accounted["dead_letters"])
            assert engine.stop() == 0, engine.log.read_text()
        finally:
            engine.kill()
    assert len(letters) == accounted["dead_letters"]
    places = set()
    for letter in letters:
        said = {name: bytes(value).decode() for name, value in letter.headers() or []}
        assert said["reason"] in REASONS
        assert said["detail"]
        places.add((said["partition"], said["offset"]))
    assert len(places) == len(letters)
    remaining = Counter(payloads)
    remaining.subtract(letter.value() or b"" for letter in letters)
    assert min(remaining.values()) >= 0
