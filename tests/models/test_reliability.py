"""Reliability tables: against a plain loop, and the cases a table must not stumble over."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reliability import expected_calibration_error, reliability

labelled = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]) | st.floats(0, 1)),
    min_size=1,
    max_size=60,
)


def columns(pairs):
    p = np.array([p for _, p in pairs], dtype=np.float64)
    return p, np.array([label for label, _ in pairs], dtype=np.bool_)


def by_hand(pairs, bins, equal):
    """(count, mean, rate) of each group, told row by row."""
    groups = {}
    for label, p in pairs:
        below = sum(other < p for _, other in pairs)
        key = below * bins // len(pairs) if equal == "count" else min(int(p * bins), bins - 1)
        groups.setdefault(key, []).append((label, p))
    means = ((len(g), sum(p for _, p in g), sum(label for label, _ in g)) for g in groups.values())
    return sorted((n, p / n, hits / n) for n, p, hits in means)


@given(labelled, st.integers(1, 12), st.sampled_from(["count", "width"]), st.randoms())
def test_a_table_is_what_a_plain_loop_says_in_any_order(pairs, bins, equal, random):
    table = reliability(*columns(pairs), bins, equal)
    expected = by_hand(pairs, bins, equal)
    assert sorted(g.count for g in table) == [n for n, _, _ in expected]
    got = sorted((g.count, g.mean, g.rate) for g in table)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    error = sum(n * abs(mean - rate) for n, mean, rate in expected) / len(pairs)
    assert expected_calibration_error(*columns(pairs), bins, equal) == pytest.approx(error)
    random.shuffle(pairs)
    mixed = reliability(*columns(pairs), bins, equal)
    assert [(g.low, g.high, g.count, g.rate) for g in mixed] == [
        (g.low, g.high, g.count, g.rate) for g in table
    ]


@given(labelled, st.integers(1, 12), st.sampled_from(["count", "width"]))
def test_groups_lie_side_by_side_and_hold_every_row(pairs, bins, equal):
    table = reliability(*columns(pairs), bins, equal)
    assert sum(g.count for g in table) == len(pairs)
    assert len(table) <= bins
    for group in table:
        assert group.low <= group.mean + 1e-12
        assert group.mean <= group.high + 1e-12
    for one, other in itertools.pairwise(table):
        assert one.high < other.low


def test_what_is_calibrated_has_a_small_error_and_what_is_not_a_large_one():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    assert expected_calibration_error(p, y) < 0.015
    assert expected_calibration_error(np.sqrt(p), y) == pytest.approx(1 / 6, abs=0.02)
    assert expected_calibration_error(np.full(20_000, 0.5), y) < 0.015


def test_bad_input_is_refused_in_words():
    p, y = np.array([0.5]), np.array([True])
    with pytest.raises(ValueError, match="row 0 is nan"):
        reliability(np.array([np.nan]), y)
    with pytest.raises(ValueError, match="label of type bool"):
        reliability(p, np.array([1]))
    with pytest.raises(ValueError, match="float32 of shape"):
        reliability(p.astype(np.float32), y)
    with pytest.raises(ValueError, match="at least 1 group"):
        reliability(p, y, bins=0)
    with pytest.raises(ValueError, match="at least 1 label"):
        expected_calibration_error(np.zeros(0), np.zeros(0, dtype=bool))
    assert reliability(np.zeros(0), np.zeros(0, dtype=bool)) == []
