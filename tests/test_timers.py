"""Silence decides on time: a user who does nothing leaves and enters segments at computed times.

Once seen from outside, by a consumer of a running engine, and once on random histories, where
every time is held against a search of the definition's formula, millisecond by millisecond.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from hypothesis import given, settings
from hypothesis import strategies as st

from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore
from dataflows.plans import lane_plan
from dataflows.settings import load
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from state.changes import Change
from state.lane import Lane
from state.store import Store
from state.times import HOUR_MS, MINUTE_MS, SECOND_MS
from tests.operators.logs import consume
from tests.state.streams import read_of

WEIGHTS = {"product_view": 1.0, "search": 0.5, "add_to_cart": 4.0}
"""Of those that ship for intent."""

ENTER, EXIT = 8.0, 4.0


def intent(history: list[tuple[int, str]], at_ms: int, half_life_ms: int) -> float:
    """The definition: every event's weight, halved with every half-life since."""
    return float(sum(WEIGHTS[kind] * 0.5 ** ((at_ms - ts) / half_life_ms) for ts, kind in history))


def first_below_ms(history: list[tuple[int, str]], limit: float, half_life_ms: int) -> int:
    """The first millisecond after the last event at which intent is below a limit."""
    low = history[-1][0]  # not below
    high = low + 64 * half_life_ms  # below
    while high - low > 1:
        middle = (low + high) // 2
        if intent(history, middle, half_life_ms) < limit:
            high = middle
        else:
            low = middle
    return high


# -- from outside -----------------------------------------------------------------------------

HALF_LIFE_MS, UNTOUCHED_MS = 4_000, 5_000
ABANDONED = f"cart.items > 0 and age(cart.touched) >= {UNTOUCHED_MS // 1000}s"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An engine in whose shop hours pass in seconds."""
    sets = [
        f"features.intent.half_life={HALF_LIFE_MS // 1000}s",
        f"segments.cart_abandoned.enter={ABANDONED}",
        "metrics.address=",
    ]
    with EmbeddedStore() as store, EmbeddedBroker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        options = [part for text in sets for part in ("--set", text)]
        engine = Engine(options, env, tmp_path / "engine.log")
        engine.start()
        try:
            yield env
        finally:
            engine.kill()


def profile(env: Mapping[str, str], user: str) -> dict[str, Any]:
    """A profile as an edge service reads it; empty while there is none."""
    store = Store(env["REDIS_URL"])
    raw = store.profile(int(shard_of([user], 64)[0]), user)
    store.close()
    return {} if raw is None else msgspec.msgpack.decode(raw)


def wait_for(env: Mapping[str, str], user: str, segments: set[str]) -> dict[str, Any]:
    """The profile as soon as its owner is in these segments."""
    deadline_s = time.monotonic() + 40
    while (held := profile(env, user)).get("segments", {}).keys() != segments:
        assert time.monotonic() < deadline_s, held
        time.sleep(0.02)
    return held


@pytest.mark.servers
@pytest.mark.slow
def test_a_consumer_sees_a_silent_user_change_on_time(running: Mapping[str, str]) -> None:
    producer = Producer({"bootstrap.servers": running["KAFKA_BOOTSTRAP"], "linger.ms": 0})
    start_ms = time.time_ns() // 1_000_000
    history = [(start_ms - 20 * k, "add_to_cart") for k in (2, 1, 0)]
    for n, (ts, kind) in enumerate(history):
        event = {"event_id": f"{n}", "user_id": "ann", "type": kind, "ts": ts, "item_id": f"i{n}"}
        producer.produce("events", msgspec.json.encode(event), b"ann")
    assert producer.flush(10) == 0
    abandoned_ms = start_ms + UNTOUCHED_MS
    cold_ms = first_below_ms(history, EXIT, HALF_LIFE_MS)
    keen = wait_for(running, "ann", {"high_intent"})
    assert keen["segments"]["high_intent"]["valid_to"] == cold_ms
    final = wait_for(running, "ann", {"cart_abandoned"})
    assert final["segments"]["cart_abandoned"]["since"] == abandoned_ms

    messages = consume(running["KAFKA_BOOTSTRAP"], "segment-changes", 3)
    changes = [msgspec.json.decode(m.value() or b"", type=Change) for m in messages]
    entered, abandoned, left = changes
    assert (entered.segment, entered.action, entered.cause.kind) == (
        "high_intent",
        "entered",
        "event",
    )
    assert (abandoned.segment, abandoned.action, abandoned.ts) == (
        "cart_abandoned",
        "entered",
        abandoned_ms,
    )
    assert (left.segment, left.action, left.ts) == ("high_intent", "exited", cold_ms)
    assert [change.n for change in changes] == [1, 2, 3]
    assert left.segments == ["cart_abandoned"]
    assert final["changes"] == 3
    for change in (abandoned, left):
        assert change.cause.kind == "timer"
        assert 0 <= change.decided_at - change.ts <= 2 * SECOND_MS
    assert abandoned.cause.values == {"cart.items": 3, "age(cart.touched)": UNTOUCHED_MS}
    assert abandoned.cause.thresholds == {"cart.items": 0, "age(cart.touched)": UNTOUCHED_MS}
    assert left.cause.thresholds == {"intent": EXIT}
    measured = left.cause.values["intent"]
    assert isinstance(measured, float)
    assert measured < EXIT
    assert measured == pytest.approx(intent(history, cold_ms, HALF_LIFE_MS), rel=1e-9)


# -- on random histories, with the segments that ship -----------------------------------------

START_MS = 1_790_000_000_123
Flip = tuple[int, str, str, str]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, str]]:
    """What one user does: bursts, and silences of up to three hours."""
    at_ms, out = START_MS, []
    for _ in range(draw(st.integers(1, 25))):
        at_ms += draw(
            st.one_of(st.integers(1, 2 * MINUTE_MS), st.integers(10 * MINUTE_MS, 3 * HOUR_MS))
        )
        out.append((at_ms, draw(st.sampled_from(sorted(WEIGHTS)))))
    return out


def expected(history: list[tuple[int, str]]) -> list[Flip]:
    """Every flip of the two segments: when, which way, and whether an event or silence did it."""
    flips: list[Flip] = []
    keen = abandoned = False
    for n, (ts, kind) in enumerate(history):
        seen = history[: n + 1]
        next_ms = history[n + 1][0] if n + 1 < len(history) else ts + 300 * HOUR_MS
        level = intent(seen, ts, HOUR_MS)
        if not keen and level >= ENTER:
            keen = True
            flips.append((ts, "high_intent", "entered", "event"))
        touched = [t for t, k in seen if k == "add_to_cart"]
        if abandoned and kind == "add_to_cart":
            abandoned = False
            flips.append((ts, "cart_abandoned", "exited", "event"))
        if keen and (cold_ms := first_below_ms(seen, EXIT, HOUR_MS)) <= next_ms:
            keen = False
            flips.append((cold_ms, "high_intent", "exited", "timer"))
        if touched and not abandoned and touched[-1] + HOUR_MS <= next_ms:
            abandoned = True
            flips.append((touched[-1] + HOUR_MS, "cart_abandoned", "entered", "timer"))
    return sorted(flips)


def decided(history: list[tuple[int, str]]) -> list[Flip]:
    """What a lane of the shipped settings decides, with a wall clock that ticks in silence."""
    lane, decode = Lane(lane_plan(load(env={})), range(64)), Decoder(EventRules())
    for n, (ts, kind) in enumerate(history):
        event = {"event_id": f"{n}", "user_id": "ann", "type": kind, "ts": ts, "item_id": f"i{n}"}
        batch, letters = decode(read_of([event], n, at_end=True))
        assert not letters
        lane.apply(batch, wall_ms=ts)
    for minute in range(60 * 8):
        lane.tick(history[-1][0] + minute * MINUTE_MS)
        nothing, _ = decode(read_of([], len(history), at_end=True))
        lane.apply(nothing, wall_ms=history[-1][0] + minute * MINUTE_MS)
    watched = {"high_intent", "cart_abandoned"}
    return sorted(
        (change.ts, change.segment, change.action, change.cause.kind)
        for change in lane.decider.waiting
        if change.segment in watched
    )


@settings(deadline=None, max_examples=40)
@given(histories())
def test_every_flip_in_silence_is_at_the_computed_millisecond(
    history: list[tuple[int, str]],
) -> None:
    until_ms = history[-1][0] + 7 * HOUR_MS
    found = [flip for flip in decided(history) if flip[0] <= until_ms]
    assert found == [flip for flip in expected(history) if flip[0] <= until_ms]
