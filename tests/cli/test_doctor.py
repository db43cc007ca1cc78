"""``afterglow doctor`` as people call it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis

from dataflows.embedded import EmbeddedBroker
from tests.cli.running import afterglow

pytestmark = pytest.mark.servers
QUIET = ("--set", "metrics.address=")


@pytest.fixture
def env(store_url: str) -> Iterator[dict[str, str]]:
    with EmbeddedBroker() as broker:
        broker.create("events")
        yield {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store_url}


def test_all_is_well(env: dict[str, str]) -> None:
    done = afterglow("doctor", *QUIET, env=env)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("no fault, 0 to look at. Looked at: store valkey ")


def test_one_line_for_each_finding(env: dict[str, str]) -> None:
    with redis.Redis.from_url(env["REDIS_URL"]) as client:
        client.hset("ag:meta", mapping={"format": 1, "shards": 32})
        client.hset("ag:meta", "format", 9)
    done = afterglow("doctor", *QUIET, env=env)
    assert (done.code, done.err) == (1, "")
    lines = done.out.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["store.format:", "store.shards:"]
    assert lines[-1].startswith("2 faults, 0 to look at.")
    assert len(lines) == 3


def test_what_does_not_answer_was_not_looked_at() -> None:
    env = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    done = afterglow("doctor", *QUIET, env=env)
    assert done.code == 1
    assert done.out.splitlines()[-1] == "2 faults, 0 to look at."


def test_as_json(env: dict[str, str]) -> None:
    env["REDIS_URL"] = "redis://127.0.0.1:1"
    done = afterglow("doctor", "--json", *QUIET, env=env)
    report = json.loads(done.out)
    assert (done.code, report["well"]) == (1, False)
    (found,) = report["findings"]
    assert found["check"] == "store.reach"
    assert set(found) == {"check", "level", "what", "expected", "came", "fix"}


def test_wrong_settings_are_findings() -> None:
    done = afterglow("doctor", "--set", "rfm.bases=window", "--set", "redis.shards=none")
    lines = done.out.splitlines()
    assert done.code == 1
    assert [line.split(":")[0] for line in lines[:-1]] == ["fault settings.wrong"] * 2
    assert any("rfm.bases" in line and "did you mean 'basis'" in line for line in lines)
    assert any("redis.shards" in line and "'none' came" in line for line in lines)


def test_a_segment_that_means_nothing_is_a_finding() -> None:
    done = afterglow("doctor", "--set", "segments.vip.enter=rfm.q == 5")
    (line, _) = done.out.splitlines()
    assert (done.code, "settings.wrong" in line, "rfm.q" in line) == (1, True, True)


def test_no_address_is_a_finding() -> None:
    done = afterglow("doctor")
    assert done.code == 1
    assert "KAFKA_BOOTSTRAP" in done.out
    assert "REDIS_URL" in done.out
