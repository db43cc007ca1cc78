"""The sequential test: its level under peeking, its intervals, and what it finds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sequential import LEAST, Sample, compare


def naive(values):
    return Sample(len(values), sum(values), sum(v * v for v in values))


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=50))
def test_a_sample_is_its_users(values):
    sample = naive(values)
    assert sample.mean == pytest.approx(np.mean(values))
    assert sample.variance == pytest.approx(np.var(values, ddof=1), rel=1e-9, abs=1e-9)


def test_a_variance_of_large_integers_is_exact():
    values = [10**12, 10**12 + 1, 10**12 + 2]
    assert naive(values).variance == 1.0


@given(
    st.integers(LEAST, 10**5),
    st.integers(LEAST, 10**5),
    st.floats(0.01, 0.9),
    st.floats(0.01, 0.9),
)
def test_p_is_below_the_level_where_the_interval_leaves_nothing_out(n, m, rate, other):
    control = Sample.of_proportion(n, max(round(n * rate), 10))
    arm = Sample.of_proportion(m, round(m * other))
    found = compare(control, arm, 0.05, 20_000)
    assert found.low <= found.difference <= found.high
    inside = found.low <= 0.0 <= found.high
    assert inside == (found.p >= 0.05) or abs(found.p - 0.05) < 1e-9
    mirrored = compare(arm, control, 0.05, 20_000)
    assert mirrored.p == pytest.approx(found.p)
    assert mirrored.low == pytest.approx(-found.high)


def test_p_is_the_likelihood_of_none_over_that_of_a_mixture():
    """By numerical integration over effects, as the test is defined."""
    control, arm = Sample.of_proportion(5_000, 500), Sample.of_proportion(4_000, 470)
    error_squared = control.variance / 5_000 + arm.variance / 4_000
    size, spent = 5_000 * 4_000 / 9_000, -2 * math.log(0.05)
    spread = math.sqrt(error_squared * size * (spent + math.log1p(spent)) / 5_000)
    effects = np.linspace(-8 * spread, 8 * spread, 200_001)
    density = np.exp(-((effects / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
    difference = arm.mean - control.mean
    ratio = np.exp((effects * difference - effects**2 / 2) / error_squared)
    evidence = float((density * ratio).sum() * (effects[1] - effects[0]))
    assert compare(control, arm, 0.05, 20_000).p == pytest.approx(min(1 / evidence, 1), rel=1e-6)


def test_nothing_is_said_of_few_users_or_few_conversions():
    few, many = Sample.of_proportion(LEAST - 1, 50), Sample.of_proportion(10_000, 5_000)
    rare = Sample.of_proportion(1_000, 4)
    for control, arm in ((few, many), (many, few), (rare, rare), (Sample(0, 0, 0), many)):
        found = compare(control, arm, 0.05, 20_000)
        assert (found.p, found.low, found.high) == (1.0, -math.inf, math.inf)
    same = Sample(500, 500 * 7, 500 * 49)
    assert compare(same, same, 0.05, 20_000).p == 1.0


def test_the_lift_of_nothing_is_not_a_number():
    assert math.isnan(compare(Sample(500, 0, 0), Sample(500, 9, 90), 0.05, 100).lift)


def looks(rng, rate, other, users, step):
    """Sums of two arms at each look."""
    a = (rng.random((users // step, step)) < rate).sum(axis=1).cumsum()
    b = (rng.random((users // step, step)) < other).sum(axis=1).cumsum()
    return np.arange(step, users + 1, step), a, b


def ever(rng, rate, other, users=10_000, step=100):
    """After how many users per arm a difference was found; None if never."""
    for n, a, b in zip(*looks(rng, rate, other, users, step), strict=True):
        one, two = (Sample.of_proportion(int(n), int(x)) for x in (a, b))
        if compare(one, two, 0.05, 20_000).p < 0.05:
            return int(n)
    return None


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_looking_all_the_time_finds_what_is_not_there_in_no_more_than_one_of_twenty(rate):
    rng = np.random.default_rng(3)
    assert sum(ever(rng, rate, rate) is not None for _ in range(200)) <= 10


def test_a_difference_is_found():
    rng = np.random.default_rng(3)
    found = [ever(rng, 0.05, 0.07) for _ in range(50)]
    assert None not in found
    assert 1_000 < np.median(found) < 5_000


def test_the_interval_covers_the_truth_at_all_times_at_once():
    rng, missed = np.random.default_rng(4), 0
    for _ in range(200):
        for n, a, b in zip(*looks(rng, 0.05, 0.06, 10_000, 200), strict=True):
            found = compare(
                Sample.of_proportion(int(n), int(a)),
                Sample.of_proportion(int(n), int(b)),
                0.05,
                20_000,
            )
            if not found.low <= 0.01 <= found.high:
                missed += 1
                break
    assert missed <= 10


def test_means_of_skewed_spending_keep_the_level():
    rng, found = np.random.default_rng(5), 0
    for _ in range(100):
        spent = np.where(rng.random((2, 10_000)) < 0.05, rng.lognormal(3, 1, (2, 10_000)), 0.0)
        totals, squares = spent.cumsum(axis=1), (spent**2).cumsum(axis=1)
        for n in range(199, 10_000, 200):
            arms = [Sample(n + 1, totals[k, n], squares[k, n]) for k in range(2)]
            if compare(*arms, 0.05, 20_000).p < 0.05:
                found += 1
                break
    assert found <= 5
