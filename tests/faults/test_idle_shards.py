"""Crashes while most shards have nothing to write."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from events.hashing import shard_of
from events.texts import Texts
from tests.faults.lives import (
    PARTITIONS,
    SHARDS,
    Life,
    Log,
    Mortal,
    Topic,
    assert_ends_well,
    live_and_die,
    random_events,
    somebody,
)
from tests.folding import documents

pytestmark = pytest.mark.servers


QUIET_FROM, QUIET_TO = 120, 520
"""Events between which only a few shards have any."""


def log_with_idle_shards(chance: random.Random) -> Log:
    """Everybody acts, then for hours only the users of three shards do, then everybody again."""
    users = somebody(60)
    shards = shard_of(Texts.of(users), SHARDS).tolist()
    few = {shard for shard, _ in Counter(shards).most_common(3)}
    busy = [user for user, shard in zip(users, shards, strict=True) if shard in few]
    return Log(
        [
            *random_events(chance, QUIET_FROM, users),
            *random_events(chance, QUIET_TO - QUIET_FROM, busy, QUIET_FROM),
            *random_events(chance, 120, users, QUIET_TO),
        ]
    )


def read_quiet_time(life: Life, count: int, *, heartbeat: bool) -> None:
    """Step nearly to the end of the time in which most shards are idle."""
    while max(life.at.values()) + count < QUIET_TO // PARTITIONS:
        life.step(count, heartbeat=heartbeat)


@pytest.mark.parametrize("seed", range(2))
def test_heartbeats_take_idle_shards_along(store: Mortal, seed: int) -> None:
    log, topic = log_with_idle_shards(random.Random(seed)), Topic()
    life = Life(store, log, topic)
    read_quiet_time(life, 10, heartbeat=True)
    heir = Life(store, log, topic)
    assert heir.at == life.at
    heir.live_on(10)
    assert_ends_well(store, log, topic)


@pytest.mark.parametrize("seed", range(2))
def test_what_idle_shards_make_be_read_again_is_skipped(store: Mortal, seed: int) -> None:
    log, topic = log_with_idle_shards(random.Random(seed)), Topic()
    life = Life(store, log, topic)
    read_quiet_time(life, 10, heartbeat=False)
    before, published = documents(store), len(topic.records)
    heir = Life(store, log, topic)
    assert max(heir.at.values()) <= QUIET_FROM // PARTITIONS
    while heir.at != life.at:
        heir.read(10)
        assert heir.commit() == []
    assert heir.lane.counters.events == heir.lane.counters.duplicates == 0
    assert documents(store) == before
    assert len(topic.records) == published
    heir.live_on(10)
    assert_ends_well(store, log, topic)


@pytest.mark.parametrize("seed", range(3))
def test_crashes_while_shards_are_idle(store: Mortal, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = log_with_idle_shards(chance), Topic()
    live_and_die(chance, store, log, topic)
    assert store.torn >= 5
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)
