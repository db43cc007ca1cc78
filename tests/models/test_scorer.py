"""The scorer says what River's own models say, put right in order, of the right columns."""

import msgspec
import numpy as np
import pytest

from models.calibration import Calibration, prior_corrected
from models.challengers import SURE, Challenger
from models.clusters import Clusters
from models.linear import FtrlClassifier
from models.lines import Lines
from models.plan import Clustering, ModelPlan, Task, Valuing
from models.predictor import Predictor
from models.scorer import Scorer
from models.worth import SCORES

ONE = Task("one", ("a", "b"))
TWO = Task("two", ("c", "a"))
BOTH = ModelPlan((ONE, TWO), least=100)
NOTHING = {"clusters": None, "worth": None}


def inputs(n, k=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, k)) * [1.0, 5.0, 20.0][:k]


def learned(task, n=2_000, seed=0):
    """A champion of a task."""
    rng = np.random.default_rng(seed)
    X = inputs(n, 2, seed) + 3.0
    champion = FtrlClassifier(task.inputs)
    champion.learn_many(X, rng.random(n) < 1.0 / (1.0 + np.exp(X[:, 1] - X[:, 0])))
    return champion


def told_of(champion, kept=1.0, calibration=None):
    """How to foretell by a champion, as a predictor tells it."""
    task = Task("any", tuple(champion.features), negatives=kept)
    predictor = Predictor(task, ModelPlan((task,), least=0))
    predictor.champion, predictor.outcomes = champion, {False, True}
    if calibration is not None:
        predictor.calibration = calibration
    return predictor.scoring()


def scoring(plan, *told, **others):
    """A scorer that was told this, in the form in which lanes tell each other."""
    scorer = Scorer(plan)
    raw = msgspec.msgpack.encode(NOTHING | {"tasks": list(told)} | others)
    scorer.take_over(msgspec.msgpack.decode(raw))
    return scorer


def boasting():
    """A calibration that helps: of a model whose log-odds are three times too large."""
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.05, 0.95, 4_000)
    layer = Calibration()
    layer.learn_matured(truth**3 / (truth**3 + (1 - truth) ** 3), rng.random(4_000) < truth)
    assert layer.helps
    return layer


# -- what is said -------------------------------------------------------------------------------


def test_it_says_what_rivers_own_pipeline_says_of_each_tasks_columns():
    """Inputs are the union of those of all tasks, each task's own in its own order."""
    assert BOTH.inputs == ("a", "b", "c")
    champions = [learned(ONE, seed=1), learned(TWO, seed=2)]
    X = inputs(300, seed=3) + 2.0
    said = scoring(BOTH, *map(told_of, champions)).foretell(X)
    rows = [dict(zip(BOTH.inputs, row, strict=True)) for row in X.tolist()]
    for place, (task, champion) in enumerate(zip(BOTH.tasks, champions, strict=True)):
        pipeline = champion.to_river()
        expected = [
            pipeline.predict_proba_one({name: row[name] for name in task.inputs})[True]
            for row in rows
        ]
        np.testing.assert_allclose(said[:, place], expected, rtol=0, atol=1e-12)
    assert np.ptp(said, axis=0).min() > 0.1


def test_it_is_as_sure_as_river_far_out():
    champion = learned(ONE)
    X = np.array([[1e6, 0.0, 0.0], [-1e6, 0.0, 0.0], [0.0, 1e18, 0.0]])
    said = scoring(BOTH, told_of(champion), None).foretell(X)[:, 0]
    pipeline = champion.to_river()
    rows = [dict(zip(ONE.inputs, row[:2], strict=True)) for row in X.tolist()]
    assert said.tolist() == [pipeline.predict_proba_one(row)[True] for row in rows]
    assert {0.0, 1.0} == set(said.tolist())


def test_an_input_that_never_varied_does_not_count():
    champion = FtrlClassifier(ONE.inputs)
    X = inputs(500, 2)
    X[:, 1] = 7.0
    champion.learn_many(X, X[:, 0] > 0.0)
    scorer = scoring(BOTH, told_of(champion), None)
    asked = inputs(50)
    other = asked.copy()
    other[:, 1] = 1e6
    assert scorer.foretell(asked)[:, 0].tolist() == scorer.foretell(other)[:, 0].tolist()


def test_a_row_is_scored_the_same_in_any_batch():
    scorer = scoring(BOTH, told_of(learned(ONE), 0.3, boasting()), told_of(learned(TWO)))
    X = inputs(100)
    alone = [scorer.foretell(X[i : i + 1])[0].tolist() for i in range(100)]
    assert scorer.foretell(X).tolist() == alone
    assert scorer.foretell(X[:0]).shape == (0, 2)


def test_nothing_is_said_before_anything_is_known():
    scorer = Scorer(BOTH)
    assert np.isnan(scorer.foretell(inputs(4))).all()
    half = scoring(BOTH, None, told_of(learned(TWO)))
    assert np.isnan(half.foretell(inputs(4))).tolist() == [[True, False]] * 4


def test_a_task_that_began_anew_is_not_foretold_by_its_old_model():
    scorer = scoring(BOTH, told_of(learned(ONE)), None)
    scorer.take_over(NOTHING | {"tasks": [None, None]})
    assert np.isnan(scorer.foretell(inputs(4))).all()


# -- what is put right --------------------------------------------------------------------------


def test_what_was_sampled_is_corrected_and_then_calibrated():
    champion, layer = learned(ONE), boasting()
    X = inputs(200, seed=4) + 2.0
    plain = champion.predict_proba_many(np.ascontiguousarray(X[:, :2]))
    said = scoring(BOTH, told_of(champion, 0.25, layer), None).foretell(X)[:, 0]
    expected = layer.apply(prior_corrected(plain, 0.25))
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-12)
    other_order = prior_corrected(layer.apply(plain), 0.25)
    assert np.abs(said - other_order).max() > 0.05


def test_a_calibration_that_does_not_help_changes_nothing():
    champion, layer = learned(ONE), Calibration()
    layer.learn_matured(np.full(50, 0.9), np.zeros(50, bool))
    assert not layer.helps
    assert layer.slope != 1.0
    X = inputs(200)
    with_it = scoring(BOTH, told_of(champion, calibration=layer), None).foretell(X)
    np.testing.assert_array_equal(with_it, scoring(BOTH, told_of(champion), None).foretell(X))


@pytest.mark.parametrize("kept", [1.0, 0.5])
@pytest.mark.parametrize("layer", [Calibration, boasting])
def test_a_champion_that_says_nonsense_leaves_the_task_unknown(kept, layer):
    """Until labels have matured by which its guard puts it back."""
    state = learned(ONE).to_state()
    state["columns"]["weight"][1] = float("nan")
    champion = FtrlClassifier.from_state(state)
    scorer = scoring(BOTH, told_of(champion, kept, layer()), told_of(learned(TWO)))
    assert np.isnan(scorer.foretell(inputs(5))).tolist() == [[True, False]] * 5


def test_trees_are_followed_on_the_tasks_own_columns():
    rng = np.random.default_rng(5)
    X = inputs(1_500)
    columns = np.ascontiguousarray(X[:, [2, 0]])
    tree = Challenger("tree", TWO.inputs, seed=1)
    tree.learn_many(columns, (np.abs(X[:, 0]) < 0.7) & (rng.random(1_500) < 0.95))
    told = {
        "by": "trees",
        "inputs": ["c", "a"],
        "trees": tree.trees.to_state(),
        "kept": 1.0,
        "calibration": Calibration().to_state(),
    }
    said = scoring(BOTH, None, told).foretell(X)[:, 1]
    river = [tree.predict_proba_one(dict(zip("ca", row, strict=True)))[True] for row in columns]
    np.testing.assert_allclose(said, river, rtol=0, atol=1e-12)
    assert said.min() >= 1.0 - SURE
    assert np.ptp(said) > 0.5


def test_one_task_is_foretold_from_all_inputs():
    champion = learned(TWO)
    X = inputs(20)
    said = np.empty((20, 1))
    Lines([(0, np.array([2, 0]), told_of(champion))]).foretell(X, said)
    own = champion.predict_proba_many(np.ascontiguousarray(X[:, [2, 0]]))
    np.testing.assert_allclose(said[:, 0], own, rtol=0, atol=1e-12)


# -- groups and worth ---------------------------------------------------------------------------


class NobodyBuys:
    """A view of users that have no orders."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def value(self, name):
        assert name == "lifetime.orders"
        return np.zeros(self.n)


WHOLE = ModelPlan((ONE, TWO), clustering=Clustering("cluster", ("b", "a"), k=2), valuing=Valuing())


def groups():
    """A large group of those with a large ``a``, and a small one of those with a large ``b``."""
    model = Clusters(("b", "a"), 2, first=100)
    model.learn_many(np.repeat([[0.0, 9.0], [9.0, 0.0]], [80, 40], axis=0))
    return model


def test_columns_stand_in_the_order_of_their_names():
    scorer = Scorer(WHOLE)
    names = [score.name for score in scorer.scores]
    assert names == ["one", "two", "cluster", "alive", "expected_orders", "expected_spend"]
    assert [score.kind for score in scorer.scores] == ["float"] * 2 + ["int"] + ["float"] * 2 + [
        "int"
    ]
    assert scorer.score(inputs(3), NobodyBuys(3)).shape == (3, len(names))


def test_groups_are_unknown_before_they_are_told_and_then_those_of_the_tasks_columns():
    X = np.array([[9.0, 0.0, 5.0], [0.0, 9.0, 5.0]])
    scorer = Scorer(WHOLE)
    assert np.isnan(scorer.score(X, NobodyBuys(2))[:, 2]).all()
    model = groups()
    told = scoring(WHOLE, None, None, clusters=model.to_state())
    said = told.score(X, NobodyBuys(2))[:, 2]
    assert said.tolist() == model.predict_many(X[:, [1, 0]].copy()).tolist() == [0.0, 1.0]


def test_worth_is_unknown_before_it_is_told():
    scorer = Scorer(WHOLE)
    said = scorer.score(inputs(4), NobodyBuys(4))[:, -len(SCORES) :]
    assert np.isnan(said).all()


@pytest.mark.parametrize("inputs_then", [("a", "c"), ("c",), ("c", "a", "b")])
def test_a_task_that_was_told_for_other_inputs_is_unknown(inputs_then):
    """It may stand in the store still when the lane that learns begins it anew."""
    other = FtrlClassifier(inputs_then)
    X = inputs(500, len(inputs_then))
    other.learn_many(X, X[:, 0] > 0.0)
    scorer = scoring(BOTH, told_of(learned(ONE)), told_of(other))
    assert np.isnan(scorer.foretell(inputs(3))).tolist() == [[False, True]] * 3


@pytest.mark.parametrize(("features", "k"), [("ab", 2), ("abc", 2), ("ba", 3)])
def test_groups_that_were_told_under_other_settings_are_not_used(features, k):
    """They stand in the store until the lane that learns has groups of its own."""
    model = Clusters(features, k, first=100)
    model.learn_many(inputs(120, len(features)))
    scorer = scoring(WHOLE, told_of(learned(ONE)), None, clusters=model.to_state())
    said = scorer.score(inputs(3), NobodyBuys(3))
    assert np.isnan(said[:, 2]).all()
    assert not np.isnan(said[:, 0]).any()


def test_worth_that_another_library_has_fitted_is_not_used():
    """A store that was filled before scipy was renewed holds up nobody."""
    parameters = {"r": 0.24, "alpha": 4.4, "a": 0.79, "b": 2.43}
    held = {"format": 1, "model": "bg/nbd", "scipy": "0.1", "parameters": parameters}
    worth = {"alive": held, "spend": None, "horizon_ms": 1, "buyers": 500}
    scorer = scoring(WHOLE, told_of(learned(ONE)), None, worth=worth)
    assert not np.isnan(scorer.foretell(inputs(3))[:, 0]).any()
    assert scorer._worth is None
