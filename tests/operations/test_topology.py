"""What docker-compose.yml starts, started as processes: events go in, changes come out."""

import json
import signal
import zlib
from contextlib import suppress
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import pytest
from confluent_kafka import Consumer

from dataflows.settings import load
from state.store import Store
from tests.operations.plant import TOKEN, needs_api, needs_prometheus, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture(scope="module")
def changes(running):
    """Changes, as a consumer sees them."""
    consumer = Consumer(
        {
            "bootstrap.servers": running.broker.bootstrap,
            "group.id": "topology",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([load(env={}).kafka.changes])
    found = []

    def enough():
        messages = [m for m in consumer.consume(100, 0.5) if m.error() is None]
        found.extend(json.loads(message.value()) for message in messages)
        return len(found) >= 20

    try:
        until(enough, 90, running.log)
    finally:
        consumer.close()
    return found


def test_events_become_profiles_and_changes(running, changes):
    assert {change["action"] for change in changes} <= {"entered", "exited"}
    store = Store(running.store.url("operator"))
    users = [change["user_id"] for change in changes]
    try:
        for user in set(users):
            shard = _shard(user)
            assert store.profile(shard, user) is not None
    finally:
        store.close()


def test_edges_read_profiles_under_their_own_user(running, changes):
    user = changes[0]["user_id"]
    with running.store.client("edge") as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        assert client.hget(f"ag:profile:{{{_shard(user):02d}}}", user)


def test_both_workers_share_the_work(running):
    until(lambda: all(running.value("afterglow_rows", worker) for worker in (0, 1)), 60)
    fences = [running.scrape(worker) for worker in (0, 1)]
    for worker, text in enumerate(fences):
        assert f'afterglow_fence_epoch{{worker="{worker}"}}' in text


@pytest.mark.prometheus
@needs_prometheus
def test_prometheus_scrapes_everything(running):
    def all_up():
        targets = running.ask("targets")["activeTargets"]
        return [target["health"] for target in targets] == ["up"] * (3 if running.api_port else 2)

    until(all_up, 30)
    query = "sum(afterglow_events_total) > 0"
    assert until(lambda: running.ask("query", query=query)["result"], 30)


@needs_api
def test_the_api_serves_what_the_engine_wrote(running, changes):
    address = f"http://127.0.0.1:{running.api_port}"
    assert _status(f"{address}/health") == 200
    assert until(lambda: _status(f"{address}/ready") == 200, 30)
    user = changes[0]["user_id"]
    profile = f"{address}/v1/profiles/{user}"
    assert _status(profile) == 401
    assert _status(profile, TOKEN) == 200
    why = f"{address}/v1/explanations?user_id={user}&kind=segment&name={changes[0]['segment']}"
    assert _status(why, TOKEN) == 200
    with running.store.client("operator") as client:
        denied = [entry for entry in client.acl_log() if entry["username"] == "serving"]
    assert denied == []


def test_a_killed_worker_comes_back_and_the_topology_with_it(running):
    """Last, because it disturbs the others: fences move, and events flow again."""
    before = until(lambda: running.value("process_start_time_seconds", 0), 30)
    supervisor = psutil.Process(running.engine.pid)
    with suppress(psutil.NoSuchProcess):
        supervisor.children()[0].send_signal(signal.SIGKILL)

    def again():
        begun = running.value("process_start_time_seconds", 0)
        return begun > before and running.value("afterglow_events_total", 0)

    until(again, 120, running.log)
    assert '"event": "workers_ended"' in running.log()


def _shard(user):
    return zlib.crc32(user.encode()) % load(env={}).redis.shards


def _status(url, token=""):
    request = Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urlopen(request, timeout=30) as answer:
            return answer.status
    except HTTPError as error:
        return error.code
    except (URLError, OSError):
        return 0
