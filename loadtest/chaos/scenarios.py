"""What is done to the system; each scenario begins with everything running and traffic on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import redis

from loadtest.chaos.world import Stuck, World

FENCED_OFF: Final = 75


@dataclass(slots=True, frozen=True)
class Scenario:
    """One way to hurt the system.

    Attributes:
        name, about: for the report.
        act: what is done.
        brokers: how many of a real Kafka it needs; 0 where the embedded broker will do.
    """

    name: str
    about: str
    act: Callable[[World], None]
    brokers: int = 0


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
        world.server.kill()
        world.pause(1.0)
        world.server.start()
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
)


def _positions(world: World) -> dict[str, int]:
    try:
        raw = world.client.hget("ag:commit:{00}", "positions")
    except redis.RedisError:
        return {}
    return msgspec.json.decode(raw, type=dict[str, int]) if raw else {}


def _memory(world: World) -> int:
    return sum(worker.memory_info().rss for worker in world.workers())
