"""The whole lane against the naive oracle, on random streams in random order and batching."""

import math

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows import reference as naive
from state.lane import Lane
from state.rfm import RfmSpec
from state.times import DAY_MS, HOUR_MS
from tests.state.streams import ENGAGEMENT, INTENT, START_MS, as_oracle, event_lists, feed, plan

SETTINGS = naive.Settings(
    engagement=ENGAGEMENT, intent=INTENT, intent_half_life_ms=HOUR_MS, window_ms=90 * DAY_MS
)
SPEC = RfmSpec(half_life_ms=30 * DAY_MS, window_ms=90 * DAY_MS)


def documents(lane: Lane) -> dict[str, dict]:
    """Every profile as the lane would write it now."""
    rows = np.arange(lane.table.size)
    raw = lane.portraits.encode(rows).bytes_list()
    return {d["user_id"]: d for d in map(msgspec.msgpack.decode, raw)}


def assert_close(found: float, truth: float) -> None:
    assert math.isclose(found, truth, rel_tol=1e-9, abs_tol=1e-9), (found, truth)


def assert_equal(document: dict, truth: dict) -> None:
    assert document["as_of"] == truth["as_of"]
    for name in ("first_seen", "last_seen", "last_order", "lifetime", "window"):
        assert document[name] == truth[name], name
    for name in ("orders", "spend"):
        assert_close(document["decayed"][name], truth["decayed"][name])
    for name in ("engagement", "intent"):
        assert_close(document[name], truth[name])
    assert document["rfm"]["recency_days"] == truth["recency_days"]


@settings(deadline=None, max_examples=150)
@given(event_lists(), st.data())
def test_values_are_a_function_of_the_set_of_events(events, data):
    events = data.draw(st.permutations(events))
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4))
    at_ms = START_MS + data.draw(st.integers(0, 300)) * DAY_MS
    lane = Lane(plan(rfm=SPEC), range(64))
    feed(lane, events, cuts)
    lane.finish(at_ms)
    at_ms = max(at_ms, lane.clock.now_ms)
    truth = naive.profiles(as_oracle(events), at_ms, SETTINGS)
    found = documents(lane)
    assert found.keys() == truth.keys()
    for user, document in found.items():
        assert_equal(document, truth[user])


@settings(deadline=None, max_examples=100)
@given(event_lists(users=2, span_ms=40 * DAY_MS), st.data())
def test_sessions_and_carts_in_order_of_time(events, data):
    events = sorted(events, key=lambda event: event["ts"])
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
    lane = Lane(plan(rfm=SPEC), range(64))
    feed(lane, events, cuts)
    at_ms = events[-1]["ts"] + data.draw(st.integers(0, 40 * DAY_MS))
    lane.finish(at_ms)
    truth = naive.profiles(as_oracle(events), at_ms, SETTINGS)
    view = lane.view(np.arange(lane.table.size), lane.table["as_of"][: lane.table.size])
    returned = dict(zip(lane.users.ids, view.value("returned_at").tolist(), strict=True))
    for user, document in documents(lane).items():
        assert document["session"] == truth[user]["session"]
        cart, held = truth[user]["cart"], document["cart"]
        assert held["items"] == cart["items"]
        assert {line["item_id"]: line["added"] for line in held["lines"]} == cart["lines"]
        if cart["items"]:
            assert held["touched"] == cart["touched"]
        back = truth[user]["returned_at"]
        assert returned[user] == (-(2**62) if back is None else back)
