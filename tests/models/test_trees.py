"""Trees as arrays: equal to River's own predictions, whatever state its trees are in."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from river import drift, forest, tree

from models.contract import ModelMismatch
from models.trees import LEAF, UNKNOWN, Trees, exported

FEATURES = ["a", "b", "c", "d"]


def stream(n: int, seed: int, turn: int) -> tuple[np.ndarray, np.ndarray]:
    """Features, and labels whose cause turns round every ``turn`` rows."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    sign = np.where(np.arange(n) // turn % 2 == 0, 8.0, -8.0)
    return X, rng.random(n) < 1 / (1 + np.exp(-sign * np.where(X[:, 0] > 0, X[:, 1], X[:, 2])))


def adaptive_tree(seed: int = 1, **options: Any) -> tree.HoeffdingAdaptiveTreeClassifier:
    return tree.HoeffdingAdaptiveTreeClassifier(
        **{
            "leaf_prediction": "mc",
            "seed": seed,
            "grace_period": 50,
            "delta": 0.05,
            "max_depth": 5,
            "drift_window_threshold": 100,
            "drift_detector": drift.ADWIN(delta=0.1),
        }
        | options
    )


def adaptive_forest(seed: int = 1, **options: Any) -> forest.ARFClassifier:
    return forest.ARFClassifier(
        **{
            "n_models": 3,
            "leaf_prediction": "mc",
            "seed": seed,
            "max_depth": 5,
            "warning_detector": drift.ADWIN(delta=0.2),
            "drift_detector": drift.ADWIN(delta=0.01),
        }
        | options
    )


def learn(model: Any, X: np.ndarray, y: np.ndarray, after_each: Callable[[int], None]) -> None:
    for i, (row, label) in enumerate(zip(X.tolist(), y.tolist(), strict=True)):
        model.learn_one(dict(zip(FEATURES, row, strict=True)), label)
        after_each(i)


def rivers_own(model: Any, X: np.ndarray) -> np.ndarray:
    """River's probability of True for each row; NaN is a missing feature."""
    rows = [dict(zip(FEATURES, row, strict=True)) for row in X.tolist()]
    given = [{name: value for name, value in x.items() if value == value} for x in rows]
    return np.array([model.predict_proba_one(x).get(True, 0.0) for x in given])


def assert_equal(model: Any, X: np.ndarray) -> None:
    many = exported(model, FEATURES).predict_many(X)
    np.testing.assert_allclose(many, rivers_own(model, X), rtol=0, atol=1e-12)


def alternates(model: tree.HoeffdingAdaptiveTreeClassifier) -> list[Any]:
    kept = [getattr(node, "_alternate_tree", None) for node in model._root.iter_dfs()]
    return [each for each in kept if each is not None]


@pytest.mark.parametrize("seed", range(3))
def test_an_adaptive_tree_and_its_alternates_say_the_same(seed):
    X, y = stream(1_500, seed, turn=400)
    model, met, kinds = adaptive_tree(seed), 0, set[bool]()

    def compare(i: int) -> None:
        nonlocal met
        beside = alternates(model)
        kinds.update(hasattr(each, "children") for each in beside)
        if i % (5 if beside else 50) == 0 or i < 5:
            met += bool(beside)
            assert_equal(model, X[:40])

    learn(model, X, y, compare)
    assert met >= 5, "the stream must meet trees with alternates"
    assert model.n_switch_alternate_trees + model.n_pruned_alternate_trees >= 1
    assert kinds == {False}, "River's alternates are leaves: the first split makes them the tree"


def test_an_alternate_that_had_branches_would_be_heard_too():
    X, y = stream(1_500, 0, turn=10_000)
    model, other = adaptive_tree(), adaptive_tree(seed=2, delta=0.5)
    learn(model, X[:700], y[:700], lambda _: None)
    learn(other, X[700:], y[700:], lambda _: None)
    assert not alternates(model)
    expected = []
    for row in X.tolist():
        x = dict(zip(FEATURES, row, strict=True))
        leaves = [*model._root.traverse(x), *other._root.traverse(x)]
        said = [leaf.prediction(x, tree=model) for leaf in leaves]
        votes = [sum(each.get(label, 0.0) for each in said) for label in (False, True)]
        expected.append(votes[1] / sum(votes))
    model._root._alternate_tree = other._root
    many = exported(model, FEATURES).predict_many(X)
    np.testing.assert_allclose(many, expected, rtol=0, atol=1e-12)
    with pytest.raises(AttributeError, match="'list' object"):
        model.predict_proba_one(x)  # River nests what it should join; no such tree has come up


@pytest.mark.parametrize("options", [{}, {"disable_weighted_vote": True}, {"lambda_value": 2}])
def test_a_forest_and_its_weighted_votes_say_the_same(options):
    X, y = stream(1_200, 3, turn=400)
    model, backgrounds = adaptive_forest(**options), 0

    def compare(i: int) -> None:
        nonlocal backgrounds
        if i % 40 == 0 or i < 5:
            backgrounds += any(each is not None for each in model._background)
            assert_equal(model, X[:40])

    learn(model, X, y, compare)
    assert backgrounds >= 3, "the stream must meet forests with background trees"
    assert model.n_drifts_detected() >= 1
    votes = exported(model, FEATURES).votes.tolist()
    assert (len(set(votes)) == 1) == ("disable_weighted_vote" in options)


def test_trees_of_a_forest_that_have_not_learned_have_no_say():
    X, y = stream(1_200, 4, turn=200)
    warnings_too_late = {
        "warning_detector": drift.ADWIN(delta=1e-12),
        "drift_detector": drift.ADWIN(delta=0.2),
    }
    model, fewer = adaptive_forest(lambda_value=1, **warnings_too_late), 0

    def compare(i: int) -> None:
        nonlocal fewer
        trees = exported(model, FEATURES)
        if len(trees.starts) < 3:
            fewer += i > 200
            if len(trees.starts):
                assert_equal(model, X[:10])
            else:
                assert set(trees.predict_many(X[:10])) == {UNKNOWN}

    learn(model, X, y, compare)
    assert fewer >= 1, "the stream must meet forests with a tree that a drift has felled"


@pytest.mark.parametrize("build", [adaptive_tree, adaptive_forest])
def test_a_missing_feature_takes_the_way_most_took(build):
    X, y = stream(1_000, 5, turn=10_000)
    model = build(drift_detector=drift.NoDrift())  # beside a hole River counts alternates twice
    learn(model, X, y, lambda _: None)
    holes = X[:300].copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.4] = np.nan
    assert_equal(model, holes)


@pytest.mark.parametrize("build", [adaptive_tree, adaptive_forest])
def test_before_and_after_the_first_label(build):
    model = build()
    assert exported(model, FEATURES).predict_many(np.zeros((2, 4))).tolist() == [UNKNOWN] * 2
    model.learn_one(dict.fromkeys(FEATURES, 1.0), False)
    assert exported(model, FEATURES).predict_many(np.zeros((1, 4))).tolist() == [0.0]
    assert exported(model, FEATURES).predict_many(np.zeros((0, 4))).tolist() == []


@pytest.fixture(scope="module")
def grown() -> Trees:
    X, y = stream(800, 6, turn=10_000)
    model = adaptive_forest()
    learn(model, X, y, lambda _: None)
    return exported(model, FEATURES)


def test_a_row_says_the_same_in_any_batch_and_any_layout(grown):
    X, _ = stream(257, 7, turn=100)
    expected = grown.predict_many(X).tolist()
    assert [grown.predict_many(X[i : i + 1])[0] for i in range(len(X))] == expected
    assert grown.predict_many(np.asfortranarray(X)).tolist() == expected
    assert grown.predict_many(np.repeat(X, 2, axis=0)[::2]).tolist() == expected
    with pytest.raises(ValueError, match=r"shape \(n, 4\)"):
        grown.predict_many(X[:, :3])


@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_saved_and_restored_they_say_the_same_bit_for_bit(grown, code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    X, _ = stream(100, 8, turn=100)
    restored = Trees.from_state(load(save(grown.to_state())), FEATURES)
    assert restored.to_state() == grown.to_state()
    assert restored.predict_many(X).tolist() == grown.predict_many(X).tolist()
    none = Trees.from_state(load(save(exported(adaptive_tree(), FEATURES).to_state())))
    assert none.predict_many(X[:1]).tolist() == [UNKNOWN]


def test_saved_trees_that_do_not_fit_are_refused(grown):
    with pytest.raises(ModelMismatch, match="format is 99"):
        Trees.from_state(grown.to_state() | {"format": 99})
    with pytest.raises(ModelMismatch, match="feature list is"):
        Trees.from_state(grown.to_state(), ["a", "b"])


@pytest.mark.parametrize(
    "change",
    [
        {"left": [0, 0, 0]},  # round and round
        {"right": [3, 0, 0]},  # out of the arrays
        {"right": [-1, 0, 0]},
        {"feature": [1, LEAF, LEAF]},
        {"feature": [-2, LEAF, LEAF]},
        {"p": [0.0, 1.0]},
        {"left": []},
        {"starts": [3]},
        {"starts": []},
        {"votes": [0.0]},
    ],
)
def test_arrays_in_which_a_row_could_get_lost_are_refused(change):
    good = {
        "format": 1,
        "features": ["a"],
        "feature": [0, LEAF, LEAF],
        "threshold": [0.5, 0.0, 0.0],
        "left": [1, 0, 0],
        "right": [2, 0, 0],
        "heavy_left": [True, False, False],
        "p": [0.0, 1.0, 0.25],
        "starts": [0],
        "votes": [1.0],
    }
    assert Trees.from_state(good).predict_many(np.array([[0.5], [0.6]])).tolist() == [1.0, 0.25]
    with pytest.raises(ValueError, match="no trees over 1 features"):
        Trees.from_state(good | change)


def test_what_cannot_be_told_in_numbers_is_refused():
    X, y = stream(600, 9, turn=10_000)
    model = adaptive_tree()
    learn(model, X, y, lambda _: None)
    with pytest.raises(ValueError, match=r"one number among \['a'\]"):
        exported(model, ["a"])
    with pytest.raises(ValueError, match="'nba' came"):
        exported(adaptive_tree(leaf_prediction="nba"), FEATURES)
    with pytest.raises(ValueError, match="ARFClassifier can be exported"):
        exported(tree.HoeffdingTreeClassifier(), FEATURES)
    letters, words = adaptive_tree(), adaptive_tree()
    letters.learn_one({"a": 1.0}, "x")
    with pytest.raises(ValueError, match="labels must be True and False"):
        exported(letters, FEATURES)
    for i in range(400):
        words.learn_one({"a": "left" if i % 2 else "right"}, i % 2 == 0)
    with pytest.raises(ValueError, match="looks at 'a'"):
        exported(words, FEATURES)
