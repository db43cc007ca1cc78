"""``afterglow models`` on what a short run of a real lane has learned and stored."""

import csv
import json
import random
import re
from contextlib import closing

import msgspec
import numpy as np
import pytest

from dataflows.embedded import EmbeddedStore
from dataflows.evaluating import evaluate
from dataflows.plans import lane_plan, learner
from dataflows.settings import load
from events.decode import Decoder
from events.rows import read_messages
from events.schema import EventRules
from models.linear import FtrlClassifier
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store
from state.times import MINUTE_MS
from tests.cli.running import afterglow, right, wrong
from tests.state.streams import START_MS, read_of

pytestmark = pytest.mark.servers
SETS = [
    "models.every=10m",
    "models.rate=1",
    "models.least=20",
    "models.challengers.kinds=[]",
    "models.clusters.k=3",
    "models.value.least=100",
    "models.value.refit=1h",
    "models.tasks.purchase_7d.horizon=20m",
    "models.tasks.purchase_30d.horizon=90m",
    "models.tasks.churn_30d.horizon=90m",
]
SETTINGS = load(sets=SETS, env={})
MODELS = ("purchase_7d", "purchase_30d", "churn_30d")
SHORT = [word for each in SETS for word in ("--set", each)]


def events_of(count, users=150, seed=1):
    """Hours of a shop in which every third user buys often."""
    chance = random.Random(seed)
    for n in range(count):
        user = chance.randrange(users)
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{user}",
            "type": "product_view",
            "ts": START_MS + n * MINUTE_MS // 4,
        }
        if chance.random() < (0.4 if user % 3 == 0 else 0.1):
            event |= {"type": "purchase", "amount": 5 + user, "order_id": f"o{n}"}
        yield event


@pytest.fixture(scope="module")
def server():
    with EmbeddedStore() as store:
        yield store.url


@pytest.fixture(scope="module")
def filled(server):
    """The environment that leads to a store that a lane has filled, and what its trainer knows."""
    store = Store(server)
    models = learner(SETTINGS, trains=True)
    lane, decode = Lane(lane_plan(SETTINGS), range(64), models), Decoder(EventRules())
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    events = list(events_of(2_000))
    for start in range(0, len(events), 100):
        batch, _ = decode(read_of(events[start : start + 100], start))
        lane.apply(batch)
        checkpoint.commit(heartbeat=True)
    for _ in range(2):  # what was stored is learned a round later
        checkpoint.commit(heartbeat=True)
    models.trainer.alerts.append((START_MS, "purchase_7d: its loss went from 0.100 to 0.200"))
    checkpoint.keep_models()
    store.close()
    return {"REDIS_URL": server}, models.trainer


@pytest.fixture
def trainer(filled):
    return filled[1]


@pytest.fixture
def env(filled):
    """The environment; what is stored of the models is put back after the test."""
    around, _ = filled
    store = Store(around["REDIS_URL"])
    held = store.shared("trainer")
    yield around
    store.share("trainer", held)
    store.close()


def cells(text):
    """The rows of a printed table, each as its cells."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


# -- what is shown ------------------------------------------------------------------------------


def test_each_model_is_a_line(env, trainer):
    text = right("models", "list", *SHORT, env=env)
    rows = cells(text)
    assert [row[0] for row in rows] == list(MODELS)
    assert [row[1] for row in rows] == [
        "purchase within 0.0138889 d",
        "purchase within 0.0625 d",
        "no anything in 0.0625 d",
    ]
    assert [row[2] for row in rows] == ["linear"] * 3
    for row, predictor in zip(rows, trainer.predictors, strict=True):
        measures = predictor.measures()
        assert row[3] == f"{predictor.seen:,}"
        assert predictor.seen > 500
        assert row[6] == f"{measures['log_loss']:.4f}"


def test_groups_and_worth_are_said_in_words(env, trainer):
    text = right("models", "list", *SHORT, env=env)
    shares = re.findall(r"^cluster (\d): (\d+)% of users; ", text, re.MULTILINE)
    assert [int(place) for place, _ in shares] == [0, 1, 2]
    assert sum(int(share) for _, share in shares) == pytest.approx(100, abs=2)
    assert f"worth, from {trainer.worth.buyers:,} buyers: BgNbd(r=" in text


def test_a_model_that_has_not_learned_enough_foretells_nothing(env):
    text = right("models", "list", *SHORT, "--set", "models.least=1000000", env=env)
    assert [row[2] for row in cells(text)] == ["nobody yet"] * 3


def test_every_measure_and_every_alert_is_shown(env, trainer):
    text = right("models", "health", *SHORT, env=env)
    rows = cells(text)
    expected = {(model, name) for model, held in trainer.quality().items() for name in held}
    assert {(model, name) for model, name, _ in rows} == expected
    shown = {(model, name): value for model, name, value in rows}
    assert shown["purchase_7d", "labels"] == f"{trainer.predictors[0].seen:,}"
    assert shown["purchase_7d", "auc"] == f"{trainer.predictors[0].measures()['auc']:.4f}"
    last = text.splitlines()[-1]
    assert last == "2026-05-28 20:26:40  purchase_7d: its loss went from 0.100 to 0.200"


def test_that_there_are_no_alerts_is_said(env, trainer):
    state = trainer.to_state() | {"alerts": []}
    store = Store(env["REDIS_URL"])
    store.share("trainer", msgspec.msgpack.encode(state))
    store.close()
    assert right("models", "health", *SHORT, env=env).endswith("\nno alerts\n")


def test_weights_are_shown_the_heaviest_first(env, trainer):
    text = right("models", "weights", "purchase_30d", *SHORT, env=env)
    rows = cells(text)
    predictor = trainer.predictors[1]
    means, _, weights, intercept = predictor.champion.linear
    assert {row[0] for row in rows} == set(predictor.task.inputs)
    shown = [abs(float(row[1])) for row in rows]
    assert shown == sorted(shown, reverse=True)
    place = predictor.task.inputs.index(rows[0][0])
    assert rows[0][1:3] == [f"{weights[place]:.4f}", f"{means[place]:.4f}"]
    assert f"intercept {intercept:.4f};" in text


# -- export and reset ---------------------------------------------------------------------------


def test_what_is_exported_is_the_champion(env, trainer, tmp_path):
    printed = right("models", "export", "churn_30d", *SHORT, env=env)
    out = tmp_path / "churn.json"
    said = right("models", "export", "churn_30d", "--out", out, *SHORT, env=env)
    assert said == f"churn_30d written to {out}\n"
    assert out.read_text() == printed
    champion = trainer.predictors[2].champion
    model = FtrlClassifier.from_state(json.loads(printed), champion.features)
    assert model.to_state() == champion.to_state()
    X = np.random.default_rng(0).random((20, len(champion.features)))
    assert model.predict_proba_many(X).tolist() == champion.predict_proba_many(X).tolist()


def test_a_file_that_cannot_be_written_is_said(env, tmp_path):
    out = tmp_path / "not-there" / "model.json"
    (line,) = wrong("models", "export", "churn_30d", "--out", out, *SHORT, env=env)
    assert line.startswith(f"afterglow: {out} cannot be written: ")


def test_one_model_is_reset_and_the_others_stay(env, trainer):
    said = right("models", "reset", "purchase_30d", *SHORT, env=env)
    assert said == (
        "purchase_30d is deleted; a new one begins when the engine starts, or in seconds if it "
        "runs\n"
    )
    rows = {row[0]: row for row in cells(right("models", "list", *SHORT, env=env))}
    assert rows["purchase_30d"][2:4] == ["nobody yet", "0"]
    for name, place in (("purchase_7d", 0), ("churn_30d", 2)):
        assert rows[name][2:4] == ["linear", f"{trainer.predictors[place].seen:,}"]
    (line,) = wrong("models", "reset", "purchase_30d", *SHORT, env=env)
    assert line == (
        "afterglow: there is no saved model 'purchase_30d'; there are purchase_7d, churn_30d"
    )


def test_an_engine_that_starts_after_a_reset_learns_that_model_anew(env, trainer):
    right("models", "reset", "purchase_30d", *SHORT, env=env)
    models = learner(SETTINGS, trains=True)
    store = Store(env["REDIS_URL"])
    Checkpoint(Lane(lane_plan(SETTINGS), range(64), models), store).open()
    store.close()
    assert [predictor.seen for predictor in models.trainer.predictors] == [
        trainer.predictors[0].seen,
        0,
        trainer.predictors[2].seen,
    ]
    assert models.trainer.positions == trainer.positions


# -- what is refused ----------------------------------------------------------------------------

ASKING = ["list", "health", "weights churn_30d", "export churn_30d", "reset churn_30d"]


@pytest.mark.parametrize("command", ASKING)
def test_a_store_must_be_named(command):
    (line,) = wrong("models", *command.split())
    assert line.startswith("afterglow: REDIS_URL must name the store")


@pytest.mark.parametrize("command", ASKING)
def test_that_nothing_was_learned_yet_is_said(command, server):
    around = {"REDIS_URL": server}
    with closing(Store(server, "empty")) as store:
        store.meta.begin()
    (line,) = wrong("models", *command.split(), "--set", "redis.prefix=empty", env=around)
    assert line == (
        "afterglow: nothing has been learned yet under 'empty': outcomes are known when their "
        "horizon has passed (models.tasks.*.horizon)"
    )


@pytest.mark.parametrize("command", ["weights", "export"])
def test_a_model_that_there_is_not_is_said(command, env):
    (line,) = wrong("models", command, "churn", *SHORT, env=env)
    assert line == f"afterglow: there is no model 'churn'; there are {', '.join(MODELS)}"


@pytest.mark.parametrize("command", ASKING[:-1])
def test_that_models_are_switched_off_is_said(command, env):
    off = ("--set", "models.enabled=false")
    (line,) = wrong("models", *command.split(), *off, env=env)
    assert line == "afterglow: models.enabled is false: there is nothing that learns"


@pytest.mark.parametrize("command", ASKING[:-1])
def test_models_of_other_inputs_are_refused_in_words(command, env):
    """And the remedy that is named works."""
    other = ("--set", "models.tasks.churn_30d.inputs=['lifetime.orders']")
    (line,) = wrong("models", *command.split(), *SHORT, *other, env=env)
    assert line.startswith("afterglow: churn_30d: the saved model's feature list is ")
    assert line.endswith("`afterglow models reset NAME` deletes a saved model")
    right("models", "reset", "churn_30d", *SHORT, *other, env=env)
    rows = cells(right("models", "list", *SHORT, *other, env=env))
    assert [row[3] == "0" for row in rows] == [False, False, True]


# -- evaluate -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A small CSV with one row that is no event."""
    file = tmp_path_factory.mktemp("logs") / "shop.csv"
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, ["event_id", "user_id", "type", "ts", "amount", "order_id"])
        writer.writeheader()
        writer.writerows(events_of(1_500, users=60))
        writer.writerow({"event_id": "x", "user_id": "u", "type": "purchase", "ts": START_MS})
    return file


def test_what_was_foretold_of_a_log_is_held_against_what_came(log):
    text = right("models", "evaluate", log, "--step", "10m", *SHORT)
    assert text.startswith("1,500 events, 1 dead letters\n")
    run = evaluate(SETTINGS, "log", read_messages(log), 10 * MINUTE_MS)
    rows = cells(text)
    assert [row[0] for row in rows] == list(MODELS)
    for row, foretold in zip(rows, run.tasks, strict=True):
        p = foretold.examples.p
        asked = ~np.isnan(p)
        y = foretold.examples.y[asked]
        assert row[1] == f"{np.count_nonzero(asked):,}"
        assert len(y) > 100
        assert row[2] == f"{y.mean():.3f}"
        losses = -np.log(np.where(y, p[asked], 1.0 - p[asked].astype(float)))
        assert float(row[4]) == pytest.approx(losses.mean(), abs=1e-4)


def test_the_first_moments_may_be_left_out(log):
    counts = [
        [
            int(row[1])
            for row in cells(right("models", "evaluate", log, "--step", "10m", *SHORT, *more))
        ]
        for more in ((), ("--after", "4h"), ("--after", "365d"))
    ]
    assert all(0 < later < every for every, later in zip(*counts[:2], strict=True))
    assert counts[2] == [0, 0, 0]


def test_columns_and_types_may_have_other_names(log, tmp_path):
    file = tmp_path / "other.csv"
    text = log.read_text().replace("user_id", "who", 1).replace("product_view", "view")
    file.write_text(text)
    renamed = ("--map", "user_id=who", "--type", "view=product_view")
    options = ("--step", "10m", *SHORT)
    assert right("models", "evaluate", file, *options, *renamed) == right(
        "models", "evaluate", log, *options
    )


def test_of_a_log_without_events_nothing_is_foretold(tmp_path):
    file = tmp_path / "empty.csv"
    file.write_text("event_id,user_id,type,ts\n")
    text = right("models", "evaluate", file)
    assert text.startswith("0 events, 0 dead letters\n")
    assert [row[1:] for row in cells(text)] == [["0", *["–"] * 5]] * 3


def test_a_log_without_a_good_event_fails_and_says_why(tmp_path):
    (file := tmp_path / "log.csv").write_text(
        "event_id,user_id,type,ts\n1,,click,5\n\n2,,click,6\n"
    )
    done = afterglow("models", "evaluate", file)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        f"afterglow: {file} holds no good event: all 2 messages are dead letters: 2 missing. The "
        f"first of each (`afterglow replay {file} --dead-letters FILE` writes all):",
        "  missing, line 2, user_id: `user_id` is required, but is absent",
        "--map FIELD=COLUMN takes a missing field from another",
    ]


def test_what_of_a_log_was_refused_is_told(tmp_path):
    (file := tmp_path / "log.csv").write_text(
        "event_id,user_id,type,ts\n1,ann,click,5\n2,ann,view,6\n"
    )
    done = afterglow("models", "evaluate", file, "--type", "vieew=product_view")
    count, told, first, *_ = done.out.splitlines()
    assert count == "1 events, 1 dead letters"
    assert told == "dead letters: 1 unknown_type. The first of each:"
    assert first.startswith("  unknown_type, line 3, type: must be one of ")
    assert done.err.startswith("warning: --type vieew=product_view renamed nothing")


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["models.rate=0.000001"], "no moment was sampled: models.rate takes 1e-06 of the users"),
        (["models.tasks.purchase_7d.horizon=60d"], r"no outcome is known: none of the [\d,]+ sam"),
        (["models.least=100000"], r"[\d,]+ outcomes are known, but models.least is 100,000 before"),
        (
            ["models.least=100", "models.tasks.purchase_7d.horizon=5h"],
            r"[\d,]+ outcomes are known, but after the first 100 \(models.least\) no moment was",
        ),
    ],
    ids=["rate", "horizon", "least", "both"],
)
def test_what_was_not_met_is_said_where_nothing_is_foretold(log, sets, words):
    more = [word for each in sets for word in ("--set", each)]
    text = right("models", "evaluate", log, "--step", "10m", *SHORT, *more)
    assert [row[1] for row in cells(text) if row[0] == "purchase_7d"] == ["0"]
    (line,) = [line for line in text.splitlines() if line.startswith("purchase_7d: ")]
    assert re.match(f"purchase_7d: {words}", line), line


def test_nothing_is_said_where_something_is_foretold(log):
    text = right("models", "evaluate", log, "--step", "10m", *SHORT)
    assert text.splitlines()[-1].startswith("└")
    text = right("models", "evaluate", log, "--step", "10m", *SHORT, "--after", "365d")
    assert text.endswith("churn_30d: all that was foretold lies before the end of --after\n")


DURATION = 'must be a duration such as "250ms", "30s", "5m", "1h30m" or "7d"'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--step", "soon"), f"--step {DURATION}, but 'soon' came"),
        (("--after", "150"), f"--after {DURATION}, but '150' came"),
        (("--after", "5 days"), f"--after {DURATION}, but '5 days' came"),
        (("--step", "0s"), "--step must be longer than nothing, but 0s came"),
        (("--map", "user_id"), "--map user_id: must be of the form NAME=VALUE"),
    ],
)
def test_wrong_options_are_refused_in_words(log, options, words):
    (line,) = wrong("models", "evaluate", log, *options)
    assert line.startswith(f"afterglow: {words}")


def test_a_log_that_is_not_there_is_said(tmp_path):
    (line,) = wrong("models", "evaluate", tmp_path / "no.csv")
    assert line.endswith("no.csv: there is no such file")


def test_models_that_are_switched_off_cannot_be_evaluated(log):
    (line,) = wrong("models", "evaluate", log, "--set", "models.enabled=false")
    assert line.startswith("settings: models.enabled: must be true to evaluate models")
