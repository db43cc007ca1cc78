"""Challengers: River's own predictions and checks, the contract, and a saved form that goes on."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from river import checks, forest, tree
from river.datasets import Phishing

from models.challengers import _DEPTH, KINDS, SURE, Challenger
from models.contract import ModelMismatch

FEATURES = ["orders", "spend", "days", "intent"]


def stream(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels with a step and an interaction that a line cannot see."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    p = np.where(X[:, 2] > 0.5, 0.8, np.where((X[:, 0] > 0) & (X[:, 1] > 0), 0.6, 0.1))
    return X, rng.random(n) < p


def dicts(X: np.ndarray) -> list[dict[str, float]]:
    return [dict(zip(FEATURES, row, strict=True)) for row in X.tolist()]


def saved(model: Challenger) -> str:
    return json.dumps(model.to_state(), allow_nan=False)


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    return float(-np.log(np.where(y, p, 1 - p)).mean())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def learned() -> dict[str, Challenger]:
    """Of each kind one that has forgotten half of what it has learned."""
    models = {kind: Challenger(kind, FEATURES, seed=3, memory=300) for kind in KINDS}
    X, y = stream(600)
    for model in models.values():
        model.learn_many(X, y)
    return models


# -- River ------------------------------------------------------------------------------------


def rivers_checks() -> list[Any]:
    names = sorted(next(iter(Phishing()))[0])
    models = [Challenger(kind, names, seed=1) for kind in KINDS]
    return [
        pytest.param(model, check, id=f"{model.kind}-{check.__name__}-{i}")
        for model in models
        for i, check in enumerate(checks.yield_checks(model))
    ]


@pytest.mark.parametrize(("model", "check"), rivers_checks())
def test_it_passes_rivers_checks(model, check):
    check(model.clone())


def test_it_says_what_river_says_but_never_for_certain(kind):
    X, y = stream(500, seed=1)
    y[:40] = False
    X = X.astype(np.float32).astype(np.float64)
    model, rivers = Challenger(kind, FEATURES, seed=3), rivers_own(kind)
    p, expected = model.learn_matured(X, y), np.full(len(X), 0.5)
    for i, (x, label) in enumerate(zip(dicts(X), y.tolist(), strict=True)):
        if i:
            expected[i] = rivers.predict_proba_one(x).get(True, 0.0)
        rivers.learn_one(x, label)
    np.testing.assert_allclose(p, np.clip(expected, 1 - SURE, SURE), rtol=0, atol=1e-12)
    assert p.min() == pytest.approx(1 - SURE), "the stream must meet leaves of one class"


def rivers_own(kind: str) -> Any:
    options = {
        "leaf_prediction": "mc",
        "max_depth": _DEPTH,
        "max_share_to_split": 1.0,
        "seed": 3,
    }
    if kind == "tree":
        return tree.HoeffdingAdaptiveTreeClassifier(100, delta=1e-4, tau=0.1, **options)
    return forest.ARFClassifier(n_models=5, max_features=2, grace_period=200, **options)


# -- the contract -----------------------------------------------------------------------------


def test_it_predicts_before_it_has_learned(kind):
    model = Challenger(kind, FEATURES, seed=1)
    before = saved(model)
    assert model.predict_proba_one({}) == {False: 0.5, True: 0.5}
    assert model.predict_proba_many(np.zeros((2, 4))).tolist() == [0.5, 0.5]
    assert model.predict_proba_many(np.zeros((0, 4))).tolist() == []
    assert saved(model) == before
    assert saved(Challenger.from_state(json.loads(before))) == before


def test_arrays_and_dicts_say_the_same_and_a_row_the_same_in_any_batch(learned, kind):
    X, _ = stream(100, seed=2)
    many = learned[kind].predict_proba_many(X)
    one = [learned[kind].predict_proba_one(x)[True] for x in dicts(X)]
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-12)
    alone = [learned[kind].predict_proba_many(X[i : i + 1])[0] for i in range(len(X))]
    assert many.tolist() == alone
    assert len(set(alone)) > 2


def test_learning_rows_one_by_one_or_together_is_the_same(kind):
    X, y = stream(300, seed=3)
    one, many, tested = (Challenger(kind, FEATURES, seed=1) for _ in range(3))
    for x, label in zip(dicts(X), y.tolist(), strict=True):
        one.learn_one(x, label)
    many.learn_many(X[:100], y[:100])
    many.learn_many(X[100:], y[100:])
    tested.learn_matured(X, y)
    assert saved(one) == saved(many) == saved(tested)


def test_predicting_changes_nothing(kind):
    X, y = stream(300, seed=4)
    quiet, asked = (Challenger(kind, FEATURES, seed=1) for _ in range(2))
    for part in range(0, 300, 20):
        asked.predict_proba_one({"days": 1.0})
        asked.predict_proba_many(X[:50])
        for model in (quiet, asked):
            model.learn_many(X[part : part + 20], y[part : part + 20])
    assert saved(quiet) == saved(asked)


def test_the_seed_decides(kind):
    X, y = stream(400, seed=5)
    first, same, other = (Challenger(kind, FEATURES, seed=seed) for seed in (1, 1, 2))
    for model in (first, same, other):
        model.learn_many(X, y)
    assert saved(first) == saved(same)
    assert first.to_state()["trees"] != other.to_state()["trees"]


def test_a_clone_is_empty_and_goes_its_own_way(learned, kind):
    X, y = stream(50, seed=6)
    before, clone = saved(learned[kind]), learned[kind].clone()
    assert clone.count == 0
    clone.learn_many(X, y)
    assert saved(learned[kind]) == before


def test_unknown_features_are_ignored_and_missing_ones_survived(kind):
    X, y = stream(400, seed=7)
    rng = np.random.default_rng(0)
    plain, odd, restored = (Challenger(kind, FEATURES, seed=1) for _ in range(3))
    for x, label in zip(dicts(X), y.tolist(), strict=True):
        holed = {name: value for name, value in x.items() if rng.random() < 0.7}
        plain.learn_one(holed, label)
        odd.learn_one(holed | {"colour": 3.0}, label)
    assert saved(plain) == saved(odd)
    restored = Challenger.from_state(json.loads(saved(plain)))
    for x in [{}, {"colour": 1.0}, {"days": 2.0}, {"orders": 1.0, "spend": 1.0}]:
        assert 0.0 < plain.predict_proba_one(x)[True] < 1.0
        # before River's model is built, and after
        assert restored.predict_proba_one(x)[True] == pytest.approx(
            plain.predict_proba_one(x)[True], abs=1e-12
        )
    restored.rebuild()
    assert saved(restored) == saved(plain), "holes are remembered as holes"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e101])
def test_values_that_would_poison_it_are_refused_and_change_nothing(learned, kind, bad):
    model, before = learned[kind], saved(learned[kind])
    X, y = stream(3, seed=8)
    X[1, 2] = bad
    for refuse in (
        lambda: model.learn_matured(X, y),
        lambda: model.learn_many(X, y),
        lambda: model.predict_proba_many(X),
    ):
        with pytest.raises(ValueError, match="row 1 has days"):
            refuse()
    with pytest.raises(ValueError, match="days"):
        model.learn_one(dicts(X)[1], True)
    with pytest.raises(ValueError, match="days"):
        model.predict_proba_one({"days": bad})
    assert saved(model) == before


def test_what_float32_cannot_hold_is_learned_as_the_most_it_can(kind):
    X = np.random.default_rng(0).choice([1e100, -1e100, 1e39, 1e-100], (400, 4))
    X[:, 3] = np.tile([1e100, 0.0], 200)
    model = Challenger(kind, FEATURES, seed=1)
    model.learn_many(X, np.tile([True, False], 200))
    assert np.isfinite(model._rows).all()
    p = model.predict_proba_many(X[:2])
    assert p[0] > 0.9
    assert p[1] < 0.1


def test_shapes_names_and_kinds_are_checked(learned, kind):
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        learned[kind].predict_proba_many(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="needs a label"):
        learned[kind].learn_matured(np.zeros((2, 4)), np.zeros(1, dtype=bool))
    with pytest.raises(ValueError, match="different names"):
        Challenger(kind, ["a", "a"], seed=1)
    with pytest.raises(ValueError, match="'shrub' came"):
        Challenger("shrub", FEATURES, seed=1)
    with pytest.raises(ValueError, match="at least 1 row"):
        Challenger(kind, FEATURES, seed=1, memory=0)


def test_its_memory_is_bounded(kind):
    rng = np.random.default_rng(9)
    X = rng.standard_normal((2_000, 2))
    y = (np.floor(X[:, 0] * 4) + np.floor(X[:, 1] * 4)) % 2 == 0  # any depth would find more
    model = Challenger(kind, ["a", "b"], seed=1, memory=100)
    model.learn_many(X, y)
    trees = [model._model] if kind == "tree" else list(model._model)
    assert all(each.n_leaves <= 2**_DEPTH and each.height <= _DEPTH + 1 for each in trees)
    assert max(each.n_leaves for each in trees) > 2, "the stream must make trees grow"
    assert model._rows.shape == (100, 2)
    assert model._raw_memory_usage < 10 * 2**20


# -- the saved form ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_restored_it_scores_at_once_and_bit_for_bit(learned, kind, code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    X, _ = stream(300, seed=10)
    model = learned[kind]
    restored = Challenger.from_state(load(save(model.to_state())), FEATURES, kind)
    assert not restored.ready
    assert restored.predict_proba_many(X).tolist() == model.predict_proba_many(X).tolist()
    one = [restored.predict_proba_one(x)[True] for x in dicts(X)]
    assert one == restored.predict_proba_many(X).tolist()
    assert restored.to_state() == model.to_state()
    assert (restored.count, restored.positives) == (model.count, model.positives)
    assert not restored.ready, "predicting and saving build nothing"


@pytest.mark.parametrize("learn_first", [0, 1, 300])
def test_it_goes_on_bit_for_bit_while_nothing_has_been_forgotten(kind, learn_first):
    X, y = stream(400, seed=11)
    whole = Challenger(kind, FEATURES, seed=3, memory=300)
    whole.learn_many(X[:learn_first], y[:learn_first])
    restored = Challenger.from_state(json.loads(saved(whole)))
    p = [m.learn_matured(X[learn_first:], y[learn_first:]).tolist() for m in (whole, restored)]
    assert p[0] == p[1]
    assert saved(restored) == saved(whole)


def test_what_was_forgotten_is_lost_and_only_that(learned, kind):
    X, y = stream(600)  # what it has learned, of which it remembers the latter half
    restored = Challenger.from_state(learned[kind].to_state())
    restored.rebuild()
    fresh = Challenger(kind, FEATURES, seed=3, memory=300)
    fresh.learn_many(X[300:], y[300:])
    assert restored.to_state() == fresh.to_state() | {
        "count": 600,
        "positives": learned[kind].positives,
    }
    assert restored.to_state()["trees"] != learned[kind].to_state()["trees"]
    X, y = stream(400, seed=12)
    restored.learn_many(X, y)
    again = Challenger.from_state(restored.to_state())
    rows, labels = again._remembered()
    assert rows.tolist() == X[-300:].astype(np.float32).tolist()
    assert labels.tolist() == y[-300:].tolist()


def test_a_refused_row_does_not_build_anything(learned, kind):
    restored = Challenger.from_state(learned[kind].to_state())
    with pytest.raises(ValueError, match="must be finite"):
        restored.learn_many(np.full((1, 4), np.nan), np.array([True]))
    assert not restored.ready


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format is 99"),
        ({"river": "0.1.0"}, "River version is '0.1.0'"),
        ({"kind": "shrub"}, "kind is 'shrub'"),
        ({"features": ["orders"]}, "feature list is"),
    ],
)
def test_a_saved_model_that_does_not_fit_is_refused_in_words(learned, kind, change, words):
    with pytest.raises(ModelMismatch, match=words):
        Challenger.from_state(learned[kind].to_state() | change, FEATURES, kind)


# -- what it is for ---------------------------------------------------------------------------


def test_it_learns_what_a_line_cannot_see(kind):
    X, y = stream(1_500, seed=13)
    model = Challenger(kind, FEATURES, seed=1)
    p = model.learn_matured(X, y)
    truth = np.where(X[:, 2] > 0.5, 0.8, np.where((X[:, 0] > 0) & (X[:, 1] > 0), 0.6, 0.1))
    late = slice(1_000, None)
    base = log_loss(y[late], np.full(500, y[late].mean()))
    best = log_loss(y[late], truth[late])
    assert log_loss(y[late], p[late]) < base - 0.4 * (base - best)
