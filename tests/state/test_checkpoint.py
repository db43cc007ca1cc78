"""The lane and a real store under faults: what is stored ends equal to a lane left in peace."""

import random
import shutil

import msgspec
import numpy as np
import pytest
from redis.exceptions import ClusterDownError, ConnectionError

from dataflows.embedded import EmbeddedStore
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from loadtest.chaos.clients import open_client
from state.changes import decode_entry
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definitions import SegmentSpec
from state.lane import Lane
from state.store import Store
from state.store_errors import FencedOff, StoreUnavailable
from state.times import MINUTE_MS
from tests.state.streams import START_MS, plan, read_of

pytestmark = pytest.mark.servers

SHARDS = 64
SEGMENTS = [
    SegmentSpec("keen", "intent >= 5", "intent < 2"),
    SegmentSpec("buyer", "lifetime.orders >= 1"),
    SegmentSpec("left_cart", "cart.items > 0 and age(cart.touched) >= 10m"),
]


def events(count=400, users=40, seed=5):
    """A shop's morning, in order of time but for a few that are late."""
    chance = random.Random(seed)
    out = []
    for n in range(count):
        kind = chance.choice(["product_view"] * 4 + ["add_to_cart", "purchase", "refund"])
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{chance.randrange(users)}",
            "type": kind,
            "ts": START_MS + n * MINUTE_MS // 2 - chance.choice([0, 0, 0, 4 * MINUTE_MS]),
        }
        if kind in ("purchase", "refund"):
            event |= {"amount": chance.randrange(10_000) / 100, "order_id": f"o{n // 9}"}
        if kind == "add_to_cart":
            event["item_id"] = f"i{chance.randrange(5)}"
        out.append(event)
    return out


EVENTS = events()
BATCHES = [(a, min(a + 80, len(EVENTS))) for a in range(0, len(EVENTS), 80)]


def new_lane(**changes):
    return Lane(plan(segments=SEGMENTS, **changes), range(SHARDS))


def batch(a, b):
    return Decoder(EventRules())(read_of(EVENTS[a:b], a))[0]


def truth():
    """Documents of a lane that nothing happened to."""
    lane = new_lane()
    for a, b in BATCHES:
        lane.apply(batch(a, b))
    raw = lane.portraits.encode(np.arange(lane.table.size)).bytes_list()
    return values(map(msgspec.msgpack.decode, raw))


def values(documents):
    """What does not depend on how the history was cut, by user."""
    names = ("first_seen", "last_seen", "last_order", "lifetime", "window", "decayed", "cart")
    return {d["user_id"]: {n: d[n] for n in names} for d in documents}


def stored(store):
    """The documents in the store; each segment's set must say what they say."""
    documents, members = [], {spec.name: set() for spec in SEGMENTS}
    for shard in range(SHARDS):
        documents += [msgspec.msgpack.decode(raw) for _, raw in store.profiles(shard)]
        for name in members:
            members[name] |= store.members(shard, name)
    for name, users in members.items():
        assert users == {d["user_id"] for d in documents if name in d["segments"]}, name
    return documents


def assert_no_bucket_is_left_behind(store):
    """Ids of events lie in no other buckets than those that the commit records list."""
    listed = {(shard, bucket) for shard in range(SHARDS) for bucket in store.buckets(shard)}
    keys = [key.decode().split(":") for key in store.client.scan_iter("t:dedup:*")]
    assert {(int(shard.strip("{}")), int(bucket)) for _, _, shard, bucket in keys} == listed
    assert len({bucket for _, bucket in listed}) > 1


def assert_gapless(changes):
    """Each user's changes are counted without a gap, and alternate per segment."""
    counts, inside = {}, {}
    for change in changes:
        user = change["user_id"]
        assert change["n"] == counts.get(user, 0) + 1
        counts[user] = change["n"]
        held = inside.setdefault(user, set())
        if change["action"] == "entered":
            assert change["segment"] not in held
            held.add(change["segment"])
        else:
            held.remove(change["segment"])
        assert set(change["segments"]) == held
    return inside


def published(committed):
    return [msgspec.json.decode(v) for c in committed for _, v in decode_entry(c.changes)]


@pytest.fixture
def store(each_store_url):
    opened = Store(each_store_url, "t", SHARDS, give_up_s=0.3)
    yield opened
    opened.close()


def test_a_store_that_came_back_older_is_written_forward(tmp_path):
    server = EmbeddedStore(tmp_path / "data").start()
    try:
        store = Store(server.url, "t", SHARDS)
        lane = new_lane()
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        changes = []
        for number, (a, b) in enumerate(BATCHES):
            lane.apply(batch(a, b))
            changes += published(checkpoint.commit(heartbeat=True))
            if number == 1:
                shutil.copytree(server.directory, tmp_path / "older")
            if number == 3:
                server.kill()
                shutil.rmtree(server.directory)
                shutil.copytree(tmp_path / "older", server.directory)
                server.start()
        documents = stored(store)
        assert values(documents) == truth()
        inside = assert_gapless(changes)
        for document in documents:
            assert inside.get(document["user_id"], set()) == set(document["segments"])
        again = new_lane()
        Checkpoint(again, store).open()
        raw = again.portraits.encode(np.arange(again.table.size)).bytes_list()
        assert values(map(msgspec.msgpack.decode, raw)) == truth()
        assert_no_bucket_is_left_behind(store)
        held = [name for document in documents for name in document["segments"]]
        sizes = [held.count(name) for name in lane.decider.plan.names]
        assert lane.decider.sizes.tolist() == again.decider.sizes.tolist() == sizes
        store.close()
    finally:
        server.stop()


def test_a_crash_before_the_commit_is_decided_again_from_the_log(store):
    """After every batch the lane is lost before it commits, and a new one reads on."""
    changes = []
    for a, b in BATCHES:
        lost = new_lane()
        Checkpoint(lost, store).open()
        lost.apply(batch(a, b))  # and dies
        lane = new_lane()
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        lane.apply(batch(a, b))
        changes += published(checkpoint.commit(heartbeat=True))
    assert values(stored(store)) == truth()
    assert_gapless(changes)


@pytest.mark.parametrize("right", ["xadd", "sadd", "append", "hset"])
def test_a_right_that_is_missing_leaves_nothing_half_written(one_store, store_url, right):
    """Once it is given, the log goes on where the commits before it have ended."""
    guest = None
    try:
        one_store.client.acl_setuser(
            "guest", enabled=True, nopass=True, keys=["*"], categories=["+@all"]
        )
        guest = Store(store_url.replace("://", "://guest:x@"), "t", SHARDS, give_up_s=0.2)
        for number, (a, b) in enumerate(BATCHES):
            lane = new_lane()
            checkpoint = Checkpoint(lane, guest)
            checkpoint.open()
            lane.apply(batch(a, b))
            if number == len(BATCHES) // 2:
                one_store.client.acl_setuser("guest", commands=[f"-{right}"])
                with pytest.raises(StoreUnavailable, match=r"may not|NOPERM|permissions"):
                    checkpoint.commit(heartbeat=True)
                one_store.client.acl_setuser("guest", commands=[f"+{right}"])
                lane = new_lane()
                checkpoint = Checkpoint(lane, guest)
                checkpoint.open()
                lane.apply(batch(a, b))
            checkpoint.commit(heartbeat=True)
        assert values(stored(one_store)) == truth()
    finally:
        if guest is not None:
            guest.close()
        one_store.client.acl_deluser("guest")


def test_what_was_committed_but_not_published_is_left_in_the_outbox(store):
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    assert checkpoint.open() == []
    lane.apply(batch(*BATCHES[0]))
    committed = checkpoint.commit()
    assert committed
    left = Checkpoint(new_lane(), store).open()
    assert published(left) == published(committed)
    store.outbox.trim((c.shard, c.seq) for c in left)
    assert Checkpoint(new_lane(), store).open() == []


def test_an_engine_that_was_replaced_writes_nothing(store, each_store_url):
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    lane.apply(batch(*BATCHES[0]))
    checkpoint.commit(heartbeat=True)
    other = Store(each_store_url, "t", SHARDS)
    Checkpoint(new_lane(), other).open()
    before = stored(other)
    lane.apply(batch(*BATCHES[1]))
    with pytest.raises(FencedOff, match="owned by another engine"):
        checkpoint.commit()
    assert stored(other) == before
    other.close()


def test_two_shards_of_a_batch_fail_while_the_others_succeed(store, each_store_url):
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    lane.apply(batch(*BATCHES[0]))
    checkpoint.commit(heartbeat=True)
    taken = batch(*BATCHES[1])
    lane.apply(taken)
    client = open_client(each_store_url)
    shards = sorted(set(shard_of(taken.users, SHARDS).tolist()))[:2]
    for shard in shards:
        key = store.key("profile", shard)
        client.rename(key, f"{key}:aside")
        client.set(key, b"in the way")
    with pytest.raises(StoreUnavailable, match="2 shards could not be committed"):
        checkpoint.commit(heartbeat=True)
    for shard in shards:
        key = store.key("profile", shard)
        client.rename(f"{key}:aside", key)
    client.close()
    places = {shard: store.record(shard)["positions"] for shard in range(SHARDS)}
    assert {shard for shard, at in places.items() if at == b'{"0":80}'} == set(shards)
    assert store.positions() == {0: 80}
    resumed = new_lane()
    after = Checkpoint(resumed, store)
    after.open()
    for a, b in BATCHES[1:]:
        resumed.apply(batch(a, b))
        after.commit(heartbeat=True)
    assert values(stored(store)) == truth()


def test_memberships_are_found_again_in_another_order(store):
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    lane.apply(batch(*BATCHES[0]))
    checkpoint.commit()
    held = {d["user_id"]: set(d["segments"]) for d in stored(store)}
    turned = Lane(plan(segments=SEGMENTS[::-1]), range(SHARDS))
    Checkpoint(turned, store).open()
    found = dict.fromkeys(held, frozenset())
    members = turned.decider.held(np.arange(turned.table.size))
    for row, place in zip(members.index.tolist(), members.segment.tolist(), strict=True):
        found[turned.users.ids[row]] |= {turned.decider.plan.names[place]}
    assert found == held


# -- a store that comes back older -------------------------------------------------------------


def taken_down(client):
    """All that a server holds."""
    return {key: client.dump(key) for key in client.keys("*")}


def put_back(client, older):
    """Make it what it was."""
    client.flushall()
    for key, value in older.items():
        client.restore(key, 0, value)


def members(store, name):
    """Who is in a segment's sets."""
    return set().union(*(store.members(shard, name) for shard in range(SHARDS)))


def inside(lane, name):
    """Who is in a segment, by the lane."""
    held, place = lane.decider.held(np.arange(lane.table.size)), lane.decider.plan.names.index(name)
    return {lane.users.ids[row] for row in held.index[held.segment == place].tolist()}


ELSE = [
    SegmentSpec("keen", "intent >= 5", "intent < 2"),
    SegmentSpec("seen", "lifetime.events > 0"),
]
"""Without ``buyer`` and ``left_cart``."""


@pytest.fixture
def one_store(store_url):
    opened = Store(store_url, "t", SHARDS, give_up_s=5.0)
    yield opened
    opened.close()


def opened(store, **changes):
    """A lane with its first events in the store, and what the store held then."""
    lane = new_lane(**changes)
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    lane.apply(batch(*BATCHES[0]))
    checkpoint.commit(heartbeat=True)
    return lane, checkpoint, taken_down(store.client)


def test_nobody_stays_in_segments_that_were_removed_before_a_store_came_back_older(one_store):
    lane, checkpoint, older = opened(one_store)
    assert members(one_store, "buyer") == inside(lane, "buyer") != set()
    lane.adopt(DefinitionSet(ELSE))
    lane.catch_up()
    checkpoint.commit()
    assert members(one_store, "buyer") == set()
    put_back(one_store.client, older)
    assert checkpoint.commit(heartbeat=True) == []
    assert members(one_store, "buyer") == members(one_store, "left_cart") == set()
    assert members(one_store, "seen") == inside(lane, "seen") != set()
    lane.adopt(DefinitionSet(SEGMENTS))
    lane.catch_up()
    lane.apply(batch(*BATCHES[1]))
    checkpoint.commit()
    stored(one_store)


def test_who_has_not_gone_over_stays_in_removed_segments_when_a_store_came_back_older(one_store):
    """Consumers were not told yet that they are not in them."""
    lane, checkpoint, _ = opened(one_store)
    older = taken_down(one_store.client)
    lane.apply(batch(*BATCHES[1]))  # and some enter
    checkpoint.commit(heartbeat=True)
    were = {name: inside(lane, name) for name in ("buyer", "keen")}
    lane.adopt(DefinitionSet(ELSE))
    some = lane.users.everybody()[::2]
    lane.redefine(some, None)
    checkpoint.commit(heartbeat=True)
    gone_over = {lane.users.ids[row] for row in some.tolist()}
    left = were["buyer"] - gone_over
    assert members(one_store, "buyer") == left
    put_back(one_store.client, older)
    checkpoint.commit(heartbeat=True)
    assert members(one_store, "buyer") == left
    assert members(one_store, "keen") - gone_over == were["keen"] - gone_over
    lane.catch_up()
    checkpoint.commit()
    assert members(one_store, "buyer") == set()
    for name in ("keen", "seen"):
        assert members(one_store, name) == inside(lane, name) != set()


def test_segments_of_an_earlier_engine_are_known_to_be_gone(one_store):
    """The lane begins with other definitions than those that its users were decided by."""
    opened(one_store)
    lane = Lane(plan(segments=ELSE), range(SHARDS))
    checkpoint = Checkpoint(lane, one_store)
    checkpoint.open()
    older = taken_down(one_store.client)
    assert members(one_store, "buyer")
    lane.catch_up()
    checkpoint.commit(heartbeat=True)
    put_back(one_store.client, older)
    checkpoint.commit(heartbeat=True)
    assert members(one_store, "buyer") == set()


def test_a_store_that_flaps_while_it_is_written_forward_is_asked_again(one_store, monkeypatch):
    lane, checkpoint, older = opened(one_store)
    lane.apply(batch(*BATCHES[1]))
    checkpoint.commit(heartbeat=True)
    before = stored(one_store)
    put_back(one_store.client, older)
    trouble = [ConnectionError("reset by peer"), ClusterDownError("CLUSTERDOWN"), TimeoutError()]
    answer = one_store.client.hkeys

    def flapping(key):
        if trouble:
            raise trouble.pop()
        return answer(key)

    monkeypatch.setattr(one_store.client, "hkeys", flapping)
    checkpoint.commit(heartbeat=True)
    assert trouble == []
    assert values(stored(one_store)) == values(before)


def test_a_store_that_stays_away_while_it_is_written_forward_is_said_in_words(store, monkeypatch):
    def silent(_key):
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(store.client, "hkeys", silent)
    with pytest.raises(
        StoreUnavailable, match=r"'t:state:\{07\}' could not be read: .*reset by peer"
    ):
        store.fields("state", 7)
