"""Orders against a recomputation of every value from all events, at random times.

The oracle below knows nothing of entries, windows or alarms: it keeps the events and applies the
definitions to all of them, whenever it is asked.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from events.schema import PURCHASE, REFUND
from state import decay
from state.groups import group
from state.orders import Orders
from state.table import Table
from state.times import DAY_MS, FAR_MS, HOUR_MS, NEVER_MS
from tests.state.batches import batch_of

NOW_MS = 1_790_000_000_000
WINDOW_MS = 10 * DAY_MS
USERS = 4


@dataclass(frozen=True)
class Line:
    row: int
    type: int
    ts_ms: int
    order: int
    amount: int


class Engine:
    """Orders with its users, driven as a lane drives it."""

    def __init__(self, half_life_ms=DAY_MS, keep_ms=1000 * DAY_MS, users=USERS):
        self.orders = Orders(WINDOW_MS, half_life_ms, keep_ms)
        self.table = Table(self.orders.columns())
        self.rows = self.table.grow(users)
        self.half_life_ms = half_life_ms
        self.clock_ms = NEVER_MS
        self.row_ms = np.full(users, NEVER_MS)

    def feed(self, lines, clock_ms=None):
        if lines:
            rows = np.array([line.row for line in lines])
            batch = batch_of(
                type=[line.type for line in lines],
                ts_ms=[line.ts_ms for line in lines],
                amount_minor=[line.amount for line in lines],
                order_hash=[line.order for line in lines],
            )
            self.orders.update(self.table, group(rows), batch, self.clock_ms)
            np.maximum.at(self.row_ms, rows, batch.ts_ms)
            self.values()
        if clock_ms is not None:
            self.clock_ms = max(self.clock_ms, clock_ms)
            self.orders.expire(self.table, self.clock_ms)

    def values(self):
        """Of each user at their own time, by name."""
        orders, table, rows = self.orders, self.table, self.rows
        t_ms = np.maximum(self.row_ms, self.clock_ms)
        orders.settle_rows(table, rows, t_ms)
        columns = {
            "t_ms": t_ms,
            "orders": table["orders.count"][rows],
            "spend": orders.lifetime_spend(table, rows),
            "refunds": table["orders.refunds"][rows],
            "last": table["last_order"][rows],
            "window_orders": orders.window_orders(table, rows),
            "window_spend": orders.window_spend(table, rows),
            "next": orders.next_expiry_ms(table, rows),
            "decayed_orders": decay.at(
                *orders.decayed_orders(table, rows), t_ms, self.half_life_ms
            ),
            "decayed_spend": decay.at(*orders.decayed_spend(table, rows), t_ms, self.half_life_ms),
        }
        return [
            {name: column[row].item() for name, column in columns.items()} for row in rows.tolist()
        ]


def oracle(lines, row, t_ms, half_life_ms):
    """One user's values at a time, by definition."""
    purchases = [line for line in lines if line.row == row and line.type == PURCHASE]
    refunds = [line for line in lines if line.row == row and line.type == REFUND]
    bought, returned = defaultdict(list), defaultdict(list)
    for line in purchases:
        bought[line.order].append(line)
    for line in refunds:
        returned[line.order].append(line)
    time = {order: max(line.ts_ms for line in ls) for order, ls in bought.items()}
    inside = [order for order in bought if time[order] > t_ms - WINDOW_MS]
    loose = [
        order
        for order, ls in returned.items()
        if order not in bought and max(line.ts_ms for line in ls) > t_ms - WINDOW_MS
    ]

    def total(ls):
        return sum(line.amount for line in ls)

    def weight(ts_ms):
        return 2.0 ** ((ts_ms - t_ms) / half_life_ms)

    known = sum(max(0, total(bought[o]) - total(returned[o])) for o in inside)
    gross = math.fsum(line.amount * weight(line.ts_ms) for line in purchases)
    back = math.fsum(line.amount * weight(time.get(line.order, line.ts_ms)) for line in refunds)
    return {
        "t_ms": t_ms,
        "orders": len(bought),
        "spend": max(0, total(purchases) - total(refunds)),
        "refunds": total(refunds),
        "last": max((line.ts_ms for line in purchases), default=NEVER_MS),
        "window_orders": len(inside),
        "window_spend": max(0, known - sum(total(returned[o]) for o in loose)),
        "decayed_orders": math.fsum(weight(ts) for ts in time.values()),
        "decayed_spend": max(0.0, gross - back),
        "decayed_gross": gross,
        "changes": [time[o] + WINDOW_MS for o in inside]
        + [max(line.ts_ms for line in returned[o]) + WINDOW_MS for o in loose],
    }


def assert_equal(engine, lines):
    for row, got in enumerate(engine.values()):
        want = oracle(lines, row, got["t_ms"], engine.half_life_ms)
        slack = 1e-11 * want.pop("decayed_gross")
        assert math.isclose(
            got.pop("decayed_spend"), want.pop("decayed_spend"), rel_tol=1e-9, abs_tol=slack
        )
        assert math.isclose(
            got.pop("decayed_orders"), want.pop("decayed_orders"), rel_tol=1e-11, abs_tol=1e-300
        )
        earliest = min(want.pop("changes"), default=FAR_MS)
        assert got["t_ms"] < got.pop("next") <= earliest
        assert got == want


lines = st.builds(
    Line,
    row=st.integers(0, USERS - 1),
    type=st.sampled_from([PURCHASE, PURCHASE, REFUND]),
    ts_ms=st.integers(0, 60).map(lambda step: NOW_MS + step * 13 * HOUR_MS),
    order=st.integers(0, 5),
    amount=st.integers(0, 50_000),
)
steps = st.lists(
    st.tuples(st.lists(lines, max_size=6), st.none() | st.integers(0, 60)), min_size=1, max_size=12
)


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([HOUR_MS, DAY_MS, 30 * DAY_MS]))
def test_every_value_is_the_definition_after_every_batch(stream, half_life_ms):
    engine, seen = Engine(half_life_ms), []
    for batch, clock in stream:
        engine.feed(batch, None if clock is None else NOW_MS + clock * 13 * HOUR_MS)
        seen += batch
        assert_equal(engine, seen)


@settings(max_examples=100, deadline=None)
@given(st.lists(lines, max_size=30), st.data())
def test_values_do_not_depend_on_order_and_batching(stream, data):
    shuffled = data.draw(st.permutations(stream))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    engine = Engine()
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        engine.feed(shuffled[a:b])
    engine.feed([], NOW_MS + 60 * 13 * HOUR_MS)
    assert_equal(engine, stream)


@settings(max_examples=100, deadline=None)
@given(steps, st.data())
def test_a_restart_changes_nothing(stream, data):
    engine, seen = Engine(), []
    crash = data.draw(st.integers(0, len(stream)))
    for number, (batch, clock) in enumerate(stream):
        if number == crash:
            engine = restarted(engine)
            assert_equal(engine, seen)
        engine.feed(batch, None if clock is None else NOW_MS + clock * 13 * HOUR_MS)
        seen += batch
    assert_equal(engine, seen)


def restarted(engine):
    """Another engine that was loaded from what this one would have in the store."""
    new = Engine(engine.half_life_ms)
    skipped = set(engine.orders.transient())
    for column in engine.table:
        if column.name not in skipped:
            new.table[column.name][:] = engine.table[column.name]
    serials = np.arange(USERS, dtype=np.uint32)
    old = engine.orders.tables()
    for name, table in new.orders.tables().items():
        stored = old[name].pack(old[name].live(), serials)
        table.load(*(part.bytes_list() for part in stored), np.arange(USERS), old[name].layout())
    new.clock_ms, new.row_ms = engine.clock_ms, engine.row_ms
    new.orders.restore(new.table, new.clock_ms)
    return new


def test_an_order_that_is_too_old_is_forgotten_and_its_refund_counts_as_loose():
    engine = Engine(keep_ms=WINDOW_MS)
    engine.feed([Line(0, PURCHASE, NOW_MS, 1, 500)], NOW_MS)
    engine.feed([], NOW_MS + WINDOW_MS - 1)
    assert len(engine.orders.entries) == 1
    assert engine.values()[0]["window_orders"] == 1
    engine.feed([], NOW_MS + WINDOW_MS)
    assert len(engine.orders.entries) == 0
    assert engine.values()[0]["window_orders"] == 0
    engine.feed([Line(0, REFUND, NOW_MS + WINDOW_MS, 1, 200)])
    got = engine.values()[0]
    assert (got["orders"], got["spend"], got["refunds"]) == (1, 300, 200)
    assert len(engine.orders.refunds.entries) == 1
    engine.feed([Line(0, PURCHASE, NOW_MS + WINDOW_MS, 2, 900)])
    before = engine.values()[0]["decayed_spend"]
    assert before > 700
    engine.feed([], NOW_MS + 2 * WINDOW_MS)
    assert len(engine.orders.refunds.entries) == 0
    faded = before * 2.0 ** -(WINDOW_MS / engine.half_life_ms)
    assert math.isclose(engine.values()[0]["decayed_spend"], faded, rel_tol=1e-12)
    freed = [table.live() for table in engine.orders.tables().values()]
    assert [len(slots) for slots in freed] == [0, 0]


def test_an_order_that_is_touched_is_kept_for_longer():
    engine = Engine(keep_ms=WINDOW_MS)
    engine.feed([Line(0, PURCHASE, NOW_MS, 1, 500)], NOW_MS + WINDOW_MS - 1)
    engine.feed([Line(0, REFUND, NOW_MS, 1, 200)], NOW_MS + 2 * WINDOW_MS - 2)
    assert len(engine.orders.entries) == 1
    engine.feed([], NOW_MS + 2 * WINDOW_MS - 1)
    assert len(engine.orders.entries) == 0


def test_expiry_names_the_rows_it_changed():
    engine = Engine()
    engine.feed([Line(1, PURCHASE, NOW_MS, 1, 500), Line(3, REFUND, NOW_MS + 5, 1, 500)])
    orders, table = engine.orders, engine.table
    assert orders.expire(table, NOW_MS + WINDOW_MS - 1).tolist() == []
    assert orders.expire(table, NOW_MS + WINDOW_MS).tolist() == [1]
    assert orders.expire(table, NOW_MS + WINDOW_MS + 5).tolist() == [3]
    assert orders.expire(table, NOW_MS + WINDOW_MS + 50).tolist() == []


def test_a_hot_user_costs_what_changes_not_what_is_held():
    """Thirty thousand orders of one user; a step over time touches the few that leave."""
    engine, count = Engine(users=1), 30_000
    times = NOW_MS + np.arange(count) * 1_000
    for at in range(0, count, 5_000):
        part = range(at, at + 5_000)
        engine.feed([Line(0, PURCHASE, int(times[i]), i, 100) for i in part])
    timeline, looked_at = engine.orders._window._timeline, []
    between = timeline.between

    def noting(*question):
        looked_at.append(len(between(*question)[0]))
        return between(*question)

    timeline.between = noting
    for leaving in range(100):
        engine.feed([], int(times[leaving]) + WINDOW_MS)
        assert engine.values()[0]["window_orders"] == count - leaving - 1
        assert engine.values()[0]["next"] == times[leaving + 1] + WINDOW_MS
    assert sum(looked_at) == 100
