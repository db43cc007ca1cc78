"""Drift of the inputs: quiet on the same, loud on a shift, whatever kind of column it is."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.contract import ModelMismatch
from models.stability import FeatureDrift, population_stability

FEATURES = ["normal", "skewed", "count", "rare", "constant", "share"]


def rows(seed, n, shift=0.0):
    """Columns of six kinds, as a stream may have them; ``shift`` moves them all."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.normal(shift, 1, n),
        rng.lognormal(2 * shift, 2, n),
        rng.poisson(0.7 + 2 * shift, n),
        rng.random(n) < 0.02 + 0.3 * shift,
        np.full(n, 3.0 + (shift > 0)),
        rng.beta(2 + 4 * shift, 2, n).round(2),
    ]
    return np.column_stack(columns).astype(np.float64)


@pytest.mark.parametrize("seed", range(10))
def test_quiet_on_the_same_and_loud_on_a_shift(seed):
    watch = FeatureDrift(FEATURES)
    assert watch.psi() == dict.fromkeys(FEATURES)
    watch.note(rows(seed, 2_000))
    assert watch.shifted() == []
    for part in range(1, 6):
        watch.note(rows(1_000 * seed + part, 2_000))
        assert max(watch.psi().values()) < 0.05
    assert watch.shifted() == []
    watch.note(rows(seed, 2_000, shift=0.7))
    assert min(watch.psi().values()) > 0.25
    assert sorted(watch.shifted()) == sorted(FEATURES)


def test_values_that_fill_a_tenth_are_seen_to_move_to_either_side():
    rng = np.random.default_rng(0)

    def mostly_ones(zeros):
        return np.column_stack([rng.random(2_000) >= zeros, np.full(2_000, 3.0 - zeros)])

    watch = FeatureDrift(["flag", "constant"])
    watch.note(mostly_ones(0.05))
    watch.note(mostly_ones(0.05))
    assert max(watch.psi().values()) < 0.01
    watch.note(mostly_ones(0.4))
    assert watch.shifted() == ["constant", "flag"]


def test_the_farthest_is_told_first():
    rng = np.random.default_rng(0)
    watch = FeatureDrift(["near", "calm", "far"])
    watch.note(rng.normal(size=(2_000, 3)))
    watch.note(rng.normal(size=(2_000, 3)) + np.array([1.0, 0.0, 3.0]))
    assert watch.shifted() == ["far", "near"]


def by_hand(first, latest, watch):
    """The index from shares of rows between the edges, told one by one."""
    index = {}
    for j, name in enumerate(watch.features):
        edges = [e for e in watch._edges[j].tolist() if math.isfinite(e)]
        shares = []
        for X in (first, latest):
            counts = [0.5] * (len(edges) + 1)
            for value in X[:, j].tolist():
                counts[sum(value > edge for edge in edges)] += 1
            shares.append([count / sum(counts) for count in counts])
        index[name] = sum((c - r) * math.log(c / r) for r, c in zip(*shares, strict=True))
    return index


values = st.sampled_from([0.0, -0.0, 1.0, 2.0, 1e-300]) | st.floats(-1e6, 1e6)


@settings(max_examples=40)
@given(
    hnp.arrays(np.float64, (450, 2), elements=values, fill=st.nothing() | values),
    st.lists(st.integers(0, 450), max_size=5),
    st.integers(1, 4),
)
def test_batches_and_sampling_do_not_matter_and_it_is_what_a_plain_loop_says(X, cuts, every):
    looked_at = FeatureDrift(["a", "b"], rows=100)
    looked_at.note(X[::every])
    parts = FeatureDrift(["a", "b"], rows=100, every=every)
    for part in np.split(X, sorted(cuts)):
        parts.note(part)
        packed = json.loads(json.dumps(parts.to_state()))
        packed = msgspec.msgpack.decode(msgspec.msgpack.encode(packed))
        parts = FeatureDrift.from_state(packed, ["a", "b"])
    assert parts.psi() == looked_at.psi()
    sample = X[::every]
    windows = len(sample) // 100
    if windows > 1:
        expected = by_hand(sample[:100], sample[100 * (windows - 1) : 100 * windows], parts)
        assert parts.psi() == pytest.approx(expected, abs=1e-9)


def test_a_renewed_reference_is_what_comes_next():
    watch = FeatureDrift(FEATURES)
    watch.note(rows(0, 2_000))
    watch.note(rows(1, 3_000, shift=0.7))
    assert watch.shifted()
    watch.renew()
    assert watch.psi() == dict.fromkeys(FEATURES)
    watch.note(rows(2, 4_000, shift=0.7))
    assert watch.shifted() == []
    assert max(watch.psi().values()) < 0.05


def test_equal_histograms_are_at_zero_and_the_index_is_symmetric():
    a, b = np.array([5, 0, 7]), np.array([1, 9, 2])
    assert population_stability(a, a) == 0.0
    assert population_stability(a, b) == pytest.approx(population_stability(b, a))
    assert 0.0 < population_stability(a, b) < math.inf


def test_bad_input_is_refused_and_changes_nothing():
    watch = FeatureDrift(["a", "b"], rows=100)
    before = watch.to_state()
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="row 1 has b"):
            watch.note(np.array([[1.0, 2.0], [3.0, bad]]))
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        watch.note(np.zeros((3, 1)))
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        watch.note(np.zeros(3))
    assert watch.to_state() == before
    with pytest.raises(ValueError, match="different names"):
        FeatureDrift(["a", "a"])
    for wrong in ({"rows": 99}, {"every": 0}):
        with pytest.raises(ValueError, match="at least 100 rows"):
            FeatureDrift(["a"], **wrong)
    with pytest.raises(ModelMismatch, match="feature list is"):
        FeatureDrift.from_state(before, ["a"])
    with pytest.raises(ModelMismatch, match="format of feature drift is 9"):
        FeatureDrift.from_state(before | {"format": 9})
