"""What-if and measure against a world that is small enough to be worked out by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dataflows.definitions import of_settings
from dataflows.engine import open_lane
from dataflows.measuring import measure
from dataflows.previewing import moving, preview, stored_lane, stored_lanes
from dataflows.settings import load
from dataflows.what_if import unhurried, what_if
from events.decode import Decoder
from events.schema import EventRules
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definitions import FamilySpec, SegmentSpec
from state.lane import Lane
from state.store import Store
from state.times import DAY_MS, HOUR_MS
from tests.state.streams import START_MS, plan, read_of

QUIET = SegmentSpec("quiet", "age(last_seen) >= 3h")
EAGER = SegmentSpec("quiet", "age(last_seen) >= 1h", version=2)
ACTIVE = SegmentSpec("active", "session.active")


def lane_of(events: list[dict], *segments: SegmentSpec, families=(), **changes) -> Lane:
    lane = Lane(
        plan(
            segments=segments,
            families=families,
            lateness_ms=0,
            timer_budget=2**40,
            timer_step_ms=1,
            **changes,
        ),
        range(64),
    )
    batch, letters = Decoder(EventRules())(read_of(events))
    assert not letters
    lane.apply(batch)
    lane.catch_up()
    return lane


def test_what_if_is_what_each_lane_does_by_itself() -> None:
    events = [
        {"event_id": f"e{n}", "user_id": f"u{n}", "type": "search", "ts": START_MS + n * 600_000}
        for n in range(12)
    ]
    edited = DefinitionSet([EAGER, ACTIVE])
    found = what_if(lambda: lane_of(events, QUIET), edited, hours=5)
    now_ms = START_MS + 11 * 600_000
    assert found.begin_ms == now_ms
    assert (found.at_once.segments["quiet"].entered, found.at_once.segments["active"].after) == (
        6,
        4,
    )
    assert (found.live["quiet"].first, found.live["quiet"].last) == (0, 12)
    in_force = [
        sum(n * 10 - 110 + 180 in range(h * 60 - 59, h * 60 + 1) for n in range(12))
        for h in range(1, 6)
    ]
    assert found.live["quiet"].entered == in_force
    assert found.edited["quiet"].entered == [6, 0, 0, 0, 0]
    assert (found.edited["active"].first, found.edited["active"].left) == (4, [4, 0, 0, 0, 0])
    assert sum(found.live["quiet"].left) == 0


@pytest.mark.servers
def test_both_courses_begin_with_one_snapshot(store_url: str) -> None:
    """Under the definitions in force nothing differs, though events come in while it is asked."""
    sets = ["models.enabled=false", "recommend.enabled=false", "lane.lateness=0s", "redis.shards=4"]
    settings = unhurried(load(sets=sets, env={}))
    store = Store(store_url, shards=4)
    revision, engine = of_settings(settings), open_lane(settings)
    checkpoint = Checkpoint(engine, store)
    checkpoint.open()

    def act(first: int) -> None:
        events = [
            {"event_id": f"e{n}", "user_id": f"u{n % 40}", "type": "add_to_cart", "item_id": "p"}
            | {"ts": START_MS + n * 60_000, "price": 1.0}
            for n in range(first, first + 30)
        ]
        batch, letters = Decoder(EventRules())(read_of(events, first))
        assert not letters
        engine.apply(batch)
        checkpoint.commit(heartbeat=True)

    act(0)
    copies, asked = stored_lanes(settings, store, revision), 0

    def copy() -> Lane:
        nonlocal asked
        asked += 1
        act(asked * 30)
        return copies()

    found = what_if(copy, revision.definitions, hours=3)
    assert asked == 2
    assert found.begin_ms == START_MS + 29 * 60_000
    assert found.at_once.users == 30
    assert found.live == found.edited
    assert sum(found.live["cart_abandoned"].entered) == 30
    assert stored_lane(settings, store, revision).table.size == 40
    store.close()


def test_what_is_due_anyway_is_not_the_changes_doing() -> None:
    """Scores whose cuts have moved, and silence that is not decided yet."""
    events = [
        {"event_id": f"e{n}", "user_id": f"u{n % 50}", "type": "purchase", "order_id": f"o{n}"}
        | {"ts": START_MS + n * 60_000, "amount": float(n + 1)}
        for n in range(100)
    ]
    rich, poor = SegmentSpec("rich", "rfm.m >= 4"), SegmentSpec("poor", "rfm.m <= 1")

    def copy() -> Lane:
        lane = lane_of(events, rich, poor, QUIET)
        lane.clock.restore(lane.clock.now_ms + 4 * HOUR_MS)
        return lane

    same = DefinitionSet([rich, poor, QUIET])
    assert list(moving(preview(copy(), same)))
    found = what_if(copy, same, hours=1)
    assert not list(moving(found.at_once))
    assert found.live == found.edited
    assert found.live["rich"].first > 0


def test_preview_names_who_moves_and_what_overlaps() -> None:
    events = [
        {"event_id": f"e{n}-{i}", "user_id": f"u{n}", "type": "search", "ts": START_MS + i}
        for n in range(10)
        for i in range(n + 1)
    ]
    lane = lane_of(events, SegmentSpec("some", "lifetime.events >= 5"))
    found = preview(
        lane,
        DefinitionSet(
            [
                SegmentSpec("some", "lifetime.events >= 8"),
                SegmentSpec("all", "lifetime.events >= 1"),
            ]
        ),
        sample=2,
    )
    some, every = found.segments["some"], found.segments["all"]
    assert (some.before, some.after, some.entered, some.left) == (6, 3, 0, 3)
    assert (some.enters, some.leaves, some.overlap) == ([], ["u4", "u5"], {"all": 3})
    assert (every.after, every.entered, every.overlap) == (10, 10, {"some": 3})


@pytest.mark.parametrize("seed", range(10))
def test_measures_are_what_a_list_of_orders_says(seed: int) -> None:
    """Those who were in it when the period began, by a second lane that stopped there."""
    chance = random.Random(seed)
    segments = (
        SegmentSpec("fan", "lifetime.events >= 4"),
        SegmentSpec("new", "lifetime.orders < 1"),
    )
    family = FamilySpec(
        "size", [("big", "lifetime.events >= 6"), ("small", "lifetime.events >= 2")]
    )
    begin_ms, events = START_MS + 5 * DAY_MS, []
    for n in range(400):
        kind = chance.choice(["search", "search", "purchase"])
        event = {"event_id": f"e{n}", "user_id": f"u{chance.randrange(120)}", "type": kind}
        event["ts"] = START_MS + chance.randrange(10 * DAY_MS)
        if kind == "purchase":
            event["amount"] = chance.randrange(1, 50)
        events.append(event)
    events.sort(key=lambda event: event["ts"])
    last = {"event_id": "end", "user_id": "end", "type": "search", "ts": START_MS + 10 * DAY_MS}
    whole = lane_by_one([*events, last], segments, family)
    then = lane_by_one([e for e in events if e["ts"] <= begin_ms], segments, family)
    found = measure(whole, whole.clock.now_ms - begin_ms)
    bought: dict[str, list[float]] = {}
    for event in events:
        if event["type"] == "purchase" and event["ts"] > begin_ms:
            bought.setdefault(event["user_id"], []).append(event["amount"])
    held = then.decider.held(np.arange(then.table.size))
    names = then.decider.plan.names
    inside = {(then.users.ids[r], names[s]) for r, s in zip(held.index, held.segment, strict=True)}
    users = list(then.users.ids)
    assert found.keys() == set(names)
    for name in ("fan", "new"):  # these flip at most once, so it is known exactly
        members = [user for user in users if (user, name) in inside]
        rest = [user for user in users if (user, name) not in inside]
        each = found[name]
        assert (each.members, each.rest, each.moved) == (len(members), len(rest), 0)
        assert each.buyers == sum(user in bought for user in members)
        assert each.rest_buyers == sum(user in bought for user in rest)
        assert each.revenue == sum(sum(bought.get(user, [])) for user in members) * 100
    for name in ("big", "small"):
        each = found[name]
        certain = sum((user, name) in inside for user in users)
        assert each.members <= certain
        assert each.members + each.moved >= certain
        assert each.members + each.rest + each.moved == len(users)


def lane_by_one(events: list[dict], segments, family) -> Lane:
    lane = Lane(
        plan(segments=segments, families=[family], lateness_ms=0, dedup_window_ms=HOUR_MS),
        range(64),
    )
    for place, event in enumerate(events):
        batch, letters = Decoder(EventRules())(read_of([event], place))
        assert not letters
        lane.apply(batch)
    return lane
