"""Lanes that go on while their commits are on the way: crashes, and stores that come back older."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dataflows.embedded import EmbeddedStore
from state.checkpoint import Committed
from state.store_errors import FencedOff, StoreUnavailable
from tests.faults.lives import (
    NAMES,
    Life,
    Log,
    Mortal,
    Topic,
    assert_as_oracle,
    assert_as_peace,
    assert_ends_well,
    assert_restored,
    first_timeline,
    live_and_die,
    random_events,
    set_back,
    somebody,
)
from tests.folding import assert_folded, documents, fold_epochs, unique

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_while_a_commit_is_on_its_way(store: Mortal, seed: int) -> None:
    chance = random.Random(seed)
    log, topic = Log(random_events(chance, 500, somebody(40))), Topic()
    store.order = lambda commits: chance.sample(commits, len(commits))
    live_and_die(chance, store, log, topic, ahead=True)
    assert store.torn >= 5
    Life(store, log, topic).live_on(25)
    assert_ends_well(store, log, topic)


def set_back_under_a_commit(
    store: Mortal, server: EmbeddedStore, older: Path, log: Log, topic: Topic, *, when: str,
    begins: bool,
) -> tuple[Life, list[Committed]]:  # fmt: skip
    """An engine that has taken more in when it hears of its commit; what that decided.

    When: the store is set back before the commit is sent, and so refuses it; or right after it was
    sent; or when it has arrived.

    Begins: the engine hears of it when it has collected the next.
    """
    life = first_timeline(store, server, older, log, topic)
    life.step_ahead(8)
    if when == "before":
        life.publish(life.finish())
        set_back(server, older)
    life.step_ahead(8)
    if when == "sent":
        set_back(server, older)
    life.read(8)
    if when == "arrived":
        set_back(server, older)
    return life, life.begin() if begins else life.finish()


@pytest.mark.parametrize("when", ["before", "sent", "arrived"])
@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_a_store_that_is_set_back_under_a_commit(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, seed: int, when: str, begins: bool
) -> None:
    log, topic = Log(random_events(random.Random(seed), 400, somebody(30))), Topic()
    older = tmp_path / "older"
    life, committed = set_back_under_a_commit(
        lossy, server, older, log, topic, when=when, begins=begins
    )
    life.publish(committed)
    life.live_on(8)
    assert_ends_well(lossy, log, topic)


@pytest.mark.parametrize("when", ["before", "sent", "arrived"])
@pytest.mark.parametrize("begins", [True, False])
@pytest.mark.parametrize("publishes", [True, False])
def test_an_engine_that_dies_after_its_store_was_set_back_under_a_commit(
    lossy: Mortal, server: EmbeddedStore, tmp_path: Path, when: str, begins: bool,
    publishes: bool,
) -> None:  # fmt: skip
    log, topic = Log(random_events(random.Random(7), 400, somebody(30))), Topic()
    older = tmp_path / "older"
    _, committed = set_back_under_a_commit(
        lossy, server, older, log, topic, when=when, begins=begins
    )
    if publishes:
        topic.take(committed)
    with_nothing = Mortal(server.url, lossy.prefix, lossy.shards)  # of what the dead one knew
    Life(with_nothing, log, topic).live_on(8)
    with_nothing.close()
    found = documents(lossy)
    assert_as_peace(found, log)
    assert_as_oracle(found, log)
    assert_restored(lossy)
    assert_folded(fold_epochs(unique(topic.records)), lossy, NAMES)


def test_a_store_that_is_away_while_a_commit_is_on_its_way(
    lossy: Mortal, server: EmbeddedStore
) -> None:
    log, topic = Log(random_events(random.Random(3), 300, somebody(30))), Topic()
    life = Life(lossy, log, topic)
    for number in range(6):
        life.begin(heartbeat=number % 2 == 0)
        server.kill()
        life.read(10)
        server.start()
        life.publish(life.finish())
    life.live_on(10)
    assert_ends_well(lossy, log, topic)


def test_an_engine_that_was_replaced_under_its_commit_writes_nothing(
    lossy: Mortal, server: EmbeddedStore
) -> None:
    log, topic = Log(random_events(random.Random(5), 300, somebody(30))), Topic()
    first = Life(lossy, log, topic)
    first.step(10)
    heir_store = Mortal(server.url, lossy.prefix, lossy.shards)
    heir = Life(heir_store, log, topic)
    first.read(10)
    before = documents(lossy)
    first.begin()
    first.read(10)
    with pytest.raises(FencedOff):
        first.finish()
    assert documents(lossy) == before
    heir.live_on(10)
    heir_store.close()
    assert_ends_well(lossy, log, topic)


def test_a_store_that_stays_away_is_given_up(lossy: Mortal, server: EmbeddedStore) -> None:
    impatient = Mortal(server.url, "t", lossy.shards, give_up_s=1.0)
    log, topic = Log(random_events(random.Random(6), 300, somebody(30))), Topic()
    life = Life(impatient, log, topic)
    life.step(10)
    life.read(10)
    server.kill()
    life.begin()
    life.read(10)
    with pytest.raises(StoreUnavailable, match="Nothing is lost"):
        life.finish()
    impatient.close()
    server.start()
    Life(lossy, log, topic).live_on(10)
    assert_ends_well(lossy, log, topic)
