"""Sessions against chaining each user's events anew, slowly, from all of them."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.groups import group
from state.sessions import KEPT, Sessions
from state.table import Table
from state.times import FAR_MS, NEVER_MS

GAP_MS, RETURN_GAP_MS = 10, 60
ROWS = 2


@dataclass(frozen=True)
class Event:
    row: int
    ts: int
    kind: str = "view"
    device: int = -1
    hash: int = 0


@dataclass(frozen=True)
class Naive:
    """One user's sessions from all events."""

    sessions: list[list[Event]]

    @classmethod
    def of(cls, events: list[Event]) -> "Naive":
        sessions: list[list[Event]] = []
        for event in sorted(events, key=lambda e: e.ts):
            if not sessions or event.ts - sessions[-1][-1].ts > GAP_MS:
                sessions.append([])
            sessions[-1].append(event)
        return cls(sessions)

    @property
    def last(self) -> list[Event]:
        return self.sessions[-1] if self.sessions else []

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.last)

    def device(self) -> int:
        said = [(e.ts, e.hash, e.device) for e in self.last if e.device >= 0]
        return max(said)[2] if said else -1

    def returned(self) -> int:
        returns = [
            after[0].ts
            for before, after in pairwise(self.sessions)
            if after[0].ts - before[-1].ts >= RETURN_GAP_MS
        ]
        return max(returns, default=NEVER_MS)


class Engine:
    """The component, with a table of its own."""

    def __init__(self) -> None:
        self.table, self.sessions = Table(capacity=1), Sessions(GAP_MS, RETURN_GAP_MS)
        self.table.add_columns("", self.sessions.columns())
        self.rows = self.table.grow(ROWS)

    def update(self, events: list[Event]) -> None:
        if not events:
            return
        groups = group(np.array([e.row for e in events]))
        ts = np.array([e.ts for e in events])
        is_view = np.array([e.kind == "view" for e in events])
        is_cart = np.array([e.kind == "cart" for e in events])
        self.sessions.update(self.table, groups, ts, is_view, is_cart)
        device = np.array([e.device for e in events], dtype=np.int32)
        country = np.where(device >= 0, device + 10, -1).astype(np.int32)
        ties = np.array([e.hash for e in events], dtype=np.uint64)
        self.sessions.update_texts(self.table, groups, ts, ties, device, country)

    def values(self) -> list[tuple[int, ...]]:
        s, at = self.sessions, (self.table, self.rows)
        columns = [s.start_ms(*at), s.end_ms(*at), s.views(*at), s.carts(*at), s.device(*at)]
        columns += [s.country(*at), s.returned_ms(*at)]
        return list(zip(*(column.tolist() for column in columns), strict=True))


def truth(events: list[Event], row: int) -> tuple[int, ...]:
    user = Naive.of([e for e in events if e.row == row])
    start, end = (user.last[0].ts, user.last[-1].ts) if user.last else (NEVER_MS, NEVER_MS)
    device = user.device()
    country = device + 10 if device >= 0 else -1
    returned = user.returned()
    return start, end, user.count("view"), user.count("cart"), device, country, returned


events = st.lists(
    st.builds(
        Event,
        *(st.integers(0, ROWS - 1), st.integers(0, 400)),
        *(st.sampled_from(["view", "cart", "other"]), st.integers(-1, 2)),
    ),
    max_size=40,
).map(lambda found: [Event(e.row, e.ts, e.kind, e.device, i + 1) for i, e in enumerate(found)])


def batches(data, stream: list[Event]) -> list[list[Event]]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]


class Memory:
    """What the engine may have forgotten of one user: the rule of the module's note, by list."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.forgotten_end = NEVER_MS

    def takes(self, batch: list[Event]) -> bool:
        """Whether every event is clear of what was forgotten; if so they are taken in."""
        if any(e.ts <= self.forgotten_end + GAP_MS for e in batch):
            return False
        self.seen += batch
        known = [s for s in Naive.of(self.seen).sessions if s[-1].ts > self.forgotten_end]
        if len(known) > KEPT:
            self.forgotten_end = known[-KEPT - 1][-1].ts
        return True


@given(events, st.data())
@settings(max_examples=250, deadline=None)
def test_late_events_in_any_batching_while_nothing_they_touch_was_forgotten(stream, data):
    late = data.draw(st.lists(st.integers(0, 120), min_size=len(stream), max_size=len(stream)))
    arrival = [e for _, e in sorted(zip(late, stream, strict=True), key=lambda p: p[0] + p[1].ts)]
    engine, taken, memory = Engine(), list[Event](), [Memory() for _ in range(ROWS)]
    for batch in batches(data, arrival):
        kept = [e for r in range(ROWS) for e in _admit(memory[r], [e for e in batch if e.row == r])]
        shuffled = data.draw(st.permutations(kept))
        engine.update(shuffled)
        taken += shuffled
        assert engine.values() == [truth(taken, row) for row in range(ROWS)]


def _admit(memory: Memory, batch: list[Event]) -> list[Event]:
    return batch if memory.takes(batch) else []


@given(events, st.data())
@settings(max_examples=150, deadline=None)
def test_in_order_any_number_of_sessions_is_exact(stream, data):
    engine, ordered = Engine(), sorted(stream, key=lambda e: e.ts)
    for batch in batches(data, ordered):
        engine.update(data.draw(st.permutations(batch)))
    assert engine.values() == [truth(stream, row) for row in range(ROWS)]


@given(st.lists(st.integers(0, KEPT * 30), min_size=1, max_size=30), st.data())
@settings(max_examples=150, deadline=None)
def test_one_by_one_in_any_order_while_few_stretches_are_apart(times, data):
    """Three windows of at most a gap each: never more than ``KEPT`` stretches at a time."""
    stream = [Event(0, 30 * (t // 30) + t % 10, "view", t % 3, i) for i, t in enumerate(times)]
    engine = Engine()
    for event in data.draw(st.permutations(stream)):
        engine.update([event])
    assert engine.values()[0] == truth(stream, 0)


@given(events, st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_session_ends_one_millisecond_after_its_gap(stream, ahead):
    engine = Engine()
    engine.update(stream)
    for row in range(ROWS):
        ts = [e.ts for e in stream if e.row == row]
        t_ms, at = max(ts, default=0) + ahead, np.array([row])
        active = bool(ts) and t_ms - max(ts) <= GAP_MS
        assert engine.sessions.active(engine.table, at, t_ms).tolist() == [active]
        step = engine.sessions.next_step_ms(engine.table, at, np.array([t_ms])).tolist()[0]
        assert step == (max(ts) + GAP_MS + 1 if active else FAR_MS)
        if active:
            assert engine.sessions.active(engine.table, at, step - 1).tolist() == [True]
            assert engine.sessions.active(engine.table, at, step).tolist() == [False]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("apart", "start"), [(GAP_MS, 100), (GAP_MS + 1, 100 + GAP_MS + 1)])
def test_a_gap_belongs_to_the_session_and_a_millisecond_more_does_not(apart, start, together):
    engine, stream = Engine(), [Event(0, 100), Event(0, 100 + apart)]
    for batch in [stream] if together else [[event] for event in stream]:
        engine.update(batch)
    assert engine.values()[0][0] == start


def test_a_bridge_makes_two_sessions_one():
    engine = Engine()
    for ts in (100, 120, 110):
        engine.update([Event(0, ts)])
    assert engine.values()[0][:3] == (100, 120, 3)


def test_an_old_return_is_remembered_past_the_kept_sessions():
    engine = Engine()
    for ts in (0, 100, 120, 140, 160, 180):
        engine.update([Event(0, ts)])
    assert engine.values()[0][-1] == 100


def test_an_event_of_a_forgotten_session_changes_no_newer_one():
    engine = Engine()
    for ts in (100, 120, 140, 160, 101):
        engine.update([Event(0, ts)])
    assert engine.values()[0][:3] == (160, 160, 1)


def test_a_gap_as_long_as_a_return_is_refused():
    with pytest.raises(ValueError, match="must be shorter"):
        Sessions(gap_ms=60, return_gap_ms=60)
