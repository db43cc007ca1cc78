"""The evaluator of many users against a state machine for one."""

import json
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.segments import FamilySpec, SegmentError, SegmentPlan, SegmentSpec
from state.table import Table
from state.times import DAY_MS, FAR_MS, HOUR_MS, NEVER_MS
from state.view import Kind
from tests.state.array_view import KINDS, T0_MS, ArrayView, User
from tests.state.random_conditions import holds, trees, users, written

ROOT = Path(__file__).parents[2]
holds_for = st.sampled_from([0, 0, 1, HOUR_MS, 3 * HOUR_MS])
gaps = st.sampled_from([0, 1, 1000, HOUR_MS // 2, HOUR_MS, 2 * HOUR_MS])


@st.composite
def definitions(draw):
    """Two tags and a family, as trees; later ones may ask for earlier ones."""
    exits = st.one_of(st.none(), trees())
    first = (draw(trees()), draw(exits), draw(holds_for), draw(holds_for))
    second = (draw(trees("first", "red")), draw(exits), draw(holds_for), draw(holds_for))
    family = [(name, draw(trees("first"))) for name in ("red", "green", "blue")]
    return {"second": second, "first": first}, family


def compiled(tags, family):
    specs = [
        SegmentSpec(name, written(enter), None if leave is None else written(leave), dwell, cool)
        for name, (enter, leave, dwell, cool) in tags.items()
    ]
    labels = [(name, written(tree)) for name, tree in family]
    return SegmentPlan.compile(specs, [FamilySpec("colour", labels)], KINDS)


class Machine:
    """One user's memberships, decided the slow way."""

    def __init__(self, tags, family):
        self.tags, self.family = tags, family
        self.since = {}
        self.inside = set()

    def step(self, user, t_ms):
        """Evaluate at a time; gives exits and entries."""
        before = set(self.inside)
        self._tag("first", user, t_ms)
        colour = next((n for n, tree in self.family if holds(tree, user, t_ms, self.inside)), None)
        self.inside -= {name for name, _ in self.family}
        self.inside |= {colour} - {None}
        self._tag("second", user, t_ms)
        return before - self.inside, self.inside - before

    def _tag(self, name, user, t_ms):
        enter, leave, dwell, cool = self.tags[name]
        enters = holds(enter, user, t_ms, self.inside)
        leaves = not enters if leave is None else holds(leave, user, t_ms, self.inside)
        waited = t_ms - self.since.get(name, NEVER_MS)
        if name in self.inside and leaves and waited >= dwell:
            self.inside.remove(name)
            self.since[name] = t_ms
        elif name not in self.inside and enters and not leaves and waited >= cool:
            self.inside.add(name)
            self.since[name] = t_ms


def named(plan, state):
    """Who is where: one set of names per row."""
    held = plan.held(state, np.full((len(state.members), 9), FAR_MS))
    rows = [set() for _ in state.members]
    for row, place in zip(held.index.tolist(), held.segment.tolist(), strict=True):
        rows[row].add(plan.names[place])
    return rows


def causes(plan, outcome):
    """Values and thresholds of each flip."""
    return list(zip(*(map(json.loads, side) for side in plan.causes(outcome)), strict=True))


@settings(max_examples=80)
@given(definitions(), st.lists(users, min_size=1, max_size=3), st.lists(gaps, max_size=12))
def test_memberships_are_what_the_state_machine_says(defined, people, steps):
    plan = compiled(*defined)
    machines = [Machine(*defined) for _ in people]
    state = plan.newcomers(len(people))
    now = T0_MS - 4 * HOUR_MS + np.arange(len(people)) * HOUR_MS
    for step in steps:
        now = now + step
        outcome = plan.evaluate(ArrayView(people, now), state)
        want = []
        for row, machine in enumerate(machines):
            exits, entries = machine.step(people[row], int(now[row]))
            ordered = [(exits, False), (entries, True)]
            want += [
                (row, plan.names.index(name), entered)
                for names, entered in ordered
                for name in sorted(names, key=plan.names.index)
            ]
        flips = outcome.flips
        got = [flips.row.tolist(), flips.segment.tolist(), flips.entered.tolist()]
        assert list(zip(*got, strict=True)) == want
        state = outcome.state
        assert named(plan, state) == [machine.inside for machine in machines]
        since = [[m.since.get(tag.name, NEVER_MS) for tag in plan.tags] for m in machines]
        assert state.since_ms.tolist() == since


@settings(max_examples=80)
@given(definitions(), users, st.lists(gaps, min_size=1, max_size=3), st.data())
def test_nothing_flips_before_it_is_due(defined, user, steps, data):
    plan = compiled(*defined)
    state, now_ms = plan.newcomers(1), T0_MS - 4 * HOUR_MS
    for step in steps:
        now_ms += step
        outcome = plan.evaluate(ArrayView([user], now_ms), state)
        state = outcome.state
    due_ms = int(outcome.due_ms[0])
    assert due_ms > now_ms
    if not list(plan.polled()):
        last = min(due_ms - 1, now_ms + 40 * HOUR_MS)
        edges = {last, *range(now_ms + HOUR_MS, last, HOUR_MS // 2)}
        some = data.draw(st.lists(st.integers(now_ms, last), max_size=5))
        for t_ms in (*edges, *some):
            if t_ms > now_ms:
                assert not len(plan.evaluate(ArrayView([user], t_ms), state).flips)
        silent = outcome
        for _ in range(12):
            due_ms = int(silent.due_ms[0])
            if due_ms == FAR_MS:
                break
            silent = plan.evaluate(ArrayView([user], due_ms), silent.state)
            now = plan.held(silent.state, silent.valid_to_ms).segment.tolist()
            held = plan.held(state, outcome.valid_to_ms)
            for place, valid_to in zip(held.segment.tolist(), held.valid_to_ms, strict=True):
                assert due_ms >= valid_to or place in now


def test_silence_ends_intent_and_abandons_a_cart():
    plan = SegmentPlan.compile(
        [
            SegmentSpec("keen", enter="intent >= 4", exit="intent < 3"),
            SegmentSpec("waiting", enter="orders > 0 and age(bought) >= 1h"),
        ],
        [],
        KINDS,
    )
    user = User(steps={"orders": [(0, 1)], "bought": [(T0_MS, T0_MS)]}, terms={"intent": []})
    user.terms["intent"].append((8.0, T0_MS))
    outcome = plan.evaluate(ArrayView([user], T0_MS), plan.newcomers(1))
    assert named(plan, outcome.state) == [{"keen"}]
    assert outcome.due_ms.tolist() == [T0_MS + HOUR_MS]
    gone_ms = T0_MS + math.ceil(math.log2(8 / 3) * HOUR_MS)
    hour = plan.evaluate(ArrayView([user], outcome.due_ms), outcome.state)
    assert named(plan, hour.state) == [{"keen", "waiting"}]
    assert hour.due_ms.tolist() == [gone_ms]
    assert hour.valid_to_ms.tolist() == [[gone_ms, FAR_MS]]
    silent = plan.evaluate(ArrayView([user], hour.due_ms), hour.state)
    assert named(plan, silent.state) == [{"waiting"}]
    assert silent.due_ms.tolist() == [FAR_MS]
    ((values, limits),) = causes(plan, silent)
    assert values == {"intent": pytest.approx(3)}
    assert limits == {"intent": 3}


def test_dwell_and_cool_down_hold_to_the_millisecond():
    spec = SegmentSpec("on", enter="visit.active", min_dwell_ms=DAY_MS, cooldown_ms=HOUR_MS)
    plan = SegmentPlan.compile([spec], [], KINDS)
    active = [(T0_MS, True), (T0_MS + 1, False), (T0_MS + DAY_MS + 5, True)]
    user, state, now_ms, flips = User(steps={"visit.active": active}), plan.newcomers(1), T0_MS, []
    while now_ms != FAR_MS:
        outcome = plan.evaluate(ArrayView([user], now_ms), state)
        flips += [(now_ms - T0_MS, entered) for entered in outcome.flips.entered.tolist()]
        state, now_ms = outcome.state, int(outcome.due_ms[0])
    assert flips == [(0, True), (DAY_MS, False), (DAY_MS + HOUR_MS, True)]


def test_a_state_lives_in_a_table():
    plan = compiled({"first": (("always", True), None, 0, 0)}, [("red", ("always", True))])
    table = Table(plan.columns(), capacity=2)
    rows = table.grow(3)[1:]
    view = ArrayView([User(), User()], T0_MS)
    plan.write(table, rows, plan.evaluate(view, plan.read(table, rows)).state)
    assert named(plan, plan.read(table, np.arange(3))) == [
        set(),
        {"first", "red"},
        {"first", "red"},
    ]
    assert not len(plan.evaluate(view, plan.read(table, rows)).flips)


def test_causes_come_in_the_order_of_flips():
    family = FamilySpec("size", [("big", "orders > 3"), ("small", "orders > 0")])
    plan = SegmentPlan.compile([SegmentSpec("any", "orders >= 1", "orders < 1")], [family], KINDS)
    people = [User(steps={"orders": [(0, 1), (T0_MS, 4)]}), User(steps={"orders": [(0, 2)]})]
    before = plan.evaluate(ArrayView(people, [T0_MS - 1, T0_MS]), plan.newcomers(2))
    assert causes(plan, before) == [
        ({"orders": 1}, {"orders": 1}),
        ({"orders": 1}, {"orders": 0}),
        ({"orders": 2}, {"orders": 1}),
        ({"orders": 2}, {"orders": 0}),
    ]
    after = plan.evaluate(ArrayView(people, T0_MS), before.state)
    assert after.flips.entered.tolist() == [False, True]
    assert causes(plan, after) == [({"orders": 4}, {"orders": 0}), ({"orders": 4}, {"orders": 3})]


TRUE = "true"


@pytest.mark.parametrize(
    ("tags", "families", "problem"),
    [
        ({"Vip": TRUE}, {}, "'Vip' came"),
        ({"vip": TRUE}, {"size": ["vip"]}, "each segment has a name of its own, but ['vip']"),
        ({f"s{i}": TRUE for i in range(60)}, {"size": list("abcd")}, "at most 63 segments"),
        ({"a": 'member("b")', "b": 'not member("a")'}, {}, "but these do: a → b → a"),
        ({"a": 'member("a")'}, {}, "but these do: a → a"),
        ({"a": 'member("x")'}, {"size": ["x", "y"]}, None),
        ({"a": "orders >"}, {}, "segment 'a', enter: a value must stand here"),
        ({"a": 'member("aa")'}, {}, "there is no segment 'aa'; did you mean 'a'?"),
    ],
)
def test_wrong_definitions_are_refused(tags, families, problem):
    specs = [SegmentSpec(name, enter) for name, enter in tags.items()]
    labels = [FamilySpec(name, [(x, TRUE) for x in members]) for name, members in families.items()]
    if problem is None:
        assert SegmentPlan.compile(specs, labels, KINDS).names == ("a", "x", "y")
    else:
        with pytest.raises(SegmentError) as caught:
            SegmentPlan.compile(specs, labels, KINDS)
        assert problem in str(caught.value)


def test_a_family_cannot_ask_for_its_own_labels():
    family = FamilySpec("size", [("big", 'member("vip")'), ("small", TRUE)])
    with pytest.raises(SegmentError, match="vip → big → vip"):
        SegmentPlan.compile([SegmentSpec("vip", 'member("small")')], [family], KINDS)


def test_the_shipped_rfm_labels_are_the_standard_map():
    shipped = tomllib.loads((ROOT / "afterglow.toml").read_text("utf-8"))["families"]["rfm"]
    family = FamilySpec("rfm", list(shipped["labels"].items()))
    plan = SegmentPlan.compile([], [family], {"rfm.r": Kind.NUMBER, "rfm.f": Kind.NUMBER})
    scores = [(0, 0), *((r, f) for r in range(1, 6) for f in range(1, 6))]
    got = named(plan, plan.evaluate(ScoreView(scores), plan.newcomers(len(scores))).state)
    standard = {
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
    for (r, f), labels in zip(scores, got, strict=True):
        assert labels == {n for n, cells in standard.items() if re.fullmatch(cells, f"{r}{f}")}


class ScoreView(ArrayView):
    """Scores and nothing else."""

    def __init__(self, scores):
        super().__init__([User()] * len(scores), T0_MS)
        self.scores = np.array(scores, dtype=np.int8)

    def value(self, name):
        return self.scores[:, ["rfm.r", "rfm.f"].index(name)]

    def next_step_ms(self, name):
        return np.full(len(self.scores), FAR_MS)


def test_polled_tests_are_named():
    plan = SegmentPlan.compile([SegmentSpec("odd", "intent > heat")], [], KINDS)
    assert list(plan.polled()) == [("odd", "intent > heat")]


def test_a_large_plan_uses_all_bits():
    specs = [SegmentSpec(f"s{i}", f"orders >= {i % 2}") for i in range(63)]
    plan = SegmentPlan.compile(specs, [], KINDS)
    outcome = plan.evaluate(ArrayView([User()], T0_MS), plan.newcomers(1))
    assert int(outcome.state.members[0]) == sum(1 << i for i in range(0, 63, 2))
    assert outcome.flips.segment.tolist() == list(range(0, 63, 2))
