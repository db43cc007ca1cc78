"""Explanations of offers: what they say, and that what they foretell comes true."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.explain_offers import explain_offer
from state.offers import OfferError, OfferSpec
from state.segments import SegmentPlan
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.state.array_view import T0_MS, ArrayView, User
from tests.state.random_conditions import users
from tests.state.test_offers import NO_SEGMENTS, Given, offer_lists
from tests.state.test_segments import compiled, definitions

OFFERS = [
    OfferSpec("back", "orders >= 3 and within(bought, 2h)", HOUR_MS, 5, cooldown_ms=DAY_MS),
    OfferSpec("any", "orders >= 1", HOUR_MS, 9, cap=1, exclusive="x"),
    OfferSpec("other", "orders >= 1", HOUR_MS, 1, exclusive="x"),
]


def told(user, name, at_ms, looks=(), offers=OFFERS, segments: SegmentPlan = NO_SEGMENTS, most=3):
    """An explanation after some looks at the user."""
    engine = Given([(spec, None) for spec in offers], most, segments, 1)
    for look_ms in looks:
        engine.step([user], look_ms)
    view_at = lambda t_ms: ArrayView([user], t_ms)  # noqa: E731
    return explain_offer(segments, engine.plan, view_at, at_ms, engine.state, engine.table, name)


def test_why_not_says_how_far_off():
    user = User(steps={"orders": [(0, 2)], "bought": [(0, T0_MS)]})
    assert told(user, "back", T0_MS + MINUTE_MS, offers=OFFERS[:1]).to_text() == (
        "does not have the offer back (priority 5)\n"
        "when: orders >= 3 and within(bought, 2h)\n"
        "  ✗ orders >= 3: 1 order short (is 2)\n"
        "  ✓ age(bought) < 2h: is 1 min\n"
        "is not given by silence alone"
    )


def test_what_must_not_be_is_no_reason_against():
    offers = [OfferSpec("first", "not orders >= 1 and within(bought, 2h)", HOUR_MS)]
    lines = told(User(), "first", T0_MS, offers=offers).to_text().splitlines()
    assert lines[2:4] == [
        "  ✓ orders >= 1: 1 order short (is 0), as is asked",
        "  ✗ age(bought) < 2h: never happened",
    ]


def test_who_has_it_learns_when_it_ends_and_then_when_it_may_come_again():
    user = User(steps={"orders": [(0, 3)], "bought": [(0, T0_MS)]})
    text = told(user, "back", T0_MS + MINUTE_MS, [T0_MS]).to_text()
    assert text.startswith("has the offer back (priority 5) for 1 min, given once\n")
    assert text.endswith("\nends in 59 min if silent")
    text = told(user, "back", T0_MS + 90 * MINUTE_MS, [T0_MS]).to_text()
    assert "offer back (priority 5), given once, until 30 min ago\n" in text
    assert "\ncool-down or cap: not before 23 h 30 min from now\n" in text


def test_what_holds_it_back_is_named():
    user = User(steps={"orders": [(0, 1)]})
    text = told(user, "other", T0_MS + 1, [T0_MS]).to_text()
    assert text.endswith("\nheld back by any\nis given in 59 min 59 s if silent")
    text = told(user, "any", T0_MS + HOUR_MS, [T0_MS]).to_text()
    assert "\ncap: not more than 1 in all\n" in text
    text = told(user, "other", T0_MS + 1, [T0_MS], most=1).to_text()
    assert "\nheld back by any\n" in text


def test_an_unknown_offer_is_refused():
    with pytest.raises(OfferError, match="there is no offer 'bck'; there are any, back, other"):
        told(User(), "bck", T0_MS)


@settings(max_examples=60)
@given(definitions(), offer_lists(), st.integers(1, 3), users, st.integers(0, 3))
def test_what_is_foretold_comes_true(defined, offers, most, user, hours):
    segments = compiled(*defined)
    engine = Given(offers, most, segments, 1)
    now_ms = T0_MS + hours * HOUR_MS
    engine.step([user], now_ms)
    view_at = lambda t_ms: ArrayView([user], t_ms)  # noqa: E731
    name = engine.plan.specs[-1].name
    memory = engine.clone().table
    told = explain_offer(segments, engine.plan, view_at, now_ms, engine.state, memory, name)
    assert told.to_text()
    assert told.stands == (name in engine.standing(0))
    if told.changes_ms is None:
        return
    before = engine.last(0)[name]
    while int(engine.due_ms[0]) < told.changes_ms:
        engine.step([user], int(engine.due_ms[0]))
    assert engine.last(0)[name] == before
    engine.step([user], told.changes_ms)
    stands = name in engine.standing(0)
    assert stands != told.stands or engine.last(0)[name] != before
