"""The purchase model: River's own numbers, learned from a known truth, saved bit for bit."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, metrics, optim, preprocessing

from models.progress import Progress
from models.purchase import Learning, ModelMismatch, PurchaseModel

FEATURES = ["orders", "spend", "days", "intent"]
WEIGHTS = np.array([0.8, 0.5, -1.2, 1.0])
SCALES = np.array([3.0, 10_000.0, 40.0, 2.0])


def stream(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels drawn from known probabilities, and those probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 4))
    p = 1 / (1 + np.exp(-(z @ WEIGHTS - 1.5)))
    return z * SCALES + 2 * SCALES, rng.random(n) < p, p


def reference() -> compose.Pipeline:
    regression = linear_model.LogisticRegression(optim.FTRLProximal(), intercept_lr=0.01)
    return preprocessing.StandardScaler() | regression


@pytest.fixture(scope="module")
def learned() -> PurchaseModel:
    model = PurchaseModel(FEATURES)
    X, y, _ = stream(3_000)
    model.learn_matured(X, y)
    return model


def test_it_is_rivers_pipeline_and_whole_arrays_agree_to_1e_12():
    X, y, _ = stream(500)
    model, river_model = PurchaseModel(FEATURES), reference()
    auc = metrics.RollingROCAUC(window_size=2_000)
    for i, row in enumerate(X):
        x = dict(zip(FEATURES, row.tolist(), strict=True))
        p = river_model.predict_proba_one(x)[True]
        assert model.predict_proba_one(x)[True] == p
        if i % 50 == 0:
            own = [river_model.predict_proba_one(dict(zip(FEATURES, r, strict=True))) for r in X]
            expected = np.array([each[True] for each in own])
            np.testing.assert_allclose(model.predict_many(X), expected, rtol=0, atol=1e-12)
        auc.update(bool(y[i]), p)
        river_model.learn_one(x, bool(y[i]))
        model.learn_matured(X[i : i + 1], y[i : i + 1])
    assert model.progress.report().auc == auc.get()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(-1e100, 1e100), min_size=2, max_size=2),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_any_accepted_features_keep_the_model_finite_and_both_predictions_equal(samples):
    model = PurchaseModel(["a", "b"])
    X = np.array([x for x, _ in samples])
    model.learn_matured(X, np.array([y for _, y in samples]))
    many = model.predict_many(X)
    assert np.isfinite(many).all()
    for row, p in zip(X.tolist(), many.tolist(), strict=True):
        one = model.predict_proba_one(dict(zip("ab", row, strict=True)))[True]
        assert p == pytest.approx(one, rel=0, abs=1e-12)


def test_it_finds_the_truth_of_a_known_stream(learned):
    X, y, p = stream(20_000, seed=1)
    mean, rate = learned.predict_many(X), y.mean()
    assert np.corrcoef(mean, p)[0, 1] > 0.97
    report = learned.progress.report()
    assert report.auc > 0.8
    assert report.log_loss < report.base_loss - 0.05
    assert mean.mean() == pytest.approx(rate, abs=0.05)
    assert report.count == 3_000
    assert report.window == 2_000


def test_scores_are_noted_before_learning():
    noise = np.random.default_rng(5)
    X, y = noise.standard_normal((3_000, 4)), noise.random(3_000) < 0.3
    model = PurchaseModel(FEATURES, Learning(alpha=1.0))
    model.learn_matured(X, y)
    assert model.progress.report().auc == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("learn_first", [0, 1, 700])
@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_saved_and_restored_it_goes_on_bit_for_bit(learn_first, code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    X, y, _ = stream(1_500, seed=2)
    whole = PurchaseModel(FEATURES)
    whole.learn_matured(X[:learn_first], y[:learn_first])
    restored = PurchaseModel.from_state(load(save(whole.to_state())), FEATURES)
    assert restored.to_state() == whole.to_state()
    for model in (whole, restored):
        model.learn_matured(X[learn_first:], y[learn_first:])
    assert restored.to_state() == whole.to_state()
    assert restored.predict_many(X).tolist() == whole.predict_many(X).tolist()
    assert restored.progress.report() == whole.progress.report()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format is 99"),
        ({"river": "0.1.0"}, "River version is '0.1.0'"),
        ({"features": ["orders"]}, "feature list is"),
    ],
)
def test_a_saved_model_that_does_not_fit_is_refused_in_words(learned, change, words):
    with pytest.raises(ModelMismatch, match=words):
        PurchaseModel.from_state(learned.to_state() | change, FEATURES)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101])
def test_values_that_would_poison_it_are_refused_and_change_nothing(learned, bad):
    before = learned.to_state()
    X, y, _ = stream(3)
    X[1, 2] = bad
    with pytest.raises(ValueError, match="row 1 has days"):
        learned.learn_matured(X, y)
    with pytest.raises(ValueError, match="row 1 has days"):
        learned.predict_many(X)
    with pytest.raises(ValueError, match="must be finite"):
        learned.learn_one(dict(zip(FEATURES, X[1].tolist(), strict=True)), True)
    assert learned.to_state() == before


def test_shapes_and_names_are_checked(learned):
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        learned.predict_many(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\['intent'\] did not come"):
        learned.predict_proba_one({"orders": 1.0, "spend": 1.0, "days": 1.0})
    with pytest.raises(ValueError, match="different names"):
        PurchaseModel(["a", "a"])
    with pytest.raises(ValueError, match="needs a label"):
        learned.learn_matured(np.zeros((2, 4)), np.zeros(1, dtype=bool))
    assert learned.predict_many(np.empty((0, 4))).tolist() == []


def test_a_row_scores_the_same_in_any_batch(learned):
    X, _, _ = stream(257, seed=3)
    alone = [learned.predict_many(X[i : i + 1])[0] for i in range(len(X))]
    assert learned.predict_many(X).tolist() == alone


def test_metrics_of_a_window_forget_what_lies_before_it():
    progress = Progress(window=3)
    assert progress.report().auc is None
    for label, p in [(True, 0.0), (True, 0.9), (False, 0.1), (False, 0.2)]:
        progress.note(label, p)
    report = progress.report()
    assert (report.auc, report.window, report.count, report.positives) == (1.0, 3, 4, 2)
    assert report.base_rate == pytest.approx(1 / 3)
