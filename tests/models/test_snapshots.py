"""Snapshots against brute force: flagged rightly, sent once, never before their horizon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.schema import PURCHASE, TYPES
from models.examples import SEEN
from models.plan import ModelPlan, Task
from models.snapshots import Snapshots
from state.groups import group
from tests.state.batches import batch_of

PAGE_VIEW = TYPES.index("page_view")
PLAN = ModelPlan(
    tasks=(
        Task("soon", ("a",), horizon_ms=5, outcome=(PURCHASE,)),
        Task("late", ("a", "b"), horizon_ms=20, outcome=(PURCHASE,)),
        Task("gone", ("b",), horizon_ms=10, absent=True),
    ),
    every_ms=4,
)
END_MS = 100

moments = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), max_size=25)
events = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 80), st.sampled_from([PURCHASE, PAGE_VIEW])),
    max_size=40,
)


def grouped(found):
    """Events (row, time, type) as a batch and its groups."""
    rows = np.array([row for row, _, _ in found], dtype=np.int64)
    ts_ms = np.array([ts for _, ts, _ in found], dtype=np.int64)
    kind = np.array([kind for _, _, kind in found], dtype=np.int8)
    return group(rows), batch_of(ts_ms=ts_ms, type=kind)


def take(snapshots, pairs):
    """Take snapshots of what is vacant; those taken."""
    pairs = [pair for i, pair in enumerate(pairs) if pair[0] not in {r for r, _ in pairs[:i]}]
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    times = np.array([ts for _, ts in pairs], dtype=np.int64)
    free = snapshots.vacant(rows, times)
    rows, times = rows[free], times[free]
    X = np.column_stack([rows, times]).astype(float)
    seen = snapshots.take(rows, times, X, np.full((len(rows), 3), 0.5))
    assert (seen.task == SEEN).all()
    return list(zip(rows.tolist(), times.tolist(), strict=True))


def outcome(task, moment, happened):
    row, ts = moment
    came = any(
        r == row and ts < t <= ts + task.horizon_ms and (not task.outcome or kind in task.outcome)
        for r, t, kind in happened
    )
    return came is not task.absent


@given(moments, events, st.lists(st.integers(0, 99), max_size=5))
def test_every_outcome_is_that_of_brute_force_sent_once_and_not_too_early(asked, happened, ends):
    """Time goes on step by step; the process ends now and then, and goes on from what it stored."""
    snapshots, taken, sent = Snapshots(PLAN), [], []
    for clock_ms in range(END_MS):
        now = [event for event in happened if event[1] == clock_ms]
        if now:
            snapshots.flag(*grouped(now))
        taken += take(snapshots, [pair for pair in asked if pair[1] == clock_ms])
        examples, owners = snapshots.mature(clock_ms)
        for i, owner in enumerate(owners.tolist()):
            task = PLAN.tasks[examples.task[i]]
            moment = int(owner), int(examples.ts_ms[i])
            assert moment[1] + task.horizon_ms < clock_ms
            assert examples.X[i].tolist() == list(map(float, moment))
            assert bool(examples.y[i]) is outcome(task, moment, happened)
            sent.append((task.name, *moment))
        if clock_ms in ends:
            snapshots = again(snapshots)
    expected = [(task.name, *moment) for task in PLAN.tasks for moment in taken]
    assert sorted(sent) == sorted(expected)
    assert len(snapshots) == 0


def again(snapshots):
    """What a new process loads of it."""
    serials = np.arange(10, dtype=np.uint32)
    slots = snapshots.entries.live()
    stored = [part.bytes_list() for part in snapshots.entries.pack(slots, serials)]
    fresh = Snapshots(PLAN)
    fresh.entries.load(*stored, np.arange(10), snapshots.entries.layout())
    fresh.restore()
    return fresh


@given(moments)
def test_nobody_is_taken_twice_in_a_bucket(asked):
    """Users are asked for as time goes on, which never goes back for any of them."""
    snapshots = Snapshots(PLAN)
    asked = sorted(asked, key=lambda pair: pair[1])
    taken = [pair for each in asked for pair in take(snapshots, [each])]
    buckets = [(row, ts // PLAN.every_ms) for row, ts in taken]
    assert len(buckets) == len(set(buckets)) == len({(r, t // PLAN.every_ms) for r, t in asked})


def test_what_waits_is_bounded_and_what_is_refused_is_counted():
    plan = ModelPlan(PLAN.tasks, every_ms=4, parked_max=3)
    snapshots = Snapshots(plan)
    taken = take(snapshots, [(row, 0) for row in range(5)])
    assert [row for row, _ in taken] == [0, 1, 2]
    assert snapshots.refused == 2
    snapshots.mature(END_MS)
    assert len(take(snapshots, [(4, END_MS)])) == 1


def test_snapshots_of_other_tasks_or_inputs_are_dropped():
    snapshots = Snapshots(PLAN)
    take(snapshots, [(1, 5)])
    other = Snapshots(ModelPlan(PLAN.tasks[:2], every_ms=4))
    slots = snapshots.entries.live()
    serials = np.arange(10, dtype=np.uint32)
    stored = [part.bytes_list() for part in snapshots.entries.pack(slots, serials)]
    other.entries.load(*stored, np.arange(10), snapshots.entries.layout())
    other.restore()
    assert len(other) == 0
    examples, _ = other.mature(END_MS)
    assert len(examples) == 0


def test_more_tasks_than_there_are_bits_are_refused():
    with pytest.raises(ValueError, match="at most 16 models"):
        ModelPlan(tuple(Task(f"t{i}", ("a",)) for i in range(17)))
