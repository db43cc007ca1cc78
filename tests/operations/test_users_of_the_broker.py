"""docs/operations.md: with these rights on the broker, and no others, each does its work."""

import argparse
import json
import os
import re
import shlex
import sys
import time

import httpx
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from afterglow_client.changes import Changes
from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore, free_port
from dataflows.local_kafka import LocalKafka
from operators.broker_errors import RIGHTS
from tests.brokers import needs_kafka
from tests.cli.running import afterglow, right, until, wrong
from tests.operations.plant import ROOT, process

pytestmark = [pytest.mark.servers, pytest.mark.kafka, pytest.mark.slow, needs_kafka]

USERS = ("engine", "producer", "consumer", "nobody")
LOGIN = 'kafka.options={"security.protocol"="SASL_PLAINTEXT","sasl.mechanism"="PLAIN"}'
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}


def granted():
    """What the page's commands grant."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    where = parser.add_mutually_exclusive_group(required=True)
    for name in KINDS:
        where.add_argument(f"--{name.replace('_', '-')}")
    for line in re.findall(r"^kafka-acls\.sh (.+)$", PAGE, re.MULTILINE):
        asked = vars(parser.parse_args(shlex.split(line)))
        (kind,) = (name for name in KINDS if asked[name])
        for operation in asked["operation"]:
            yield AclBinding(
                KINDS[kind],
                asked[kind],
                ResourcePatternType.LITERAL,
                asked["allow_principal"],
                "*",
                AclOperation[operation.upper()],
                AclPermissionType.ALLOW,
            )


class World:
    """A broker with users, and a store."""

    def __init__(self, kafka, store):
        self.kafka, self.store = kafka, store

    def env(self, user, password=None):
        return {
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "KAFKA_USERNAME": user,
            "KAFKA_PASSWORD": password or f"{user}'s",
            "REDIS_URL": self.store.url,
        }

    @property
    def client(self):
        """What a Kafka client of the consumer is given."""
        return {"bootstrap.servers": self.kafka.bootstrap, **self.kafka.client("consumer")}


@pytest.fixture(scope="module")
def world():
    with LocalKafka(users={user: f"{user}'s" for user in USERS}) as kafka, EmbeddedStore() as store:
        kafka.create("events", "events.dead", "segment-changes")
        compacted = {"cleanup.policy": "compact"}
        kafka.create("memberships", "publisher-positions", "catalog", config=compacted)
        admin = kafka.admin()
        for done in admin.create_acls(list(granted())).values():
            done.result()
        yield World(kafka, store)


@pytest.fixture(scope="module")
def engine(world, tmp_path_factory):
    """One that has told a change."""
    home = tmp_path_factory.mktemp("engine")
    engine = Engine(
        ["--set", "metrics.address=", "--set", LOGIN], world.env("engine"), home / "log"
    )
    head = {"user_id": "ann", "type": "add_to_cart", "ts": time.time_ns() // 1_000_000}
    lines = [{**head, "event_id": str(k), "item_id": f"i{k}"} for k in range(9)]
    file = home / "events.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"event_id": "broken"}]))
    engine.start()
    try:
        said = right("publish", file, "--set", LOGIN, env=world.env("producer"))
        assert "10 published" in said
        profile = ["profile", "ann", "--set", LOGIN]
        until(lambda: afterglow(*profile, env=world.env("consumer")).code == 0)
        yield engine
        assert engine.stop() == 0, engine.log.read_text()
        assert "Authorization failed" not in engine.log.read_text()
    finally:
        engine.kill()


def test_the_doctor_finds_nothing_amiss(world, engine):
    done = afterglow("doctor", "--set", "metrics.address=", "--set", LOGIN, env=world.env("engine"))
    assert (done.code, "fault" in done.out.splitlines()[0]) == (0, True), done.out
    assert "topic.acl" not in done.out


def test_consumers_read_the_changes(world, engine):
    command = ["changes", "--beginning", "--seconds", "8", "--set", LOGIN]
    assert "ann  → high_intent" in right(*command, env=world.env("consumer"))
    with Changes(world.client) as changes:
        deadline_s = time.monotonic() + 30
        while "high_intent" not in changes.segments("ann"):
            changes.poll(1.0)
            assert time.monotonic() < deadline_s


def test_the_api_follows_the_changes(world, engine, tmp_path):
    port = free_port()
    env = {**os.environ, **world.env("consumer"), "AFTERGLOW_TOKENS": "admin:" + 32 * "t"}
    env["PYTHONPATH"] = f"{ROOT}:{ROOT / 'serving'}"
    command = [sys.executable, "-m", "cli.main", "serve", "--set", LOGIN]
    log = tmp_path / "serve.log"
    with process([*command, "--set", f"serve.address=127.0.0.1:{port}"], log, env=env):
        head = {"Authorization": "Bearer " + 32 * "t"}
        address = f"http://127.0.0.1:{port}"
        until(lambda: is_ready(address), 30)
        with httpx.stream("GET", f"{address}/v1/changes", headers=head, timeout=30) as answer:
            assert answer.status_code == 200
            assert next(answer.iter_lines())


def is_ready(address):
    try:
        return httpx.get(f"{address}/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_who_has_no_rights_is_told_which(world):
    env = world.env("nobody")
    done = afterglow("doctor", "--set", "metrics.address=", "--set", LOGIN, env=env)
    found = [line for line in done.out.splitlines() if line.startswith("fault topic.acl")]
    assert (done.code, len(found)) == (1, 6), done.out
    assert "topic.missing" not in done.out
    assert "--topic events --operation Describe --operation Read" in found[0]
    done = afterglow("run", "--set", "metrics.address=", "--set", LOGIN, env=env)
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("afterglow: the topic 'events' may not be read by this user: Broker: ")
    assert RIGHTS in last


@pytest.mark.parametrize("command", ["run --set metrics.address=", "changes", "publish {file}"])
def test_a_wrong_password_is_said(world, command, tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text("{}\n")
    done = afterglow(
        *command.format(file=file).split(), "--set", LOGIN, env=world.env("engine", "wrong")
    )
    assert done.code
    said = done.err.splitlines()[-1]
    where = world.kafka.bootstrap
    assert f"the broker at {where} does not let this user in: " in said
    assert "Invalid username or password" in said
    assert "KAFKA_PASSWORD" in said
    assert "wrong" not in said


def test_who_does_not_log_in_is_told_how(world):
    (line,) = wrong("changes", env=world.env("engine"))
    assert line.startswith("settings: kafka.options.security.protocol: must be SASL_SSL or ")
    env = {**world.env("engine"), "KAFKA_USERNAME": "", "KAFKA_PASSWORD": ""}
    (line,) = wrong("changes", env=env)
    assert line == (
        f"afterglow: the server at {world.kafka.bootstrap} takes connections and ends them. It may "
        "want TLS or a login: check security.protocol in kafka.options, and KAFKA_BOOTSTRAP"
    )
