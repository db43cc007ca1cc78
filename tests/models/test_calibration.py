"""Calibration: harmless where nothing is wrong, right where something is, saved bit for bit."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibration import Calibration, prior_corrected
from models.contract import ModelMismatch
from models.probabilities import log_losses
from models.reliability import expected_calibration_error

SEEDS = range(60)


def calibrated(seed: int, n: int, low: float = 0.02, high: float = 0.98):
    rng = np.random.default_rng(seed)
    p = rng.uniform(low, high, n)
    return p, rng.random(n) < p


def bent(p, slope, shift):
    """Scores whose log-odds are off by a line."""
    return 1 / (1 + np.exp(-(slope * np.log(p / (1 - p)) + shift)))


@pytest.mark.parametrize(("low", "high"), [(0.02, 0.98), (0.001, 0.1), (0.3, 0.7)])
@pytest.mark.parametrize("n", [1_000, 4_000])
def test_a_calibrated_model_is_not_made_worse(low, high, n):
    for seed in SEEDS:
        p, y = calibrated(seed, n, low, high)
        said = Calibration().learn_matured(p, y)
        assert log_losses(said, y).mean() <= log_losses(p, y).mean() + 0.0005


def labels_until_it_helps(p, y, step=20):
    layer = Calibration()
    for i in range(0, len(p), step):
        layer.learn_matured(p[i : i + step], y[i : i + step])
        if layer.helps:
            return i + step
    return math.inf


@pytest.mark.parametrize(
    ("slope", "shift", "within"), [(3.0, 0.0, 400), (1.0, 1.0, 700), (1.0, -1.0, 700)]
)
def test_what_is_wrong_is_corrected_soon(slope, shift, within):
    left = []
    for seed in range(20):
        p, y = calibrated(seed, 4_000)
        wrong = bent(p, slope, shift)
        assert labels_until_it_helps(wrong, y) <= within
        layer = Calibration()
        said = layer.learn_matured(wrong, y)
        assert log_losses(said, y).mean() < log_losses(wrong, y).mean() - 0.03
        late = slice(2_000, None)
        left.append((log_losses(said, y) - log_losses(p, y))[late].mean())
        assert expected_calibration_error(layer.apply(wrong), y) < 0.04
        assert layer.slope == pytest.approx(1 / slope, abs=0.15)
        assert layer.shift == pytest.approx(-shift / slope, abs=0.2)
    assert np.mean(left) < 0.0015


def test_it_stops_when_the_model_has_become_right():
    p, y = calibrated(0, 30_000)
    scores = np.concatenate([bent(p[:5_000], 3.0, 0.0), p[5_000:]])
    layer = Calibration()
    said = layer.learn_matured(scores[:5_000], y[:5_000])
    assert layer.helps
    assert layer.gain > 0.1
    said = layer.learn_matured(scores[5_000:], y[5_000:])
    assert said[-1] == scores[-1] or abs(said[-1] - scores[-1]) < 0.02
    late = slice(15_000, None)
    worse = log_losses(said[late], y[5_000:][late]) - log_losses(p[5_000:][late], y[5_000:][late])
    assert worse.mean() < 0.0005


def by_hand(scores, labels, memory):
    """The line label by label: the same steps in plain Python."""
    slope, shift, xx, x1, one = 1.0, 0.0, 0.0, 0.0, 0.0
    for p, hit in zip(scores.tolist(), labels.tolist(), strict=True):
        p = min(max(p, 1e-6), 1 - 1e-6)
        x = math.log(p) - math.log1p(-p)
        q = 1 / (1 + math.exp(-(slope * x + shift)))
        h = max(q * (1 - q), (q - hit) ** 2)
        kept = 1 - 1 / memory
        xx, x1, one = kept * xx + h * x * x, kept * x1 + h * x, kept * one + h
        step = (q - hit) / ((xx + 10) * (one + 10) - x1 * x1)
        slope = min(max(slope - step * ((one + 10) * x - x1), 0.05), 20.0)
        shift = min(max(shift - step * ((xx + 10) - x1 * x), -20.0), 20.0)
    return slope, shift


labelled = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), st.booleans()), max_size=50
)


def columns(pairs):
    p = np.array([p for p, _ in pairs], dtype=np.float64)
    return p, np.array([label for _, label in pairs], dtype=np.bool_)


@given(labelled, st.sampled_from([1.0, 50.0, 5_000.0]))
def test_each_label_is_one_newton_step(pairs, memory):
    layer = Calibration(memory)
    layer.learn_matured(*columns(pairs))
    slope, shift = by_hand(*columns(pairs), memory)
    assert layer.slope == pytest.approx(slope, abs=1e-9)
    assert layer.shift == pytest.approx(shift, abs=1e-9)


@settings(max_examples=60)
@given(st.integers(0, 1_000), st.floats(0.3, 3.0), st.integers(0, 600), st.sampled_from([1, 7]))
def test_batches_do_not_matter_and_saved_it_goes_on_bit_for_bit(seed, slope, cut, strides):
    p, y = calibrated(seed, 600)
    p = bent(p, slope, 0.5)
    whole, parts = Calibration(evidence=100.0), Calibration(evidence=100.0)
    said = whole.learn_matured(p, y)
    one = parts.learn_matured(p[:cut], y[:cut])
    packed = json.loads(json.dumps(parts.to_state()))
    parts = Calibration.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(packed)))
    # a view with gaps is as good as an array
    rest, labels = np.repeat(p[cut:], strides)[::strides], np.repeat(y[cut:], strides)[::strides]
    other = parts.learn_matured(rest, labels)
    assert said.tolist() == one.tolist() + other.tolist()
    assert whole.to_state() == parts.to_state()
    assert whole.helps == parts.helps


def test_what_is_said_while_learning_is_what_apply_says():
    p, y = calibrated(4, 400)
    p = bent(p, 3.0, 0.0)
    layer = Calibration()
    for i in range(400):
        before = layer.apply(p[i : i + 1])
        assert layer.learn_matured(p[i : i + 1], y[i : i + 1]) == pytest.approx(before, abs=1e-14)
    assert layer.helps


@given(labelled)
def test_order_is_kept_and_everything_stays_a_probability(pairs):
    p, y = columns(pairs)
    layer = Calibration(memory=5.0)
    layer.learn_matured(p, y)
    scores = np.linspace(0, 1, 101)
    for said in (layer.apply(scores), layer.corrected(scores)):
        assert (said >= 0).all()
        assert (said <= 1).all()
        assert (np.diff(said) >= 0).all()


def test_the_sample_of_negatives_is_put_right():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0.01, 0.4, 50_000)
    y = rng.random(50_000) < truth
    learned = y | (rng.random(50_000) < 0.2)
    odds = truth / (1 - truth) / 0.2  # what a model of the sample says
    in_sample = odds / (1 + odds)
    assert expected_calibration_error(in_sample[learned], y[learned]) < 0.015
    np.testing.assert_allclose(prior_corrected(in_sample, 0.2), truth, atol=1e-12)


def test_bad_input_is_refused_and_changes_nothing():
    layer = Calibration()
    before = layer.to_state()
    y = np.array([True, False])
    for bad in (np.array([0.5, np.nan]), np.array([0.5, 1.5]), np.array([-0.1, 0.5])):
        with pytest.raises(ValueError, match="between 0 and 1"):
            layer.learn_matured(bad, y)
        with pytest.raises(ValueError, match="between 0 and 1"):
            layer.apply(bad)
        with pytest.raises(ValueError, match="between 0 and 1"):
            prior_corrected(bad, 0.5)
    with pytest.raises(ValueError, match="needs a label"):
        layer.learn_matured(np.array([0.5]), y)
    with pytest.raises(ValueError, match="at least 1 label"):
        Calibration(memory=0.5)
    with pytest.raises(ValueError, match="at least 1 label"):
        Calibration(evidence=math.nan)
    with pytest.raises(ValueError, match="negatives kept"):
        prior_corrected(np.array([0.5]), 0.0)
    assert layer.to_state() == before


def test_a_saved_layer_of_another_format_is_refused():
    with pytest.raises(ModelMismatch, match="format of calibration is 99"):
        Calibration.from_state(Calibration().to_state() | {"format": 99})


def test_what_apply_gives_is_the_callers_own():
    p = np.array([0.2, 0.3])
    Calibration().apply(p)[0] = 0.9
    assert p.tolist() == [0.2, 0.3]
