"""The store on a real server: fences, sequences, repeats and a store that came back older."""

from contextlib import closing

import numpy as np
import pytest

from events.texts import Texts
from loadtest.chaos.clients import open_client
from state.commit import Operation, ShardCommit, Writes
from state.store import Store
from state.store_errors import (
    FencedOff,
    StoreEmpty,
    StoreMismatch,
    StoreSetBack,
    StoreUnavailable,
)

pytestmark = pytest.mark.servers


def commit(seq, expected=None, **parts):
    record = {"positions": b'{"0":%d}' % (10 * seq), "clock": b"5", "buckets": b""}
    expected = seq - 1 if expected is None else expected
    return ShardCommit(shard=7, seq=seq, expected=expected, record=record, **parts)


def writes(*operations):
    """Columns of shard 7 alone: command, kind, fields and perhaps values, all bytes."""
    return Writes(
        [
            Operation(command, kind, np.full(len(sides[0]), 7), *map(Texts.of_bytes, sides))
            for command, kind, *sides in operations
        ],
    )


@pytest.fixture
def store(each_store_url):
    store = Store(each_store_url, prefix="t", give_up_s=0.5)
    yield store
    store.close()


def test_what_is_committed_is_loaded(store, each_store_url):
    store.meta.begin()
    store.load(7, ["orders"])
    users = [b"ann", "bör".encode()]
    ids = Operation("APPEND", "dedup", np.array([7]), Texts.of_bytes([b"0123456789ab"]), rest="3")
    first = commit(
        1,
        writes=Writes(
            [
                *writes(
                    ("HSET", "profile", users, [b"pa", b"pb"]),
                    ("HSET", "state", users, [b"sa", b"sb"]),
                    ("HSET", "orders", [b"\x00k1", b"k2"], [b"v1", b"\xffv2"]),
                ).operations,
                ids,
            ],
        ),
        joined={"vip": [b"ann"]},
        changes=b"entry",
    )
    first.record["buckets"] = b"3"
    assert store.commit([first]) == {}
    assert store.commit([commit(2, writes=writes(("HDEL", "orders", [b"k2"])))]) == {}
    assert store.profile(7, "bör") == b"pb"
    assert store.members(7, "vip") == {"ann"}
    assert store.outbox.entries(7) == [(1, b"entry")]
    again = Store(each_store_url, prefix="t")
    held = again.load(7, ["orders"])
    assert held.seq == 2
    assert dict(zip(held.users, held.states, strict=True)) == {b"ann": b"sa", "bör".encode(): b"sb"}
    assert held.tables["orders"] == ([b"\x00k1"], [b"v1"])
    assert again.positions() == {}  # the other shards have committed nothing: read it all
    again.close()


def test_fields_of_all_commit_records_are_read_shard_by_shard(store):
    store.meta.begin()
    store.load(7, [])
    first = commit(1)
    first.record["experiment.x"] = b"\xff\x00totals"
    assert store.commit([first]) == {}
    found = store.record_fields(["experiment.x", "clock", "nothing"])
    assert len(found) == 64
    assert found.pop(7) == [b"\xff\x00totals", b"5", None]
    assert found == [[None] * 3] * 63


def test_entries_that_another_process_has_trimmed_are_not_written_forward(store, each_store_url):
    store.meta.begin()
    store.load(7, [])
    for seq in (1, 2, 3):
        assert store.commit([commit(seq, changes=b"entry %d" % seq)]) == {}
    publisher = Store(each_store_url, prefix="t")
    publisher.outbox.trim([(7, 2)])
    store.outbox.forget_published(store.sequences())
    assert publisher.outbox.entries(7) == [(3, b"entry 3")]
    # the server loses everything but the fence: what is not yet published is still known
    with closing(open_client(each_store_url)) as client:
        client.hdel("t:commit:{07}", "seq")
        client.delete("t:outbox:{07}")
    store.outbox.forget_published(store.sequences())
    assert store.commit([commit(4, expected=3)]) == {7: 0}
    assert store.commit([commit(4, expected=0)]) == {}
    assert publisher.outbox.entries(7) == [(3, b"entry 3")]
    publisher.outbox.trim([(7, 3)])
    store.outbox.forget_published(store.sequences())
    assert store.commit([commit(5, expected=3)]) == {7: 4}
    assert store.commit([commit(5, changes=b"entry 5")]) == {}
    assert publisher.outbox.entries(7) == [(5, b"entry 5")]
    publisher.close()


def test_an_owner_knows_that_it_was_replaced(store, each_store_url):
    store.load(7, [])
    store.load(8, [])
    assert store.owns()
    heir = Store(each_store_url, prefix="t")
    heir.take_fence(8)
    assert not store.owns()
    assert heir.owns()
    heir.close()


def test_a_log_is_known_by_its_identity(store):
    store.meta.agree_log("events", "")
    store.meta.agree_log("events", "cluster/topic")
    store.meta.agree_log("events", "cluster/topic")
    store.meta.agree_log("events", "")
    store.meta.agree_log("others", "cluster/other")
    with pytest.raises(StoreMismatch, match="it was recreated, or this is another cluster"):
        store.meta.agree_log("events", "cluster/again")


def test_a_broker_may_begin_to_give_ids_to_topics(store):
    store.meta.agree_log("events", "cluster")
    store.meta.agree_log("events", "cluster/topic")
    with pytest.raises(StoreMismatch, match="identity cluster"):
        store.meta.agree_log("events", "another/topic")


def test_amounts_stay_in_their_currency_and_minor_unit(store):
    store.meta.agree_money("EUR", 2)
    store.meta.agree_money("EUR", 2)
    for currency, digits in (("EUR", 0), ("USD", 2)):
        with pytest.raises(StoreMismatch, match="are EUR of 2 digits, but the settings say"):
            store.meta.agree_money(currency, digits)


def test_another_owner_is_noticed_though_nothing_was_written(store, each_store_url):
    store.load(7, [])
    assert store.sequences() == {7: 0}
    other = Store(each_store_url, prefix="t")
    other.load(7, [])
    with pytest.raises(FencedOff, match="shard 7 is owned by another engine now"):
        store.sequences()
    assert other.sequences() == {7: 0}
    other.close()


@pytest.mark.parametrize("is_emptied", [False, True])
def test_an_older_fence_is_no_other_engine(store, each_store_url, is_emptied):
    former = Store(each_store_url, prefix="t")
    former.load(7, [])
    key = store.key("commit", 7)
    with closing(open_client(each_store_url)) as client:
        older = client.hgetall(key)
        store.load(7, [])
        assert store.commit([commit(1)]) == {}
        client.delete(key)
        if is_emptied:
            assert store.sequences() == {7: 0}
        else:
            client.hset(key, mapping=older)
            with pytest.raises(StoreSetBack, match=r"shard 7 has the older fence .* started"):
                store.sequences()
            assert former.sequences() == {7: 0}
    assert store.owns()
    with pytest.raises(StoreSetBack, match=r"shard 7 has .*fence.* Start it again"):
        store.commit([commit(2)])
    heir = Store(each_store_url, prefix="t")
    heir.take_fence(7)  # by the same clock, so it is newer, whatever the store has lost
    assert not store.owns()
    with pytest.raises(FencedOff, match="shard 7 is owned by another engine now"):
        store.commit([commit(2)])
    for other in (former, heir):
        other.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.outbox.trim([(7, 1)]),
        lambda store: store.outbox.entries(7),
        lambda store: store.examples.after({}),
        lambda store: store.share("cuts", b""),
        lambda store: store.shared("cuts"),
        lambda store: store.positions(),
        lambda store: store.meta.begin(),
        lambda store: store.record(7),
        lambda store: store.members(7, "vip"),
        lambda store: next(store.profiles(7)),
    ],
)
def test_a_store_that_is_gone_is_said_in_words(ask):
    gone = Store("redis://127.0.0.1:1", give_up_s=0.1)
    with pytest.raises(StoreUnavailable, match="It must be reachable, writable"):
        ask(gone)
    gone.close()


def test_a_store_has_a_salt_of_its_own_unless_it_is_older(store, each_store_url):
    store.meta.begin()
    salt = store.meta.salt()
    assert 0 < salt < 2**63
    again = Store(each_store_url, prefix="t")
    again.meta.begin()
    assert again.meta.salt() == salt
    again.close()
    older = Store(each_store_url, prefix="older")
    older.client.hset("older:meta", mapping={"format": "1", "shards": "64"})
    older.meta.begin()
    assert older.meta.salt() == 0
    older.close()


def test_only_who_begins_a_store_writes_what_stays(store, each_store_url):
    with pytest.raises(StoreEmpty, match="holds no Afterglow data under the prefix 't'"):
        store.meta.expect()
    with closing(open_client(each_store_url)) as client:
        assert not client.exists("t:meta")
        store.meta.begin()
        begun = client.hgetall("t:meta")
        store.meta.expect()
        other = Store(each_store_url, "t", 128)
        with pytest.raises(StoreMismatch, match="have shards 64, but the settings say 128"):
            other.meta.expect()
        other.close()
        assert client.hgetall("t:meta") == begun


def test_lanes_say_how_far_they_are(store_url):
    store, other = Store(store_url, "t", 64), Store(store_url, "t", 64)
    assert store.lane_places.said() == {}
    store.lane_places.say(0, {0: 5, 3: 7})
    other.lane_places.say(1, {0: 4})
    assert other.lane_places.said() == store.lane_places.said() == {0: {0: 5, 3: 7}, 1: {0: 4}}
    store.lane_places.forget(0)
    assert other.lane_places.said() == {1: {0: 4}}
    store.close()
    other.close()


def test_where_lanes_are_is_lost_quietly_without_a_store():
    store = Store("redis://127.0.0.1:1", "t", 64)
    store.lane_places.say(0, {0: 5})
    store.lane_places.forget(0)
    assert store.lane_places.said() is None
