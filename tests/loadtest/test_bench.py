"""The benchmark measures what it says: every step of a real lane, and a real engine to its end."""

import msgspec
import pytest
import redis

from events.hashing import shard_of
from events.texts import Texts
from loadtest import broker_way, inside
from loadtest.bench import Files
from loadtest.lists import Awaited
from loadtest.stream import PLAIN, SHOP, Load
from state.store import Store

BATCH, SMALL, EVENTS = 500, 50, 1_000


@pytest.fixture
def files(tmp_path):
    return Files.write(tmp_path, Load(users=300, shares=SHOP), EVENTS)


@pytest.mark.parametrize("case", [inside.PLAIN_RFM, inside.SEGMENTED], ids=["plain", "segments"])
def test_every_step_of_a_lane_is_booked(tmp_path, case):
    files = Files.write(tmp_path, Load(users=300, shares=PLAIN), EVENTS)
    parts = [(BATCH, EVENTS), (SMALL, EVENTS // 4)]
    found = list(inside.run(case, files.warm, files.events, parts, None))
    assert [(batch, events) for batch, _, events in found] == parts
    for _, seconds, _ in found:
        assert set(seconds) == {"read", "decode", "deduplicate", "update", "decide", "clock"}
        assert min(seconds.values()) > 0.0


@pytest.mark.servers
def test_every_step_is_booked_with_a_store(files, store_url):
    case, parts = inside.EVERYTHING, [(BATCH, EVENTS)]
    ((_, seconds, _),) = inside.run(case, files.warm, files.events, parts, Store(store_url))
    assert set(seconds) == set(inside.STEPS)
    assert min(seconds.values()) > 0.0


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_an_engine_is_counted_until_it_is_through(files, workers):
    cost = broker_way.run(files.warm, files.events, BATCH, workers, lists=True)
    assert cost.events == EVENTS + EVENTS // 4
    assert cost.engine_s > 0.0


@pytest.mark.servers
def test_lists_are_awaited_until_they_know_of_what_was_done(store_url):
    lines = [
        b'{"event_id":"1","user_id":"ann","type":"product_view","ts":5,"item_id":"i"}',
        b'{"event_id":"2","user_id":"ann","type":"purchase","ts":7,"item_id":"i"}',
        b'{"event_id":"3","user_id":"bob","type":"search","ts":6}',
        b'{"event_id":"4","user_id":"cyd","type":"wishlist_add","ts":6,"item_id":"i"}',
    ]
    client = redis.Redis.from_url(store_url)

    def store_list(user, as_of):
        (shard,) = shard_of(Texts.of([user]), 64).tolist()
        document = msgspec.msgpack.encode({"as_of": as_of})
        client.hset(f"ag:candidates:{{{shard:02d}}}", user, document)

    awaited = Awaited(lines)
    assert (awaited.users, awaited.left) == (2, 2)
    store_list("ann", 6)
    store_list("cyd", 6)
    assert not awaited.wait(store_url, 0.0)
    assert awaited.left == 1  # of before what she bought
    store_list("ann", 7)
    assert awaited.wait(store_url, 5.0)
    assert awaited.left == 0
