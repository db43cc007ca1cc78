"""Faults planted in a broker: on the embedded one, and on a real one what only that has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from dataflows.embedded import EmbeddedBroker
from dataflows.local_kafka import LocalKafka
from tests.brokers import needs_kafka
from tests.cli.running import until
from tests.dataflows.doctor.planting import World

pytestmark = pytest.mark.servers


def stored(world: World, positions: Mapping[int, int]) -> None:
    """An engine has read up to these positions."""
    with world.client() as client:
        for shard in range(64):
            record = {"seq": 1, "positions": msgspec.json.encode(dict(positions))}
            client.hset(f"ag:commit:{{{shard:02d}}}", mapping=record)


def send(bootstrap: str, topic: str, times_ms: list[int]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for at in times_ms:
        producer.produce(topic, b"?", partition=0, timestamp=at)
    assert producer.flush(10) == 0


def now_ms() -> int:
    return int(time.time() * 1000)


# -- the embedded broker ----------------------------------------------------------------------


@pytest.fixture
def world(store_url: str) -> Iterator[World]:
    """A broker of the test's own."""
    with EmbeddedBroker(partitions=2) as broker:
        broker.create("events")
        yield World({"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store_url})


def test_a_world_that_is_well(world: World) -> None:
    send(world.env["KAFKA_BOOTSTRAP"], "events", [now_ms()] * 3)
    stored(world, {0: 2, 1: 0})
    assert world.findings() == []


def test_a_broker_that_is_down(world: World) -> None:
    world.env["KAFKA_BOOTSTRAP"] = "127.0.0.1:1"
    found = world.fault()
    assert (found.check, "Check KAFKA_BOOTSTRAP" in found.fix) == ("broker.reach", True)
    assert "127.0.0.1:1" in found.came


def test_an_option_that_the_client_does_not_know(world: World) -> None:
    found = world.fault("kafka.options.security.protcol=ssl")
    assert (found.check, "kafka.options" in found.fix) == ("broker.reach", True)
    assert "security.protcol" in found.came


def test_nothing_to_read(world: World) -> None:
    found = world.fault("kafka.events=orders")
    assert (found.check, "--create --topic orders" in found.fix) == ("topic.missing", True)


def test_fewer_partitions_than_were_read(world: World) -> None:
    stored(world, {0: 0, 1: 0, 2: 0})
    found = world.fault()
    assert (found.check, found.expected, found.came) == ("topic.partitions", "at least 3", "2")
    assert "Point KAFKA_BOOTSTRAP back" in found.fix


def test_a_log_that_ends_before_the_position(world: World) -> None:
    send(world.env["KAFKA_BOOTSTRAP"], "events", [now_ms()] * 3)
    stored(world, {0: 5, 1: 0})
    found = world.fault()
    assert (found.check, found.came) == ("topic.positions", "offsets 0 to 3")


def test_events_from_the_future(world: World) -> None:
    send(world.env["KAFKA_BOOTSTRAP"], "events", [now_ms() + 600_000])
    found = world.fault()
    assert (found.check, "time servers" in found.fix) == ("clock.broker", True)


# -- a real one -------------------------------------------------------------------------------


@pytest.fixture
def real(kafka: LocalKafka, store_url: str) -> World:
    """A world whose topics are new; those of compacted kind are well."""
    name = uuid4().hex[:8]
    roles = ("events", "dead", "changes", "memberships", "positions", "catalog")
    names = {role: f"doctor-{name}-{role}" for role in roles}
    kafka.create(names["events"], names["dead"], names["changes"], partitions=1)
    kafka.create(*list(names.values())[3:], partitions=1, config={"cleanup.policy": "compact"})
    sets = [f"kafka.{role}={topic}" for role, topic in names.items()]
    return World(
        {"KAFKA_BOOTSTRAP": kafka.bootstrap, "REDIS_URL": store_url}, ["metrics.address=", *sets]
    )


def topic_of(world: World, role: str) -> str:
    return next(s for s in world.sets if s.startswith(f"kafka.{role}=")).partition("=")[2]


def again(kafka: LocalKafka, world: World, role: str, config: Mapping[str, str]) -> str:
    """Another topic in the place of one."""
    topic = f"doctor-{uuid4().hex[:8]}-{role}"
    kafka.create(topic, partitions=1, config=config)
    world.sets.append(f"kafka.{role}={topic}")
    return topic


@pytest.mark.kafka
@needs_kafka
def test_a_real_world_that_is_well(real: World) -> None:
    assert real.findings() == []


@pytest.mark.kafka
@needs_kafka
@pytest.mark.parametrize(
    ("role", "policy", "needed"),
    [
        ("memberships", "delete", "compact"),
        ("positions", "compact,delete", "compact"),
        ("events", "compact", "delete"),
        ("changes", "compact", "delete"),
    ],
)
def test_a_topic_that_is_cleaned_wrongly(
    kafka: LocalKafka, real: World, role: str, policy: str, needed: str
) -> None:
    topic = again(kafka, real, role, {"cleanup.policy": policy})
    found = real.fault()
    assert (found.check, found.came) == ("topic.cleanup", f"cleanup.policy {policy}")
    assert f"--topic {topic} --add-config cleanup.policy={needed}" in found.fix


@pytest.mark.kafka
@needs_kafka
def test_messages_that_are_too_large_for_a_topic(kafka: LocalKafka, real: World) -> None:
    topic = again(kafka, real, "dead", {"max.message.bytes": "100000"})
    found = real.fault()
    assert (found.check, "stops the engine" in found.what) == ("topic.size", True)
    assert f"--topic {topic} --add-config max.message.bytes=1048588" in found.fix


@pytest.mark.kafka
@needs_kafka
def test_retention_that_overtook_the_position(kafka: LocalKafka, real: World) -> None:
    events = topic_of(real, "events")
    send(kafka.bootstrap, events, [now_ms()] * 20)
    kafka.forget(events, 0, 15)
    stored(real, {0: 10})
    found = real.fault()
    assert (found.check, found.came) == ("topic.retention", "offsets 15 to 20")
    assert "longer retention" in found.fix


@pytest.mark.kafka
@needs_kafka
def test_retention_that_will_overtake_the_position(kafka: LocalKafka, real: World) -> None:
    events = again(kafka, real, "events", {"retention.ms": "3600000"})
    send(kafka.bootstrap, events, [now_ms() - 3_000_000] * 20)
    stored(real, {0: 10})
    found = real.fault()
    assert (found.check, "will soon be cut off" in found.what) == ("topic.retention", True)
    assert "retention.ms=" in found.fix


@pytest.mark.kafka
@needs_kafka
def test_a_short_retention_is_worth_a_word(kafka: LocalKafka, real: World) -> None:
    again(kafka, real, "events", {"retention.ms": "3600000"})
    (found,) = real.findings()
    assert (found.check, found.level) == ("topic.retention", "warning")


@pytest.mark.kafka
@needs_kafka
def test_a_topic_that_was_made_again(real: World) -> None:
    with real.client() as client:
        client.hset("ag:meta", f"log:{topic_of(real, 'events')}", "another/topic")
    found = real.fault()
    assert (found.check, "Point KAFKA_BOOTSTRAP back" in found.fix) == ("topic.identity", True)


@pytest.mark.kafka
@needs_kafka
def test_topics_that_are_not_there_yet(real: World) -> None:
    real.sets.append("kafka.changes=nobody-made-this")
    (found,) = real.findings()
    assert (found.check, found.level) == ("topic.to_make", "warning")
    assert "nobody-made-this" in found.came


@pytest.mark.kafka
@needs_kafka
def test_a_right_that_is_missing(store_url: str) -> None:
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    settings = {"authorizer.class.name": authorizer, "allow.everyone.if.no.acl.found": "true"}
    with LocalKafka(settings=settings) as guarded:
        guarded.create("events", "events.dead", "segment-changes", partitions=1)
        guarded.create(
            *("memberships", "publisher-positions", "catalog"),
            partitions=1,
            config={"cleanup.policy": "compact"},
        )
        place = (ResourceType.TOPIC, "events.dead", ResourcePatternType.LITERAL)
        who = ("User:ANONYMOUS", "*", AclOperation.WRITE, AclPermissionType.DENY)
        others = ("User:ANONYMOUS", "*", AclOperation.ALL, AclPermissionType.ALLOW)
        admin = guarded.admin()
        asked = [AclBinding(*place, *who), AclBinding(*place, *others)]
        for future in admin.create_acls(asked).values():
            future.result()
        world = World({"KAFKA_BOOTSTRAP": guarded.bootstrap, "REDIS_URL": store_url})
        until(lambda: world.findings())
        found = world.fault()
    assert (found.check, found.came) == ("topic.acl", "no write")
    assert "--topic events.dead --operation Write" in found.fix
