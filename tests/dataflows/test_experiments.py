"""Experiments in the settings: what is taken, and what is refused in words."""

import pytest

from dataflows.experiments import experiments_plan
from dataflows.plans import check, item_plan, lane_plan
from dataflows.settings import SettingsError, load
from events.schema import CLICK, PURCHASE
from models.item_plan import COSINE, SESSIONS
from state.experiment_plan import Arm
from state.times import DAY_MS, FAR_MS, NEVER_MS

ARMS = "experiments.layout.arms={control=50, variant=50}"


def planned(*sets):
    return experiments_plan(load(sets=sets, env={}))


def test_none_are_declared_by_default():
    plan = planned()
    assert plan.experiments == ()
    assert plan.holdout == 0.0
    assert lane_plan(load(env={})).experiments.keys == ()


def test_an_experiment_of_arms_alone_has_defaults():
    (experiment,) = planned(ARMS).experiments
    assert experiment.arms == (Arm("control", 50.0), Arm("variant", 50.0))
    assert experiment.salt == "layout"
    assert (experiment.start_ms, experiment.stop_ms) == (NEVER_MS, FAR_MS)
    assert experiment.conversion == (PURCHASE,)
    assert experiment.window_ms == 7 * DAY_MS
    assert experiment.weights == [0.5, 0.5]
    assert experiment.control == 0


def test_everything_may_be_said():
    (experiment,) = planned(
        "experiments.layout.arms={bold={weight=1, set={sources={covisits=2.0, popular=0.1}}},"
        " control=3}",
        "experiments.layout.salt=x",
        "experiments.layout.start=2026-03-01T08:00:00Z",
        "experiments.layout.stop='2026-03-02T08:00:00+00:00'",
        "experiments.layout.conversion=['click','purchase']",
        "experiments.layout.window=1d",
        "experiments.layout.guard_rails=['revenue']",
        "experiments.layout.allocation=thompson",
        "experiments.layout.alpha=0.01",
        "experiments.layout.planned_users=1000",
    ).experiments
    assert experiment.arms[0].settings == {"sources.covisits": 2.0, "sources.popular": 0.1}
    assert experiment.control == 1
    assert experiment.stop_ms - experiment.start_ms == DAY_MS
    assert experiment.start_ms == 1_772_352_000_000
    assert experiment.conversion == (CLICK, PURCHASE)
    assert experiment.allocation == "thompson"


def test_a_source_that_an_arm_switches_on_is_learned_for():
    arm = "experiments.layout.arms={control=50, b={weight=50, set={sources.sessions=0.5}}}"
    off = "experiments.layout.arms={control=50, b={weight=50, set={sources.sessions=0.0}}}"
    for sets, sessions in (((), False), ((ARMS,), False), ((off,), False), ((arm,), True)):
        plan = item_plan(load(sets=sets, env={}))
        assert plan is not None
        assert plan.is_on(SESSIONS) is sessions
        assert not plan.is_on(COSINE)
    plan = item_plan(load(sets=("recommend.sources.cosine=0.1",), env={}))
    assert plan is not None
    assert plan.is_on(COSINE)
    assert (plan.session_count, plan.session_sample, plan.session_neighbours) == (10**5, 500, 100)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["experiments.layout.arms={control=1}"], r"experiments\.layout\.arms: .*at least 2"),
        (["experiments.layout.salt=x"], r"experiments\.layout\.arms: is needed"),
        (["experiments.layout.arms={a=1, b=1}"], r"arms: must have one named 'control'.*'a', 'b'"),
        (
            ["experiments.layout.arms={control=1, b=0}"],
            r"arms\.b\.weight: .*greater than 0.*0 came",
        ),
        (["experiments.layout.arms={control=1, b={wait=3}}"], r"arms\.b\.wait: .*'weight'"),
        (
            ["experiments.layout.arms={control=1, b={weight=1, set={x=[1]}}}"],
            r"arms\.b\.set.*x must",
        ),
        (["experiments.layout.arms={control=1, b='x'}"], r"arms\.b: must be a table"),
        (
            ["experiments.layout.arms={control=1, b={weight=1, set={x=1}}}"],
            r"arms\.b\.set: an arm may change what a source.*'x' came",
        ),
        (
            ["experiments.layout.arms={control=1, b={weight=1, set={sources.popular=-1}}}"],
            r"set\.sources\.popular: must be a number of 0 or more, but -1 came",
        ),
        (
            [
                "experiments.one.arms={control=1, b={weight=1, set={sources.popular=1}}}",
                "experiments.two.arms={control=1, b={weight=1, set={sources.popular=2}}}",
            ],
            r"experiments\.two\.arms: 'sources.popular' is changed by experiments\.one",
        ),
        (["experiments.layout.arms={control=true, b=1}"], r"arms\.control: must be a table"),
        (["experiments.Layout.arms={control=1, b=1}"], r"experiments\.Layout"),
        (
            [ARMS, "experiments.layout.start=2026-03-01T08:00:00"],
            r"start: must be a time with an off",
        ),
        (
            [ARMS, "experiments.layout.start=soon"],
            r"start: must be a time with an off.*'soon' came",
        ),
        ([ARMS, "experiments.layout.start=7"], r"start: must be a time with an offset.*7 came"),
        (
            [
                ARMS,
                *(f"experiments.layout.{end}=2026-03-01T08:00:00Z" for end in ("start", "stop")),
            ],
            r"layout\.stop: must be later than start",
        ),
        ([ARMS, "experiments.layout.conversion=['buy']"], r"conversion: must be types.*'buy' came"),
        ([ARMS, "experiments.layout.conversion=[]"], r"conversion: .*at least 1"),
        ([ARMS, "experiments.layout.window=0s"], r"layout\.window: .*greater than or equal to 1"),
        ([ARMS, "experiments.layout.guard_rails=['speed']"], r"guard_rails\.0: .*'revenue'"),
        ([ARMS, "experiments.layout.allocation=best"], r"allocation: .*'fixed' or 'thompson'"),
        ([ARMS, "experiments.layout.alpha=0.5"], r"alpha: .*0\.2.*0\.5 came"),
        ([ARMS, "experiments.layout.alfa=0.5"], r"alfa: there is no such setting; .*'alpha'"),
        (
            [ARMS, "experiments.other.arms={control=1,b=1}", "experiments.other.salt=layout"],
            r"experiments\.other\.salt: .*'layout' is that of experiments\.layout",
        ),
        ([ARMS, "holdout.salt=layout"], r"experiments\.layout\.salt: .*holdout\.salt"),
        (["holdout.share=0.9"], r"holdout\.share: .*0\.5.*0\.9 came"),
        ([ARMS, "events.types=['purchase']"], r"events\.types: must have 'impression'"),
        ([f"experiments.e{n}.arms={{control=1,b=1}}" for n in range(9)], r"experiments: .*8"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(sets, words):
    with pytest.raises(SettingsError, match=words):
        planned(*sets)


def test_arms_may_be_asked_for_in_segments():
    check(load(sets=[ARMS, 'segments.bold.enter=experiment.layout == "variant"'], env={}))
