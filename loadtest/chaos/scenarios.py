"""What is done to the system; each scenario begins with everything running and traffic on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgpack  # type: ignore[import-untyped]
import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition

from loadtest.chaos.clients import NO_ANSWER
from loadtest.chaos.world import Env, Stuck, World

FENCED_OFF: Final = 75


@dataclass(slots=True, frozen=True)
class Scenario:
    """One way to hurt the system.

    Attributes:
        name, about: for the report.
        act: what is done.
        brokers: how many of a real Kafka it needs; 0 where the embedded broker will do.
        mock: it needs the embedded broker.
        cluster: the store is a cluster.
        disk_mb: the store has a disk of its own of this size.
        env: what the engine's processes are told, from the world's directory.
        lacks: why it cannot be done on this machine; empty where it can.
    """

    name: str
    about: str
    act: Callable[[World], None]
    brokers: int = 0
    mock: bool = False
    cluster: bool = False
    disk_mb: int = 0
    env: Env = lambda _: {}
    lacks: Callable[[], str] = lambda: ""


def kills(world: World) -> None:
    """One worker or the whole engine, at random moments."""
    for kill in range(world.scale.kills):
        world.pause(2.0)
        if kill % 3 == 2:
            world.kill_engine()
        else:
            world.kill_worker()
        if kill % 4 == 3:
            world.pause(1.5)  # the next one comes while it starts
        else:
            world.recover()


def frozen(world: World) -> None:
    """An engine stands still, another takes over, the first one wakes up."""
    old = world.engine
    sleepers = [*world.workers()]
    for worker in sleepers:
        worker.suspend()
    new = world.new_engine(world.scale.workers, "second")
    new.start()
    world.engine = new
    world.recover()
    for worker in sleepers:
        worker.resume()
    world.until(lambda: old.exit_code() is not None, "the first engine to notice", 60)
    world.notes.append(f"the first engine ended with {old.exit_code()}")
    if old.exit_code() != FENCED_OFF:
        raise Stuck(f"the engine that was replaced ended with {old.exit_code()}")


def two_at_once(world: World) -> None:
    """A second engine is started beside the first."""
    old, new = world.engine, world.new_engine(world.scale.workers, "second")
    new.start()
    world.until(
        lambda: (
            None in (old.exit_code(), new.exit_code())
            and FENCED_OFF in (old.exit_code(), new.exit_code())
        ),
        "one of the two to end",
        60,
    )
    world.engine = new if old.exit_code() is not None else old
    for _ in range(5):
        world.until_commits()
        time.sleep(1)
    if world.engine.exit_code() is not None:
        raise Stuck("both engines have ended")


def store_kills(world: World) -> None:
    """The store is killed while commits are under way."""
    for _ in range(world.scale.kills):
        world.pause(2.0)
        world.store.kill()
        world.pause(1.0)
        world.store.start()
        world.recover()


def store_set_back(world: World) -> None:
    """The store comes back with an older file while the engine lives."""
    for _ in range(max(world.scale.kills // 2, 1)):
        copy = world.copy_store()
        time.sleep(2)
        world.set_back_store(copy)
        time.sleep(6)  # a heartbeat later at the latest, all of it is there again
        world.recover()


def everything_set_back(world: World) -> None:
    """The store comes back with an older file, and the engine is gone too."""
    copy = world.copy_store()
    time.sleep(3)
    world.engine.kill()
    world.set_back_store(copy)
    world.was_set_back = True
    world.engine.start()
    world.recover()


def store_refuses(world: World) -> None:
    """The store is out of memory, then read-only, then forgets scripts, then is slow."""
    client = world.client
    client.config_set("maxmemory", "1mb")
    time.sleep(2)
    client.config_set("maxmemory", "0")
    world.recover()
    client.replicaof("127.0.0.1", "1")
    time.sleep(2)
    client.replicaof("no", "one")
    world.recover()
    for _ in range(10):
        client.script_flush()
        time.sleep(0.1)
    world.recover()
    for _ in range(5):
        client.client_pause(500)
        time.sleep(0.7)
    world.recover()


def broker_restarts(world: World) -> None:
    """The broker is killed and comes back."""
    for _ in range(2):
        world.kafka.kill()
        time.sleep(1)
        world.kafka.start()
        world.recover()


def leaders_move(world: World) -> None:
    """One broker of three is killed at a time, so that leaders and coordinators move."""
    for node in (1, 2, 3):
        world.kafka.kill(node)
        world.recover()
        time.sleep(3)
        world.kafka.start(node)
        time.sleep(3)


def partitions_added(world: World) -> None:
    """The events topic gets more partitions in mid-stream."""
    world.kafka.add_partitions("events", 7)
    world.until(lambda: len(_positions(world)) == 7, "the new partitions to be read", 90)


def rescale(world: World) -> None:
    """Stopped and started with another number of workers."""
    for workers in (1, 3, 2):
        code = world.engine.stop(60)
        if code:
            raise Stuck(f"the engine ended with {code}; {world.log_end()}")
        world.engine = world.new_engine(workers, f"with-{workers}")
        world.engine.start()
        world.recover()
        time.sleep(3)


def burst(world: World) -> None:
    """Far more than it can take comes at once."""
    before = _memory(world)
    world.traffic.burst(200_000)
    world.until(lambda: world.taken() > world.traffic.sent - 5_000, "the burst to be taken")
    world.notes.append(f"memory {before / 1e6:.0f} → {_memory(world) / 1e6:.0f} MB")


def primary_killed(world: World) -> None:
    """A primary of the cluster is killed; its replica takes over, with what it has."""
    for key in ("ag:commit:{07}", "ag:commit:{30}"):
        node = world.cluster.primary_of(key)
        before = world.commits()
        node.kill()
        world.recover(before)
        node.start()
        time.sleep(4)  # it follows the new primary


def disk_full(world: World) -> None:
    """The store's disk is full for a while."""
    filler = world.store.directory / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    time.sleep(5)
    refused = world.client.info("persistence")["aof_last_write_status"]
    filler.unlink()
    world.recover()
    world.notes.append(f"the store's last write while its disk was full: {refused}")
    if refused == "ok":
        raise Stuck("the store never noticed that its disk was full")


def broker_slow(world: World) -> None:
    """The broker answers late, then that requests timed out, then takes no connections."""
    world.mock.slow(1_500)
    time.sleep(5)
    world.mock.slow(0)
    world.recover()
    for request in (_PRODUCE, _FETCH):
        world.mock.fail(request, _TIMED_OUT, 20)
    time.sleep(3)
    world.recover()
    world.mock.down()
    time.sleep(2)
    world.mock.up()
    world.recover()


def clock_jumps(world: World) -> None:
    """The engine's wall clock jumps an hour ahead, and back."""
    file = world.directory / "clock" / _OFFSET
    for offset in ("3600", "0", "-3600", "0"):
        file.write_text(offset)
        time.sleep(3)
        world.recover()


def poison(world: World) -> None:
    """Messages that nobody can read, among the others."""
    chance = world.chance
    junk = [
        b"",
        b"\xff" * 1_000,
        b"[" * 100_000,
        b'{"event_id":"p","user_id":"p","type":"search","ts":NaN}',
        b'{"event_id":"p","user_id":"\xed\xa0\x80","type":"search","ts":5}',
        b'{"event_id":"p","user_id":"p","type":"purchase","ts":5,"amount":1e999}',
        b'{"event_id":"p","user_id":"p","type":"search","ts":1' + b"0" * 5_000 + b"}",
        b"\xdf\xff\xff\xff\xff",
        bytes(700_000),
    ]
    letters = _dead(world)
    sent = [chance.choice(junk[:-1]) for _ in range(3_000)] + [junk[-1]] * 5
    world.traffic.poison([*sent, *(chance.randbytes(100) for _ in range(1_000))])
    count = len(sent) + 1_000
    world.until(lambda: _dead(world) >= letters + count, "a dead letter for each")
    world.notes.append(f"{count:,} unreadable messages, each a dead letter")
    world.recover()


def schema_change(world: World) -> None:
    """Producers begin to write events another way, in mid-stream."""
    for dialect in (_modern, _packed, None):
        world.traffic.dialect = dialect
        time.sleep(4)
        world.recover()


def upgrade(world: World) -> None:
    """Stopped, and started with state of another layout, and back."""
    for name, sets in (("with-more", _MORE), ("as-before", ())):
        code = world.engine.stop(60)
        if code:
            raise Stuck(f"the engine ended with {code}; {world.log_end()}")
        world.engine = world.new_engine(world.scale.workers, name, sets)
        world.engine.start()
        world.recover()
        time.sleep(3)


def soak(world: World) -> None:
    """Nothing happens, for long; memory must not grow."""
    held: list[int] = []
    end_s = time.monotonic() + 60 * world.scale.minutes
    while time.monotonic() < end_s:
        time.sleep(1)
        held.append(_memory(world))
    third = len(held) // 3
    before, after = float(np.median(held[third : 2 * third])), float(np.median(held[2 * third :]))
    world.notes.append(f"memory {before / 1e6:.0f} → {after / 1e6:.0f} MB")
    if after > _FLAT * before:
        raise Stuck(f"memory grew from {before / 1e6:.0f} to {after / 1e6:.0f} MB")


def _modern(payload: bytes) -> bytes:
    """The event with a time as text and fields that nobody knows."""
    event = msgspec.json.decode(payload)
    moment = datetime.fromtimestamp(event["ts"] / 1000, UTC)
    event["ts"] = moment.isoformat(timespec="milliseconds")
    return msgspec.json.encode({**event, "schema": 2, "trace": {"id": [1, {"deep": None}]}})


def _packed(payload: bytes) -> bytes:
    """The event as MessagePack."""
    packed: bytes = msgpack.packb(msgspec.json.decode(payload))
    return packed


def _dead(world: World) -> int:
    """How many dead letters there are."""
    consumer = Consumer({"bootstrap.servers": world.broker.bootstrap, "group.id": "count"})
    try:
        topic = "events.dead"
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        places = [TopicPartition(topic, p) for p in partitions]
        return sum(int(consumer.get_watermark_offsets(p, timeout=30)[1]) for p in places)
    finally:
        consumer.close()


def _mounts() -> str:
    return "" if os.geteuid() == 0 and shutil.which("mount") else "only root can mount a small disk"


def _with_clock(directory: Path) -> dict[str, str]:
    """A clock of the engine's own, as many seconds from the machine's as a file says.

    Python runs a ``sitecustomize`` that it finds on its path at every start.
    """
    place = directory / "clock"
    place.mkdir()
    (place / _OFFSET).write_text("0")
    (place / "sitecustomize.py").write_text(_CLOCK.format(offset=str(place / _OFFSET)))
    return {"PYTHONPATH": str(place)}


_OFFSET: Final = "offset"
_CLOCK: Final = """
import time
from pathlib import Path

true_ns = time.time_ns
time.time_ns = lambda: true_ns() + int(Path({offset!r}).read_text() or 0) * 10**9
"""
_PRODUCE, _FETCH, _TIMED_OUT = 0, 1, 7
_FLAT: Final = 1.1
_MORE: Final = (
    "features.clicks_3d.kind=count",
    "features.clicks_3d.window=3d",
    "features.clicks_3d.panes=3",
    'features.clicks_3d.types=["click"]',
)

SCENARIOS: Final = (
    Scenario("kills", "kill -9 of a worker or of all, at random moments", kills),
    Scenario("frozen", "frozen, replaced, thawed", frozen),
    Scenario("two-at-once", "two engines on the same data", two_at_once),
    Scenario("store-kills", "kill -9 of the store", store_kills),
    Scenario("store-set-back", "the store comes back older", store_set_back),
    Scenario("all-set-back", "the store comes back older, the engine is gone", everything_set_back),
    Scenario("store-refuses", "out of memory, read-only, scripts flushed, slow", store_refuses),
    Scenario("rescale", "2 → 1 → 3 → 2 workers", rescale),
    Scenario("burst", "200,000 events at once", burst),
    Scenario("broker-restarts", "the broker is killed and comes back", broker_restarts, 1),
    Scenario("partitions-added", "4 → 7 partitions", partitions_added, 1),
    Scenario("leaders-move", "each of three brokers killed in turn", leaders_move, 3),
    Scenario("primary-killed", "a primary of the store's cluster", primary_killed, cluster=True),
    Scenario("disk-full", "of the store", disk_full, disk_mb=256, lacks=_mounts),
    Scenario("broker-slow", "late, timing out, away", broker_slow, mock=True),
    Scenario("clock-jumps", "± 1 h", clock_jumps, env=_with_clock),
    Scenario("poison", "4,005 unreadable messages", poison),
    Scenario("schema-change", "new fields, texts as times, MessagePack", schema_change),
    Scenario("upgrade", "saved state of another layout", upgrade),
    Scenario("soak", "memory over time", soak),
)


def _positions(world: World) -> dict[str, int]:
    try:
        raw = world.client.hget("ag:commit:{00}", "positions")
    except NO_ANSWER:
        return {}
    return msgspec.json.decode(raw, type=dict[str, int]) if raw else {}


def _memory(world: World) -> int:
    return sum(worker.memory_info().rss for worker in world.workers())
