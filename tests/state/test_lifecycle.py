"""Limits of flips, pauses, guards, and that what is foreseen is what happens."""

from __future__ import annotations

import random

import numpy as np
import pytest

from events.decode import Decoder
from events.schema import EventRules
from state.definition_set import DefinitionSet
from state.definitions import Guard, SegmentError, SegmentSpec
from state.foreseeing import Weighing, foresee
from state.lane import Lane
from state.naming import Naming
from state.remap import Remap
from state.revisions import Revision, differences, follow
from state.segments import SegmentPlan
from state.times import DAY_MS, FAR_MS, HOUR_MS, MINUTE_MS
from tests.state.array_view import KINDS, T0_MS, ArrayView, User
from tests.state.streams import START_MS, feed, plan, read_of
from tests.state.test_redefining import random_rules

DAY0_MS = T0_MS // DAY_MS * DAY_MS


def driven(segments: SegmentPlan, user: User, times: list[int]) -> list[tuple[int, bool]]:
    """Every flip of one user who is looked at when something happens, and when it is due."""
    state, due_ms, flips = segments.newcomers(1), FAR_MS, []
    for t_ms in [*times, FAR_MS]:
        while due_ms < t_ms:
            outcome = segments.evaluate(ArrayView([user], due_ms), state)
            flips += [(due_ms, entered) for entered in outcome.flips.entered.tolist()]
            state, due_ms = outcome.state, int(outcome.due_ms[0])
        if t_ms < FAR_MS:
            outcome = segments.evaluate(ArrayView([user], t_ms), state)
            flips += [(t_ms, entered) for entered in outcome.flips.entered.tolist()]
            state, due_ms = outcome.state, int(outcome.due_ms[0])
    return flips


@pytest.mark.parametrize("seed", range(150))
def test_a_user_flips_at_most_so_often_in_a_day(seed: int) -> None:
    chance = random.Random(seed)
    most = chance.randint(1, 4)
    times = sorted({DAY0_MS + chance.randrange(3 * DAY_MS) for _ in range(chance.randint(1, 20))})
    steps = [(t_ms, place % 2 == 0) for place, t_ms in enumerate(times)]
    spec = SegmentSpec("on", enter="visit.active", max_flips=most)
    segments = SegmentPlan.compile([spec], [], KINDS)
    found = driven(segments, User(steps={"visit.active": list(steps)}), [times[0]])
    inside, today, truth = False, (0, 0), []
    for t_ms in sorted({*times, *(DAY0_MS + n * DAY_MS for n in range(6))}):
        wanted = next((on for at, on in reversed(steps) if at <= t_ms), False)
        count = today[1] if today[0] == t_ms // DAY_MS else 0
        if wanted != inside and count < most and t_ms >= times[0]:
            inside, today = wanted, (t_ms // DAY_MS, count + 1)
            truth.append((t_ms, inside))
    assert found == truth


def test_what_is_held_back_is_counted_by_what_did_it() -> None:
    specs = [
        SegmentSpec("slow", "visit.active", min_dwell_ms=DAY_MS),
        SegmentSpec("cool", "visit.active", cooldown_ms=DAY_MS),
        SegmentSpec("rare", "visit.active", max_flips=1),
        SegmentSpec("held", "visit.active"),
    ]
    segments = SegmentPlan.compile(specs, [], KINDS, paused=["held"])
    on = [(DAY0_MS + n * HOUR_MS, n % 2 == 0) for n in range(3)]
    user, state, counts = User(steps={"visit.active": on}), segments.newcomers(1), []
    for n in range(3):
        outcome = segments.evaluate(ArrayView([user], DAY0_MS + n * HOUR_MS), state)
        state = outcome.state
        counts.append(dict(outcome.suppressed))
    assert counts == [
        {("held", "paused"): 1},
        {("slow", "dwell"): 1, ("rare", "max_flips"): 1},
        {("cool", "cooldown"): 1, ("held", "paused"): 1},
    ]


def test_only_who_asks_for_a_limit_has_a_column() -> None:
    specs = [SegmentSpec("a", "orders > 0"), SegmentSpec("b", "orders > 1", max_flips=2)]
    segments = SegmentPlan.compile(specs, [], KINDS)
    assert segments.naming.limited == ("b",)
    assert [c.shape for c in segments.columns() if c.name == "segments.flips"] == [(1,)]
    state = segments.newcomers(2)
    state.flips[:, 0] = [7, 8]
    turned = Naming(["c", "b"], {}, limited=["c", "b"])
    assert Remap(segments.naming, turned).state(state).flips.tolist() == [[0, 7], [0, 8]]
    with pytest.raises(SegmentError, match="at most 255"):
        SegmentPlan.compile([SegmentSpec("a", "orders > 0", max_flips=256)], [], KINDS)


def purchases(first: int, count: int, at_ms: int) -> list[dict]:
    return [
        {
            "event_id": f"e{n}",
            "user_id": f"u{n}",
            "type": "purchase",
            "amount": 1,
            "ts": at_ms + n,
        }
        for n in range(first, first + count)
    ]


def members(lane: Lane) -> int:
    return int(lane.decider.sizes.sum())


def test_a_guard_stops_a_run_away_segment_and_not_a_slow_one() -> None:
    """Never more than the guard allows moves within its time, whatever the batches are."""
    guard = Guard(share=0.5, within_ms=10 * MINUTE_MS, least=10)
    spec = SegmentSpec("buyer", "lifetime.orders >= 1", guard=guard)
    slow = Lane(plan(segments=[spec], lateness_ms=0), range(64))
    events = [e for n in range(40) for e in purchases(n * 8, 8, START_MS + n * 20 * MINUTE_MS)]
    feed(slow, events, cuts=range(0, 320, 8))
    assert (members(slow), slow.decider.guarding.tripped()) == (320, {})
    fast = Lane(plan(segments=[spec], lateness_ms=0), range(64))
    feed(fast, events[:80], cuts=range(0, 80, 8))
    more = purchases(1_000, 100, START_MS + DAY_MS)
    feed_on(fast, more, first=80, step=7)
    assert members(fast) - 80 == 35  # five batches; with the sixth it would have been 42 of 80
    assert fast.decider.plan.paused == {"buyer"}
    assert fast.decider.guarding.tripped() == {
        "buyer": "would have moved 42 of 80 members within 600 s"
    }
    assert fast.decider.suppressed["buyer", "paused"] > 0


def feed_on(lane: Lane, events: list[dict], first: int, step: int) -> None:
    for at in range(0, len(events), step):
        some = events[at : at + step]
        batch, letters = Decoder(EventRules())(read_of(some, first + at))
        assert not letters
        lane.apply(batch)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_foreseen_is_what_happens(seed: int) -> None:
    chance = random.Random(seed)
    first, then = (random_rules(chance).definitions() for _ in range(2))
    lane = Lane(
        plan(segments=first.segments, families=first.families, lateness_ms=0, redefined_rows=7),
        range(64),
    )
    events = [
        {
            "event_id": f"e{n}",
            "user_id": f"u{chance.randrange(40)}",
            "type": chance.choice(["product_view", "search"]),
            "ts": START_MS + n * 1_000,
        }
        for n in range(150)
    ]
    feed(lane, events, cuts=range(0, 150, 10))
    lane.settle(lane.collect())
    rows = np.arange(lane.table.size)
    target, _ = lane.compiled(then)
    found = foresee(lane, target, rows)
    weighing = Weighing(lane, target)
    assert list(weighing.steps(7)) == []  # nothing has a guard, so nothing is weighed
    lane.adopt(then)
    while lane.redefiner.left:  # a sweep, step by step
        lane.clock.restore(lane.clock.now_ms + 100)
        lane.tick()
    state = lane.decider.plan.read(lane.table, rows)
    assert lane.decider.plan.masks(state).tolist() == found.after.tolist()
    told = sorted((c.row, c.segment, c.action) for c in lane.decider.waiting)
    said = []
    for name in {*found.old.names, *found.new.names}:
        was, will = found.sides(name)
        said += [(row, name, "entered") for row in np.flatnonzero(will & ~was).tolist()]
        said += [(row, name, "exited") for row in np.flatnonzero(was & ~will).tolist()]
    again = [entry for entry in told if told.count(entry) > 1]
    assert not again
    moved_home = set(told) - set(said)  # a tag that became a label ends and begins
    assert set(said) <= set(told)
    assert all((row, name, "exited") in told for row, name, _ in moved_home)
    assert {c.cause.kind for c in lane.decider.waiting} <= {"definition"}


def test_weighing_adds_up_what_guards_ask_about() -> None:
    guard = Guard(share=0.5, within_ms=MINUTE_MS, least=3)
    lane = Lane(plan(segments=[SegmentSpec("buyer", "lifetime.orders >= 2")]), range(64))
    feed(lane, purchases(0, 10, START_MS))
    edited = DefinitionSet([SegmentSpec("buyer", "lifetime.orders >= 1", guard=guard)])
    target, _ = lane.compiled(edited)
    weighing = Weighing(lane, target)
    assert len(list(weighing.steps(4))) == 3
    assert weighing.too_heavy() == {"buyer": "would move 10 of 0 members"}
    assert not Weighing(lane, target, exempt=["buyer"]).too_heavy()


def test_versions_rise_with_every_change_and_never_fall() -> None:
    begun = Revision(number=0, at_ms=0, author="")
    keen = SegmentSpec("keen", "intent >= 4", version=3)
    one = follow(begun, at_ms=1, author="ann", definitions=DefinitionSet([keen]))
    same = follow(one, at_ms=2, author="bob", definitions=DefinitionSet([keen]))
    assert (same.segments[0].version, differences(one, same)) == (3, [])
    edited = SegmentSpec("keen", "intent >= 4", max_flips=2)
    two = follow(same, at_ms=3, author="bob", definitions=DefinitionSet([edited]))
    assert two.segments[0].version == 4
    assert differences(same, two) == ["keen: max_flips: 0 → 2"]
    held = follow(two, at_ms=4, author="guard", paused=["keen", "nobody"])
    assert (held.paused, differences(two, held)) == (["keen"], ["keen: paused"])
    back = follow(held, at_ms=5, author="bob", paused=[], exempt=["keen"])
    assert (back.exempt, differences(held, back)) == (["keen"], ["keen: goes on"])
    assert Revision.decode(back.encode()) == back
