"""The segments that ship, each held against its sentence in plain words."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np
import pytest

from dataflows.plans import lane_plan
from dataflows.settings import load
from state.segments import SegmentPlan
from state.times import DAY_MS, FAR_MS, HOUR_MS, NEVER_MS
from state.view import Kind

NOW_MS = 1_790_000_000_000
NUMBERS = ("rfm.r", "rfm.f", "rfm.m", "intent", "lifetime.orders", "cart.items")
TIMES = ("last_order", "returned_at", "cart.touched")
KINDS = dict.fromkeys(NUMBERS, Kind.NUMBER) | dict.fromkeys(TIMES, Kind.TIME)

LABELS = {
    "champions": "5[45]",
    "loyal_customers": "[34][45]",
    "potential_loyalists": "[45][23]",
    "new_customers": "51",
    "promising": "41",
    "need_attention": "33",
    "about_to_sleep": "3[12]",
    "at_risk": "[12][34]",
    "cant_lose": "[12]5",
    "hibernating": "[12][12]",
}
"""The standard map of R and F, as patterns that exclude each other."""


class Still:
    """The ``View`` of users whose features stand still."""

    def __init__(self, users: list[Mapping[str, float]]) -> None:
        self.now_ms = np.full(len(users), NOW_MS, dtype=np.int64)
        self._users = users

    def value(self, name):
        blank = NEVER_MS if KINDS[name] is Kind.TIME else 0
        return np.array([user.get(name, blank) for user in self._users], dtype=np.int64)

    def next_step_ms(self, name):
        return np.full(len(self._users), FAR_MS, dtype=np.int64)


@pytest.fixture(scope="module")
def plan() -> SegmentPlan:
    shipped = lane_plan(load(env={}))
    return SegmentPlan.compile(shipped.segments, shipped.families, KINDS)


def segments_of(plan, users, state=None):
    """Names of the segments of each user, and the state after it."""
    outcome = plan.evaluate(Still(users), state or plan.newcomers(len(users)))
    state, tags = outcome.state, [tag.name for tag in plan.tags]
    labels = plan.names[len(tags) :]
    found = [
        {tag for bit, tag in enumerate(tags) if int(members) >> bit & 1}
        | ({labels[label]} if label >= 0 else set())
        for members, label in zip(state.members, state.family[:, 0].tolist(), strict=True)
    ]
    return found, state


def test_each_pair_of_scores_has_the_label_of_the_map(plan):
    pairs = [(r, f) for r in range(1, 6) for f in range(1, 6)]
    found, _ = segments_of(plan, [{"rfm.r": r, "rfm.f": f} for r, f in pairs])
    expected = []
    for r, f in pairs:
        fits = [n for n, pattern in LABELS.items() if fnmatchcase(f"{r}{f}", pattern)]
        # Champions stand before loyal customers, but the two patterns share nothing.
        assert len(fits) == 1
        expected.append(set(fits))
    assert found == expected


def test_who_never_ordered_has_no_label(plan):
    assert segments_of(plan, [{}])[0] == [set()]


@pytest.mark.parametrize(
    ("user", "segment", "is_in"),
    [
        ({"intent": 8}, "high_intent", True),
        ({"intent": 7}, "high_intent", False),
        ({"rfm.m": 5, "rfm.f": 4, "rfm.r": 3}, "vip", True),
        ({"rfm.m": 4, "rfm.f": 5, "rfm.r": 5}, "vip", False),
        ({"rfm.m": 5, "rfm.f": 3, "rfm.r": 5}, "vip", False),
        ({"rfm.m": 5, "rfm.f": 5, "rfm.r": 2}, "vip", False),
        ({"lifetime.orders": 2, "last_order": NOW_MS - 45 * DAY_MS}, "lapsing", True),
        ({"lifetime.orders": 2, "last_order": NOW_MS - 45 * DAY_MS + 1}, "lapsing", False),
        ({"lifetime.orders": 1, "last_order": NOW_MS - 99 * DAY_MS}, "lapsing", False),
        ({"returned_at": NOW_MS - 7 * DAY_MS + 1}, "welcome_back", True),
        ({"returned_at": NOW_MS - 8 * DAY_MS}, "welcome_back", False),
        ({"cart.items": 1, "cart.touched": NOW_MS - HOUR_MS}, "cart_abandoned", True),
        ({"cart.items": 1, "cart.touched": NOW_MS - HOUR_MS + 1}, "cart_abandoned", False),
        ({"cart.items": 0, "cart.touched": NOW_MS - HOUR_MS}, "cart_abandoned", False),
        ({}, "lapsing", False),
        ({}, "welcome_back", False),
    ],
)
def test_who_is_in_a_segment(plan, user, segment, is_in):
    ((found,), _) = segments_of(plan, [user])
    assert (segment in found) == is_in


def test_leaving_takes_more_than_no_longer_entering(plan):
    (found,), state = segments_of(plan, [{"intent": 8}])
    assert found == {"high_intent"}
    (found,), state = segments_of(plan, [{"intent": 4}], state)
    assert found == {"high_intent"}
    (found,), _ = segments_of(plan, [{"intent": 3}], state)
    assert found == set()


def test_a_vip_stays_a_day(plan):
    vip = {"rfm.m": 5, "rfm.f": 4, "rfm.r": 3}
    _, state = segments_of(plan, [vip])
    (found,), state = segments_of(plan, [vip | {"rfm.m": 3}], state)
    assert "vip" in found
    state.since_ms[:] -= DAY_MS
    (found,), _ = segments_of(plan, [vip | {"rfm.m": 3}], state)
    assert "vip" not in found
