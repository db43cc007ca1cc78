"""Deduplication against going through the log event by event, and through crashes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.dedup import Dedup
from state.id_blocks import pack_ids, unpack_ids
from state.times import NEVER_MS

SHARDS = [3, 4, 9]
WINDOW_MS, BUCKET_MS = 100, 12

# (id, time) pairs in log order; few, so that they come back
times = st.lists(st.integers(0, 500), max_size=60)


def shard_of(identity):
    return SHARDS[identity % len(SHARDS)]


def checked(dedup, events, newest_ms, seen_ms=None):
    """Give a batch of (id, time) to the engine: (fresh, unchecked) as lists."""
    hashes = np.array([i for i, _ in events], dtype=np.uint64)
    ts_ms = np.array([ts for _, ts in events], dtype=np.int64)
    shards = np.array([shard_of(i) for i, _ in events], dtype=np.int64)
    fresh, unchecked = dedup.check(hashes, ts_ms, shards, newest_ms, seen_ms)
    return fresh.tolist(), unchecked.tolist()


def in_batches(data, events):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=8)))
    return [events[a:b] for a, b in pairwise([0, *cuts, len(events)])]


def taken_of(dedup, shard):
    """What a shard's commit appends: ids by bucket."""
    found = {each.bucket: each.hashes[each.shard == shard] for each in dedup.taken()}
    assert all((np.diff(each.shard) >= 0).all() for each in dedup.taken())
    return {bucket: ids for bucket, ids in found.items() if len(ids)}


def ended_of(dedup, shard):
    return dedup.ended([shard]).get(shard, [])


def one_by_one(events):
    """The definition, for duplicates that have their original's time."""
    newest, seen, fresh, unchecked = NEVER_MS, set(), [], []
    for identity, ts in events:
        newest = max(newest, ts)
        unchecked.append(ts < newest - WINDOW_MS)
        fresh.append(unchecked[-1] or identity not in seen)
        seen.add(identity)
    return fresh, unchecked


def in_right_buckets(found, shard, time_of):
    return all(
        shard_of(identity) == shard and bucket == time_of[identity] // BUCKET_MS * BUCKET_MS
        for bucket, ids in found.items()
        for identity in ids.tolist()
    )


@given(times, st.data())
@settings(max_examples=200, deadline=None)
def test_any_batching_judges_as_one_by_one(ts, data):
    log = [(identity + 2, at) for identity, at in enumerate(ts)]
    again = data.draw(st.lists(st.sampled_from(log), max_size=60)) if log else []
    log = data.draw(st.permutations(log + again))
    dedup, newest, fresh, unchecked = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999), NEVER_MS, [], []
    for batch in in_batches(data, log):
        f, u = checked(dedup, batch, newest)
        newest = max([newest, *(at for _, at in batch)])
        fresh += f
        unchecked += u
        for shard in SHARDS:
            assert in_right_buckets(dedup.remembered(shard), shard, dict(log))
            assert in_right_buckets(taken_of(dedup, shard), shard, dict(log))
            assert sorted(taken_of(dedup, shard)) == sorted(dedup.remembered(shard))
    assert (fresh, unchecked) == one_by_one(log)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 300)), max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_the_first_of_an_id_always_passes_whatever_the_times_and_the_cap(log, data):
    cap = data.draw(st.sampled_from([0, 3, 10, 999]))
    dedup, newest, seen = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, cap), NEVER_MS, set()
    for batch in in_batches(data, log):
        fresh, unchecked = checked(dedup, batch, newest)
        newest = max([newest, *(at for _, at in batch)])
        for (identity, _), is_fresh, is_unchecked in zip(batch, fresh, unchecked, strict=True):
            folded = max(identity, 2)  # hashes 0 and 1 are read as 2
            assert is_fresh or folded in seen
            assert is_fresh or not is_unchecked
            seen.add(folded)
        assert len(dedup) <= cap
    kept = {i for s in SHARDS for ids in dedup.remembered(s).values() for i in ids.tolist()}
    assert len(kept) == len(dedup)
    assert kept <= seen


def test_another_time_within_the_window_does_not_make_it_another_event():
    dedup = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999)
    assert checked(dedup, [(5, 1_000)], NEVER_MS)[0] == [True]
    assert checked(dedup, [(5, 1_090), (5, 905)], 1_000)[0] == [False, True]
    assert checked(dedup, [(5, 1_095)], 1_090)[0] == [False]


def test_a_batch_of_many_buckets_is_judged_as_its_events_one_by_one():
    """Also where an id comes again with another time, when its first bucket has ended."""
    log = [(5, 1_000), (6, 1_120), (5, 1_119)]
    assert checked(Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999), log, NEVER_MS)[0] == [True] * 3
    dedup, newest = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999), NEVER_MS
    for event in log:
        assert checked(dedup, [event], newest)[0] == [True]
        newest = max(newest, event[1])


def test_a_full_memory_forgets_the_oldest_bucket_and_says_so():
    dedup = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, cap=3)
    checked(dedup, [(5, 0), (6, 13), (7, 14)], NEVER_MS)
    checked(dedup, [(8, 30)], 14)
    assert (len(dedup), dedup.floor_ms) == (3, BUCKET_MS)
    fresh, unchecked = checked(dedup, [(5, 0), (6, 13), (8, 30)], 30)
    assert (fresh, unchecked) == ([True, False, False], [True, False, False])


class Disk:
    """A store that appends blocks to buckets and may tear a commit in the middle."""

    def __init__(self):
        self.blocks = {shard: {} for shard in SHARDS}
        self.listed = {shard: [] for shard in SHARDS}
        self.floor = dict.fromkeys(SHARDS, NEVER_MS)
        self.seq = dict.fromkeys(SHARDS, 0)

    def commit(self, dedup, shard, torn=False, newest_ms=NEVER_MS):
        seq = self.seq[shard] + 1
        for bucket, ids in taken_of(dedup, shard).items():
            held = self.blocks[shard].get(bucket, b"")
            self.blocks[shard][bucket] = held + pack_ids(ids, seq)
        if torn:
            return
        for bucket in ended_of(dedup, shard):
            self.blocks[shard].pop(bucket, None)
        (listed,) = dedup.listed([shard])
        self.listed[shard] = [int(bucket) for bucket in listed.split()]
        self.floor[shard] = int(dedup.floors([shard], newest_ms)[0])
        self.seq[shard] = seq
        dedup.settle([shard])

    def open(self, window_ms, cap=9_999):
        dedup = Dedup(SHARDS, window_ms, BUCKET_MS, cap)
        for shard in SHARDS:
            dedup.restore(shard, self.floor[shard])
            for bucket in self.listed[shard]:
                if bucket in self.blocks[shard]:
                    ids = unpack_ids(self.blocks[shard][bucket], self.seq[shard])
                    dedup.load(shard, bucket, ids)
        dedup.restored()
        return dedup


@given(times, st.data())
@settings(max_examples=100, deadline=None)
def test_every_id_counts_once_through_crashes(ts, data):
    """Each shard commits its counts and its position with its ids, some of them late or never."""
    log = [(identity // 2 + 2, at) for identity, at in enumerate(sorted(ts))]
    disk, counted, position = Disk(), {s: [] for s in SHARDS}, dict.fromkeys(SHARDS, 0)
    dedup, at, newest = disk.open(WINDOW_MS * 10), 0, NEVER_MS
    pending = {s: [] for s in SHARDS}
    crashes = data.draw(st.integers(0, 4))
    while at < len(log) or any(position[s] < len(log) for s in SHARDS):
        stop = min(at + data.draw(st.integers(1, 20)), len(log))
        batch = [e for n, e in enumerate(log[at:stop], at) if n >= position[shard_of(e[0])]]
        fresh, _ = checked(dedup, batch, newest)
        newest, at = max([newest, *(ts for _, ts in batch)]), stop
        for (identity, _), is_fresh in zip(batch, fresh, strict=True):
            pending[shard_of(identity)] += [identity] * is_fresh
        crash = crashes > 0 and data.draw(st.booleans())
        done = data.draw(st.integers(0, len(SHARDS))) if crash else len(SHARDS)
        for n, shard in enumerate(SHARDS[:done]):
            disk.commit(dedup, shard)
            counted[shard] += pending[shard]
            pending[shard], position[shard] = [], max(position[shard], at)
            assert sorted(disk.blocks[shard]) == disk.listed[shard], n
        if crash:
            crashes -= 1
            dedup, at, newest = disk.open(WINDOW_MS * 10), min(position.values()), NEVER_MS
            pending = {s: [] for s in SHARDS}
    expected = {s: sorted({i for i, _ in log if shard_of(i) == s}) for s in SHARDS}
    assert {s: sorted(ids) for s, ids in counted.items()} == expected


@given(times, st.data())
@settings(max_examples=300, deadline=None)
def test_crashes_between_the_shards_of_a_commit_change_no_judgement(ts, data):
    """Shards that were not written are judged again as they were the first time."""
    log = [(identity + 2, at) for identity, at in enumerate(ts)]
    again = data.draw(st.lists(st.sampled_from(log), max_size=60)) if log else []
    log = data.draw(st.permutations(log + again))
    disk, counted, position = Disk(), {s: [] for s in SHARDS}, dict.fromkeys(SHARDS, 0)
    dedup, at, newest = disk.open(WINDOW_MS), 0, NEVER_MS
    pending = {s: [] for s in SHARDS}
    crashes = data.draw(st.integers(0, 4))
    while at < len(log):
        stop = min(at + data.draw(st.integers(1, 20)), len(log))
        seen = np.maximum.accumulate([time for _, time in log[at:stop]])
        here = [n for n in range(at, stop) if n >= position[shard_of(log[n][0])]]
        batch, seen = [log[n] for n in here], seen[np.array(here, dtype=np.int64) - at]
        fresh, unchecked = checked(dedup, batch, newest, seen)
        newest, at = max([newest, *(time for _, time in log[at:stop])]), stop
        for event in zip(here, fresh, unchecked, strict=True):
            pending[shard_of(log[event[0]][0])].append(event)
        crash = crashes > 0 and data.draw(st.booleans())
        shards = data.draw(st.permutations(SHARDS))
        for shard in shards[: data.draw(st.integers(0, len(SHARDS)))] if crash else SHARDS:
            disk.commit(dedup, shard, newest_ms=newest)
            counted[shard] += pending[shard]
            pending[shard], position[shard] = [], max(position[shard], at)
        if crash:
            crashes -= 1
            dedup, at, newest = disk.open(WINDOW_MS), min(position.values()), NEVER_MS
            pending = {s: [] for s in SHARDS}
    judged = sorted(event for events in counted.values() for event in events)
    assert judged == list(zip(range(len(log)), *one_by_one(log), strict=True))


def test_a_torn_commit_loses_no_event():
    disk = Disk()
    dedup = disk.open(WINDOW_MS)
    checked(dedup, [(3, 10)], NEVER_MS)
    disk.commit(dedup, 3)
    checked(dedup, [(6, 11), (12, 12)], 10)
    disk.commit(dedup, 3, torn=True)
    again = disk.open(WINDOW_MS)
    assert checked(again, [(3, 10), (6, 11), (12, 12)], 10)[0] == [False, True, True]
    disk.commit(again, 3)
    assert checked(disk.open(WINDOW_MS), [(3, 10), (6, 11), (12, 12)], 12)[0] == [False] * 3


def test_buckets_that_ended_leave_the_store_once():
    disk = Disk()
    dedup = disk.open(WINDOW_MS)
    checked(dedup, [(3, 0), (6, 50)], NEVER_MS)
    disk.commit(dedup, 3)
    assert disk.listed[3] == [0, 48]
    checked(dedup, [(9, 130)], 50)
    assert (ended_of(dedup, 3), list(taken_of(dedup, 3))) == ([0], [120])
    disk.commit(dedup, 3)
    assert (disk.listed[3], ended_of(dedup, 3), taken_of(dedup, 3)) == ([48, 120], [], {})


def test_ids_forgotten_before_a_commit_are_not_stored_in_a_later_bucket():
    dedup = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999)
    for n in range(40):  # every slot is used several times
        checked(dedup, [(3 * n, n * BUCKET_MS)], NEVER_MS)
    assert all(ids.tolist() == [bucket // 4] for bucket, ids in taken_of(dedup, 3).items())
    assert len(taken_of(dedup, 3)) == len(dedup)


def test_an_idle_shards_old_buckets_load_in_any_order_and_end():
    dedup = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999)
    dedup.load(3, 12_000, np.array([3], np.uint64))
    dedup.load(4, 0, np.array([4], np.uint64))
    dedup.load(9, 12_012, np.array([5, 5], np.uint64))
    dedup.restored()
    assert dedup.ended(SHARDS) == {4: [0]}
    assert checked(dedup, [(3, 12_000), (4, 12_001), (5, 12_012)], 12_012)[0] == [
        False,
        True,
        False,
    ]


def test_what_a_store_lost_can_be_written_again():
    dedup = Dedup(SHARDS, WINDOW_MS, BUCKET_MS, 999)
    checked(dedup, [(3, 10), (4, 10), (6, 14), (9, 13)], NEVER_MS)
    assert dedup.listed(SHARDS) == [b"0 12", b"0", b""]
    dedup.settle(SHARDS)
    assert dedup.taken() == []
    found = {bucket: sorted(ids.tolist()) for bucket, ids in dedup.remembered(3).items()}
    assert found == {0: [3], 12: [6, 9]}


def test_a_hundred_thousand_events_given_twice_within_a_long_window():
    rng = np.random.default_rng(8)
    hashes = rng.integers(2, 2**64 - 1, 100_000, dtype=np.uint64)
    ts_ms = rng.integers(0, 599 * 86_400_000, len(hashes))
    dedup = Dedup(range(64), 600 * 86_400_000, 60 * 86_400_000, 5_000_000)
    for expected in (True, False):
        for part in np.array_split(np.arange(len(hashes)), 20):
            fresh, unchecked = dedup.check(hashes[part], ts_ms[part], part % 64, 0)
            assert (fresh == expected).all()
            assert not unchecked.any()


def test_a_damaged_bucket_is_refused():
    with pytest.raises(ValueError, match="must consist of entries of 12 bytes"):
        unpack_ids(b"12345", 1)


def test_too_many_buckets_are_refused():
    with pytest.raises(ValueError, match="make the buckets longer"):
        Dedup(range(64), window_ms=10_000, bucket_ms=1, cap=10)
