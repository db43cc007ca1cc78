"""Lanes are spread as Bytewax spreads keys: one on each worker, and every shard in one lane."""

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.testing import TestingSink, TestingSource, cluster_main

from operators.routing import _siphash13, lane_names, lane_shards, worker_of

HASHES = """
import sys
for line in sys.stdin:
    print(hash(bytes.fromhex(line)) & (2**64 - 1))
"""


@pytest.mark.skipif(
    sys.hash_info.algorithm != "siphash13",
    reason=f"this Python hashes bytes with {sys.hash_info.algorithm}, not siphash13",
)
def test_the_hash_is_that_of_cpython_under_a_key_of_zeros():
    chance = random.Random(13)
    texts = [chance.randbytes(length) for length in range(1, 41) for _ in range(50)]
    texts += [bytes([value]) * length for length in range(1, 41) for value in (0, 0xFF)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", HASHES],
        input="\n".join(text.hex() for text in texts),
        env={"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [_siphash13(text) for text in texts] == list(map(int, done.stdout.split()))


@pytest.mark.parametrize("workers", range(1, 65))
def test_each_worker_has_a_lane_of_its_own(workers):
    names = lane_names(workers)
    assert len(set(names)) == workers
    assert [worker_of(name, workers) for name in names] == list(range(workers))


class Here(StatefulBatchLogic):
    """Says which of Bytewax's workers it lives on: their threads are numbered."""

    def on_batch(self, values):
        task = threading.get_native_id()
        name = Path(f"/proc/self/task/{task}/comm").read_text()
        return [int(name.rpartition("-")[2]) for _ in values], False

    def snapshot(self):
        return None


@pytest.mark.skipif(sys.platform != "linux", reason="threads have names in /proc on Linux only")
@pytest.mark.parametrize("workers", [2, 3, 5, 8])
def test_bytewax_puts_each_lane_on_the_worker_of_its_number(workers):
    names, places = lane_names(workers), []
    flow = Dataflow("lanes")
    keyed = op.input("names", flow, TestingSource([(name, None) for name in names]))
    op.output("out", op.stateful_batch("here", keyed, lambda _: Here()), TestingSink(places))
    cluster_main(flow, [], 0, worker_count_per_proc=workers)
    assert dict(places) == {name: worker for worker, name in enumerate(names)}


@pytest.mark.parametrize("shards", [1, 7, 64, 256])
def test_lanes_part_the_shards_evenly(shards):
    for lanes in range(1, min(shards, 64) + 1):
        parts = [lane_shards(lane, lanes, shards) for lane in range(lanes)]
        assert sorted(shard for part in parts for shard in part) == list(range(shards))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert all(shard % lanes == lane for lane, part in enumerate(parts) for shard in part)
