"""Verdicts and rulings on totals that are made up."""

import math
from dataclasses import replace

import numpy as np
import pytest

from models.verdicts import MEASURES, judge, report, samples
from state.experiment_plan import Arm, Experiment, Ruling, decode_rulings, encode_rulings
from state.totals import (
    CLICKS,
    CLICKS_SQUARED,
    CONVERSIONS,
    LOW,
    PLACES,
    REVENUE,
    USERS,
    arm_totals,
)

LAYOUT = Experiment("layout", (Arm("a"), Arm("control"), Arm("b")), planned_users=10_000)


def totals_of(users, conversions, spent=10):
    """Everybody who converts spends the same and clicks once."""
    out = np.zeros((len(users), PLACES), dtype=np.int64)
    out[:, USERS] = users
    for place in (CONVERSIONS, CLICKS, CLICKS_SQUARED):
        out[:, place] = conversions
    out[:, REVENUE] = np.array(conversions) * spent
    out[:, LOW] = np.array(conversions) * spent**2
    return out


def verdicts(*totals, ruling=None, experiment=LAYOUT):
    found = report(experiment, totals_of(*totals), ruling or Ruling())
    return [arm.verdict for arm in found.arms], found


def test_nobody_is_there_yet():
    said, found = verdicts([0, 0, 0], [0, 0, 0])
    assert found.verdict == "nobody was exposed yet"
    assert said == ["too few users yet", "", "too few users yet"]


def test_better_worse_and_unknown_are_said():
    said, found = verdicts([9_000] * 3, [700, 500, 330])
    assert said == ["converts better than control", "", "converts worse than control"]
    assert found.arms[0].comparisons["conversion"].lift == pytest.approx(0.4)
    assert found.arms[1].comparisons == {}
    assert verdicts([9_000] * 3, [505, 500, 490])[0][0] == "no difference found yet"


def test_arms_that_do_not_fit_their_weights_are_not_read():
    said, found = verdicts([9_000, 9_000, 7_000], [700, 500, 330])
    assert found.sample_ratio_p < 0.001
    assert "broken" in found.verdict
    assert said == ["not to be read"] * 3


def test_several_arms_share_the_level():
    two = replace(LAYOUT, arms=LAYOUT.arms[:2])
    wide = report(LAYOUT, totals_of([9_000] * 3, [560, 500, 500]), Ruling()).arms[0]
    narrow = report(two, totals_of([9_000] * 2, [560, 500]), Ruling()).arms[0]
    wide_, narrow_ = wide.comparisons["conversion"], narrow.comparisons["conversion"]
    assert wide_.high - wide_.low > narrow_.high - narrow_.low


@pytest.mark.parametrize("guard", MEASURES)
def test_a_guard_rail_stops_whoever_is_credibly_worse_and_for_good(guard):
    guarded = replace(LAYOUT, guard_rails=(guard,))
    ruling = judge(guarded, totals_of([9_000] * 3, [490, 500, 300]), Ruling())
    assert ruling.stopped == {"b": guard}
    assert ruling.weights == pytest.approx([0.5, 0.5, 0.0])
    healed = judge(guarded, totals_of([9_000] * 3, [500, 500, 500]), ruling)
    assert healed.stopped == {"b": guard}
    said, _ = verdicts([9_000] * 3, [490, 500, 300], ruling=ruling)
    assert said[2] == f"stopped: {guard} worse than control's"
    assert judge(LAYOUT, totals_of([9_000] * 3, [490, 500, 300]), Ruling()).stopped == {}


def test_a_stopped_arm_does_not_break_the_ratio_of_the_others():
    ruling = Ruling({"b": "revenue"})
    _, found = verdicts([20_000, 20_000, 3_000], [1, 1, 1], ruling=ruling)
    assert found.sample_ratio_p == 1.0


def test_thompson_moves_new_users_and_says_how_likely_each_is_the_best():
    moving = replace(LAYOUT, allocation="thompson")
    totals = totals_of([1_000] * 3, [90, 50, 50])
    ruling = judge(moving, totals, Ruling())
    assert ruling.weights == pytest.approx([0.9, 0.05, 0.05], abs=0.01)
    said, found = verdicts([9_000, 9_000, 100], [700, 500, 3], experiment=moving, ruling=ruling)
    assert said[0].startswith("the best with a chance of")
    assert found.sample_ratio_p == 1.0
    assert sum(arm.weight for arm in found.arms) == pytest.approx(1.0)


def test_a_ruling_survives_its_way_through_the_store():
    ruling = judge(LAYOUT, totals_of([0, 0, 0], [0, 0, 0]), Ruling())
    assert decode_rulings(encode_rulings({"k": ruling})) == {"k": ruling}
    assert all(math.isfinite(v) for arm in ruling.figures.values() for v in arm.values())
    assert decode_rulings(None) == {}


def test_samples_are_per_exposed_user():
    (arm,) = arm_totals(totals_of([100], [20], spent=7))
    found = samples(arm)
    assert {name: found[name].mean for name in MEASURES} == {
        "conversion": 0.2,
        "revenue": 1.4,
        "clicks": 0.2,
    }
    assert found["revenue"].squares == 20 * 49
