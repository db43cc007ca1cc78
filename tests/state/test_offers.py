"""Offers of many users against a giver for one, and what their profiles say."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.decode import Decoder
from events.schema import EventRules
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.offers import OfferError, OfferPlan, OfferSpec
from state.segments import SegmentPlan, SegmentSpec
from state.store import Store
from state.table import Table
from state.times import DAY_MS, HOUR_MS, MINUTE_MS, NEVER_MS
from tests.state.array_view import KINDS, T0_MS, ArrayView, User
from tests.state.random_conditions import holds, trees, users, written
from tests.state.streams import START_MS, plan, read_of
from tests.state.test_segments import Machine, compiled, definitions, gaps

ACTIVE = ("always", True)
NO_SEGMENTS = SegmentPlan.compile([], [], KINDS)


@st.composite
def offer_lists(draw):
    """Offers as specs, and their conditions as trees."""
    out = []
    for place in range(draw(st.integers(1, 5))):
        tree = draw(st.one_of(st.just(ACTIVE), trees("first", "second", "red")))
        cap = draw(st.sampled_from([None, None, 1, 2, 3]))
        spec = OfferSpec(
            f"o{place}",
            written(tree),
            lasts_ms=draw(st.sampled_from([1, 1000, HOUR_MS // 2, HOUR_MS, 3 * HOUR_MS])),
            priority=draw(st.integers(-1, 2)),
            cap=cap,
            cap_window_ms=draw(st.sampled_from([None, HOUR_MS, 4 * HOUR_MS])) if cap else None,
            cooldown_ms=draw(st.sampled_from([0, 0, 1, HOUR_MS])),
            exclusive=draw(st.sampled_from([None, None, "a", "b"])),
        )
        out.append((spec, tree))
    return out


class Giver:
    """One user's offers, decided the slow way, with every giving remembered."""

    def __init__(self, offers, most):
        self.offers = sorted(offers, key=lambda offer: -offer[0].priority)  # sorting is stable
        self.most = most
        self.givings = {spec.name: [] for spec, _ in offers}

    def step(self, user, t_ms, members):
        """Decide at a time; the names that stand, in order."""
        groups, standing = set(), []
        for spec, tree in self.offers:
            givings = self.givings[spec.name]
            stands = bool(givings) and givings[-1][1] > t_ms
            may = stands or (self._free(spec, t_ms) and holds(tree, user, t_ms, members))
            if may and len(standing) < self.most and spec.exclusive not in groups:
                standing.append(spec.name)
                groups |= {spec.exclusive} - {None}
                if not stands:
                    givings.append([t_ms, t_ms + spec.lasts_ms])
            elif stands:
                givings[-1][1] = t_ms
        return standing

    def _free(self, spec, t_ms):
        givings = self.givings[spec.name]
        if givings and t_ms < givings[-1][1] + spec.cooldown_ms:
            return False
        window_ms = spec.cap_window_ms
        counted = [s for s, _ in givings if window_ms is None or s > t_ms - window_ms]
        return spec.cap is None or len(counted) < spec.cap


class Given:
    """Some users' offers as the engine keeps them."""

    def __init__(self, offers, most, segments, n):
        self.plan = OfferPlan.compile([spec for spec, _ in offers], most, KINDS, segments)
        self.segments, self.table = segments, Table(self.plan.columns(), capacity=n)
        self.rows = self.table.grow(n)
        self.state, self.as_of = segments.newcomers(n), np.full(n, NEVER_MS)
        self.count = np.zeros(len(self.plan), dtype=np.int64)
        self.sizes = np.zeros(len(self.plan), dtype=np.int64)
        self.due_ms = self.as_of

    def step(self, people, now_ms):
        """Decide everybody at a time of their own; how many were given."""
        outcome = self.segments.evaluate(ArrayView(people, now_ms), self.state, self.plan.tests)
        self.segment_due_ms, self.due_ms = outcome.due_ms.copy(), outcome.due_ms
        tally = self.plan.decide(outcome.on, self.table, self.rows, self.as_of, self.due_ms)
        self.state, self.as_of = outcome.state, np.array(outcome.on.view.now_ms)
        self.count += tally[:, 0]
        self.sizes += tally[:, 1]
        return tally

    def standing(self, row):
        return [s.name for s in self.plan.specs if self.table[s.column][row, 1] > self.as_of[row]]

    def last(self, row):
        """The last giving of each offer, and how many there were."""
        held = {s.name: self.table[s.column][row].tolist() for s in self.plan.specs}
        return {name: h if h[2] > 0 else [NEVER_MS, NEVER_MS, 0] for name, h in held.items()}

    def clone(self):
        other = object.__new__(Given)
        other.__dict__ = dict(self.__dict__)
        other.table = Table(self.plan.columns(), capacity=len(self.rows))
        other.table.grow(len(self.rows))
        for column in self.plan.columns():
            other.table[column.name][:] = self.table[column.name]
        other.count, other.sizes = self.count.copy(), self.sizes.copy()
        return other


@settings(max_examples=150)
@given(
    definitions(),
    offer_lists(),
    st.integers(0, 3),
    st.lists(users, min_size=1, max_size=3),
    st.lists(st.one_of(gaps, st.just("due")), max_size=25),
)
def test_offers_are_what_the_giver_gives(defined, offers, most, people, steps):
    machines = [Machine(*defined) for _ in people]
    givers = [Giver(offers, most) for _ in people]
    engine = Given(offers, most, compiled(*defined), len(people))
    now = T0_MS - 4 * HOUR_MS + np.arange(len(people)) * HOUR_MS
    for step in steps:
        now = np.clip(engine.due_ms, now, now + DAY_MS) if step == "due" else now + step
        engine.step(people, now)
        for row, (machine, giver) in enumerate(zip(machines, givers, strict=True)):
            machine.step(people[row], int(now[row]))
            standing = giver.step(people[row], int(now[row]), machine.inside)
            assert engine.standing(row) == standing
            assert engine.last(row) == {
                name: [*givings[-1], len(givings)] if givings else [NEVER_MS, NEVER_MS, 0]
                for name, givings in giver.givings.items()
            }
        every = [name for row in range(len(people)) for name in engine.standing(row)]
        assert engine.sizes.tolist() == [every.count(s.name) for s in engine.plan.specs]
    total = [sum(len(giver.givings[s.name]) for giver in givers) for s in engine.plan.specs]
    assert engine.count.tolist() == total


@settings(max_examples=150)
@given(
    definitions(), offer_lists(), st.integers(1, 3), users, st.lists(gaps, max_size=6), st.data()
)
def test_no_offer_comes_or_goes_before_it_is_due(defined, offers, most, user, steps, data):
    engine = Given(offers, most, compiled(*defined), 1)
    now_ms = T0_MS - 4 * HOUR_MS
    for step in (0, *steps):
        now_ms += step
        engine.step([user], now_ms)
    due_ms = int(engine.due_ms[0])
    assert due_ms > now_ms
    polled = any(condition.polled for condition in engine.plan.conditions)
    if polled or list(engine.segments.polled()):
        return
    last = min(due_ms - 1, now_ms + 40 * HOUR_MS)
    some = data.draw(st.lists(st.integers(now_ms, last), max_size=5))
    for t_ms in {last, *range(now_ms + 1, last, HOUR_MS // 2), *some}:
        if t_ms > now_ms:
            assert not engine.clone().step([user], t_ms).any()


def crowded(chance):
    """Offers of a few milliseconds, in each other's way, and somebody who comes and goes."""
    active, at_ms, times = False, T0_MS, []
    for _ in range(12):
        at_ms += chance.randint(1, 9)
        active = not active
        times.append((at_ms, active))
    offers = []
    for place in range(chance.randint(1, 5)):
        tree = chance.choice([ACTIVE, ("flag", "visit.active"), ("not", ("flag", "visit.active"))])
        cap = chance.choice([None, 1, 2, 3, 5])
        spec = OfferSpec(
            f"o{place}",
            written(tree),
            lasts_ms=chance.randint(1, 6),
            priority=chance.randint(1, 3),
            cap=cap,
            cap_window_ms=chance.choice([None, *range(1, 30)]) if cap else None,
            cooldown_ms=chance.choice([0, 0, 1, 3, 9]),
            exclusive=chance.choice([None, None, "a", "b"]),
        )
        offers.append((spec, tree))
    return User(steps={"visit.active": times}), offers, chance.randint(1, 4)


@pytest.mark.parametrize("seed", range(40))
def test_looking_only_when_it_is_due_is_like_looking_at_every_millisecond(seed):
    chance = random.Random(seed)
    for _ in range(5):
        user, offers, most = crowded(chance)
        giver, engine = Giver(offers, most), Given(offers, most, NO_SEGMENTS, 1)
        for t_ms in range(T0_MS, T0_MS + 80):
            standing = giver.step(user, t_ms, frozenset())
            if t_ms == T0_MS or t_ms == engine.due_ms[0] or chance.random() < 0.1:
                engine.step([user], t_ms)
                assert engine.standing(0) == standing
            assert engine.last(0) == {
                name: [*givings[-1], len(givings)] if givings else [NEVER_MS, NEVER_MS, 0]
                for name, givings in giver.givings.items()
            }


# -- one by one ---------------------------------------------------------------------------------


def timeline(offers, until_ms, most=3, people=None):
    """What stands from when on, looking only when something is due."""
    engine = Given([(spec, None) for spec in offers], most, NO_SEGMENTS, 1)
    now_ms, out = T0_MS, []
    while now_ms <= T0_MS + until_ms:
        engine.step(people or users_of(), now_ms)
        standing = engine.standing(0)
        if not out or out[-1][1] != standing or engine.count.sum() != out[-1][2]:
            out.append((now_ms - T0_MS, standing, int(engine.count.sum())))
        now_ms = int(engine.due_ms[0])
    return [(at, names) for at, names, _ in out]


def users_of(**steps):
    return [User(steps=steps)]


def test_a_cap_in_all_ends_it_for_good():
    spec = OfferSpec("o", "true", 1000, cap=2)
    assert timeline([spec], DAY_MS) == [(0, ["o"]), (1000, ["o"]), (2000, [])]


def test_a_cap_over_a_window_slides():
    spec = OfferSpec("o", "true", 1000, cap=2, cap_window_ms=10_000, cooldown_ms=1000)
    assert timeline([spec], 14_000) == [
        (0, ["o"]),
        (1000, []),
        (2000, ["o"]),
        (3000, []),
        (10_000, ["o"]),
        (11_000, []),
        (12_000, ["o"]),
        (13_000, []),
    ]


def test_a_cool_down_begins_with_the_end():
    spec = OfferSpec("o", "true", HOUR_MS, cooldown_ms=DAY_MS)
    assert timeline([spec], 26 * HOUR_MS) == [
        (0, ["o"]),
        (HOUR_MS, []),
        (25 * HOUR_MS, ["o"]),
        (26 * HOUR_MS, []),
    ]


def test_the_highest_of_a_group_takes_its_place():
    people = users_of(**{"visit.active": [(T0_MS + 500, True), (T0_MS + 600, False)]})
    low = OfferSpec("low", "true", 5000, 1, exclusive="x", cooldown_ms=200)
    high = OfferSpec("high", "visit.active", 1000, 2, exclusive="x")
    assert timeline([low, high], 2000, people=people) == [
        (0, ["low"]),
        (500, ["high"]),
        (1500, ["low"]),
    ]


def test_equals_come_as_they_were_declared():
    specs = [OfferSpec(name, "true", 1000, 7, cap=1) for name in ("b", "a", "c")]
    assert timeline(specs, 3000, most=2) == [(0, ["b", "a"]), (1000, ["c"]), (2000, [])]


def test_none_is_given_where_none_may_stand():
    assert timeline([OfferSpec("o", "true", 1000)], DAY_MS, most=0) == [(0, [])]


# -- in a lane ----------------------------------------------------------------------------------

OFFERS = [
    OfferSpec(
        "browse",
        "intent >= 2",
        2 * HOUR_MS,
        priority=5,
        cap=2,
        cap_window_ms=DAY_MS,
        value={"percent": 10},
    ),
    OfferSpec("basket", 'member("left_cart")', HOUR_MS, 9, cooldown_ms=3 * HOUR_MS),
    OfferSpec("quiet", "age(last_seen) >= 6h", HOUR_MS, cap=1, value="come back"),
]
SEGMENTS = [SegmentSpec("left_cart", "cart.items > 0 and age(cart.touched) >= 1h")]


def new_lane(**changes):
    parts = {"segments": SEGMENTS, "offers": OFFERS} | changes
    return Lane(plan(**parts), range(64))


class Feeder:
    """Events of one user, each at a time after the start."""

    def __init__(self, lane):
        self.lane, self.count = lane, 0

    def __call__(self, at_ms, *types, user="ann"):
        events = [
            {
                "event_id": f"e{self.count + n}",
                "user_id": user,
                "type": kind,
                "ts": START_MS + at_ms,
                "item_id": "hat",
            }
            for n, kind in enumerate(types)
        ]
        batch, letters = Decoder(EventRules())(read_of(events, self.count, at_end=True))
        assert not letters
        self.count += len(events)
        self.lane.apply(batch, START_MS + at_ms + 500)  # the clock is so far behind the wall


def documents(lane):
    raw = lane.portraits.encode(np.arange(lane.table.size)).bytes_list()
    return {d["user_id"]: d["offers"] for d in map(msgspec.msgpack.decode, raw)}


def test_a_profile_shows_what_stands_most_important_first():
    lane = new_lane()
    feed = Feeder(lane)
    feed(0, "add_to_cart")
    browse = {
        "priority": 5,
        "value": {"percent": 10},
        "since": START_MS,
        "valid_to": START_MS + 2 * HOUR_MS,
        "given": 1,
    }
    assert documents(lane) == {"ann": {"browse": browse}}
    feed(HOUR_MS)
    basket = {
        "priority": 9,
        "value": None,
        "since": START_MS + HOUR_MS,
        "valid_to": START_MS + 2 * HOUR_MS,
        "given": 1,
    }
    assert list(documents(lane)["ann"].items()) == [("basket", basket), ("browse", browse)]
    assert lane.offering.sizes.tolist() == [1, 1, 0]
    feed(2 * HOUR_MS - 1000)
    assert list(documents(lane)["ann"]) == ["basket", "browse"]
    feed(2 * HOUR_MS)
    assert documents(lane) == {"ann": {}}
    assert lane.offering.sizes.tolist() == [0, 0, 0]
    feed(5 * HOUR_MS + MINUTE_MS)
    again = documents(lane)["ann"]["basket"]
    assert (again["since"], again["given"]) == (START_MS + 5 * HOUR_MS, 2)
    feed(6 * HOUR_MS)
    quiet = documents(lane)["ann"].pop("quiet")
    assert (quiet["since"], quiet["value"]) == (START_MS + 6 * HOUR_MS, "come back")
    assert lane.offering.given.tolist() == [2, 1, 1]


def test_silence_gives_and_ends_to_the_millisecond_however_late_it_is_looked_at():
    lane = new_lane()
    feed = Feeder(lane)
    feed(0, "add_to_cart")
    feed(10 * DAY_MS)  # nobody has looked in between
    held = lane.table["offers.basket"][0]
    since_ms = held[0] - START_MS
    assert (since_ms - HOUR_MS) % (4 * HOUR_MS) == 0  # an hour of it, three without
    assert held[2] == (since_ms - HOUR_MS) // (4 * HOUR_MS) + 1
    quiet = lane.table["offers.quiet"][0].tolist()
    assert quiet == [START_MS + 6 * HOUR_MS, START_MS + 7 * HOUR_MS, 1]


def test_a_lane_without_offers_has_none():
    lane = new_lane(offers=())
    Feeder(lane)(0, "add_to_cart")
    assert documents(lane) == {"ann": {}}
    assert not [column.name for column in lane.table if column.name.startswith("offers")]


# -- through a store ----------------------------------------------------------------------------


def history(count=300, users=20, seed=3):
    """A shop's days, in order of time."""
    chance = random.Random(seed)
    at_ms, out = START_MS, []
    for n in range(count):
        at_ms += chance.choice([1, 1000, MINUTE_MS, 20 * MINUTE_MS, HOUR_MS])
        kind = chance.choice(["product_view"] * 3 + ["add_to_cart"])
        event = {"event_id": f"e{n}", "user_id": f"u{chance.randrange(users)}", "type": kind}
        out.append(event | {"ts": at_ms, "item_id": "hat"})
    return out


EVENTS = history()
BATCHES = [(a, a + 25) for a in range(0, len(EVENTS), 25)]


def batch(a, b):
    return Decoder(EventRules())(read_of(EVENTS[a:b], a))[0]


def in_peace(**changes):
    lane = new_lane(**changes)
    for a, b in BATCHES:
        lane.apply(batch(a, b))
    return lane


def stored(store):
    raw = [raw for shard in range(64) for _, raw in store.profiles(shard)]
    return {d["user_id"]: d["offers"] for d in map(msgspec.msgpack.decode, raw)}


@pytest.fixture
def store(store_url):
    opened = Store(store_url, "t", 64, give_up_s=0.3)
    yield opened
    opened.close()


@pytest.mark.servers
def test_a_lane_that_dies_after_every_batch_gives_the_same_offers(store):
    for a, b in BATCHES:
        lost = new_lane()
        Checkpoint(lost, store).open()
        lost.apply(batch(a, b))  # and dies before it commits
        lane = new_lane()
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        lane.apply(batch(a, b))
        checkpoint.commit(heartbeat=True)
    peace = in_peace()
    assert stored(store) == documents(peace)
    assert any(len(offers) > 1 for offers in stored(store).values())
    again = new_lane()
    Checkpoint(again, store).open()
    assert again.offering.sizes.tolist() == peace.offering.sizes.tolist()
    for column in again.offering.plan.columns():
        for user in again.users.ids:
            there, here = again.users.find(user), peace.users.find(user)
            same = again.table[column.name][there] == peace.table[column.name][here]
            assert same.all(), (column.name, user)


@pytest.mark.servers
def test_a_store_from_before_there_were_offers_is_read(store):
    old = new_lane(offers=())
    checkpoint = Checkpoint(old, store)
    checkpoint.open()
    for a, b in BATCHES[:6]:
        old.apply(batch(a, b))
        checkpoint.commit(heartbeat=True)
    assert set(map(len, stored(store).values())) == {0}
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    assert lane.offering.sizes.tolist() == [0, 0, 0]
    for a, b in BATCHES[6:]:
        lane.apply(batch(a, b))
    checkpoint.commit()
    assert stored(store) == documents(lane)
    assert lane.offering.sizes.sum() == sum(map(len, documents(lane).values())) > 0


@pytest.mark.servers
def test_offers_may_change_places_and_others_may_come(store):
    lane = new_lane()
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    for a, b in BATCHES:
        lane.apply(batch(a, b))
    checkpoint.commit()
    added = OfferSpec("added", "true", DAY_MS, priority=99)
    other = new_lane(offers=[added, *OFFERS[::-1]])
    Checkpoint(other, store).open()
    for spec in OFFERS:
        for user in lane.users.ids:
            here, there = lane.users.find(user), other.users.find(user)
            same = lane.table[spec.column][here] == other.table[spec.column][there]
            assert same.all(), (spec.name, user)
    assert documents(other) == documents(lane)


# -- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "problem"),
    [
        ([OfferSpec("O", "true", 1)], "offers.O: the name must be a lower-case letter"),
        ([OfferSpec("o", "true", 0)], "offers.o.for: must be longer than nothing"),
        ([OfferSpec("o", "true", 1, cap=0)], "offers.o.cap: must be 1 or more"),
        ([OfferSpec("o", "true", 1, cooldown_ms=-1)], "offers.o.cooldown: must be 0 ms or more"),
        ([OfferSpec("o", "true", 1, cap_window_ms=1)], "offers.o.cap_window: needs a cap"),
        (
            [OfferSpec("o", "true", 1, cap=9, cap_window_ms=1)],
            "offers.o.cap: must be 1 to 8 with a cap_window, but 9 came",
        ),
        ([OfferSpec("o", "ordrs > 1", 1)], "offers.o.when: there is no feature 'ordrs'; did you"),
        ([OfferSpec("o", 'member("vp")', 1)], "offers.o.when: there is no segment 'vp'"),
        ([OfferSpec("o", "true", 1)] * 2, "offers: each has a name of its own, but ['o']"),
        ([OfferSpec(f"o{n}", "true", 1) for n in range(17)], "offers: at most 16 may be declared"),
    ],
)
def test_wrong_offers_are_refused(specs, problem):
    with pytest.raises(OfferError) as caught:
        OfferPlan.compile(specs, 3, KINDS, NO_SEGMENTS)
    assert str(caught.value).startswith(problem)
