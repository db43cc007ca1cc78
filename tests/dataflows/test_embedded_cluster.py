"""A cluster of our own: whole, and whole again when a primary is gone."""

import time

import numpy as np
import pytest
import redis

from dataflows.embedded_cluster import EmbeddedCluster
from events.texts import Texts
from state.commit import Operation, ShardCommit, Writes
from state.store import Store


def commit(shard, seq):
    record = {"positions": b'{"0":%d}' % seq, "clock": b"5", "buckets": b""}
    users, of = Texts.of([f"u{shard}"]), np.array([shard])
    profiles = Operation("HSET", "profile", of, users, Texts.of([f"p{seq}"]))
    states = Operation("HSET", "state", of, users, Texts.of(["s"]))
    return ShardCommit(shard, seq, seq - 1, record, writes=Writes([profiles, states]))


@pytest.mark.servers
def test_shards_live_on_all_primaries_and_a_dead_one_is_waited_for():
    with EmbeddedCluster() as cluster:
        store = Store(cluster.url, "t", 64, timeout_s=2)
        store.meta.begin()
        for shard in range(64):
            store.load(shard, [])
        assert store.commit([commit(shard, 1) for shard in range(64)]) == {}
        with redis.RedisCluster.from_url(cluster.url) as client:
            nodes = {client.get_node_from_key(store.key("commit", s)).port for s in range(64)}
        assert len(nodes) == 3
        victim = cluster.primary_of(store.key("commit", 7))
        victim.kill()
        begun_s = time.monotonic()
        assert store.commit([commit(shard, 2) for shard in range(64)]) == {}
        assert time.monotonic() - begun_s > 1  # nobody answered for its shards until then
        assert cluster.primary_of(store.key("commit", 7)).port != victim.port
        assert {store.profile(shard, f"u{shard}") for shard in range(64)} == {b"p2"}
        assert set(store.sequences().values()) == {2}
        store.close()
