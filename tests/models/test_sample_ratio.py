"""The ratio of the arms: its level under peeking, and a fault that is found."""

import numpy as np
import pytest
from scipy.special import betaln

from models.sample_ratio import BROKEN, sample_ratio_p


def test_two_arms_are_a_beta_binomial():
    n, m = 5_300, 4_700
    evidence = betaln(500 + n, 500 + m) - betaln(500, 500) - (n + m) * np.log(0.5)
    assert sample_ratio_p([n, m], [3, 3]) == pytest.approx(np.exp(-evidence))


def test_nobody_is_no_fault():
    assert sample_ratio_p([0, 0, 0], [1, 1, 2]) == 1.0


def lowest(rng, chances, weights, users=20_000, step=200):
    arms = rng.choice(len(weights), size=users, p=chances)
    counts = np.cumsum(np.eye(len(weights), dtype=int)[arms], axis=0)[step - 1 :: step]
    return min(sample_ratio_p(list(row), weights) for row in counts)


def test_looking_all_the_time_keeps_the_level():
    rng = np.random.default_rng(1)
    found = [lowest(rng, [0.25, 0.25, 0.5], [1, 1, 2]) for _ in range(300)]
    assert sum(p < 0.05 for p in found) <= 15
    assert min(found) > BROKEN


def test_a_lost_tenth_of_one_arm_is_found():
    rng = np.random.default_rng(2)
    assert all(lowest(rng, [1 / 1.9, 0.9 / 1.9], [1, 1]) < BROKEN for _ in range(20))
