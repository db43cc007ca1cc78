"""The champion is River's pipeline, row by row, learned from a known truth, saved bit for bit."""

import json

import msgspec
import numpy as np
import pytest
import river
from hypothesis import given
from hypothesis import strategies as st
from river import checks, linear_model, optim, preprocessing

from models.contract import ModelMismatch
from models.linear import RIVER, FtrlClassifier

FEATURES = ["orders", "spend", "days", "intent"]
WEIGHTS = np.array([0.8, 0.5, -1.2, 1.0])
SCALES = np.array([3.0, 10_000.0, 40.0, 2.0])
CHECKS = list(checks.yield_checks(FtrlClassifier()))


def stream(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels drawn from known probabilities, and those probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 4))
    p = 1 / (1 + np.exp(-(z @ WEIGHTS - 1.5)))
    return z * SCALES + 2 * SCALES, rng.random(n) < p, p


def named(row):
    return dict(zip(FEATURES, row.tolist(), strict=True))


def reference(rates):
    ftrl = optim.FTRLProximal(rates["alpha"], rates["beta"], rates["l1"], rates["l2"])
    regression = linear_model.LogisticRegression(ftrl, intercept_lr=rates["intercept_rate"])
    return preprocessing.StandardScaler() | regression


@pytest.fixture(scope="module")
def learned() -> FtrlClassifier:
    model = FtrlClassifier(FEATURES)
    X, y, _ = stream(3_000)
    model.learn_many(X, y)
    return model


def test_the_river_whose_steps_it_takes_is_the_one_installed():
    assert river.__version__.startswith(f"{RIVER}.")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_rivers_own_checks(check):
    check(FtrlClassifier())


@pytest.mark.parametrize(
    "rates",
    [
        {"alpha": 0.05, "beta": 1.0, "l1": 0.0, "l2": 1.0, "intercept_rate": 0.01},
        {"alpha": 0.5, "beta": 0.1, "l1": 0.3, "l2": 0.0, "intercept_rate": 0.1},
    ],
)
def test_it_is_rivers_pipeline_and_whole_arrays_agree_to_1e_12(rates):
    X, y, _ = stream(600)
    model, rows, theirs = FtrlClassifier(FEATURES, **rates), [], reference(rates)
    one_by_one = FtrlClassifier(FEATURES, **rates)
    for row, label in zip(X, y.tolist(), strict=True):
        rows.append(theirs.predict_proba_one(named(row))[True])
        theirs.learn_one(named(row), label)
        one_by_one.learn_one(named(row), label)
    np.testing.assert_allclose(model.learn_many(X, y), rows, rtol=0, atol=1e-12)
    expected = [theirs.predict_proba_one(named(row))[True] for row in X]
    np.testing.assert_allclose(model.predict_proba_many(X), expected, rtol=0, atol=1e-12)
    assert one_by_one.to_state() == model.to_state()
    # and the other way: River goes on from here as we do
    handed_over = model.to_river()
    for row, label in zip(X[:100], y[:100].tolist(), strict=True):
        handed_over.learn_one(named(row), label)
    model.learn_many(X[:100], y[:100])
    expected = [handed_over.predict_proba_one(named(row))[True] for row in X]
    np.testing.assert_allclose(model.predict_proba_many(X), expected, rtol=0, atol=1e-12)


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=2), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_any_accepted_features_keep_it_finite_and_both_predictions_equal(samples):
    model = FtrlClassifier(["a", "b"])
    X = np.array([x for x, _ in samples])
    model.learn_many(X, np.array([y for _, y in samples]))
    many = model.predict_proba_many(X)
    assert np.isfinite(many).all()
    for row, p in zip(X.tolist(), many.tolist(), strict=True):
        one = model.predict_proba_one(dict(zip("ab", row, strict=True)))[True]
        assert p == pytest.approx(one, rel=0, abs=1e-12)


def test_rows_may_lack_features_and_bring_new_ones():
    X, y, _ = stream(300)
    fixed, open_one = FtrlClassifier(FEATURES), FtrlClassifier()
    theirs = reference(fixed._learning())
    for i, (row, label) in enumerate(zip(X, y.tolist(), strict=True)):
        x = named(row)
        x.pop(FEATURES[i % 4])
        p = theirs.predict_proba_one(x)[True]
        assert fixed.predict_proba_one(x | {"new": 1.0})[True] == pytest.approx(p, abs=1e-12)
        assert open_one.predict_proba_one(x)[True] == pytest.approx(p, abs=1e-12)
        for model in (theirs, open_one, fixed):
            model.learn_one(x, label)
    assert fixed.features == FEATURES


def test_it_finds_the_truth_of_a_known_stream(learned):
    X, y, p = stream(20_000, seed=1)
    said = learned.predict_proba_many(X)
    assert np.corrcoef(said, p)[0, 1] > 0.97
    assert said.mean() == pytest.approx(y.mean(), abs=0.05)


@pytest.mark.parametrize("learn_first", [0, 1, 700])
@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_saved_and_restored_it_goes_on_bit_for_bit(learn_first, code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    X, y, _ = stream(1_500, seed=2)
    whole = FtrlClassifier(FEATURES, alpha=0.1)
    whole.learn_many(X[:learn_first], y[:learn_first])
    restored = FtrlClassifier.from_state(load(save(whole.to_state())), FEATURES)
    assert restored.to_state() == whole.to_state()
    for model in (whole, restored):
        model.learn_many(X[learn_first:], y[learn_first:])
    assert restored.to_state() == whole.to_state()
    assert restored.predict_proba_many(X).tolist() == whole.predict_proba_many(X).tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format is 99"),
        ({"river": "0.1"}, "River version is '0.1'"),
        ({"features": ["orders"]}, "feature list is"),
    ],
)
def test_a_saved_model_that_does_not_fit_is_refused_in_words(learned, change, words):
    with pytest.raises(ModelMismatch, match=words):
        FtrlClassifier.from_state(learned.to_state() | change, FEATURES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101])
def test_values_that_would_poison_it_are_refused_and_change_nothing(learned, bad):
    before = learned.to_state()
    X, y, _ = stream(3)
    X[1, 2] = bad
    with pytest.raises(ValueError, match="row 1 has days"):
        learned.learn_many(X, y)
    with pytest.raises(ValueError, match="row 1 has days"):
        learned.predict_proba_many(X)
    with pytest.raises(ValueError, match="must be finite"):
        learned.learn_one(named(X[1]), True)
    with pytest.raises(ValueError, match="must be finite"):
        learned.predict_proba_one(named(X[1]))
    assert learned.to_state() == before


def test_predicting_changes_nothing_and_clones_are_independent(learned):
    X, y, _ = stream(50, seed=9)
    before = learned.to_state()
    learned.predict_proba_many(X)
    learned.predict_proba_one(named(X[0]))
    assert learned.to_state() == before
    clone = FtrlClassifier.from_state(before)
    clone.learn_many(X, y)
    assert learned.to_state() == before


def test_shapes_and_names_are_checked(learned):
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        learned.predict_proba_many(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="different names"):
        FtrlClassifier(["a", "a"])
    with pytest.raises(ValueError, match="needs a label"):
        learned.learn_many(np.zeros((2, 4)), np.zeros(1, dtype=bool))
    with pytest.raises(TypeError, match="given its features"):
        FtrlClassifier().predict_proba_many(np.zeros((1, 1)))
    assert learned.predict_proba_many(np.empty((0, 4))).tolist() == []


def test_a_row_scores_the_same_in_any_batch(learned):
    X, _, _ = stream(257, seed=3)
    alone = [learned.predict_proba_many(X[i : i + 1])[0] for i in range(len(X))]
    assert learned.predict_proba_many(X).tolist() == alone
