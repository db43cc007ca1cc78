"""The store on a real server: fences, sequences, repeats and a store that came back older."""

import pytest

from state.commit import ShardCommit, TableWrite
from state.store import Store

pytestmark = pytest.mark.servers


def commit(seq, expected=None, **parts):
    record = {"positions": b'{"0":%d}' % (10 * seq), "clock": b"5", "buckets": b""}
    expected = seq - 1 if expected is None else expected
    return ShardCommit(shard=7, seq=seq, expected=expected, record=record, **parts)


@pytest.fixture
def store(store_url):
    store = Store(store_url, prefix="t", give_up_s=0.5)
    yield store
    store.close()


def test_what_is_committed_is_loaded(store, store_url):
    store.check_meta()
    store.load(7, ["orders"])
    first = commit(
        1,
        users=["ann", "bör"],
        profiles=[b"pa", b"pb"],
        states=[b"sa", b"sb"],
        tables={"orders": TableWrite([b"\x00k1", b"k2"], [b"v1", b"\xffv2"], [])},
        dedup={3: b"0123456789ab"},
        joined={"vip": ["ann"]},
        changes=b"entry",
    )
    first.record["buckets"] = b"3"
    assert store.commit([first]) == {}
    assert store.commit([commit(2, tables={"orders": TableWrite([], [], [b"k2"])})]) == {}
    assert store.profile(7, "bör") == b"pb"
    assert store.members(7, "vip") == {"ann"}
    assert store.outbox(7) == [(1, b"entry")]
    again = Store(store_url, prefix="t")
    held = again.load(7, ["orders"])
    assert held.seq == 2
    assert dict(zip(held.users, held.states, strict=True)) == {"ann": b"sa", "bör": b"sb"}
    assert held.tables["orders"] == ([b"\x00k1"], [b"v1"])
    assert again.positions() == {0: 0}  # the other shards have committed nothing
    again.close()
