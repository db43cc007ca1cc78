"""Rounds against their definition, and what they are for: changes do not show the batches."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from events.decode import Decoder
from events.schema import EventRules
from state.changes import Change, decode_entry
from state.definitions import FamilySpec, SegmentSpec
from state.groups import group
from state.lane import Lane
from state.rounds import rounds
from state.times import HOUR_MS
from tests.state.streams import event_lists, plan, read_of

events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10_000)), min_size=1, max_size=60)


def one_by_one(log, clock_ms, apart_ms):
    """The definition: the round of each event of (row, time), in log order."""
    number, first_ms, out = {}, {}, []
    for row, at_ms in log:
        ts = max(at_ms, clock_ms)
        if row not in number:
            number[row], first_ms[row] = 0, ts
        elif ts > first_ms[row] + apart_ms:
            number[row], first_ms[row] = number[row] + 1, ts
        out.append(number[row])
    return out


@given(events, st.integers(-1, 11_000), st.sampled_from([0, 100, 1_000, 20_000]))
def test_every_event_is_in_the_round_that_the_definition_says(log, clock_ms, apart_ms):
    rows, ts_ms = np.array(log, dtype=np.int64).T
    found = np.full(len(log), -1)
    for number, part in enumerate(rounds(group(rows), ts_ms, clock_ms, apart_ms)):
        assert (found[part.index] == -1).all()
        found[part.index] = number
        assert part.rows.tolist() == sorted({int(r) for r in rows[part.index]})
    assert found.tolist() == one_by_one(log, clock_ms, apart_ms)


@given(events, st.integers(1, 5))
def test_no_more_rounds_than_allowed_and_no_event_is_lost(log, most):
    rows, ts_ms = np.array(log, dtype=np.int64).T
    parts = list(rounds(group(rows), ts_ms, 0, 0, most))
    assert len(parts) <= most
    assert sorted(np.concatenate([part.index for part in parts]).tolist()) == list(range(len(log)))


SEGMENTS = [
    SegmentSpec("keen", "intent >= 4", "intent < 2"),
    SegmentSpec("abandoned", "cart.items > 0 and age(cart.touched) >= 1h"),
    SegmentSpec("regular", "lifetime.orders >= 2"),
]
FAMILIES = [FamilySpec("phase", [("busy", "views_7d >= 2"), ("silent", "age(last_seen) >= 3d")])]


def changes_of(log, batch, wall):
    """All changes of some events in order of time, given to a lane so many at once."""
    lane = Lane(plan(segments=SEGMENTS, families=FAMILIES, apart_ms=0), range(64))
    decode, found = Decoder(EventRules()), []
    for first in range(0, len(log), batch):
        some = log[first : first + batch]
        decoded, _ = decode(read_of(some, first, at_end=True))
        lane.apply(decoded, some[-1]["ts"] if wall else None)
        commits = lane.collect()
        for commit in commits:
            records = decode_entry(commit.changes) if commit.changes else []
            found += [msgspec.json.decode(value, type=Change) for _, value in records]
        lane.settle(commits)
    return sorted(
        (c.user_id, c.n, c.ts, c.segment, c.action, c.cause.kind, sorted(c.segments)) for c in found
    )


def in_order(drawn):
    """By time, none at the same."""
    ordered = sorted(drawn, key=lambda event: event["ts"])
    return [{**event, "ts": event["ts"] + n} for n, event in enumerate(ordered)]


@given(event_lists(span_ms=40 * HOUR_MS), st.integers(2, 60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_changes_are_the_same_however_events_came_together(drawn, batch, wall):
    log = in_order(drawn)
    assert changes_of(log, batch, wall) == changes_of(log, 1, wall)
