"""Crashes at any write of a commit, after it, and in the middle of its script."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
import redis

from state.changes import decode_entry
from state.checkpoint import Committed
from state.store_errors import StoreUnavailable
from tests.faults.lives import (
    SHARDS,
    Crash,
    Life,
    Log,
    Mortal,
    Topic,
    assert_ends_well,
    live_and_die,
    random_events,
    somebody,
)
from tests.folding import unique

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_at_any_write_inside_a_commit(store: Mortal, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 500, somebody(40))), Topic()
    store.order = lambda commits: chance.sample(commits, len(commits))
    live_and_die(chance, store, log, topic)
    assert store.torn >= 5
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)


def unpublished(_life: Life, _committed: Sequence[Committed], _chance: random.Random) -> None:
    """Dies at once."""


def partly_published(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies when some changes have gone out, of the last shard perhaps not all."""
    total = sum(len(decode_entry(c.changes)) for c in committed)
    life.topic.take(committed, chance.randint(0, total))


def later_unpublished(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies when the first commits are published and forgotten, and the later ones are not."""
    life.publish(committed[: chance.randint(0, len(committed))])


def untrimmed(life: Life, committed: Sequence[Committed], _chance: random.Random) -> None:
    """Dies when all changes have gone out and the outbox still has them."""
    life.topic.take(committed)


def partly_trimmed(life: Life, committed: Sequence[Committed], chance: random.Random) -> None:
    """Dies while the outbox is trimmed."""
    life.store.fuse = chance.randint(0, len(committed))
    with suppress(Crash):
        life.publish(committed)
    life.store.fuse = None


Death = Callable[[Life, Sequence[Committed], random.Random], None]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "death", [unpublished, partly_published, later_unpublished, untrimmed, partly_trimmed]
)
def test_a_crash_after_a_commit(store: Mortal, death: Death, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 400, somebody(30))), Topic()
    done = False
    while not done:
        life = Life(store, log, topic)
        life.step(chance.randrange(1, 12))
        committed: list[Committed] = []
        for _ in range(chance.randint(1, 3)):
            life.read(chance.randrange(1, 12))
            committed += life.commit(heartbeat=chance.random() < 0.5)
        death(life, committed, chance)
        done = life.done
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)
    copies = len(topic.records) - len(unique(topic.records))
    assert (copies == 0) == (death in (unpublished, later_unpublished))


@pytest.mark.parametrize("kind", ["profile", "state", "members", "outbox"])
def test_a_script_that_stops_half_way_and_then_a_crash(
    store: Mortal, store_url: str, kind: str
) -> None:
    log, topic = Log(random_events(random.Random(3), 300, somebody(30))), Topic()
    life = Life(store, log, topic)
    life.step(20, heartbeat=True)
    life.read(20)
    hurt = [store.key(kind, s, "buyer" if kind == "members" else "") for s in range(SHARDS)]
    with redis.Redis.from_url(store_url) as client:
        there = [key for key in hurt if client.exists(key)]
        for key in hurt:
            if key in there:
                client.rename(key, f"{key}:aside")
            client.set(key, b"in the way")
        with pytest.raises(StoreUnavailable):
            life.commit(heartbeat=True)
        for key in hurt:
            client.delete(key)
            if key in there:
                client.rename(f"{key}:aside", key)
    Life(store, log, topic).live_on(20)
    assert_ends_well(store, log, topic)
