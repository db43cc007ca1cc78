"""Faults planted in a real store: each is found, alone, and with its fix."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import redis
from confluent_kafka import Producer

from dataflows.child import Engine
from dataflows.doctor.needs import needed
from dataflows.doctor.store import Server, StoreFacts
from dataflows.doctor.store_checks import check_store
from dataflows.embedded import EmbeddedStore
from dataflows.embedded_cluster import EmbeddedCluster
from dataflows.engine import open_lane
from dataflows.settings import load
from tests.brokers import Broker
from tests.cli.running import until
from tests.dataflows.doctor.planting import World

pytestmark = pytest.mark.servers


@pytest.fixture
def world(one_broker: Broker) -> Iterator[World]:
    """A store of the test's own, and a topic of its own on the common broker."""
    topic = f"doctor-{uuid4().hex[:8]}"
    one_broker.create(topic)
    with EmbeddedStore() as store:
        sets = ["metrics.address=", f"kafka.events={topic}"]
        yield World({"KAFKA_BOOTSTRAP": one_broker.bootstrap, "REDIS_URL": store.url}, sets)


def test_a_world_that_is_well(world: World) -> None:
    assert [f for f in world.findings() if f.level == "fault"] == []


def test_nothing_is_written(world: World) -> None:
    world.findings()
    with world.client() as client:
        assert client.keys("*") == []


@pytest.fixture
def cluster(embedded_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Without what other tests have left in it."""
    with redis.RedisCluster.from_url(embedded_cluster.url) as client:
        client.flushall(target_nodes=client.PRIMARIES)
    return embedded_cluster


def test_a_cluster_that_is_well(world: World, cluster: EmbeddedCluster) -> None:
    world.env["REDIS_URL"] = cluster.url
    assert world.findings() == []


def test_a_cluster_that_is_set_wrongly(world: World, cluster: EmbeddedCluster) -> None:
    """On one of its nodes, whichever."""
    with redis.RedisCluster.from_url(cluster.url) as client:
        node = client.get_primaries()[-1]
        client.config_set("appendfsync", "no", target_nodes=node)
        world.env["REDIS_URL"] = cluster.url
        try:
            found = world.fault()
        finally:
            client.config_set("appendfsync", "everysec", target_nodes=node)
    assert (found.check, node.name in found.what) == ("store.appendfsync", True)


def test_a_store_that_is_down(world: World) -> None:
    world.env["REDIS_URL"] = "redis://127.0.0.1:1"
    found = world.fault()
    assert (found.check, "Check REDIS_URL" in found.fix) == ("store.reach", True)


def test_a_wrong_password(world: World) -> None:
    with world.client() as client:
        client.config_set("requirepass", "right")
    world.env["REDIS_URL"] = world.env["REDIS_URL"].replace("//", "//:wrong@")
    found = world.fault()
    assert (found.check, "redis://user:password@" in found.fix) == ("store.user", True)
    world.env["REDIS_URL"] = world.env["REDIS_URL"].replace(":wrong@", "")
    assert world.fault().check == "store.user"


@pytest.mark.parametrize(
    ("check", "setting", "value", "fix"),
    [
        ("store.appendonly", "appendonly", "no", "CONFIG SET appendonly yes"),
        ("store.appendfsync", "appendfsync", "no", "CONFIG SET appendfsync everysec"),
        (
            "store.eviction",
            "maxmemory-policy",
            "allkeys-lru",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        ("store.memory", "maxmemory", "1mb", "Raise maxmemory"),
    ],
)
def test_a_server_that_is_set_wrongly(
    world: World, check: str, setting: str, value: str, fix: str
) -> None:
    with world.client() as client:
        client.config_set(setting, value)
        if setting == "maxmemory":  # memory that is gone cannot be asked for in a script either
            client.config_set("maxmemory", str(int(client.info("memory")["used_memory"] * 1.05)))
    found = world.fault()
    assert (found.check, fix in found.fix) == (check, True)


def test_a_replica(world: World) -> None:
    with world.client() as client:
        client.replicaof("127.0.0.1", "1")
    found = world.fault()
    assert (found.check, "REPLICAOF NO ONE" in found.fix) == ("store.role", True)
    assert "127.0.0.1:1" in found.came


def test_rights_that_lack_a_command(world: World) -> None:
    _add_user(world, "-xtrim", "-hsetnx")
    found = world.fault()
    assert found.check == "store.acl"
    assert found.fix == "ACL SETUSER <user> ~ag:* +hsetnx +xtrim"
    assert "ag:meta" in found.came


def test_rights_that_lack_the_keys(world: World) -> None:
    _add_user(world, keys="other:*")
    found = world.fault()
    assert (found.check, "~ag:*" in found.fix) == ("store.acl", True)


def test_rights_that_lack_scripts(world: World) -> None:
    _add_user(world, "-eval")
    found = world.fault()
    assert (found.check, "+eval" in found.fix) == ("store.acl", True)


def test_exactly_the_listed_commands_are_enough_for_an_engine(world: World, tmp_path: Path) -> None:
    """The list is complete: an engine runs under a user who may do nothing else."""
    tables = open_lane(load(env={})).side_tables
    names = sorted({_acl_name(asked) for asked in needed("ag", tables)})
    with world.client() as client:
        client.acl_setuser(
            "engine",
            enabled=True,
            passwords=["+secret"],
            keys=["ag:*"],
            commands=[f"+{name}" for name in names],
        )
    env = world.env | {
        "REDIS_URL": world.env["REDIS_URL"].replace("//", "//engine:secret@"),
    }
    engine = Engine([arg for text in world.sets for arg in ("--set", text)], env, tmp_path / "log")
    engine.start()
    try:
        _publish(world, 300)
        with world.client() as client:
            until(lambda: client.keys("ag:members:*") and client.keys("ag:candidates:*"))
            until(lambda: client.hlen("ag:items") > 1)
            denied = {entry["object"] for entry in client.acl_log()}
            # the client library tells the server its own name, and bears a refusal
            assert {name.lower() for name in denied} <= {"client|setinfo", "client"}
        code = engine.stop()
    finally:
        engine.kill()
    said = (tmp_path / "log").read_text()
    assert code == 0, said
    assert "NOPERM" not in said


def test_data_of_another_number_of_shards(world: World) -> None:
    with world.client() as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 32})
    found = world.fault()
    assert (found.check, "Set it to 32" in found.fix) == ("store.shards", True)


def test_data_of_another_format(world: World) -> None:
    with world.client() as client:
        client.hset("ag:meta", mapping={"format": 9, "shards": 64})
    found = world.fault()
    assert (found.check, "version that wrote them" in found.fix) == ("store.format", True)


def test_shards_of_two_starts(world: World) -> None:
    now = int(world.now_ms())
    with world.client() as client:
        for shard in range(64):
            epoch = now - (600_000 if shard < 20 else 0)
            client.hset(f"ag:commit:{{{shard:02d}}}", "fence", f"{epoch}:ab")
    found = world.fault()
    assert (found.check, "20 of 64 shards" in found.came) == ("store.owners", True)
    assert "stop all engines" in found.fix


def test_a_clock_that_is_off(world: World) -> None:
    clock = world.now_ms
    world.now_ms = lambda: clock() - 90_000
    found = world.fault()
    assert (found.check, "time servers" in found.fix) == ("clock.store", True)
    assert "90.0 s ahead of" in found.came


def test_a_clock_that_was_set_back(world: World) -> None:
    with world.client() as client:
        client.hset("ag:commit:{00}", "fence", f"{int(world.now_ms()) + 3_600_000}:ab")
    found = world.fault()
    assert (found.check, "clock right" in found.fix) == ("store.fence", True)


def test_what_cannot_be_seen_is_said(world: World) -> None:
    _add_user(world, "-config", "-info")
    found = world.fault()
    assert (found.check, "+info" in found.fix) == ("store.acl", True)  # the engine asks it too
    _add_user(world, "-config")
    (found,) = [f for f in world.findings() if f.check.startswith("store.")]
    assert (found.check, "CONFIG GET" in found.came) == ("store.unseen", True)


def test_a_server_that_is_too_old() -> None:
    """No server that old can be had here, so only what is made of its word is tested."""
    server = Server(name="redis", version=(6, 0, 16), info={"aof_enabled": 1})
    facts = StoreFacts(servers=[server])
    (found,) = check_store(facts, load(env={}), 0.0)
    assert (found.check, found.expected) == ("store.version", "redis 6.2 or later")


def _add_user(world: World, *rules: str, keys: str = "ag:*") -> None:
    with redis.Redis.from_url(world.env["REDIS_URL"].replace("engine:secret@", "")) as client:
        client.acl_setuser(
            "engine",
            enabled=True,
            reset=True,
            passwords=["+secret"],
            keys=[keys],
            categories=["+@all"],
            commands=list(rules),
        )
    if "engine" not in world.env["REDIS_URL"]:
        world.env["REDIS_URL"] = world.env["REDIS_URL"].replace("//", "//engine:secret@")


def _publish(world: World, count: int) -> None:
    """Let some users look, put into carts and buy."""
    producer = Producer({"bootstrap.servers": world.env["KAFKA_BOOTSTRAP"]})
    topic = world.sets[-1].partition("=")[2]
    kinds, now = ("product_view", "add_to_cart", "purchase"), int(time.time() * 1000)
    for i in range(count):
        event = {
            "event_id": f"e{i}",
            "user_id": f"u{i % 40}",
            "type": kinds[i % 3],
            "ts": now + i,
            "item_id": f"i{i % 7}",
            "amount": 10 if i % 3 == 2 else None,
        }
        kept = {name: value for name, value in event.items() if value is not None}
        producer.produce(topic, msgspec.json.encode(kept), key=str(event["user_id"]))
    assert producer.flush(10) == 0


def _acl_name(asked: tuple[str, ...]) -> str:
    return "|".join(asked[:2]) if asked[0] in ("script", "cluster") else asked[0]
