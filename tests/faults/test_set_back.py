"""A store that comes back older than it was, with and without an engine."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import redis

from dataflows.embedded import EmbeddedStore
from state.store_errors import StoreSetBack
from state.times import HOUR_MS
from tests.faults.lives import (
    NAMES,
    START_MS,
    VALUES,
    Event,
    Life,
    Log,
    Mortal,
    Topic,
    assert_alternating,
    assert_as_oracle,
    assert_as_peace,
    assert_ends_well,
    assert_restored,
    first_timeline,
    random_events,
    set_back,
    somebody,
)
from tests.folding import assert_folded, assert_values, documents, fold, fold_epochs, unique

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [8, 3, 40], ids="read again in {} steps".format)
def test_a_store_that_is_set_back_while_no_engine_runs(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, seed: int, count: int
) -> None:
    log, topic = Log(random_events(random.Random(seed), 400, somebody(30))), Topic()
    first = first_timeline(lossy, server, tmp_path / "older", log, topic)
    set_back(server, tmp_path / "older")
    heir = Life(lossy, log, topic)
    assert all(heir.at[p] < first.at[p] for p in log.ends)
    heir.live_on(count)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


@pytest.mark.parametrize("seed", range(4))
def test_engines_that_die_before_they_have_published_what_they_take_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    set_back(server, tmp_path / "older")
    for _ in range(3):
        life, committed = Life(lossy, log, topic), []
        for _ in range(2):
            life.read(chance.choice([1, 3, 8, 20]))
            committed += life.commit(heartbeat=chance.random() < 0.5)
        life.publish(committed[: chance.choice([0, 0, 5])])
    Life(lossy, log, topic).live_on(20)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)
    changes = unique(topic.records)
    assert_folded(fold_epochs(changes), lossy, NAMES)
    assert_alternating(changes)


def test_epochs_do_not_come_twice_when_a_store_is_set_back_over_a_start(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(1), 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    second = Life(lossy, log, topic)
    for _ in range(4):
        second.step(8)
    set_back(server, tmp_path / "older")
    Life(lossy, log, topic).live_on(8)
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


def test_an_engine_whose_store_is_set_back_to_before_its_start_writes_nothing(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(2), 400, somebody(30))), Topic()
    first_timeline(lossy, server, tmp_path / "older", log, topic)
    second = Life(lossy, log, topic)
    second.step(8)
    set_back(server, tmp_path / "older")
    second.read(8)
    before = documents(lossy)
    with pytest.raises(StoreSetBack):
        second.commit(heartbeat=True)
    assert documents(lossy) == before
    Life(lossy, log, topic).live_on(8)
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)


def test_changes_that_wait_for_the_publisher_survive_a_store_set_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    """The lane lives when the store is set back, and dies before anything more is published."""
    log, topic = Log(random_events(random.Random(4), 400, somebody(30))), Topic()
    life = first_timeline(lossy, server, tmp_path / "older", log, topic)
    life.read(8)
    life.commit(heartbeat=True)
    set_back(server, tmp_path / "older")
    life.read(8)
    life.commit(heartbeat=True)
    Life(lossy, log, topic).live_on(8)
    assert_ends_well(lossy, log, topic)


def test_a_heartbeat_repairs_a_store_that_was_set_back_on_a_quiet_log(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    log, topic = Log(random_events(random.Random(5), 400, somebody(30))), Topic()
    life = first_timeline(lossy, server, tmp_path / "older", log, topic)
    life.publish(life.commit(heartbeat=True))
    before = documents(lossy)
    set_back(server, tmp_path / "older")
    assert documents(lossy) != before
    life.publish(life.commit(heartbeat=True))
    after = documents(lossy)
    assert after.keys() == before.keys()
    for user, document in after.items():
        assert_values(document, before[user], (*VALUES, "cart", "session", "segments", "changes"))
    life.live_on(8)
    assert_ends_well(lossy, log, topic)


def test_what_only_the_lost_timeline_decided_is_taken_back(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path
) -> None:
    """Ann was warm once; read again in one go, together with later events, she never was."""

    def event(user: str, kind: str, hours: float = 0.0) -> Event:
        ts = START_MS + int(hours * HOUR_MS)
        named = {"event_id": f"{kind}-{hours}", "user_id": user, "type": kind, "ts": ts}
        return named | ({"item_id": "i"} if "cart" in kind else {})

    first_read = [event("ann", "add_to_cart"), event("bob", "click"), event("cid", "click")]
    second_read = [event("ann", "remove_from_cart", 0.1), event("ann", "click", 5)]
    log, topic = Log([*first_read, *second_read, event("bob", "click", 5)]), Topic()
    first = Life(lossy, log, topic)
    shutil.copytree(server.directory, tmp_path / "older")
    first.step(1)
    assert fold(unique(topic.records)) == {"ann": {"warm"}}
    set_back(server, tmp_path / "older")
    Life(lossy, log, topic).step(2)
    assert documents(lossy)["ann"]["segments"] == {}
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


def test_a_store_that_has_started_has_loaded_its_file(server: EmbeddedStore) -> None:
    with redis.Redis.from_url(server.url) as client:
        pipe = client.pipeline(transaction=False)
        for n in range(200_000):
            pipe.set(f"key-{n}", b"value")
        pipe.execute()
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url, retry=None) as client:
        assert client.dbsize() == 200_000
