"""Progress: River's own AUC, metrics from first principles, batching that cannot matter."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import metrics

from models.progress import Progress, area_under_curve
from models.reliability import expected_calibration_error

labelled = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)),
    max_size=40,
)


def columns(pairs):
    y = np.array([label for label, _ in pairs], dtype=np.bool_)
    return y, np.array([p for _, p in pairs], dtype=np.float64)


def from_all_pairs(pairs):
    """The definition: each (True, False) pair one by one."""
    hits, others = ([p for label, p in pairs if label is kind] for kind in (True, False))
    if not hits or not others:
        return None
    right = sum((a > b) + 0.5 * (a == b) for a in hits for b in others)
    return right / (len(hits) * len(others))


@given(labelled)
def test_auc_is_the_share_of_pairs(pairs):
    assert area_under_curve(*columns(pairs)) == from_all_pairs(pairs)


def rivers(y, p, window):
    metric = metrics.RollingROCAUC(window_size=window)
    for label, score in zip(y.tolist(), p.tolist(), strict=True):
        metric.update(label, score)
    return metric.get()


@settings(max_examples=50)
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 12), st.randoms())
def test_auc_is_rivers_rolling_one(labels, window, random):
    y = np.array(labels, dtype=np.bool_)
    p = np.array(random.sample(range(1_000), len(labels))) / 1_000
    progress = Progress(window)
    progress.note_many(y, p)
    assert (progress.report().auc or 0.0) == rivers(y, p, window)


def test_auc_is_rivers_on_a_long_stream_and_above_it_by_its_rounding_where_scores_tie():
    rng = np.random.default_rng(3)
    p = rng.random(5_000)
    y = rng.random(5_000) < p
    progress = Progress()
    progress.note_many(y, p)
    assert progress.report().auc == rivers(y, p, 2_000)
    tied = p.round(2)
    progress.note_many(y, tied)
    auc, report = rivers(y, tied, 2_000), progress.report()
    others = report.window * (1 - report.base_rate)
    pairs = others * report.window * report.base_rate
    assert auc < report.auc < auc + 0.5 * others / pairs


@given(labelled, st.integers(1, 12), st.data())
def test_batches_do_not_matter_and_saved_it_goes_on(pairs, window, data):
    cut = data.draw(st.integers(0, len(pairs)))
    single, whole, parts = Progress(window), Progress(window), Progress(window)
    for label, p in pairs:
        single.note(label, p)
    whole.note_many(*columns(pairs))
    parts.note_many(*columns(pairs[:cut]))
    parts.report()
    packed = msgspec.msgpack.encode(parts.to_state())
    parts = Progress.from_state(json.loads(json.dumps(msgspec.msgpack.decode(packed))))
    parts.note_many(*columns(pairs[cut:]))
    assert single.report() == whole.report() == parts.report()
    assert single.to_state() == whole.to_state() == parts.to_state()


@given(labelled.filter(bool))
def test_the_other_metrics_from_first_principles(pairs):
    progress = Progress()
    progress.note_many(*columns(pairs))
    report, n = progress.report(), len(pairs)
    given_to_it = [p if label else 1 - p for label, p in pairs]
    losses = [-math.log(min(max(p, 1e-15), 1 - 1e-15)) for p in given_to_it]
    rate = sum(label for label, _ in pairs) / n
    expected = [-x * math.log(x) for x in (rate, 1 - rate) if 0 < x < 1]
    assert report.log_loss == pytest.approx(sum(losses) / n, abs=1e-12)
    assert report.base_rate == pytest.approx(rate)
    assert report.base_loss == pytest.approx(sum(expected), abs=1e-12)
    y, p = columns(pairs)
    assert report.calibration_error == expected_calibration_error(p, y, bins=10, equal="count")
    assert (report.count, report.window) == (n, n)


def test_metrics_of_a_window_forget_what_lies_before_it():
    progress = Progress(window=3)
    assert progress.report().auc is None
    assert progress.report().calibration_error is None
    for label, p in [(True, 0.0), (True, 0.9), (False, 0.1), (False, 0.2)]:
        progress.note(label, p)
    report = progress.report()
    assert (report.auc, report.window, report.count, report.positives) == (1.0, 3, 4, 2)
    assert report.base_rate == pytest.approx(1 / 3)


def test_a_report_is_made_once_until_the_next_label():
    progress = Progress()
    progress.note(True, 0.5)
    first = progress.report()
    assert progress.report() is first
    progress.note(True, 0.5)
    assert progress.report().count == 2


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused_and_changes_nothing(bad):
    progress = Progress()
    progress.note(False, 0.3)
    before = progress.to_state()
    with pytest.raises(ValueError, match="between 0 and 1"):
        progress.note(True, bad)
    with pytest.raises(ValueError, match="row 1 is"):
        progress.note_many(np.array([True, True]), np.array([0.5, bad]))
    with pytest.raises(ValueError, match="needs a label"):
        progress.note_many(np.array([True]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="at least 1 label"):
        Progress(0)
    assert progress.to_state() == before


def test_no_labels_are_no_change():
    progress = Progress()
    progress.note_many(np.zeros(0, dtype=bool), np.zeros(0))
    assert progress.report().log_loss is None
