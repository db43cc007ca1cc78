"""Carts against the definition, applied to all events again and again."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.schema import ADD_TO_CART, PURCHASE, REMOVE_FROM_CART
from state.carts import Carts
from state.groups import group
from state.orders import Orders
from state.table import Table
from state.times import DAY_MS, FAR_MS, HOUR_MS, NEVER_MS
from tests.state.batches import batch_of

NOW_MS = 1_790_000_000_000
TTL_MS = 30 * HOUR_MS
USERS = 3
MAX_LINES = 4


@dataclass(frozen=True)
class Event:
    row: int
    type: int
    ts_ms: int
    item: str | None = None


class Engine:
    """Carts beside orders, driven as a lane drives them."""

    def __init__(self, users=USERS, max_lines=MAX_LINES):
        self.orders, self.carts = Orders(DAY_MS, DAY_MS), Carts(TTL_MS, max_lines)
        self.table = Table([*self.orders.columns(), *self.carts.columns()])
        self.rows = self.table.grow(users)
        self.clock_ms = NEVER_MS
        self.row_ms = np.full(users, NEVER_MS)

    def feed(self, events, clock_ms=None):
        if events:
            rows = np.array([event.row for event in events])
            batch = batch_of(
                type=[event.type for event in events],
                ts_ms=[event.ts_ms for event in events],
                item=[event.item for event in events],
                order_hash=range(len(events)),
            )
            groups = group(rows)
            self.orders.update(self.table, groups, batch, self.clock_ms)
            self.carts.update(self.table, groups, batch, self.clock_ms)
            np.maximum.at(self.row_ms, rows, batch.ts_ms)
            self.values()
        if clock_ms is not None:
            self.clock_ms = max(self.clock_ms, clock_ms)
            self.carts.expire(self.table, self.clock_ms)

    def values(self):
        """Of each user at their own time: time, lines newest first, items, touched, next."""
        carts, rows = self.carts, self.rows
        t_ms = np.maximum(self.row_ms, self.clock_ms)
        carts.settle_rows(self.table, rows, t_ms)
        slots, place = carts.contents(rows)
        lines = zip(carts.item_ids(slots), carts.entries["add_ms"][slots].tolist(), strict=True)
        shown = [[] for _ in rows]
        for at, line in zip(place.tolist(), lines, strict=True):
            shown[at].append(line)
        items, next_ms = carts.items(self.table, rows), carts.next_expiry_ms(self.table, rows)
        touched = self.table["cart.touched"][rows]
        columns = (t_ms, shown, items, touched, next_ms)
        return list(zip(*(c if c is shown else c.tolist() for c in columns), strict=True))


def oracle(events, row, t_ms):
    """All lines of one user's cart at a time, by definition."""
    mine = [event for event in events if event.row == row]
    last_order = max((e.ts_ms for e in mine if e.type == PURCHASE), default=NEVER_MS)

    def latest(kind):
        out = {}
        for e in mine:
            if e.type == kind and e.item is not None:
                out[e.item] = max(out.get(e.item, NEVER_MS), e.ts_ms)
        return out

    removes = latest(REMOVE_FROM_CART)
    return {
        item: added
        for item, added in latest(ADD_TO_CART).items()
        if added > max(removes.get(item, NEVER_MS), last_order) and added + TTL_MS > t_ms
    }


def assert_equal(engine, events):
    for row, (t_ms, shown, items, touched, next_ms) in enumerate(engine.values()):
        want = oracle(events, row, t_ms)
        newest = sorted(want.values(), reverse=True)[:MAX_LINES]
        assert [added for _, added in shown] == newest
        assert all(want[item] == added for item, added in shown)
        assert items == len(shown) == len({item for item, _ in shown})
        cart_times = [
            e.ts_ms for e in events if e.row == row and e.type in (ADD_TO_CART, REMOVE_FROM_CART)
        ]
        assert touched == max(cart_times, default=NEVER_MS)
        assert t_ms < next_ms <= min((a + TTL_MS for a in want.values()), default=FAR_MS)


hours = st.integers(0, 80).map(lambda hour: NOW_MS + hour * HOUR_MS)
items = st.sampled_from(["a", "b", "c", "d", "ë"])  # fewer than where a cart is cut back
events = st.builds(
    Event,
    row=st.integers(0, USERS - 1),
    type=st.sampled_from([ADD_TO_CART] * 4 + [REMOVE_FROM_CART, REMOVE_FROM_CART, PURCHASE]),
    ts_ms=hours,
    item=items,
)
steps = st.lists(st.tuples(st.lists(events, max_size=8), st.none() | hours), max_size=12)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_every_cart_is_the_definition_after_every_batch(stream):
    engine, seen = Engine(), []
    for batch, clock_ms in stream:
        engine.feed(batch, clock_ms)
        seen += batch
        assert_equal(engine, seen)


@settings(max_examples=100, deadline=None)
@given(st.lists(events, max_size=30), st.data())
def test_carts_do_not_depend_on_order_and_batching(stream, data):
    shuffled = data.draw(st.permutations(stream))
    cut = data.draw(st.integers(0, len(stream)))
    engine = Engine()
    engine.feed(shuffled[:cut])
    engine.feed(shuffled[cut:])
    assert_equal(engine, stream)


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 12))
def test_a_restart_changes_nothing(stream, crash):
    engine, seen = Engine(), []
    for number, (batch, clock_ms) in enumerate(stream):
        if number == crash:
            engine = restarted(engine)
            assert_equal(engine, seen)
        engine.feed(batch, clock_ms)
        seen += batch
    assert_equal(engine, seen)


def restarted(engine):
    """Another engine that was loaded from what this one would have in the store."""
    new, old = Engine(), engine.carts
    skipped = set(old.transient())
    for column in engine.table:
        if column.name not in skipped:
            new.table[column.name][:] = engine.table[column.name]
    stored = old.pack(old.entries.live(), np.arange(USERS, dtype=np.uint32))
    new.carts.load(*(part.bytes_list() for part in stored), np.arange(USERS), old.entries.layout())
    new.clock_ms, new.row_ms = engine.clock_ms, engine.row_ms
    new.carts.restore(new.table, new.clock_ms)
    return new


def test_entries_end_when_no_event_can_bring_them_back():
    engine = Engine()
    adds = [Event(0, ADD_TO_CART, NOW_MS, item) for item in "abc"]
    engine.feed([*adds, Event(0, REMOVE_FROM_CART, NOW_MS + 1, "c")], NOW_MS)
    assert len(engine.carts.entries) == 3
    engine.feed([Event(0, PURCHASE, NOW_MS + 2)])
    engine.feed([Event(0, ADD_TO_CART, NOW_MS + 2, "d")])  # as late as the order: of no use
    assert len(engine.carts.entries) == 1  # the removed line may still be added late
    engine.feed([Event(0, ADD_TO_CART, NOW_MS + 3, "a")], NOW_MS + TTL_MS)
    assert engine.values()[0][1] == [("a", NOW_MS + 3)]
    engine.feed([], NOW_MS + TTL_MS + 1)
    assert len(engine.carts.entries) == 1
    engine.feed([], NOW_MS + TTL_MS + 3)
    assert len(engine.carts.entries) == 0


def test_expiry_names_the_rows_it_changed():
    engine = Engine()
    engine.feed([Event(2, ADD_TO_CART, NOW_MS, "a"), Event(1, ADD_TO_CART, NOW_MS + 7, "a")])
    expire = engine.carts.expire
    assert expire(engine.table, NOW_MS + TTL_MS - 1).tolist() == []
    assert expire(engine.table, NOW_MS + TTL_MS).tolist() == [2]
    assert expire(engine.table, NOW_MS + TTL_MS + 7).tolist() == [1]


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_a_user_who_touches_everything_keeps_the_newest(batch):
    engine = Engine(users=1)
    adds = [Event(0, ADD_TO_CART, NOW_MS + i, f"item {i}") for i in range(500)]
    for at in range(0, len(adds), batch):
        engine.feed(adds[at : at + batch])
        assert len(engine.carts.entries) <= 2 * MAX_LINES
    newest = [(e.item, e.ts_ms) for e in reversed(adds[-MAX_LINES:])]
    assert engine.values()[0][1] == newest
    assert engine.values()[0][2] == MAX_LINES


def test_texts_of_items_that_left_all_carts_are_dropped():
    engine, count = Engine(users=1), 3_000
    for part in range(8):
        start = NOW_MS + part * TTL_MS
        engine.feed([Event(0, ADD_TO_CART, start + i, f"{part}-{i}") for i in range(count)])
        engine.feed([], start + TTL_MS - 1)
        assert engine.values()[0][1][0][0] == f"{part}-{count - 1}"
    assert len(engine.carts._texts) < 5 * count
