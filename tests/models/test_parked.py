"""Labels mature: against brute force, and never learned before their horizon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.parked import bucket_of, due, flag_outcomes, should_park

HORIZON_MS = 10

moments = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 40)), max_size=30)


def columns(pairs):
    rows = np.array([row for row, _ in pairs], dtype=np.int64)
    return rows, np.array([ts for _, ts in pairs], dtype=np.int64)


def bought_within(moment, purchases):
    row, ts = moment
    return any(r == row and ts < t <= ts + HORIZON_MS for r, t in purchases)


@given(moments, moments)
def test_flags_equal_brute_force(parked, purchases):
    flags = flag_outcomes(*columns(parked), *columns(purchases), HORIZON_MS)
    assert flags.tolist() == [bought_within(moment, purchases) for moment in parked]


@given(moments, moments, st.data())
def test_flags_do_not_depend_on_order_or_batches_of_purchases(parked, purchases, data):
    mixed = data.draw(st.permutations(purchases))
    cut = data.draw(st.integers(0, len(mixed)))
    whole = flag_outcomes(*columns(parked), *columns(purchases), HORIZON_MS)
    parts = [
        flag_outcomes(*columns(parked), *columns(part), HORIZON_MS)
        for part in (mixed[:cut], mixed[cut:])
    ]
    assert (parts[0] | parts[1]).tolist() == whole.tolist()


@given(moments, moments)
def test_no_label_is_learned_before_its_horizon_and_none_is_wrong(parked, purchases):
    """Replays a log: at every tick the purchases so far flag, then what is due is taken out."""
    waiting = [(ts, row, False) for row, ts in parked]
    learned = []
    for clock_ms in range(60):
        now = [(row, ts) for row, ts in purchases if ts == clock_ms]
        held = [(row, ts) for ts, row, _ in waiting]
        flags = flag_outcomes(*columns(held), *columns(now), HORIZON_MS)
        waiting = [
            (ts, row, old or bool(new)) for (ts, row, old), new in zip(waiting, flags, strict=True)
        ]
        ripe = due(np.array([ts for ts, _, _ in waiting], dtype=np.int64), HORIZON_MS, clock_ms)
        for i in ripe.tolist():
            ts, row, label = waiting[i]
            assert ts + HORIZON_MS <= clock_ms
            assert label == bought_within((row, ts), purchases)
            learned.append(ts)
        waiting = [entry for i, entry in enumerate(waiting) if i not in set(ripe.tolist())]
    assert not waiting
    assert learned == sorted(ts for _, ts in parked)


def test_due_is_in_order_of_time_and_ends_at_the_clock():
    times = np.array([50, 10, 30, 10])
    assert due(times, 5, 14).tolist() == []
    assert due(times, 5, 15).tolist() == [1, 3]
    assert due(times, 5, 1_000).tolist() == [1, 3, 2, 0]


def test_sampling_is_fair_by_user_and_by_time_and_has_no_memory():
    users = np.repeat(np.arange(2_000, dtype=np.uint64), 50)
    times = np.tile(np.arange(50, dtype=np.int64) * 1_000, 2_000)
    chosen = should_park(users, times, 1_000, 0.1)
    assert chosen.mean() == pytest.approx(0.1, abs=0.005)
    grid = chosen.reshape(2_000, 50)
    assert grid.mean(axis=0).std() < 0.02
    assert (grid.any(axis=1)).mean() > 0.98
    order = np.random.default_rng(1).permutation(len(users))
    assert (should_park(users[order], times[order], 1_000, 0.1) == chosen[order]).all()
    assert not should_park(users, times, 1_000, 0.0).any()
    assert should_park(users, times, 1_000, 1.0).all()
    assert bucket_of(np.array([999, 1_000]), 1_000).tolist() == [0, 1]


def test_an_impossible_rate_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        should_park(np.zeros(1, np.uint64), np.zeros(1, np.int64), 1, 1.5)
