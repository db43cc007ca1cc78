"""Groups and distinct rows against plain Python."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.groups import distinct, group

few = st.integers(0, 5)
rows = st.lists(few, max_size=30)


def ints(values):
    return np.array(values, dtype=np.int64)


def as_lists(groups):
    """Row → positions, in the order of the groups; checks that all parts tell the same."""
    bounds = itertools.pairwise([*groups.starts.tolist(), len(groups)])
    parts = [groups.index[first:stop].tolist() for first, stop in bounds]
    assert groups.counts().tolist() == [len(part) for part in parts]
    assert groups.ends().tolist() == np.cumsum(groups.counts()).tolist()
    assert groups.row_of.tolist() == np.repeat(groups.rows, groups.counts()).tolist()
    return list(zip(groups.rows.tolist(), parts, strict=True))


@settings(max_examples=200)
@given(rows, st.data())
def test_rows_ascend_and_keep_the_order_of_the_log(of_events, data):
    kept = data.draw(st.lists(st.booleans(), min_size=len(of_events), max_size=len(of_events)))
    at = np.cumsum(ints(data.draw(st.lists(few, min_size=len(of_events), max_size=len(of_events)))))
    at += np.arange(len(at))
    groups = group(ints(of_events), at)
    positions = dict(zip(at.tolist(), of_events, strict=True))
    wanted = sorted((row, i) for i, row in positions.items())
    by_row = itertools.groupby(wanted, key=lambda pair: pair[0])
    assert as_lists(groups) == [(row, [i for _, i in pairs]) for row, pairs in by_row]
    chosen = dict(zip(at.tolist(), kept, strict=True))
    part = groups.where(np.array([chosen[i] for i in groups.index.tolist()], dtype=np.bool_))
    left = [(row, [i for i in where if chosen[i]]) for row, where in as_lists(groups)]
    assert as_lists(part) == [(row, where) for row, where in left if where]


@given(rows)
def test_distinct_leaves_its_argument_alone(values):
    given_rows = ints(values)
    assert distinct(given_rows).tolist() == sorted(set(values))
    assert given_rows.tolist() == values
