"""Silent users leave ``high_intent`` and enter ``cart_abandoned`` at the computed millisecond.

Once by the shipped definitions, seen by a consumer of a running engine: events of an hour ago stand
in the log, so that what silence does to them comes due seconds later. Once on random histories of
many users in one lane, late events included, held against a search of the definition's formula.
"""

from __future__ import annotations

import math
import random
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.plans import lane_plan
from dataflows.settings import DEFAULTS, load
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from events.texts import Texts
from state.changes import Change, Undated
from state.lane import Lane
from state.store import Store
from tests.brokers import Broker, new_broker
from tests.state.streams import read_of

SHIPPED = tomllib.loads(DEFAULTS.read_text())
INTENT = SHIPPED["features"]["intent"]
WEIGHTS: Mapping[str, float] = INTENT["weights"]
HIGH_INTENT = SHIPPED["segments"]["high_intent"]
ENTER = float(HIGH_INTENT["enter"].removeprefix("intent >= "))
EXIT = float(HIGH_INTENT["exit"].removeprefix("intent < "))
HOUR_MS = 3_600_000
HALF_LIFE_MS = ABANDONED_MS = HOUR_MS
WATCHED = ("cart_abandoned", "high_intent")

Act = tuple[int, str]
"""When, and which type of event."""


def intent(history: Iterable[Act], at_ms: int) -> float:
    """The definition: every event's weight, halved with every half-life since."""
    return math.fsum(
        WEIGHTS.get(kind, 0.0) * 0.5 ** ((at_ms - ts) / HALF_LIFE_MS) for ts, kind in history
    )


def first_below_ms(history: Sequence[Act], limit: float, warm_ms: int) -> int:
    """The first millisecond after ``warm_ms`` at which intent is below a limit, by bisection."""
    low, high = warm_ms, warm_ms + 64 * HALF_LIFE_MS
    assert intent(history, low) >= limit > intent(history, high)
    while high - low > 1:
        middle = (low + high) // 2
        if intent(history, middle) < limit:
            high = middle
        else:
            low = middle
    return high


def test_what_ships_is_what_is_computed_here() -> None:
    assert INTENT["kind"] == "decayed"
    assert INTENT["half_life"] == "1h"
    abandoned = SHIPPED["segments"]["cart_abandoned"]
    assert abandoned == {"enter": "cart.items > 0 and age(cart.touched) >= 1h"}
    assert HIGH_INTENT == {"enter": "intent >= 8", "exit": "intent < 4"}


# -- a running engine -------------------------------------------------------------------------

PATIENCE_MS = 2_000
"""How long after its time a change may reach a consumer."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def wait_until_ms(at_ms: int) -> None:
    time.sleep(max(0, at_ms - now_ms()) / 1000)


@dataclass(frozen=True)
class Seen:
    """A change, and when the consumer had it."""

    change: Change
    arrived_ms: int


class Watcher:
    """A consumer of the change topic from its beginning."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "watcher", "fetch.wait.max.ms": 5}
        )
        self._consumer.assign(
            [TopicPartition("segment-changes", p, OFFSET_BEGINNING) for p in range(partitions)]
        )
        self.seen: list[Seen] = []

    def watch(self, until_ms: int, done: Callable[[], bool] = lambda: False) -> None:
        """Take what comes, until a time or until that is enough."""
        while now_ms() < until_ms and not done():
            message = self._consumer.poll(0.02)
            if message is None:
                continue
            assert message.error() is None, message.error()
            change = msgspec.json.decode(message.value() or b"", type=Change)
            assert message.key() == change.user_id.encode()
            self.seen.append(Seen(change, now_ms()))

    def of(self, user: str) -> list[Seen]:
        """One user's changes, in their order and each once: a crash may repeat some."""
        first: dict[str, Seen] = {}
        for seen in self.seen:
            if seen.change.user_id == user:
                assert first.setdefault(seen.change.id, seen).change == seen.change
        return list(first.values())

    def entered(self, segment: str) -> set[str]:
        """Who is known to have come in."""
        changes = [seen.change for seen in self.seen]
        return {c.user_id for c in changes if (c.segment, c.action) == (segment, "entered")}

    def close(self) -> None:
        self._consumer.close()


@dataclass
class Servers:
    """A broker and a store, somebody who watches, and engines that come and go."""

    broker: Broker
    store: EmbeddedStore
    watcher: Watcher
    log: Path
    producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self.producer = Producer({"bootstrap.servers": self.broker.bootstrap, "linger.ms": 0})

    def publish(self, user: str, acts: Iterable[Act]) -> None:
        """A user's events, each cart event with an item of its own."""
        for ts, kind in acts:
            event = {"event_id": f"{ts}-{kind}", "user_id": user, "type": kind, "ts": ts}
            if kind in ("add_to_cart", "remove_from_cart"):
                event["item_id"] = "the one"
            self.producer.produce("events", msgspec.json.encode(event), user.encode())
        assert self.producer.flush(10) == 0

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An engine as shipped; killed at the end if nobody has ended it."""
        env = {"KAFKA_BOOTSTRAP": self.broker.bootstrap, "REDIS_URL": self.store.url}
        engine = Engine(["--set", "metrics.address="], env, self.log)
        engine.start()
        try:
            yield engine
        finally:
            engine.kill()

    def profile(self, user: str) -> dict[str, Any]:
        """A profile as an edge service reads it."""
        store = Store(self.store.url)
        raw = store.profile(int(shard_of(Texts.of([user]), 64)[0]), user)
        store.close()
        assert raw is not None, user
        document: dict[str, Any] = msgspec.msgpack.decode(raw)
        return document


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with EmbeddedStore() as store, new_broker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        watcher = Watcher(broker.bootstrap, broker.partitions)
        try:
            yield Servers(broker, store, watcher, tmp_path / "engine.log")
        finally:
            watcher.close()


def history_of(touched_ms: int, others: Iterable[tuple[int, str]], over_ms: int) -> list[Act]:
    """A history that ends with a touched cart and leaves ``high_intent`` an hour and a bit later.

    Args:
        touched_ms: of its last event.
        others: how long before it there were events of which types.
        over_ms: the bit; a product view is placed so long ago that it makes the difference.
    """
    acts = [(touched_ms - before_ms, kind) for before_ms, kind in others]
    acts.append((touched_ms, "add_to_cart"))
    missing = ENTER * 2 ** (over_ms / HALF_LIFE_MS) - intent(acts, touched_ms)
    before_ms = round(HALF_LIFE_MS * math.log2(WEIGHTS["product_view"] / missing))
    return [(touched_ms - before_ms, "product_view"), *sorted(acts)]


MINUTE_MS = 60_000
OTHERS = {
    "ann": [(90_000, "add_to_cart")],
    "bob": [(10 * MINUTE_MS, "add_to_cart"), (30 * MINUTE_MS, "search")],
    "cleo": [(20 * MINUTE_MS, "wishlist_add"), (5 * MINUTE_MS, "wishlist_add")],
    "dora": [(MINUTE_MS, "wishlist_add"), (2 * MINUTE_MS, "wishlist_add")],
    "emil": [(15 * MINUTE_MS, "add_to_cart"), (1, "click")],
}
LEAD_MS = 12_000
"""From the events' way into the log to the first timer; an engine must have started by then."""


def histories(first_due_ms: int, apart_ms: int) -> dict[str, list[Act]]:
    """Everybody's, so that their carts are abandoned one after the other."""
    return {
        user: history_of(first_due_ms + n * apart_ms - ABANDONED_MS, others, 1_300 + 400 * n)
        for n, (user, others) in enumerate(OTHERS.items())
    }


def summary(seen: Iterable[Seen]) -> list[tuple[str, str, str, int]]:
    return [(s.change.segment, s.change.action, s.change.cause.kind, s.change.ts) for s in seen]


def abandoned_and_left(history: Sequence[Act]) -> list[tuple[str, str, str, int]]:
    """All that happens to somebody who falls silent."""
    touched_ms = history[-1][0]
    return [
        ("high_intent", "entered", "event", touched_ms),
        ("cart_abandoned", "entered", "timer", touched_ms + ABANDONED_MS),
        ("high_intent", "exited", "timer", first_below_ms(history, EXIT, touched_ms)),
    ]


def assert_explained(change: Change, history: Sequence[Act]) -> None:
    """The cause's values are those of the definition, on the right side of its thresholds."""
    if change.segment == "cart_abandoned":
        assert change.cause.values == {"cart.items": 1, "age(cart.touched)": ABANDONED_MS}
        assert change.cause.thresholds == {"cart.items": 0, "age(cart.touched)": ABANDONED_MS}
        return
    assert change.cause.thresholds == {"intent": ENTER if change.action == "entered" else EXIT}
    (measured,) = change.cause.values.values()
    assert isinstance(measured, float)
    assert (measured >= ENTER) if change.action == "entered" else (measured < EXIT)
    assert measured == pytest.approx(intent(history, change.ts), rel=1e-9)


def assert_on_time(seen: Seen, ready_ms: int = 0) -> None:
    """Decided and seen after its time, and soon; an engine that was not there may be later."""
    change, due_ms = seen.change, max(seen.change.ts, ready_ms)
    assert change.ts <= change.decided_at <= seen.arrived_ms
    assert seen.arrived_ms - due_ms <= PATIENCE_MS, (change, seen.arrived_ms)


def assert_counted(seen: Sequence[Seen]) -> None:
    """``n`` has no gap, and memberships are those that the changes make."""
    held: set[str] = set()
    assert [s.change.n for s in seen] == list(range(1, len(seen) + 1))
    for each in seen:
        change = each.change
        (held.add if change.action == "entered" else held.remove)(change.segment)
        assert set(change.segments) == held


def assert_stored(document: Mapping[str, Any], seen: Sequence[Seen]) -> None:
    """The profile holds what the last change says."""
    last = seen[-1].change
    assert document["segments"].keys() == set(last.segments)
    assert document["changes"] == last.n
    for each in (s.change for s in seen if s.change.action == "entered"):
        if each.segment in last.segments:
            assert document["segments"][each.segment]["since"] == each.ts


def assert_silent(servers: Servers, user: str, history: Sequence[Act]) -> None:
    """All of what silence does to a user, on the topic and in the store."""
    seen = servers.watcher.of(user)
    assert summary(seen) == abandoned_and_left(history), user
    assert_counted(seen)
    for each in seen:
        assert_explained(each.change, history)
    assert_stored(servers.profile(user), seen)


@pytest.mark.servers
@pytest.mark.slow
def test_a_consumer_sees_silent_users_change_at_the_computed_second(servers: Servers) -> None:
    watcher, first_due_ms = servers.watcher, now_ms() + LEAD_MS
    everybody = histories(first_due_ms, apart_ms=400)
    silent = ("ann", "bob", "cleo")
    for user, history in everybody.items():
        servers.publish(user, history)
    with servers.engine() as engine:
        watcher.watch(first_due_ms, lambda: watcher.entered("high_intent") == everybody.keys())
        assert watcher.entered("high_intent") == everybody.keys(), servers.log.read_text()
        for user in everybody:
            assert servers.profile(user)["segments"].keys() == {"high_intent"}
        active_ms = now_ms()
        assert active_ms < first_due_ms
        servers.publish("dora", [(active_ms, "remove_from_cart")])
        servers.publish("emil", [(active_ms, "search")])
        last_ms = max(abandoned_and_left(history)[-1][-1] for history in everybody.values())
        watcher.watch(last_ms + PATIENCE_MS)
        assert engine.stop() == 0, servers.log.read_text()

    assert len({seen.change.id for seen in watcher.seen}) == len(watcher.seen)
    for user in silent:
        assert_silent(servers, user, everybody[user])
    for each in watcher.seen:
        if each.change.cause.kind == "timer":
            assert_on_time(each)
    entered, abandoned, left = abandoned_and_left(everybody["dora"])
    assert summary(watcher.of("dora")) == [entered, left]
    assert servers.profile("dora")["segments"] == {}
    entered, abandoned, _ = abandoned_and_left(everybody["emil"])
    assert summary(watcher.of("emil")) == [entered, abandoned]
    held = servers.profile("emil")["segments"]
    cold_ms = first_below_ms([*everybody["emil"], (active_ms, "search")], EXIT, active_ms)
    assert held.keys() == set(WATCHED)
    assert held["high_intent"]["valid_to"] == cold_ms


@pytest.mark.servers
@pytest.mark.slow
def test_timers_of_a_killed_engine_keep_their_time(servers: Servers) -> None:
    """Those that came due while none ran are decided by the next one, for when they were due."""
    watcher, first_due_ms = servers.watcher, now_ms() + LEAD_MS
    apart_ms = 6_000  # an engine starts within it, also on a slow machine
    everybody = histories(first_due_ms, apart_ms)
    for user, history in everybody.items():
        servers.publish(user, history)
    with servers.engine():
        watcher.watch(first_due_ms, lambda: watcher.entered("high_intent") == everybody.keys())
        watcher.watch(first_due_ms + PATIENCE_MS, lambda: "ann" in watcher.entered(WATCHED[0]))
    killed_ms = now_ms()
    assert watcher.entered("high_intent") == everybody.keys(), servers.log.read_text()
    assert watcher.entered("cart_abandoned") == {"ann"}
    wait_until_ms(first_due_ms + apart_ms + 500)
    with servers.engine() as engine:
        last_ms = max(abandoned_and_left(history)[-1][-1] for history in everybody.values())
        watcher.watch(last_ms + PATIENCE_MS)
        assert engine.stop() == 0, servers.log.read_text()

    for user, history in everybody.items():
        assert_silent(servers, user, history)
    timers = [
        seen for user in everybody for seen in watcher.of(user) if seen.change.cause.kind == "timer"
    ]
    back_ms = min(seen.change.decided_at for seen in timers if seen.change.decided_at > killed_ms)
    assert any(killed_ms < seen.change.ts < back_ms for seen in timers)
    assert any(back_ms < seen.change.ts for seen in timers)
    for each in timers:
        assert_on_time(each, ready_ms=back_ms if each.arrived_ms > killed_ms else 0)


# -- one lane, many random histories, a simulated wall clock ----------------------------------

START_MS = 1_790_000_000_123
NEVER_MS = -(2**62)
WALL_DELAY_MS, TIMER_STEP_MS, APART_MS = 500, 100, 10_000
TYPES = ("product_view", "search", "wishlist_add", "add_to_cart", "add_to_cart", "click")


@dataclass(frozen=True, order=True)
class Flip:
    """One entry or exit: when, of what, why, and what was measured there."""

    ts: int
    segment: str
    action: str
    kind: str
    measured: float = field(compare=False)


@dataclass
class Person:
    """The two segments of one user by their definition, recomputed from all events."""

    history: list[Act] = field(default_factory=list)
    keen: bool = False
    abandoned: bool = False
    as_of_ms: int = NEVER_MS
    flips: list[Flip] = field(default_factory=list)

    @property
    def touched_ms(self) -> int:
        return max((ts for ts, kind in self.history if kind == "add_to_cart"), default=NEVER_MS)

    def silence(self, until_ms: int) -> None:
        """What comes due up to a time."""
        due: list[tuple[int, str]] = []
        if self.keen:
            due.append((first_below_ms(self.history, EXIT, self.as_of_ms), "high_intent"))
        if not self.abandoned and self.touched_ms > NEVER_MS:
            due.append((self.touched_ms + ABANDONED_MS, "cart_abandoned"))
        for at_ms, _ in sorted(due):
            if at_ms <= until_ms:
                self._decide(at_ms, "timer")

    def take(self, acts: Sequence[Act], clock_ms: int) -> None:
        """Events that came together, when the lane's clock stood at a time."""
        self.silence(min(ts for ts, _ in acts))
        self.history += acts
        newest_ms = max(ts for ts, _ in self.history)
        self._decide(max(newest_ms, clock_ms, self.as_of_ms), "event")

    def _decide(self, at_ms: int, kind: str) -> None:
        self.as_of_ms = at_ms
        level, age_ms = intent(self.history, at_ms), at_ms - self.touched_ms
        keen = level >= (EXIT if self.keen else ENTER)
        abandoned = self.touched_ms > NEVER_MS and age_ms >= ABANDONED_MS
        if keen != self.keen:
            self._flip(at_ms, "high_intent", keen, kind, level)
        if abandoned != self.abandoned:
            self._flip(at_ms, "cart_abandoned", abandoned, kind, age_ms)
        self.keen, self.abandoned = keen, abandoned

    def _flip(self, at_ms: int, segment: str, inside: bool, kind: str, measured: float) -> None:
        action = "entered" if inside else "exited"
        self.flips.append(Flip(at_ms, segment, action, kind, measured))


Arrival = tuple[str, Act]
"""Whose event."""


def arrivals(chance: random.Random, users: int) -> list[tuple[int, Arrival]]:
    """Hours of many users in bursts and pauses, by when they reach the log; some late by hours."""
    out = []
    for n in range(users):
        at_ms = START_MS + chance.randrange(3 * HOUR_MS)
        for _ in range(chance.randint(2, 18)):
            at_ms += chance.choice([chance.randint(1, 180_000), chance.randint(1, 2 * HOUR_MS)])
            late_ms = chance.choice([0] * 7 + [chance.randint(1, 3 * HOUR_MS)])
            out.append((at_ms + late_ms, (f"u{n}", (at_ms, chance.choice(TYPES)))))
    return sorted(out)


def in_rounds(acts: Iterable[Act], clock_ms: int) -> list[list[Act]]:
    """Acts that are decided at once: those up to ``lane.apart`` after the first of them.

    Those before the clock count as if they came then.
    """
    out: list[list[Act]] = []
    for act in acts:
        if out and max(act[0], clock_ms) <= max(out[-1][0][0], clock_ms) + APART_MS:
            out[-1].append(act)
        else:
            out.append([act])
    return out


class Twins:
    """A lane of the shipped settings and, beside it, every user by the definition."""

    def __init__(self) -> None:
        self.lane = Lane(lane_plan(load(env={})), range(64))
        self.people: dict[str, Person] = defaultdict(Person)
        self._decode = Decoder(EventRules())
        self._offset = 0
        self._clock_ms = self._fired_ms = NEVER_MS

    def step(self, together: Sequence[Arrival], wall_ms: int) -> None:
        """Events that are read at once, or none, when the wall clock stands at a time."""
        events = [
            {"event_id": f"{self._offset + i}", "user_id": user, "type": kind, "ts": ts}
            | {"item_id": f"i{self._offset + i}"}
            for i, (user, (ts, kind)) in enumerate(together)
        ]
        batch, letters = self._decode(read_of(events, self._offset, at_end=True))
        assert not letters
        self._offset += len(events)
        self.lane.apply(batch, wall_ms)
        self._imagine(together, wall_ms)

    def _imagine(self, together: Sequence[Arrival], wall_ms: int) -> None:
        acts: dict[str, list[Act]] = defaultdict(list)
        for user, act in together:
            acts[user].append(act)
        for user, theirs in acts.items():
            for close in in_rounds(theirs, self._clock_ms):
                self.people[user].take(close, self._clock_ms)
        self._clock_ms = max(self._clock_ms, wall_ms - WALL_DELAY_MS)
        if self._clock_ms - self._fired_ms >= TIMER_STEP_MS:
            self._fired_ms = self._clock_ms
            for person in self.people.values():
                person.silence(self._clock_ms)

    def changes(self, user: str) -> list[Undated]:
        """What the lane decided of one user, in order."""
        row = self.lane.users.find(user)
        return [change for change in self.lane.decider.waiting if change.row == row]


def live_through(chance: random.Random, users: int) -> Twins:
    """All arrivals, in reads of random size, with ticks of random length in the silence."""
    twins, coming = Twins(), arrivals(chance, users)
    while coming:
        count = chance.choice([1, 1, 2, 3, 10])
        together, coming = coming[:count], coming[count:]
        wall_ms = together[-1][0] + chance.randint(0, 1_500)
        twins.step([arrival for _, arrival in together], wall_ms)
        if coming and coming[0][0] > wall_ms:
            twins.step([], chance.randint(wall_ms, coming[0][0]))
    for _ in range(60):
        wall_ms += chance.choice([20, 1_000, 60_000, HOUR_MS])
        twins.step([], wall_ms)
    twins.step([], wall_ms + 40 * HOUR_MS)
    return twins


def flips(changes: Iterable[Undated]) -> list[Flip]:
    """Changes as the definition's flips; thresholds must be the definition's."""
    out = []
    for change in changes:
        if change.segment == "high_intent":
            limit = ENTER if change.action == "entered" else EXIT
            assert change.cause.thresholds["intent"] == limit
            measured = change.cause.values["intent"]
        else:
            assert change.cause.thresholds["age(cart.touched)"] == ABANDONED_MS
            measured = change.cause.values["age(cart.touched)"]
        assert isinstance(measured, int | float)
        out.append(Flip(change.ts, change.segment, change.action, change.cause.kind, measured))
    return out


@pytest.mark.parametrize("seed", range(8))
def test_every_flip_of_a_random_history_is_where_a_search_finds_it(seed: int) -> None:
    twins = live_through(random.Random(seed), users=40)
    kinds = set()
    for user, person in twins.people.items():
        changes = twins.changes(user)
        assert [change.n for change in changes] == list(range(1, len(changes) + 1))
        found = flips(changes)
        assert sorted(found) == sorted(person.flips), user
        for one, truth in zip(sorted(found), sorted(person.flips), strict=True):
            assert one.measured == pytest.approx(truth.measured, rel=1e-9), (user, one)
        kinds |= {(flip.segment, flip.action, flip.kind) for flip in found}
    assert kinds >= {
        ("high_intent", "entered", "event"),
        ("high_intent", "exited", "timer"),
        ("cart_abandoned", "entered", "timer"),
        ("cart_abandoned", "exited", "event"),
    }


def test_intent_that_equals_the_threshold_reaches_it() -> None:
    """Two touches of a cart in one millisecond are 4 + 4, which is 8, whatever the time is."""
    twins, count = Twins(), 400
    for n in range(count):
        acts = [(f"u{n}", (START_MS + n, "add_to_cart"))] * 2
        twins.step(acts, START_MS + n)
    missing = [
        START_MS + n
        for n in range(count)
        if not any(change.segment == "high_intent" for change in twins.changes(f"u{n}"))
    ]
    assert not missing, f"{len(missing)} of {count} did not enter, such as at {missing[:5]}"
