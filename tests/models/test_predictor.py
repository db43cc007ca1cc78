"""One task learned from a known truth: honest figures, a guard, a contest, and a saved form."""

import msgspec
import numpy as np
import pytest

from models.challengers import SURE
from models.contract import ModelMismatch
from models.linear import FtrlClassifier
from models.plan import Challenging, ModelPlan, Task
from models.predictor import Predictor
from models.progress import area_under_curve
from models.scorer import Scorer

TASK = Task("buys", ("a", "b", "c"))
WEIGHTS = np.array([1.0, -0.7, 0.3])


def world(n, seed=0, intercept=-1.0):
    """Inputs, outcomes drawn from a truth that a line can see, and this truth."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    truth = 1.0 / (1.0 + np.exp(-(X @ WEIGHTS + intercept)))
    return X, rng.random(n) < truth, truth


def crossed(n, seed=0):
    """Inputs and outcomes of which no line knows anything: either a or b, but not both."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, ((X[:, 0] > 0.0) ^ (X[:, 1] > 0.0)) ^ (rng.random(n) < 0.05)


def teach(predictor, X, y, p=None, batch=100):
    """Let it learn a second's worth of each row."""
    said = np.full(len(y), np.nan) if p is None else p
    for start in range(0, len(y), batch):
        part = slice(start, start + batch)
        ts_ms = np.arange(start, start + len(y[part]), dtype=np.int64) * 1_000
        predictor.learn(X[part], y[part], said[part], ts_ms)
    return predictor


def plan_of(task=TASK, kinds=(), rate=1.0, **changes):
    chosen = Challenging(kinds, rate) if kinds else None
    return ModelPlan((task,), challenging=chosen, **changes)


def new(**changes):
    plan = plan_of(**changes)
    return Predictor(plan.tasks[0], plan)


def foretold(predictor, X, plan=None):
    """What whoever scores by it says."""
    scorer = Scorer(plan or plan_of(predictor.task))
    told = predictor.scoring()
    scorer.take_over({"tasks": [told], "clusters": None, "worth": None})
    return scorer.foretell(X)[:, 0]


def carried(predictor, plan):
    """The same in another process."""
    raw = msgspec.msgpack.encode(predictor.to_state())
    return Predictor.from_state(msgspec.msgpack.decode(raw), plan.tasks[0], plan)


def test_it_finds_a_known_truth():
    X, y, _ = world(8_000)
    predictor = teach(new(), X, y)
    asked, _, truth = world(5_000, seed=1)
    said = foretold(predictor, asked)
    assert np.corrcoef(said, truth)[0, 1] > 0.97
    assert said.mean() == pytest.approx(truth.mean(), abs=0.02)


def test_it_says_nothing_before_it_has_learned_the_least():
    X, y, _ = world(200)
    predictor = teach(new(least=200), X[:199], y[:199])
    assert (predictor.is_ready, predictor.scoring()) == (False, None)
    teach(predictor, X[199:], y[199:])
    assert predictor.is_ready
    assert predictor.scoring()["labels"] == 200


@pytest.mark.parametrize("outcome", [False, True])
def test_of_one_outcome_alone_it_foretells_nothing(outcome):
    X = world(500)[0]
    predictor = teach(new(least=100), X, np.full(500, outcome))
    assert (predictor.is_ready, predictor.scoring()) == (False, None)
    again = carried(predictor, plan_of(least=100))
    assert not again.is_ready
    teach(again, X[:1], np.array([not outcome]))
    assert again.is_ready
    former = {name: held for name, held in predictor.to_state().items() if name != "outcomes"}
    assert Predictor.from_state(former, TASK, plan_of(least=100)).is_ready


def test_no_examples_change_nothing():
    predictor = teach(new(), *world(100)[:2])
    before = predictor.to_state()
    predictor.learn(np.empty((0, 3)), np.empty(0, bool), np.empty(0), np.empty(0, np.int64))
    assert predictor.to_state() == before


# -- figures ------------------------------------------------------------------------------------


def test_figures_are_of_what_was_said_then_and_not_of_what_is_known_now():
    """What was said is the worst there is, while the champion learns the truth."""
    X, y, truth = world(2_000, seed=3)
    predictor = teach(new(window=3_000), X, y, p=1.0 - truth)
    measures = predictor.measures()
    assert measures["auc"] == pytest.approx(area_under_curve(y, 1.0 - truth), abs=1e-12)
    assert measures["auc"] < 0.4
    assert area_under_curve(y, predictor.champion.predict_proba_many(X)) > 0.7


def test_what_nothing_was_said_of_is_learned_and_left_out_of_the_figures():
    X, y, truth = world(600, seed=4)
    p = np.where(np.arange(600) % 3 == 0, truth, np.nan)
    predictor = teach(new(window=3_000), X, y, p)
    y, p = y[::3], p[::3]
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y] for b in p[~y]]
    measures = predictor.measures()
    assert measures["labels"] == predictor.champion.labels == 600
    assert measures["auc"] == pytest.approx(np.mean(pairs), abs=1e-12)
    assert measures["base_rate"] == y.mean()
    losses = -np.log(np.where(y, p, 1.0 - p))
    assert measures["log_loss"] == pytest.approx(losses.mean(), rel=1e-12)
    assert predictor.losses.labels == 200


def test_figures_are_unknown_before_anything_was_said():
    X, y, _ = world(300)
    measures = teach(new(), X, y).measures()
    unknown = ("auc", "log_loss", "calibration_error", "base_rate", "base_loss")
    assert [measures[name] for name in unknown] == [None] * 5


def test_a_loss_that_moves_is_told_with_its_time():
    y = np.random.default_rng(5).random(6_000) < np.repeat([0.1, 0.6], [4_000, 2_000])
    X, p = np.random.default_rng(6).normal(size=(6_000, 3)), np.full(6_000, 0.1)
    predictor = teach(new(), X, y, p)
    assert predictor.measures()["drift_alarms"] == predictor.drifts >= 1
    (ts_ms, text), *_ = [alert for alert in predictor.alerts if "its loss went" in alert[1]]
    assert 4_000_000 < ts_ms < 4_600_000
    assert text.startswith("buys: its loss went from 0.0")
    assert carried(predictor, plan_of()).measures() == predictor.measures()


# -- few positives ------------------------------------------------------------------------------


def test_a_share_of_the_negatives_is_learned_and_what_is_said_stays_calibrated():
    X, y, truth = world(20_000, seed=7, intercept=-3.0)
    predictor = teach(new(task=Task("buys", ("a", "b", "c"), negatives=0.2)), X, y)
    negatives = predictor.champion.labels - np.count_nonzero(y)
    assert negatives / np.count_nonzero(~y) == pytest.approx(0.2, abs=0.005)
    assert predictor.seen == 20_000
    asked, _, truth = world(10_000, seed=8, intercept=-3.0)
    said = foretold(predictor, asked)
    assert said.mean() == pytest.approx(truth.mean(), rel=0.1)
    assert np.abs(said - truth).mean() < 0.02
    # what it was taught from is another world, in which five times as many buy
    assert predictor.champion.predict_proba_many(asked).mean() > 2.5 * truth.mean()


def test_which_negatives_are_learned_does_not_depend_on_batches():
    X, y, _ = world(3_000, seed=9)
    task = Task("buys", ("a", "b", "c"), negatives=0.3)
    states = [
        teach(new(task=task), X, y, batch=batch).champion.to_state() for batch in (1, 77, 3_000)
    ]
    assert states[0] == states[1] == states[2]


# -- the guard ----------------------------------------------------------------------------------


def poisoned(champion, kind):
    """The champion with other weights that it goes on from."""
    state = champion.to_state()
    if kind == "nan":
        state["columns"]["weight"] = [float("nan")] * 3
        state["columns"]["z"] = [float("nan")] * 3
        return FtrlClassifier.from_state(state)
    garbage = np.random.default_rng(1).normal(0.0, 5.0, 3)
    # weights are worked out from z at every step: what does not stand there heals at once
    root = np.sqrt(state["columns"]["n"])
    stiffness = (champion.beta + root) / champion.alpha + champion.l2
    state["columns"]["weight"] = garbage.tolist()
    state["columns"]["z"] = (-garbage * stiffness).tolist()
    return FtrlClassifier.from_state(state)


@pytest.mark.parametrize("kind", ["garbage", "nan"])
@pytest.mark.parametrize("negatives", [1.0, 0.5])
def test_a_poisoned_champion_is_put_back_and_learning_goes_on(kind, negatives):
    X, y, _ = world(10_000, seed=10)
    predictor = new(task=Task("buys", ("a", "b", "c"), negatives=negatives))
    teach(predictor, X[:6_000], y[:6_000])
    assert predictor.restored == 0
    predictor.champion = poisoned(predictor.champion, kind)
    teach(predictor, X[6_000:6_500], y[6_000:6_500], batch=10)
    assert predictor.measures()["rollbacks"] == predictor.restored == 1
    ((_, text),) = predictor.alerts
    assert text == "buys: it had become worse than its last good state, which is back"
    # the line in between was learned from what is gone
    assert 0 < predictor.calibration.count < 500
    labels = predictor.champion.labels
    teach(predictor, X[6_500:], y[6_500:])
    assert predictor.champion.labels > labels
    assert predictor.restored == 1
    asked, _, truth = world(5_000, seed=11)
    assert np.corrcoef(foretold(predictor, asked), truth)[0, 1] > 0.97


def test_a_champion_that_learns_as_it_should_is_left_alone():
    X, y, _ = world(12_000, seed=12)
    predictor = teach(new(), X, y)
    assert (predictor.restored, predictor.alerts) == (0, [])


# -- the contest --------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [7, 1_000])
def test_challengers_learn_their_share(batch):
    X, y, _ = world(1_000, seed=13)
    predictor = teach(new(kinds=("tree", "forest"), rate=0.05), X, y, batch=batch)
    assert {kind: each.count for kind, each in predictor.challengers.items()} == {
        "tree": 50,
        "forest": 50,
    }
    assert predictor.contest.count == 50
    assert predictor.champion.labels == 1_000


def test_challengers_that_wait_to_be_built_learn_nothing_until_then():
    X, y, _ = world(200, seed=13)
    predictor = new(kinds=("tree",))
    predictor.patient = True
    teach(predictor, X[:100], y[:100])
    assert (predictor.challengers["tree"].count, predictor.contest.count) == (0, 0)
    for _ in predictor.preparing():
        pass
    teach(predictor, X[100:], y[100:])
    assert (predictor.challengers["tree"].count, predictor.contest.count) == (100, 100)


@pytest.fixture(scope="module")
def overtaken():
    """A predictor whose challenger has taken over, and its plan.

    Its champion learns half of the negatives, and needs a calibration that the challenger does not.
    """
    plan = plan_of(task=Task("buys", ("a", "b", "c"), negatives=0.5), kinds=("tree",))
    X, y = crossed(1_500)
    predictor = teach(Predictor(plan.tasks[0], plan), X, y, batch=250)
    rng = np.random.default_rng(4)
    predictor.calibration.learn_matured(rng.uniform(0.5, 1.0, 2_000), rng.random(2_000) < 0.2)
    assert predictor.calibration.helps
    return predictor, plan


def test_a_challenger_that_is_better_takes_over(overtaken):
    predictor, _ = overtaken
    assert predictor.leader == "tree"
    assert predictor.measures()["challenger_leads"] == 1.0
    assert [text for _, text in predictor.alerts] == ["buys: tree foretells instead of linear"]
    asked, y = crossed(2_000, seed=1)
    assert area_under_curve(y, foretold(predictor, asked)) > 0.8
    assert area_under_curve(y, predictor.champion.predict_proba_many(asked)) < 0.6


def test_whoever_scores_then_says_what_the_challenger_says(overtaken):
    """Also as sure as it was in the contest, and no surer."""
    predictor, plan = overtaken
    told = predictor.scoring()
    assert (told["by"], told["kept"]) == ("trees", 1.0)
    asked, _ = crossed(500, seed=2)
    said = foretold(predictor, asked, plan)
    assert said.tolist() == predictor.challengers["tree"].predict_proba_many(asked).tolist()
    assert said.min() >= 1.0 - SURE
    assert said.max() <= SURE


def test_certain_leaves_cost_no_more_than_in_the_contest():
    plan = plan_of(kinds=("tree",))
    rng = np.random.default_rng(3)
    X = rng.normal(size=(1_500, 3))
    predictor = teach(Predictor(TASK, plan), X, np.abs(X[:, 0]) < 0.7, batch=250)
    assert predictor.leader == "tree"
    said = foretold(predictor, X, plan)
    assert (said.min(), said.max()) == (pytest.approx(1.0 - SURE), SURE)


def test_a_champion_that_is_good_stays():
    X, y, _ = world(3_000, seed=14)
    predictor = teach(new(kinds=("tree",)), X, y)
    assert predictor.leader == "linear"
    assert predictor.scoring()["by"] == "linear"


# -- saved form ---------------------------------------------------------------------------------


@pytest.mark.parametrize("negatives", [1.0, 0.4])
def test_saved_and_restored_it_goes_on_bit_for_bit(negatives):
    """Challengers too, as they remember all they have learned."""
    task = Task("buys", ("a", "b", "c"), negatives=negatives)
    plan = plan_of(task=task, kinds=("tree", "forest"), rate=0.1)
    X, y, truth = world(4_000, seed=15)
    whole = teach(Predictor(task, plan), X[:2_500], y[:2_500], p=truth[:2_500])
    again = carried(whole, plan)
    assert not any(each.ready for each in again.challengers.values())
    assert again.to_state() == whole.to_state()
    assert again.scoring() == whole.scoring()
    for each in (whole, again):
        teach(each, X[2_500:], y[2_500:], p=truth[2_500:])
    assert again.to_state() == whole.to_state()
    assert again.measures() == whole.measures()
    assert again.guard.standing() == whole.guard.standing()


def test_a_challenger_that_leads_does_so_after_a_restart(overtaken):
    predictor, plan = overtaken
    again = carried(predictor, plan)
    asked, _ = crossed(500, seed=3)
    assert again.leader == "tree"
    assert foretold(again, asked).tolist() == foretold(predictor, asked).tolist()


def test_what_a_challenger_has_forgotten_is_lost_by_a_restart():
    """And nothing else is: the champion and what stands around it go on as they were."""
    plan = plan_of(kinds=("tree",))
    X, y, _ = world(2_600, seed=16)
    whole = teach(Predictor(TASK, plan), X[:2_400], y[:2_400])
    again = carried(whole, plan)
    assert again.to_state() == whole.to_state()
    for each in (whole, again):
        teach(each, X[2_400:], y[2_400:])
    parts = ("champion", "calibration", "progress", "guard", "losses", "copies", "seen")
    a, b = whole.to_state(), again.to_state()
    assert {part: b[part] for part in parts} == {part: a[part] for part in parts}
    assert b["challengers"]["tree"]["rows"] == a["challengers"]["tree"]["rows"]
    assert b["challengers"]["tree"]["trees"] != a["challengers"]["tree"]["trees"]


def test_a_poisoned_champion_is_still_found_after_a_restart():
    X, y, _ = world(7_000, seed=17)
    plan = plan_of()
    predictor = teach(Predictor(TASK, plan), X[:6_000], y[:6_000])
    predictor.champion = poisoned(predictor.champion, "garbage")
    again = carried(predictor, plan)
    teach(again, X[6_000:], y[6_000:], batch=10)
    assert again.restored == 1


def test_contestants_that_come_or_go_begin_a_new_contest(overtaken):
    predictor, _ = overtaken
    more, none = plan_of(kinds=("tree", "forest")), plan_of()
    again = carried(predictor, more)
    assert again.leader == "linear"
    assert again.challengers["tree"].count == 1_500
    assert (again.challengers["forest"].count, again.contest.count) == (0, 0)
    assert (carried(predictor, none).leader, carried(predictor, none).contest) == ("linear", None)


@pytest.mark.parametrize("inputs", [("a", "b"), ("a", "c", "b"), ("a", "b", "c", "d")])
def test_other_inputs_are_refused_by_their_names(inputs):
    state = new().to_state()
    other = Task("buys", inputs)
    with pytest.raises(ModelMismatch) as caught:
        Predictor.from_state(state, other, plan_of(task=other))
    assert "feature list is ['a', 'b', 'c']" in str(caught.value)
    assert f"but {list(inputs)!r} is in use" in str(caught.value)


def test_another_format_is_refused():
    plan = plan_of()
    with pytest.raises(ModelMismatch, match="format of buys is 99, but 1 is in use"):
        Predictor.from_state(new().to_state() | {"format": 99}, TASK, plan)
