"""Explanations: what they say, and that what they foretell comes true."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.explain import explain
from state.segments import FamilySpec, SegmentError, SegmentPlan, SegmentSpec
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.state.array_view import KINDS, T0_MS, ArrayView, User
from tests.state.random_conditions import trees, users, written

PLAN = SegmentPlan.compile(
    [
        SegmentSpec("vip", enter="orders >= 3 and visit.active"),
        SegmentSpec(
            "keen", enter="intent >= 4", exit="intent < 2", min_dwell_ms=HOUR_MS, version=7
        ),
        SegmentSpec("waiting", enter="orders > 0 and age(bought) >= 1h", cooldown_ms=DAY_MS),
        SegmentSpec("mobile", enter='visit.device == "mobile"'),
        SegmentSpec("odd", enter="intent - heat > 0"),
        SegmentSpec(
            "good",
            enter='orders >= 3 and not member("mobile") and visit.active == false',
            exit="not (orders >= 2 and not visit.active)",
        ),
        SegmentSpec("either", enter="(orders > 0) != true or (orders > 0 and intent > 1)"),
    ],
    [FamilySpec("size", [("big", "orders > 9"), ("small", "orders > 0")])],
    KINDS,
)


def explained(user, segment, now_ms=T0_MS, state=None):
    state = PLAN.newcomers(1) if state is None else state
    return explain(PLAN, lambda t_ms: ArrayView([user], t_ms), now_ms, state, segment)


def test_why_not_says_how_far_off():
    user = User(steps={"orders": [(0, 2)], "visit.active": [(0, True)]})
    explanation = explained(user, "vip")
    assert not explanation.member
    assert [(r.value, r.threshold, r.holds) for r in explanation.readings] == [
        (2, 3, False),
        (True, True, True),
    ]
    assert explanation.to_text() == (
        "is not in vip (version 1)\n"
        "enter: orders >= 3 and visit.active\n"
        "  ✗ orders >= 3: 1 order short (is 2)\n"
        "  ✓ visit.active: yes\n"
        "does not enter by silence alone"
    )


def test_a_member_learns_when_silence_ends_it():
    user = User(terms={"intent": [(8.0, T0_MS)]})
    state = PLAN.evaluate(ArrayView([user], T0_MS), PLAN.newcomers(1)).state
    assert explained(user, "keen", T0_MS + 30 * MINUTE_MS, state).to_text() == (
        "is in keen (version 7) for 30 min\n"
        "enter: intent >= 4\n"
        "  ✓ intent >= 4: is 5.66\n"
        "exit: intent < 2\n"
        "  ✗ intent < 2: 3.66 over 2 (is 5.66)\n"
        "dwell: cannot leave before 30 min from now\n"
        "leaves in 1 h 30 min if silent"
    )


def test_who_is_not_in_learns_when_silence_brings_it():
    user = User(steps={"orders": [(0, 1)], "bought": [(0, T0_MS - MINUTE_MS)]})
    explanation = explained(user, "waiting")
    assert explanation.flips_ms == T0_MS + 59 * MINUTE_MS
    assert "✗ age(bought) >= 1h: 59 min short of 1 h (is 1 min)" in explanation.to_text()
    assert explanation.to_text().endswith("\nenters in 59 min if silent")


def test_a_cool_down_is_named():
    user = User(steps={"orders": [(0, 1), (T0_MS, 0), (T0_MS + 1, 1)], "bought": [(0, 0)]})
    state = PLAN.newcomers(1)
    for now_ms in (T0_MS - 1, T0_MS):
        state = PLAN.evaluate(ArrayView([user], now_ms), state).state
    explanation = explained(user, "waiting", T0_MS + HOUR_MS, state)
    assert explanation.held_until_ms == explanation.flips_ms == T0_MS + DAY_MS
    assert "cool-down: cannot enter before 23 h from now" in explanation.to_text()


def test_a_mark_under_not_says_whether_the_whole_is_helped():
    """What must not be is no reason against while it is not; twice not is as none."""
    user = User(steps={"orders": [(0, 3), (T0_MS, 1)]})
    assert explained(user, "good", T0_MS - 1).to_text() == (
        "is in good (version 1) for 0 s\n"
        'enter: orders >= 3 and not member("mobile") and visit.active == false\n'
        "  ✓ orders >= 3: is 3\n"
        '  ✓ member("mobile"): no, as is asked\n'
        "  ✓ visit.active: no, as is asked\n"
        "exit: not (orders >= 2 and not visit.active)\n"
        "  ✗ orders >= 2: is 3, but the opposite is asked\n"
        "  ✗ visit.active: no\n"
        "leaves in 1 ms if silent"
    )
    lines = explained(user, "good").to_text().splitlines()
    assert "  ✓ orders >= 2: 1 order short (is 1), as is asked" in lines


def test_a_test_that_is_asked_both_ways_is_read_both_ways():
    lines = explained(User(steps={"orders": [(0, 1)]}), "either").to_text().splitlines()
    assert lines[2:5] == [
        "  ✗ orders > 0: is 1, but the opposite is asked",
        "  ✓ orders > 0: is 1",
        "  ✗ intent > 1: 1 short of 1 (is 0)",
    ]


@pytest.mark.parametrize(
    ("segment", "line"),
    [
        ("waiting", "✗ orders > 0: 1 order short (is 0)"),
        ("waiting", "✓ age(bought) >= 1h: never happened"),
        ("mobile", '✗ visit.device == "mobile": not known'),
        ("keen", "✗ intent >= 4: 4 short of 4 (is 0)"),
        ("big", "✗ orders > 9: 10 orders short (is 0)"),
        ("odd", "nothing changes for 3 h 20 min if silent; further was not looked"),
    ],
)
def test_lines(segment, line):
    assert line in explained(User(), segment).to_text()


def test_an_unknown_segment_is_refused():
    with pytest.raises(SegmentError, match="there is no segment 'vop'; there are vip, keen"):
        explained(User(), "vop")


@settings(max_examples=60)
@given(trees(), trees(), users, st.integers(0, 3).map(lambda hours: T0_MS + hours * HOUR_MS))
def test_what_is_foretold_comes_true(enter, leave, user, now_ms):
    spec = SegmentSpec("it", written(enter), written(leave), HOUR_MS, HOUR_MS)
    plan = SegmentPlan.compile([spec], [], KINDS)
    start = plan.evaluate(ArrayView([user], now_ms), plan.newcomers(1)).state
    view_at = lambda t_ms: ArrayView([user], t_ms)  # noqa: E731
    told = explain(plan, view_at, now_ms, start, "it")
    assert told.to_text()
    if told.flips_ms is not None and not list(plan.polled()):
        before = plan.evaluate(view_at(told.flips_ms - 1), start)
        assert bool(before.state.members[0]) == told.member
    if told.flips_ms is not None:
        at_the_time = plan.evaluate(view_at(told.flips_ms), start)
        assert bool(at_the_time.state.members[0]) != told.member
