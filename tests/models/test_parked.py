"""Which moments are parked: fair, and the same in every replay."""

import numpy as np
import pytest

from models.parked import bucket_of, should_park


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
