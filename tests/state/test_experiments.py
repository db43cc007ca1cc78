"""Experiments against the definition, user by user and event by event."""

from collections import defaultdict
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.decode import Decoder
from events.hashing import shard_of, shares
from events.schema import (
    ADD_TO_CART,
    CLICK,
    IMPRESSION,
    PRODUCT_VIEW,
    PURCHASE,
    TYPES,
    EventRules,
)
from events.texts import Texts
from state.experiment_plan import (
    MOST_EXPERIMENTS,
    Arm,
    Experiment,
    ExperimentsPlan,
    Ruling,
    encode_rulings,
)
from state.experiments import Experiments
from state.lane import Lane
from state.rfm import RfmSpec
from state.times import DAY_MS, FAR_MS, HOUR_MS
from state.totals import ArmTotals, arm_totals, sum_totals
from state.trial import NO_ARM, NOT_YET
from tests.state.streams import START_MS, feed, plan, read_of

USERS = 6
LAYOUT = Experiment(
    "layout",
    (Arm("control", 1.0), Arm("bold", 2.0, {"weights.covisits": 2.0})),
    salt="layout",
    start_ms=START_MS + 2 * HOUR_MS,
    stop_ms=START_MS + 20 * HOUR_MS,
    window_ms=10 * HOUR_MS,
)
PRICES = Experiment(
    "prices",
    (Arm("low"), Arm("control"), Arm("high")),
    salt="prices",
    conversion=(CLICK, ADD_TO_CART),
    window_ms=3 * HOUR_MS,
)
PLAN = ExperimentsPlan((LAYOUT, PRICES), holdout=0.3)
KINDS = [TYPES[code] for code in (IMPRESSION, CLICK, PURCHASE, PRODUCT_VIEW, ADD_TO_CART)]


def lane_of(experiments=PLAN, shards=range(64)):
    return Lane(plan(rfm=RfmSpec(), experiments=experiments), shards)


def chance(user, salt):
    return float(shares(Texts.of([user]), salt)[0])


def arm_of(experiment, user, held=PLAN.holdout):
    """By definition: where the user falls among the weights, unless held out."""
    if chance(user, "holdout") < held:
        return None
    whole = sum(arm.weight for arm in experiment.arms)
    upper = 0.0
    for arm in experiment.arms:
        upper += arm.weight / whole
        if chance(user, experiment.salt) < upper:
            return arm.name
    return experiment.arms[-1].name


def outcomes(experiment, events):
    """What one user's events come to, taken one by one; None for a user who was not exposed."""
    since, seen, clicked, spent, converted = FAR_MS, 0, 0, 0, 0
    for event in events:
        kind, ts = event["type"], event["ts"]
        if kind == "impression" and experiment.start_ms <= ts < experiment.stop_ms:
            since = min(since, ts)
        if since <= ts < since + experiment.window_ms:
            seen += kind == "impression"
            clicked += kind == "click"
            converted += TYPES.index(kind) in experiment.conversion
            spent += round(event.get("amount", 0) * 100) if kind == "purchase" else 0
    return None if since == FAR_MS else (since, seen, clicked, converted, spent)


def expected(experiment, events, held=PLAN.holdout):
    """Totals by arm."""
    by_user = defaultdict(list)
    for event in events:
        by_user[event["user_id"]].append(event)
    found = defaultdict(list)
    for user, own in by_user.items():
        result = outcomes(experiment, own)
        if result is not None:
            found[arm_of(experiment, user, held)].append(result)
    return {
        arm.name: ArmTotals(
            users=len(found[arm.name]),
            impressions=sum(r[1] for r in found[arm.name]),
            clicks=sum(r[2] for r in found[arm.name]),
            clicks_squared=sum(r[2] ** 2 for r in found[arm.name]),
            conversions=sum(r[3] > 0 for r in found[arm.name]),
            revenue=sum(r[4] for r in found[arm.name]),
            revenue_squared=sum(r[4] ** 2 for r in found[arm.name]),
        )
        for arm in experiment.arms
    }


def found(lane):
    """Totals by experiment and arm."""
    return {
        experiment.name: dict(zip(experiment.names, arm_totals(totals), strict=True))
        for experiment, totals in lane.measures.experiments.totals()
    }


@st.composite
def streams(draw, max_size=60):
    events = []
    for n in range(draw(st.integers(1, max_size))):
        kind = draw(st.sampled_from(KINDS))
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{draw(st.integers(0, USERS - 1))}",
            "type": kind,
            "ts": START_MS + draw(st.integers(0, 30 * HOUR_MS)),
        }
        if kind == "purchase":
            event["amount"] = draw(st.integers(0, 10**9))
        if kind == "add_to_cart":
            event["item_id"] = "i"
        events.append(event)
    return events


@settings(max_examples=200)
@given(streams(), st.data())
def test_totals_are_those_of_every_user_by_definition(events, data):
    """In any order, taken in that order; the batching does not matter."""
    if data.draw(st.booleans()):
        events = sorted(events, key=lambda event: event["ts"])
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=5))
    lane = lane_of()
    feed(lane, events, cuts)
    assert found(lane) == {e.name: expected(e, events) for e in PLAN.experiments}
    before = [totals.copy() for _, totals in lane.measures.experiments.totals()]
    lane.measures.experiments.restore(lane.table)
    for old, (_, new) in zip(before, lane.measures.experiments.totals(), strict=True):
        np.testing.assert_array_equal(old, new)


@settings(max_examples=100)
@given(streams(), st.data())
def test_the_order_does_not_matter_where_exposures_come_in_order(events, data):
    """Each user's first impression comes before what it is to claim; all else is shuffled."""
    by_time = sorted(events, key=lambda event: event["ts"])
    first = {}
    for event in by_time:
        if event["type"] == "impression":
            for e in PLAN.experiments:
                if e.start_ms <= event["ts"] < e.stop_ms:
                    first.setdefault((e.name, event["user_id"]), event["event_id"])
    leading = set(first.values())
    rest = data.draw(st.permutations([e for e in by_time if e["event_id"] not in leading]))
    shuffled = [*(e for e in by_time if e["event_id"] in leading), *rest]
    lane = lane_of()
    feed(lane, shuffled, data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    truth = sorted(shuffled, key=lambda e: (e["ts"], e["event_id"] not in leading))
    assert found(lane) == {e.name: expected(e, truth) for e in PLAN.experiments}


@given(streams(), st.data())
def test_the_exposure_is_the_earliest_impression_in_any_order(events, data):
    lane = lane_of()
    feed(lane, data.draw(st.permutations(events)), [len(events) // 2])
    column = f"experiment.{PLAN.keys[0]}.exposed"
    for user in {event["user_id"] for event in events}:
        own = [
            e["ts"]
            for e in events
            if e["user_id"] == user
            and e["type"] == "impression"
            and LAYOUT.start_ms <= e["ts"] < LAYOUT.stop_ms
        ]
        truth = FAR_MS if arm_of(LAYOUT, user) is None else min(own, default=FAR_MS)
        assert lane.table[column][lane.users.find(user)] == truth


def send(lane, events):
    """More events, after those that the lane has."""
    batch, letters = Decoder(EventRules())(read_of(events, lane.counters.events))
    assert not letters
    lane.apply(batch)


def visit(user, hour, kind="impression", **more):
    ts = START_MS + hour * HOUR_MS
    return {"event_id": f"{user} {hour} {kind}", "user_id": user, "type": kind, "ts": ts, **more}


def test_profiles_name_the_arm_while_the_experiment_runs():
    lane = lane_of()
    users = [f"u{n}" for n in range(40)]
    send(lane, [visit(user, 1) for user in users])
    assert_served(lane, users, [PRICES])
    send(lane, [visit(user, 3) for user in users])
    assert_served(lane, users, [LAYOUT, PRICES])
    send(lane, [visit(user, 21) for user in users])
    assert_served(lane, users, [PRICES])
    assert {None, "control", "bold"} == {arm_of(LAYOUT, user) for user in users}
    rows = np.array([lane.users.find(user) for user in users])
    held = lane.measures.experiments.held_out(lane.table, rows)
    assert held.tolist() == [arm_of(LAYOUT, user) is None for user in users]


def assert_served(lane, users, running):
    rows = np.array([lane.users.find(user) for user in users])
    for user, raw in zip(users, lane.portraits.encode(rows).bytes_list(), strict=True):
        arms = {e.name: arm_of(e, user) for e in running}
        served = {name: arm for name, arm in arms.items() if arm is not None}
        assert msgspec.msgpack.decode(raw)["experiment"] == served


def test_a_profile_without_experiments_has_null():
    lane = lane_of(ExperimentsPlan())
    send(lane, [visit("ann", 0)])
    assert (
        msgspec.msgpack.decode(lane.portraits.encode(np.array([0])).bytes_list()[0])["experiment"]
        is None
    )


def test_arms_are_features_of_segments():
    lane = lane_of()
    users = [f"u{n}" for n in range(20)]
    send(lane, [visit(user, 3) for user in users])
    view = lane.view(np.arange(20), lane.table["as_of"][:20])
    codes, name = view.value("experiment.prices").tolist(), "experiment.prices"
    assert [view.text(name, code) for code in codes] == [
        arm_of(PRICES, lane.users.ids[row]) for row in range(20)
    ]
    assert view.code(name, "high") == 2
    assert view.code(name, "higher") == -2


def test_arms_of_two_experiments_are_independent_of_each_other_and_of_the_shard():
    users = Texts.of([f"user-{n}" for n in range(20_000)])
    one, other = shares(users, "one") < 0.5, shares(users, "other") < 0.5
    assert abs(float((one == other).mean()) - 0.5) < 0.015
    shard = shard_of(users, 2)
    assert abs(float((one == (shard == 0)).mean()) - 0.5) < 0.015


def test_a_stopped_arm_gets_control_counts_nothing_more_and_takes_nobody_in():
    lane = lane_of(replace(PLAN, holdout=0.0))
    key = replace(PLAN, holdout=0.0).keys[1]
    users = [f"u{n}" for n in range(50)]
    send(lane, [visit(user, 1) for user in users])
    before = found(lane)["prices"]
    ruled = encode_rulings({key: Ruling({"high": "conversion"})})
    lane.measures.experiments.adopt(ruled)
    send(lane, [visit(user, 2, "click") for user in users])
    after = found(lane)["prices"]
    assert after["high"] == before["high"]
    assert after["low"].clicks == before["low"].users > 0
    rows = np.arange(50)
    served = lane.measures.experiments.served(lane.table, "prices", rows, lane.table["as_of"][:50])
    own = lane.measures.experiments.assigned(lane.table, "prices", rows)
    assert served.tolist() == [1 if arm == 2 else arm for arm in own.tolist()]
    send(lane, [visit(f"new{n}", 2) for n in range(50)])
    new = lane.measures.experiments.assigned(lane.table, "prices", np.arange(50, 100))
    assert set(new.tolist()) == {0, 1}


def test_new_users_follow_the_weights_and_old_ones_stay():
    plan_ = ExperimentsPlan((replace(LAYOUT, allocation="thompson"),))
    lane = lane_of(plan_)
    send(lane, [visit(f"u{n}", 3) for n in range(200)])
    before = lane.measures.experiments.assigned(lane.table, "layout", np.arange(200)).copy()
    ruled = encode_rulings({plan_.keys[0]: Ruling(weights=[0.05, 0.95])})
    lane.measures.experiments.adopt(ruled)
    send(lane, [visit(f"u{n}", 4) for n in range(400)])
    after = lane.measures.experiments.assigned(lane.table, "layout", np.arange(400))
    np.testing.assert_array_equal(after[:200], before)
    assert 0.9 < after[200:].mean() < 1.0
    assert 0.55 < before.mean() < 0.8


def test_a_served_list_is_an_exposure_too():
    lane = lane_of(ExperimentsPlan((PRICES,)))
    send(lane, [visit("ann", 1, "product_view"), visit("bob", 1, "product_view")])
    experiments, table = lane.measures.experiments, lane.table
    served_ms = np.array([START_MS + 2 * HOUR_MS] * 2)
    experiments.expose(table, "prices", np.array([0, 1]), served_ms)
    experiments.expose(table, "prices", np.array([1]), served_ms[:1] + DAY_MS)
    send(lane, [visit("ann", 3, "click"), visit("bob", 3, "click"), visit("bob", 9, "click")])
    totals = sum((t for _, t in experiments.totals()), start=0)
    assert totals.sum(axis=0)[[0, 2, 4]].tolist() == [2, 2, 2]


def test_settings_are_those_of_the_arms_served():
    banner = Experiment("banner", (Arm("control"), Arm("blue", 1.0, {"colour": 1, "size": 2})), "b")
    sizes = Experiment("sizes", (Arm("control"), Arm("large", 1.0, {"size": 9})), salt="s")
    experiments = (banner, PRICES, LAYOUT, sizes)
    lane = lane_of(ExperimentsPlan(experiments, holdout=0.3))
    send(lane, [visit(f"u{n}", 3) for n in range(200)])
    rows, t_ms = np.arange(200), lane.table["as_of"][:200]
    which, changes = lane.measures.experiments.overrides(lane.table, rows, t_ms)
    assert len(changes) == len(set(which.tolist())) == 9  # held out, or one of 2 * 2 * 2
    for row, place in zip(rows.tolist(), which.tolist(), strict=True):
        truth = {}
        for experiment in experiments:
            name = arm_of(experiment, lane.users.ids[row])
            truth |= next((a.settings for a in experiment.arms if a.name == name), {})
        assert changes[place] == truth
    bare = lane_of(ExperimentsPlan()).measures.experiments
    assert bare.overrides(lane.table, rows, t_ms)[1] == [{}]


def test_every_part_of_a_definition_is_in_its_key_and_its_times_are_not():
    key = ExperimentsPlan((LAYOUT,)).keys[0]

    def key_of(holdout=0.0, **changes):
        return ExperimentsPlan((replace(LAYOUT, **changes),), holdout).keys[0]

    changes = [
        {"salt": "x"},
        {"conversion": (CLICK,)},
        {"window_ms": 1},
        {"allocation": "thompson"},
        {"arms": LAYOUT.arms[::-1]},
        {"arms": (LAYOUT.arms[0], replace(LAYOUT.arms[1], settings={}))},
        {"arms": (LAYOUT.arms[0], replace(LAYOUT.arms[1], weight=9.0))},
        {"holdout": 0.1},
    ]
    assert len({key, *(key_of(**change) for change in changes)}) == len(changes) + 1
    assert key_of(start_ms=0, stop_ms=1, alpha=0.01, guard_rails=("clicks",)) == key


def test_users_from_before_an_experiment_get_their_arm_with_their_next_event():
    lane = lane_of(ExperimentsPlan((LAYOUT,)))
    send(lane, [visit("ann", 0, "product_view")])
    column = lane.table[f"experiment.{ExperimentsPlan((LAYOUT,)).keys[0]}.arm"]
    column[:1] = NOT_YET  # as a store has it that was written before
    experiments = lane.measures.experiments
    assert experiments.served(lane.table, "layout", np.array([0]), LAYOUT.start_ms)[0] == NO_ARM
    send(lane, [visit("ann", 3)])
    assert LAYOUT.names[column[0]] == arm_of(LAYOUT, "ann", held=0.0)


def test_totals_of_shards_add_up():
    lane = lane_of()
    send(lane, [visit(f"u{n}", 3) for n in range(300)])
    experiments = lane.measures.experiments
    stored = [
        [experiments.record(shard)[name] for name in experiments.fields] for shard in range(64)
    ]
    for place, (experiment, totals) in enumerate(experiments.totals()):
        summed = sum_totals((fields[place] for fields in stored), len(experiment.arms))
        np.testing.assert_array_equal(summed, totals)
        assert totals[:, 0].sum() > 0


@pytest.mark.parametrize("count", [0, 1, MOST_EXPERIMENTS])
def test_columns_are_few(count):
    many = tuple(replace(LAYOUT, name=f"e{n}", salt=f"e{n}") for n in range(count))
    width = sum(
        np.dtype(column.dtype).itemsize
        for column in Experiments(ExperimentsPlan(many), 64).columns()
    )
    assert width == 29 * count
