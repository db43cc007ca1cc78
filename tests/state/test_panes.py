"""Rings of panes against summing all events."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.groups import group
from state.panes import Panes
from state.table import Table
from state.times import FAR_MS

ROWS = 3
PANE_MS = 10

events = st.lists(
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, 260), st.integers(1, 5)), max_size=40
)


def naive(seen, row, panes, t_ms):
    now = t_ms // PANE_MS
    return sum(w for r, ts, w in seen if r == row and now - panes < ts // PANE_MS <= now)


def filled(name, panes, batches):
    table, feature = Table(capacity=1), Panes(name, PANE_MS, panes)
    table.add_columns("", feature.columns())
    table.grow(ROWS)
    for batch in batches:
        rows, ts, weight = (np.array(x, dtype=np.int64) for x in zip(*batch, strict=True))
        feature.update(table, group(rows), ts, weight)
    return table, feature


def batched(data, stream):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parts = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    return [part for part in parts if part]


@given(events, st.integers(1, 5), st.data())
@settings(max_examples=150, deadline=None)
def test_value_is_the_sum_of_the_window_in_any_order_and_batching(stream, panes, data):
    order = data.draw(st.permutations(stream))
    table, feature = filled("f", panes, batched(data, order))
    rows = np.arange(ROWS)
    last = np.array([max([ts for r, ts, _ in stream if r == row], default=0) for row in rows])
    for ahead in (-2 * PANE_MS, -1, 0, 1, *data.draw(st.lists(st.integers(0, 99), max_size=4))):
        t_ms = np.maximum(last + ahead, 0)
        expected = [naive(stream, row, panes, t) for row, t in zip(rows, t_ms, strict=True)]
        assert feature.value(table, rows, t_ms).tolist() == expected


@given(events, st.integers(1, 5), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_next_step_is_the_first_millisecond_with_another_value(stream, panes, ahead):
    table, feature = filled("f", panes, [stream] if stream else [])
    for row in range(ROWS):
        t_ms = max([ts for r, ts, _ in stream if r == row], default=0) + ahead
        now = naive(stream, row, panes, t_ms)
        later = range(t_ms + 1, t_ms + (panes + 2) * PANE_MS)
        first = next((t for t in later if naive(stream, row, panes, t) != now), FAR_MS)
        assert feature.next_step_ms(table, np.array([row]), np.array([t_ms])).tolist() == [first]


def test_only_the_events_of_the_groups_count():
    table, feature = Table(capacity=4), Panes("f", PANE_MS, 2)
    table.add_columns("", feature.columns())
    table.grow(2)
    grouped = group(np.array([1, 0, 1])).where(np.array([False, True, True]))
    feature.update(table, grouped, np.array([5, 6, 7]), np.array([100, 20, 3]))
    assert feature.value(table, np.array([0, 1]), 9).tolist() == [0, 103]


def test_a_ring_of_fractions_holds_fractions():
    table, feature = Table(), Panes("f", PANE_MS, 2, dtype="f8")
    table.add_columns("", feature.columns())
    table.grow(1)
    feature.update(table, group(np.array([0, 0])), np.array([1, 2]), np.array([0.5, 0.25]))
    assert feature.value(table, np.array([0]), 3).tolist() == [0.75]


def test_a_window_without_panes_is_refused():
    with pytest.raises(ValueError, match="at least one pane"):
        Panes("f", PANE_MS, 0)
