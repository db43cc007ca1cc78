"""The trainer: each model learns its own examples only, and its memory is whole and bounded."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.contract import ModelMismatch
from models.examples import SEEN, Examples
from models.plan import Challenging, Clustering, ModelPlan, Task, Valuing
from models.trainer import Trainer
from state.times import DAY_MS, HOUR_MS

BUYS, LEAVES = Task("buys", ("a", "b")), Task("leaves", ("c", "a"))
GROUPS = Clustering("cluster", ("b", "c"), k=3, refit_every_ms=DAY_MS)
PLAN = ModelPlan((BUYS, LEAVES), least=50, clustering=GROUPS)
CENTRES = np.array([[0.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]])


def examples(n, task, seed=0, start_ms=0, spread_ms=1_000, X=None):
    """Examples of a task whose outcome depends on ``a``, and which were foretold by chance."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) if X is None else X
    return Examples(
        np.full(n, task, np.uint8),
        start_ms + np.arange(n, dtype=np.int64) * spread_ms,
        rng.random(n) < 1.0 / (1.0 + np.exp(-2.0 * X[:, 0])),
        np.full(n, np.nan if task == SEEN else 0.5, np.float32),
        X.astype(np.float32),
    )


def crowd(n, seed=0):
    """Users of three groups."""
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(0, 3, n)] + rng.normal(size=(n, 3))


def carried(trainer, plan=PLAN):
    """The same in another process."""
    raw = msgspec.msgpack.encode(trainer.to_state())
    return Trainer.from_state(msgspec.msgpack.decode(raw), plan)


def taught(plan=PLAN, n=400):
    """One that has learned something of everything."""
    trainer = Trainer(plan)
    parts = [examples(n, task, seed=task) for task in range(len(plan.tasks))]
    seen = examples(600, SEEN, seed=9, X=crowd(600))
    trainer.learn(Examples.joined([*parts, seen], 3))
    return trainer


def test_tasks_learn_their_own_examples_and_their_own_inputs():
    trainer = Trainer(PLAN)
    parts = [examples(300, 0, seed=1), examples(200, 1, seed=2), examples(100, SEEN, seed=3)]
    trainer.learn(Examples.joined(parts, 3))
    for predictor, part, places in zip(trainer.predictors, parts, ([0, 1], [2, 0]), strict=False):
        saved = predictor.champion.to_state()
        X = part.X[:, places].astype(np.float64)
        assert predictor.seen == predictor.champion.labels == len(part)
        np.testing.assert_allclose(saved["columns"]["mean"], X.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(saved["columns"]["var"], X.var(axis=0), rtol=1e-9)
        assert predictor.measures()["base_rate"] == part.y.mean()


def test_how_examples_of_several_tasks_mingle_makes_no_difference():
    parts = [examples(300, 0, seed=1), examples(300, 1, seed=2, start_ms=500)]
    together, apart = Trainer(PLAN), Trainer(PLAN)
    together.learn(Examples.joined(parts, 3))
    for part in parts:
        apart.learn(part)
    champions = [[p.champion.to_state() for p in t.predictors] for t in (together, apart)]
    assert champions[0] == champions[1]


def test_what_was_only_seen_feeds_groups_and_the_watch_but_no_champion():
    trainer = Trainer(PLAN)
    before = [predictor.to_state() for predictor in trainer.predictors]
    trainer.learn(examples(4_000, SEEN, X=crowd(4_000), spread_ms=0))
    assert [predictor.to_state() for predictor in trainer.predictors] == before
    assert trainer.clusters.started
    assert all(psi < 0.1 for psi in trainer.quality()["inputs"].values())
    trainer.learn(examples(2_000, SEEN, X=crowd(2_000) + np.array([0.0, 0.0, 30.0]), spread_ms=0))
    psi = trainer.quality()["inputs"]
    assert psi["psi c"] > 0.25
    assert psi["psi a"] < 0.1


@pytest.mark.parametrize(("rate", "every"), [(0.01, 1), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_inputs_are_watched_in_a_quarter_of_all_moments_at_most(rate, every):
    trainer = Trainer(replace(PLAN, rate=rate))
    trainer.learn(examples(2_000 * every, SEEN, X=crowd(2_000 * every), spread_ms=0))
    assert trainer.inputs.to_state()["first"] == []  # the reference has just become full
    assert np.sum(trainer.inputs.to_state()["reference"], axis=1).tolist() == [2_000] * 3


def test_what_has_an_outcome_moves_neither_groups_nor_the_watch():
    trainer = taught()
    watch, groups = trainer.inputs.to_state(), trainer.clusters.to_state()
    trainer.learn(examples(500, 0, X=crowd(500) + 50.0))
    assert trainer.inputs.to_state() == watch
    assert trainer.clusters.to_state() == groups


def test_its_version_rises_with_what_it_learns_and_with_nothing_else():
    trainer = Trainer(PLAN)
    assert (trainer.version, trainer.is_new()) == (0, False)
    trainer.learn(Examples.empty(3))
    assert (trainer.version, trainer.is_new()) == (0, False)
    for version, task in enumerate((0, 1, SEEN), 1):
        trainer.learn(examples(10, task))
        assert (trainer.version, trainer.is_new()) == (version, True)
        trainer.to_state()
        assert (trainer.version, trainer.is_new()) == (version, False)
    assert trainer.scoring()["version"] == 3
    again = carried(trainer)
    assert (again.version, again.is_new()) == (3, False)


def test_it_scores_tasks_when_they_are_ready():
    trainer = Trainer(PLAN)
    trainer.learn(examples(49, 0))
    assert trainer.scoring()["tasks"] == [None, None]
    trainer.learn(examples(1, 0))
    told = trainer.scoring()
    assert [task and task["by"] for task in told["tasks"]] == ["linear", None]
    assert told["plan"] == PLAN.fingerprint


# -- groups -------------------------------------------------------------------------------------


def test_groups_keep_their_labels_when_they_are_fitted_anew():
    trainer = Trainer(PLAN)
    for day in range(4):
        X = crowd(1_000, seed=day)
        trainer.learn(examples(1_000, SEEN, X=X, start_ms=day * DAY_MS, spread_ms=1))
        if day == 0:
            first = trainer.clusters.predict_many(CENTRES[:, 1:].copy()).tolist()
            fits = trainer.clusters._fits
    assert trainer.clusters._fits >= fits + 2
    assert trainer.clusters.predict_many(CENTRES[:, 1:].copy()).tolist() == first
    assert sorted(first) == [0, 1, 2]


def test_groups_are_fitted_anew_once_in_so_long_and_only_to_enough():
    trainer = Trainer(PLAN)
    fits = []
    for start_ms in (0, 2 * DAY_MS, 2 * DAY_MS + HOUR_MS, 3 * DAY_MS + HOUR_MS):
        seen = examples(1_000, SEEN, X=crowd(1_000), start_ms=start_ms, spread_ms=1)
        trainer.learn(seen)
        fits.append(trainer.clusters._fits)
    assert np.diff(fits).tolist() == [1, 0, 1]


# -- what users are worth -----------------------------------------------------------------------


def test_the_population_is_asked_for_every_hour_until_something_is_known():
    assert not Trainer(PLAN).wants_population(5 * DAY_MS)
    trainer = Trainer(ModelPlan((BUYS,), valuing=Valuing(refit_every_ms=7 * DAY_MS)))
    assert trainer.wants_population(DAY_MS)
    assert not trainer.wants_population(DAY_MS + HOUR_MS - 1)
    assert trainer.wants_population(DAY_MS + HOUR_MS)


# -- saved form ---------------------------------------------------------------------------------


def test_saved_and_restored_it_goes_on_bit_for_bit():
    plan = ModelPlan(
        PLAN.tasks, least=50, clustering=GROUPS, challenging=Challenging(("tree",), 0.2)
    )
    whole = taught(plan)
    whole.positions = {3: "17-0", 60: "4-1"}
    again = carried(whole, plan)
    assert again.to_state() == whole.to_state()
    assert again.scoring() == whole.scoring()
    for trainer in (whole, again):
        parts = [examples(300, task, seed=20 + task) for task in (0, 1)]
        seen = examples(2_500, SEEN, X=crowd(2_500, seed=4), start_ms=3 * DAY_MS)
        trainer.learn(Examples.joined([*parts, seen], 3))
    assert again.to_state() == whole.to_state()
    assert again.quality() == whole.quality()


def test_positions_are_kept():
    trainer = taught()
    trainer.positions = {0: "12-0", 63: "1780000000000-3"}
    assert carried(trainer).positions == trainer.positions


def test_a_task_that_is_new_begins_anew_and_one_that_is_gone_is_forgotten():
    trainer = taught()
    grows = Task("grows", ("b", "c"))
    plan = ModelPlan((grows, LEAVES), least=50, clustering=GROUPS)
    again = carried(trainer, plan)
    new, kept = again.predictors
    assert (new.task, new.seen) == (grows, 0)
    assert kept.to_state() == trainer.predictors[1].to_state()
    assert [task and task["by"] for task in again.scoring()["tasks"]] == [None, "linear"]
    assert set(again.to_state()["tasks"]) == {"grows", "leaves"}


def test_a_task_for_other_inputs_is_refused_by_its_name():
    plan = ModelPlan((BUYS, Task("leaves", ("c",))), clustering=GROUPS)
    with pytest.raises(ModelMismatch, match=r"^leaves: .*feature list is \['c', 'a'\]"):
        carried(taught(), plan)


def test_another_format_is_refused():
    with pytest.raises(ModelMismatch, match="format is 99"):
        Trainer.from_state(Trainer(PLAN).to_state() | {"format": 99}, PLAN)


@pytest.mark.parametrize(
    "groups", [None, Clustering("cluster", ("b", "c"), k=4), Clustering("cluster", ("a",), k=3)]
)
def test_other_groups_begin_anew_and_tasks_go_on(groups):
    again = carried(taught(), ModelPlan(PLAN.tasks, least=50, clustering=groups))
    assert again.predictors[0].seen == 400
    assert again.clusters is None or not again.clusters.started
    again.learn(examples(600, SEEN, X=crowd(600)))
    assert again.clusters is None or again.clusters.started


def test_other_inputs_make_the_watch_begin_anew():
    plan = ModelPlan((BUYS, LEAVES, Task("new", ("d",))), least=50, clustering=GROUPS)
    again = carried(taught(), plan)
    assert again.inputs.features == ("a", "b", "c", "d")
    assert len(again._recent) == 0
    assert not again.clusters.started
    assert again.predictors[1].seen == 400


def test_a_plan_that_asks_for_no_inputs_has_a_memory_too():
    """Only what buyers are worth is of interest."""
    plan = ModelPlan((), valuing=Valuing())
    trainer = Trainer(plan)
    trainer.learn(Examples.empty(0))
    trainer.positions = {1: "2-0"}
    again = carried(trainer, plan)
    assert again.positions == {1: "2-0"}
    assert again.quality() == {}


# -- bounded memory -----------------------------------------------------------------------------


def test_what_is_remembered_of_snapshots_is_bounded():
    trainer = Trainer(PLAN)
    for part in range(5):
        trainer.learn(examples(1_500, SEEN, X=crowd(1_500, seed=part)))
    last = crowd(1_500, seed=4).astype(np.float32)
    assert trainer._recent.shape == (2_000, 3)
    np.testing.assert_array_equal(trainer._recent[-1_500:], last)


def test_of_alerts_the_latest_are_kept():
    trainer = Trainer(PLAN)
    for n in range(120):
        trainer.predictors[n % 2].alerts.append((n, f"alert {n}"))
        trainer.learn(examples(1, 0))
    assert trainer.predictors[0].alerts == trainer.predictors[1].alerts == []
    assert [ts_ms for ts_ms, _ in trainer.alerts] == list(range(70, 120))
    assert trainer.untold == [f"alert {n}" for n in range(70, 120)]
    assert carried(trainer).alerts == trainer.alerts


def test_the_saved_form_does_not_grow_with_the_stream():
    trainer = Trainer(PLAN)
    sizes = []
    for part in range(8):
        parts = [examples(2_000, task, seed=10 * part + task) for task in (0, 1)]
        trainer.learn(Examples.joined([*parts, examples(2_000, SEEN, X=crowd(2_000))], 3))
        sizes.append(len(msgspec.msgpack.encode(trainer.to_state())))
    assert sizes[-1] < 1.05 * sizes[2]


def test_an_input_that_has_moved_raises_one_alert_also_over_a_restart():
    trainer = Trainer(PLAN)
    trainer.learn(examples(4_000, SEEN, seed=1))
    assert trainer.alerts == []
    for seed in (2, 3):
        moved = np.random.default_rng(seed).normal([0.0, 2.0, 0.0], 1.0, (2_000, 3))
        trainer.learn(examples(2_000, SEEN, start_ms=10**9, X=moved))
        trainer = carried(trainer)
    [(ts_ms, text)] = trainer.alerts
    assert ts_ms >= 10**9
    assert text.startswith("inputs: b has moved, its population stability is ")
