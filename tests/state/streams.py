"""Random event streams for tests of the lane, and their way through decoder and lane."""

import itertools
import json

import numpy as np
from hypothesis import strategies as st

from events.batch import Read, Span
from events.decode import Decoder
from events.schema import EventRules
from state.declared import DecayedSpec, PanesSpec
from state.lane import Lane
from state.plan import LanePlan
from state.times import DAY_MS, HOUR_MS, MINUTE_MS

START_MS = 1_780_000_000_000
ENGAGEMENT = {"product_view": 1.0, "add_to_cart": 3.0, "purchase": 10.0}
INTENT = {"product_view": 1.0, "search": 0.5, "add_to_cart": 4.0}

TYPES = (
    *("product_view", "product_view", "product_view", "search", "add_to_cart", "add_to_cart"),
    *("remove_from_cart", "purchase", "purchase", "refund", "click"),
)


@st.composite
def event_lists(draw, max_size=60, users=4, span_ms=200 * DAY_MS):
    """Events of a few users over a long time, in random order, without duplicates."""
    count = draw(st.integers(1, max_size))
    steps = st.one_of(st.integers(0, span_ms), st.integers(0, 3 * HOUR_MS))
    events = []
    for n in range(count):
        kind = draw(st.sampled_from(TYPES))
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{draw(st.integers(0, users - 1))}",
            "type": kind,
            "ts": START_MS + draw(steps),
        }
        if kind in ("purchase", "refund"):
            event["amount"] = draw(st.integers(0, 10_000)) / 100
            order = draw(st.sampled_from([None, "o1", "o2", "o3"]))
            if order:
                event["order_id"] = order
        if kind in ("add_to_cart", "remove_from_cart"):
            event["item_id"] = draw(st.sampled_from(["i1", "i2", "i3"]))
        if draw(st.booleans()):
            event["device"] = draw(st.sampled_from(["mobile", "desktop"]))
        events.append(event)
    return events


def plan(**changes) -> LanePlan:
    """A plan with what ships, but no segments unless they are given."""
    parts = {
        "decayed": [
            DecayedSpec("engagement", 7 * DAY_MS, ENGAGEMENT),
            DecayedSpec("intent", HOUR_MS, INTENT),
        ],
        "panes": [PanesSpec("views_7d", 7 * DAY_MS, 7, ("product_view",))],
        "lateness_ms": 5 * MINUTE_MS,
        "order_keep_ms": 10_000 * DAY_MS,  # lines of an order are drawn half a year apart
    }
    return LanePlan(**(parts | changes))


def read_of(events, first_offset=0, *, partition=0, at_end=False, record_ts_ms=-1) -> Read:
    """A read of some events, given as maps."""
    n = len(events)
    return Read(
        topic="t",
        payloads=[json.dumps(event).encode() for event in events],
        record_ts_ms=np.full(n, record_ts_ms, dtype=np.int64),
        partition=np.full(n, partition, dtype=np.int32),
        offset=np.arange(first_offset, first_offset + n, dtype=np.int64),
        spans=[Span(partition, first_offset, first_offset + n, at_end=at_end)],
    )


def feed(lane: Lane, events, cuts=()) -> None:
    """Send events through decoder and lane, in batches that end at ``cuts``."""
    decoder = Decoder(EventRules())
    bounds = [0, *sorted(c for c in cuts if 0 < c < len(events)), len(events)]
    for a, b in itertools.pairwise(bounds):
        batch, letters = decoder(read_of(events[a:b], a))
        assert not letters
        lane.apply(batch)


def as_oracle(events):
    """The events as the oracles take them: amounts in minor units, with the engine's hash."""
    batch, _ = Decoder(EventRules())(read_of(events))
    return [
        event | {"amount_minor": round(event.get("amount", 0) * 100), "event_hash": int(h)}
        for event, h in zip(events, batch.event_hash, strict=True)
    ]
