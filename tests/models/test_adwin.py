"""ADWIN: River's, value by value, in any batches, through any restart."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift

from models.adwin import MOST, ROWS, Adwin
from models.contract import ModelMismatch

DELTAS = [1e-5, 0.002, 0.05, 0.5]


def shifting(seed, parts=8, longest=600):
    """Values between 0 and 1 whose mean and spread change every now and then; or zeros and ones."""
    rng = np.random.default_rng(seed)
    pieces = [
        rng.choice([0.0, 0.2, 0.5]) + rng.choice([0.0, 0.1, 0.5]) * rng.random(n)
        for n in rng.integers(1, longest, parts)
    ]
    values = np.concatenate(pieces)
    return values if seed % 3 else (rng.random(len(values)) < values).astype(np.float64)


def all_seen(adwin, values):
    """At how many values a change was seen, each time, and the means that were told."""
    changes, at = [], 0
    while at < len(values):
        at += adwin.see(values[at:])
        if adwin.changed:
            changes.append((at, adwin.means))
    return changes


def assert_is_rivers(values, delta):
    """Both see each value; returns how many changes there were."""
    ours, rivers, changes = Adwin(delta), drift.ADWIN(delta), 0
    for at, value in enumerate(values.tolist()):
        assert ours.see(values[at : at + 1]) == 1
        rivers.update(value)
        changes += rivers.drift_detected
        assert ours.changed == rivers.drift_detected
        assert ours.width == rivers.width
        assert ours.total == rivers.total
        assert ours.squares == rivers.variance
        assert ours.mean == rivers.estimation
    return changes


@pytest.mark.parametrize("delta", DELTAS)
def test_it_is_rivers_value_by_value(delta):
    changes = sum(assert_is_rivers(shifting(seed), delta) for seed in range(12))
    assert changes > 20


def test_it_is_rivers_over_a_long_stream():
    rng = np.random.default_rng(1)
    rate = np.repeat([0.1, 0.13, 0.1], [100_000, 20_000, 5_000])
    values = (rng.random(len(rate)) < rate).astype(np.float64)
    rivers, expected = drift.ADWIN(0.002), []
    for at, value in enumerate(values.tolist(), 1):
        rivers.update(value)
        if rivers.drift_detected:
            expected.append(at)
    ours = Adwin(0.002)
    assert [at for at, _ in all_seen(ours, values)] == expected
    assert len(expected) >= 2
    assert (ours.width, ours.total, ours.squares) == (rivers.width, rivers.total, rivers.variance)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.floats(0, 1), st.floats(-1e100, 1e100, allow_nan=False, allow_subnormal=False)
            ),
            st.sampled_from([0.0, 1e-9, 0.1, 1.0]),
            st.integers(1, 120),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(DELTAS),
    st.integers(0, 100),
)
def test_it_is_rivers_whatever_comes(parts, delta, seed):
    rng = np.random.default_rng(seed)
    assert_is_rivers(np.concatenate([low + by * rng.random(n) for low, by, n in parts]), delta)


@settings(max_examples=25)
@given(st.integers(0, 100), st.lists(st.integers(0, 2_000), max_size=5))
def test_batches_do_not_matter(seed, cuts):
    values = shifting(seed)
    whole, parts = Adwin(), Adwin()
    changes = [means for _, means in all_seen(whole, values)]
    told = [means for part in np.split(values, sorted(cuts)) for _, means in all_seen(parts, part)]
    assert told == changes
    assert parts.to_state() == whole.to_state()


@settings(max_examples=25)
@given(st.integers(0, 100), st.floats(0, 1))
def test_saved_and_restored_it_goes_on_bit_for_bit(seed, share):
    values = shifting(seed)
    whole, first = Adwin(), Adwin()
    changes = all_seen(whole, values)
    cut = int(share * len(values))
    if changes and seed % 2:  # right where a change was seen
        cut = changes[0][0]
    all_seen(first, values[:cut])
    packed = json.loads(json.dumps(first.to_state()))
    second = Adwin.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(packed)))
    assert second.to_state() == first.to_state()
    assert (second.changed, second.means) == (first.changed, first.means)
    told = [(cut + at, means) for at, means in all_seen(second, values[cut:])]
    assert told == [change for change in changes if change[0] > cut]
    assert second.to_state() == whole.to_state()


def test_a_million_values_stay_small():
    adwin, n = Adwin(1e-9), 1_000_000
    values = (np.random.default_rng(0).random(n) < 0.3).astype(np.float64)
    assert adwin.see(values) == n
    state = adwin.to_state()
    assert max(state["counts"]) <= MOST
    assert len(state["counts"]) <= 20
    assert sum(count << row for row, count in enumerate(state["counts"])) == n
    assert sum(total for total, _ in state["buckets"]) == values.sum()
    assert len(msgspec.msgpack.encode(state)) < 2_500
    assert MOST * (2**ROWS - 1) > 2**50


def bucket_sizes(n):
    """Sizes of the buckets after n values, the oldest first."""
    sizes = []
    for _ in range(n):
        sizes.append(1)
        size = 1
        while sizes.count(size) > MOST:
            at = sizes.index(size)
            sizes[at : at + 2] = [2 * size]
            size *= 2
    return sizes


@pytest.mark.parametrize("seed", range(12))
def test_the_means_are_of_the_cut_that_leaves_the_least_squares(seed):
    values = shifting(seed)
    begin = 0
    changes = all_seen(Adwin(), values)
    assert changes
    for at, means in changes:
        window = values[begin:at]
        cuts = np.cumsum(bucket_sizes(len(window)))[:-1]
        parts = [(window[:cut], window[cut:]) for cut in cuts]
        older, newer = min(parts, key=lambda two: sum(((p - p.mean()) ** 2).sum() for p in two))
        assert means == pytest.approx((older.mean(), newer.mean()), abs=1e-9)
        begin = at


def test_bad_input_is_refused_and_changes_nothing():
    adwin = Adwin()
    assert adwin.mean is None
    adwin.see(np.arange(10) / 10)
    before = adwin.to_state()
    for bad in (np.nan, np.inf, -np.inf, 1e101):
        with pytest.raises(ValueError, match=f"value 1 is {bad}".replace("+", r"\+")):
            adwin.see(np.array([0.5, bad]))
    for shape in (np.array([1, 2]), np.array([[0.5]])):
        with pytest.raises(ValueError, match="values must be float64"):
            adwin.see(shape)
    assert adwin.see(np.array([])) == 0
    assert adwin.to_state() == before
    for delta in (0.0, 1.0, np.nan):
        with pytest.raises(ValueError, match="delta must lie"):
            Adwin(delta)
    with pytest.raises(ModelMismatch, match="format of ADWIN is 9"):
        Adwin.from_state(before | {"format": 9})
