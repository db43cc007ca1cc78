"""Every refusal to start is one readable message that says what to do, and an exit code.

The engine is run as people run it, as a process of its own.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from cli.common import WRONG_USE
from dataflows.child import Engine
from dataflows.embedded import EmbeddedError, EmbeddedStore
from dataflows.local_kafka import LocalKafka
from state.store import Store
from tests.brokers import Broker, needs_kafka
from tests.cli.running import CLEAN, ROOT, until
from tests.operators.logs import produce

pytestmark = [pytest.mark.servers, pytest.mark.slow]

NOWHERE = "127.0.0.1:1"
QUIET = ("--set", "metrics.address=")


def refusal(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """The exit code and the one line that an engine leaves."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", *arguments],
        env={**CLEAN, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("afterglow:")]
    assert "Traceback" not in done.stderr, done.stderr
    assert len(lines) == 1, done.stderr
    return done.returncode, lines[0]


@pytest.fixture
def servers(one_broker: Broker, store_url: str) -> dict[str, str]:
    """The environment that leads to servers that are well."""
    with suppress(EmbeddedError):  # there already
        one_broker.create("events")
    return {"KAFKA_BOOTSTRAP": one_broker.bootstrap, "REDIS_URL": store_url}


def test_no_broker_named() -> None:
    code, line = refusal({"REDIS_URL": "redis://127.0.0.1:1"})
    assert (code, "KAFKA_BOOTSTRAP must name the broker" in line) == (WRONG_USE, True)


def test_no_store_named() -> None:
    code, line = refusal({"KAFKA_BOOTSTRAP": NOWHERE})
    assert (code, "REDIS_URL must name the store" in line) == (WRONG_USE, True)


def test_a_store_that_is_down(broker: str) -> None:
    code, line = refusal({"KAFKA_BOOTSTRAP": broker, "REDIS_URL": "redis://127.0.0.1:1"}, *QUIET)
    assert (code, "Check REDIS_URL and that the server runs" in line) == (1, True)


def test_a_broker_that_is_down(store_url: str) -> None:
    code, line = refusal({"KAFKA_BOOTSTRAP": NOWHERE, "REDIS_URL": store_url}, *QUIET)
    assert (code, f"Check KAFKA_BOOTSTRAP and that one runs at {NOWHERE}" in line) == (1, True)


def test_a_store_with_another_number_of_shards(servers: dict[str, str]) -> None:
    with redis.Redis.from_url(servers["REDIS_URL"]) as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 32})
    code, line = refusal(servers, *QUIET)
    assert (code, "set redis.shards back to 32" in line) == (WRONG_USE, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_supervisor_does_not_insist(servers: dict[str, str], workers: str) -> None:
    """What no restart can mend is said once, and the supervisor ends with it."""
    with redis.Redis.from_url(servers["REDIS_URL"]) as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 32})
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "run", "--workers", workers, *QUIET],
        env={**CLEAN, **servers},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == WRONG_USE
    assert "set redis.shards back to 32" in done.stderr
    assert "nothing starts again" in done.stderr.splitlines()[-1]
    assert "start again in" not in done.stderr


def test_a_store_that_may_not_be_written(servers: dict[str, str]) -> None:
    with EmbeddedStore() as server, redis.Redis.from_url(server.url) as client:
        client.replicaof("127.0.0.1", "1")
        env = servers | {"REDIS_URL": server.url}
        code, line = refusal(env, *QUIET)
    assert code == 1
    assert "read only replica" in line
    assert "writable" in line


def test_a_store_without_memory(servers: dict[str, str]) -> None:
    with EmbeddedStore() as server, redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1mb")
        env = servers | {"REDIS_URL": server.url}
        code, line = refusal(env, *QUIET)
    assert code == 1
    assert "memory" in line


def test_a_port_that_is_taken(servers: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, line = refusal(servers, "--set", f"metrics.address={address}")
    assert (code, "Set metrics.address to a free host:port" in line) == (WRONG_USE, True)


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--workers", "65"), "--workers must be at most 64"),
        (("--workers", "2", "--addresses", "a:1,b:2"), "give one"),
        (("--addresses", "nohost"), "must be host:port"),
        (("--addresses", "a:1,b:2", "--process", "2"), "0 to 1, but 2 came"),
    ],
)
def test_workers_that_cannot_be(
    servers: dict[str, str], arguments: tuple[str, ...], needed: str
) -> None:
    code, line = refusal(servers, *QUIET, *arguments)
    assert (code, needed in line) == (WRONG_USE, True), line


# -- what only a real Kafka tells -------------------------------------------------------------


@pytest.fixture
def after_a_run(
    kafka: LocalKafka, store_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[dict[str, str], str]]:
    """Servers on which an engine has read ten messages of a topic of the test's own."""
    topic = request.node.name.replace("[", "-").rstrip("]")
    kafka.create(topic, partitions=2)
    produce(kafka.bootstrap, topic, [(0, b"?")] * 10)
    env = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "REDIS_URL": store_url}
    engine = Engine([*QUIET, "--set", f"kafka.events={topic}"], env, tmp_path / "log")
    engine.start()
    store = Store(store_url)
    until(lambda: store.positions().get(0) == 10)
    assert engine.stop() == 0
    store.close()
    yield env, topic
    kafka.delete(topic)


@pytest.mark.kafka
@needs_kafka
def test_a_topic_that_is_missing(kafka: LocalKafka, store_url: str) -> None:
    env = {"KAFKA_BOOTSTRAP": kafka.bootstrap, "REDIS_URL": store_url}
    code, line = refusal(env, *QUIET, "--set", "kafka.events=nobody-made-this")
    assert code == 1
    assert "Create it, or set kafka.events" in line


@pytest.mark.kafka
@needs_kafka
def test_a_topic_that_was_made_again(
    kafka: LocalKafka, after_a_run: tuple[dict[str, str], str]
) -> None:
    env, topic = after_a_run
    kafka.delete(topic)
    until(lambda: topic not in kafka.admin().list_topics(timeout=10).topics)
    kafka.create(topic, partitions=2)
    code, line = refusal(env, *QUIET, "--set", f"kafka.events={topic}")
    assert (code, "was recreated, or this is another cluster" in line) == (WRONG_USE, True), line


@pytest.mark.kafka
@needs_kafka
def test_retention_that_overtook_the_position(
    kafka: LocalKafka, after_a_run: tuple[dict[str, str], str]
) -> None:
    env, topic = after_a_run
    produce(kafka.bootstrap, topic, [(0, b"?")] * 10)
    kafka.forget(topic, 0, 15)
    code, line = refusal(env, *QUIET, "--set", f"kafka.events={topic}")
    assert code == 1
    assert "must be read from offset 10, but the log holds 15 to 20" in line
    assert "give the topic a longer retention" in line
