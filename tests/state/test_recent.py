"""The items of a user are a function of the set of events; what was before each, of their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.recent import NO_ITEM, RecentItems
from state.table import Table
from state.times import NEVER_MS

USERS, PLACES = 3, 3
EPOCH_MS = 1_780_000_000_000

# few times and items, so that ties are common and lists overflow; also times that are years apart
events = st.lists(
    st.tuples(
        st.integers(0, USERS - 1),
        st.sampled_from([1, 2, 3, 4, 5, 2**63, 2**64 - 1]),
        st.one_of(st.integers(0, 6), st.integers(EPOCH_MS - 10**12, EPOCH_MS + 10**12)),
        st.integers(0, 4),
    ),
    max_size=30,
)


def new(places=PLACES, users=USERS):
    table, recent = Table(capacity=1), RecentItems("recent", places)
    table.add_columns("", recent.columns())
    table.grow(users)
    return table, recent


def update(table, recent, stream, **how):
    """Apply some events at once; what was before each."""
    row, item, ts, kind = zip(*stream, strict=True)
    return recent.update(
        table,
        np.array(row),
        np.array(item, dtype=np.uint64),
        np.array(ts, dtype=np.int64),
        np.array(kind, dtype=np.int8),
        **how,
    )


def held(table, recent, user):
    """A user's list as (item, time, type)."""
    row = np.array([user])
    columns = recent.items(table, row), recent.at_ms(table, row), recent.types(table, row)
    return list(zip(*(column[0].tolist() for column in columns), strict=True))


def naive(stream, user, places=PLACES):
    """The same from all of the user's events: the latest of each item, the newest of these."""
    latest = {}
    for who, item, ts, kind in stream:
        if who == user:
            latest[item] = max(latest.get(item, (NEVER_MS, -1)), (ts, kind))
    newest = sorted(((ts, item, kind) for item, (ts, kind) in latest.items()), reverse=True)
    kept = [(item, ts, kind) for ts, item, kind in newest[:places]]
    return kept + [(NO_ITEM, NEVER_MS, -1)] * (places - len(kept))


@given(events, st.data())
@settings(max_examples=200)
def test_any_order_and_any_batching_give_the_same_lists(stream, data):
    table, recent = new()
    left = data.draw(st.permutations(stream))
    while left:
        size = data.draw(st.integers(1, len(left)))
        update(table, recent, left[:size])
        left = left[size:]
    for user in range(USERS):
        assert held(table, recent, user) == naive(stream, user)


@given(events, st.integers(1, 5), st.sampled_from([0, 1, 3, 10**9, 2**62]), st.data())
@settings(max_examples=200)
def test_what_was_before_an_event_is_what_the_list_held(stream, steps, gap_ms, data):
    table, recent = new()
    found = []
    left = stream
    while left:
        size = data.draw(st.integers(1, len(left)))
        found += update(table, recent, left[:size], steps=steps, gap_ms=gap_ms).tolist()
        left = left[size:]
    for place, (user, item, ts, _) in enumerate(stream):
        others = [
            other
            for other, at, _ in naive(stream[:place], user)
            if other not in (item, NO_ITEM) and ts - gap_ms <= at <= ts
        ]
        expected = others[:steps]
        assert found[place] == expected + [NO_ITEM] * (steps - len(expected)), (place, stream)


@given(events, st.data())
@settings(max_examples=200)
def test_what_was_had_is_told_when_an_item_is_new_and_put_into_the_list(stream, data):
    table, recent = new()
    found = []
    left = stream
    while left:
        size = data.draw(st.integers(1, len(left)))
        had = np.zeros((size, PLACES + 1), np.uint64)
        update(table, recent, left[:size], had=had)
        found += had.tolist()
        left = left[size:]
    for place, (user, item, _, _) in enumerate(stream):
        was = [other for other, _, _ in naive(stream[:place], user)]
        now = [other for other, _, _ in naive(stream[: place + 1], user)]
        is_new = item in now and item not in was
        assert found[place] == ([item, *was] if is_new else [0] * (PLACES + 1))


@pytest.mark.parametrize("places", [1, 2, 32])
def test_lists_of_any_length_keep_the_newest(places):
    table, recent = new(places)
    rng = np.random.default_rng(places)
    stream = [
        (int(u), int(i), int(t), int(k))
        for u, i, t, k in zip(
            rng.integers(0, USERS, 500),
            rng.integers(1, 60, 500),
            rng.integers(0, 300, 500),
            rng.integers(0, 5, 500),
            strict=True,
        )
    ]
    for start in range(0, 500, 70):
        update(table, recent, stream[start : start + 70])
    for user in range(USERS):
        assert held(table, recent, user) == naive(stream, user, places)


def test_an_event_that_is_older_than_all_in_a_full_list_leaves_it_alone():
    table, recent = new()
    update(table, recent, [(0, item, 10 + item, 1) for item in (1, 2, 3)])
    before = held(table, recent, 0)
    told = update(table, recent, [(0, 9, 5, 2), (0, 1, 8, 4)], steps=3)
    assert held(table, recent, 0) == before
    assert told.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_of_two_at_one_millisecond_the_higher_hash_stays():
    for order in ([7, 8, 9, 2**64 - 1], [2**64 - 1, 9, 8, 7]):
        table, recent = new()
        update(table, recent, [(0, item, 5, 1) for item in order])
        assert [item for item, _, _ in held(table, recent, 0)] == [2**64 - 1, 9, 8]


def test_no_events_change_nothing():
    table, recent = new()
    empty = np.empty(0, dtype=np.int64)
    out = recent.update(
        table, empty, empty.astype(np.uint64), empty, empty.astype(np.int8), steps=4
    )
    assert out.shape == (0, 4)
    assert held(table, recent, 0) == naive([], 0)
