"""Drift of the loss: seen in time, silent when calm, told and saved as it is."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import ModelMismatch
from models.drift import LossDrift

BUYS, MORE = 0.2, 0.35
"""A model that says 0.2 has a mean squared error of 0.16 where 20 % buy, of 0.25 where 35 % do."""


def labels(seed, calm, moved):
    """What a model says, what happened, and when: calm labels, then moved ones."""
    rng = np.random.default_rng(seed)
    rate = np.repeat([BUYS, MORE], [calm, moved])
    n = calm + moved
    return np.full(n, BUYS), rng.random(n) < rate, np.arange(n)


@pytest.mark.parametrize("seed", range(20))
def test_a_shift_is_seen_within_a_thousand_labels(seed):
    calm = 5_000
    watch = LossDrift()
    alarms = watch.note(*labels(seed, calm, 1_000))
    assert alarms
    first = alarms[0]
    assert calm < first.label <= calm + 1_000
    assert first.ts_ms == first.label - 1
    assert first.before == pytest.approx(0.16, abs=0.02)
    assert first.after == pytest.approx(0.25, abs=0.08)
    assert first.worse


@pytest.mark.parametrize("seed", range(12))
def test_no_false_alarm_in_a_hundred_thousand_calm_labels(seed):
    rng = np.random.default_rng(seed)
    n = 100_000
    p = rng.random(n) if seed % 2 else np.full(n, (0.02, 0.2, 0.5)[seed // 2 % 3])
    assert LossDrift().note(p, rng.random(n) < p, np.arange(n)) == []


def test_a_model_that_learns_gives_an_alarm_that_says_so():
    n = 4_000
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 1, n)
    p = np.where(np.arange(n) < 2_000, 0.5, np.where(truth > 0.5, 0.8, 0.2))
    alarms = LossDrift().note(p, rng.random(n) < truth, np.arange(n))
    assert [alarm.worse for alarm in alarms] == [False]


@settings(max_examples=25)
@given(st.integers(0, 100), st.lists(st.integers(0, 3_000), max_size=4))
def test_batches_do_not_matter(seed, cuts):
    p, y, ts_ms = labels(seed, 2_000, 1_000)
    whole, parts = LossDrift(), LossDrift()
    alarms = whole.note(p, y, ts_ms)
    pieces = [np.split(column, sorted(cuts)) for column in (p, y, ts_ms)]
    told = [alarm for piece in zip(*pieces, strict=True) for alarm in parts.note(*piece)]
    assert told == alarms
    assert parts.to_state() == whole.to_state()


@pytest.mark.parametrize("cut", [0, 1, 1_500, 20_600, "alarm", 22_000])
def test_saved_and_restored_it_goes_on_exactly(cut):
    p, y, ts_ms = labels(3, 20_000, 2_000)
    whole, first = LossDrift(), LossDrift()
    alarms = whole.note(p, y, ts_ms)
    assert alarms
    if cut == "alarm":
        cut = alarms[0].label
    told = first.note(p[:cut], y[:cut], ts_ms[:cut])
    packed = json.loads(json.dumps(first.to_state()))
    second = LossDrift.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(packed)))
    assert second.to_state() == first.to_state()
    assert second.mean == first.mean
    told += second.note(p[cut:], y[cut:], ts_ms[cut:])
    assert told == alarms
    assert second.to_state() == whole.to_state()


def test_the_mean_is_of_the_labels_since_the_last_alarm():
    p, y, ts_ms = labels(5, 5_000, 1_500)
    watch = LossDrift()
    assert watch.mean is None
    assert watch.note(p[:5_000], y[:5_000], ts_ms[:5_000]) == []
    assert watch.mean == pytest.approx(np.square(p - y)[:5_000].mean(), abs=1e-12)
    [alarm] = LossDrift().note(p, y, ts_ms)
    watch.note(p[5_000 : alarm.label], y[5_000 : alarm.label], ts_ms[5_000 : alarm.label])
    assert watch.mean is None
    watch.note(p[alarm.label :], y[alarm.label :], ts_ms[alarm.label :])
    assert watch.mean == pytest.approx(np.square(p - y)[alarm.label :].mean(), abs=1e-12)


def test_bad_input_is_refused_and_changes_nothing():
    watch = LossDrift()
    assert watch.mean is None
    before = watch.to_state()
    one = np.array([0.5])
    with pytest.raises(ValueError, match="row 0 is nan"):
        watch.note(np.array([np.nan]), np.array([True]), np.array([1]))
    with pytest.raises(ValueError, match="needs a label"):
        watch.note(one, np.array([True, False]), np.array([1]))
    with pytest.raises(ValueError, match="needs a time"):
        watch.note(one, np.array([True]), np.array([1, 2]))
    assert watch.to_state() == before
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="delta must lie"):
            LossDrift(wrong)
    with pytest.raises(ModelMismatch, match="format of loss drift is 9"):
        LossDrift.from_state(before | {"format": 9})
