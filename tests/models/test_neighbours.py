"""Capped lists of neighbours, held against plain dicts and lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.neighbours import NOBODY, Neighbours
from state.table import Table

ITEMS = 6

pairs = st.lists(
    st.tuples(
        st.integers(0, ITEMS - 1),
        st.integers(0, ITEMS - 1),
        st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 4.0, 2.0**40, 2.0**-60]),
    ),
    max_size=60,
)


def new(places, rows=ITEMS):
    table = Table(capacity=1)
    near = Neighbours(table, "near", places)
    table.grow(rows)
    return near


def add(near, some):
    if some:
        items, others, weights = zip(*some, strict=True)
        near.add(np.array(items), np.array(others), np.array(weights))


def held(near, row):
    """A row's neighbours and weights; a list has no holes and names nobody twice."""
    item, weight = near.item[row].tolist(), near.weight[row].tolist()
    count = sum(each != NOBODY for each in item)
    assert item[count:] == [NOBODY] * (len(item) - count)
    assert weight[count:] == [0.0] * (len(item) - count)
    assert len(set(item[:count])) == count
    return dict(zip(item[:count], weight[:count], strict=True))


class Naive:
    """The same, slowly: a list of places per item."""

    def __init__(self, places):
        self.places, self.lists = places, [[] for _ in range(ITEMS)]

    def add(self, item, other, amount):
        amount, held = np.float32(amount), self.lists[item]
        for place in held:
            if place[0] == other:
                place[1] = np.float32(place[1] + amount)
                return
        if len(held) < self.places:
            held.append([other, amount])
            return
        lightest = min(held, key=lambda place: place[1])  # the first of equals
        if lightest[1] < amount:
            lightest[:] = other, amount


@given(pairs, st.integers(1, 7), st.data())
@settings(max_examples=200)
def test_weights_add_up_and_the_lightest_goes_for_a_heavier_one(some, places, data):
    near, naive, left = new(places), Naive(places), some
    while left:
        size = data.draw(st.integers(1, len(left)))
        add(near, left[:size])
        left = left[size:]
    for item, other, amount in some:
        naive.add(item, other, amount)
    for row in range(ITEMS):
        assert held(near, row) == {other: float(w) for other, w in naive.lists[row]}
        ranked = sorted(naive.lists[row], key=lambda place: -place[1])
        assert near.heaviest(row, 3) == [(other, float(w)) for other, w in ranked[:3]]


@given(pairs)
@settings(max_examples=100)
def test_where_there_is_room_the_order_does_not_matter(some):
    one, other = new(ITEMS), new(ITEMS)
    add(one, some)
    add(other, some[::-1])
    for row in range(ITEMS):
        a, b = held(one, row), held(other, row)
        assert a.keys() == b.keys()
        assert all(a[k] == pytest.approx(b[k], rel=1e-5) for k in a)


def test_scaling_reaches_all_rows_and_nothing_else():
    near = new(2, rows=3)
    add(near, [(0, 1, 3.0), (2, 1, 5.0), (2, 0, 1.0)])
    near.scale(0.5)
    assert [held(near, row) for row in range(3)] == [{1: 1.5}, {}, {1: 2.5, 0: 0.5}]


def test_what_is_lighter_than_a_float_can_say_is_zero_and_goes_first():
    near = new(2, rows=3)
    add(near, [(0, 1, 3.0), (0, 2, 5.0)])
    near.scale(2.0**-200)
    assert held(near, 0) == {1: 0.0, 2: 0.0}
    add(near, [(0, 0, 1e-30)])
    assert held(near, 0) == {0: pytest.approx(1e-30), 2: 0.0}


@given(pairs, st.permutations(range(ITEMS)), st.integers(0, ITEMS), st.integers(1, 6))
@settings(max_examples=150)
def test_renumbering_keeps_who_goes_with_whom(some, order, kept, places):
    near = new(places)
    add(near, some)
    before = [held(near, row) for row in range(ITEMS)]
    moved = np.full(ITEMS, -1)
    for number, item in enumerate(order[:kept]):
        moved[item] = number
    rows = np.array(order[:kept], dtype=np.int64)
    near.item[:kept], near.weight[:kept] = near.item[rows], near.weight[rows]
    near.renumber(moved, kept)
    for number, item in enumerate(order[:kept]):
        expected = {int(moved[k]): w for k, w in before[item].items() if moved[k] >= 0}
        assert held(near, number) == expected
