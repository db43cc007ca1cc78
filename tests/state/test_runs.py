"""Sorted runs against one stable sort of everything that was added."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.runs import SortedRuns, in_order

batches = st.lists(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=9))


@pytest.mark.parametrize("dtype", [np.int64, np.complex128])
@settings(max_examples=150)
@given(batches)
def test_runs_are_sorted_and_hold_everything_once(dtype, added):
    runs, n = SortedRuns(), 0
    for pairs in added:
        keys = np.zeros(len(pairs), dtype=dtype)
        keys.real = [first for first, _ in pairs]
        if dtype is np.complex128:
            keys.imag = [second for _, second in pairs]
        runs.add(keys, np.arange(n, n + len(pairs)))
        n += len(pairs)
        lengths = [len(keys) for keys, _ in runs.runs]
        assert all(long > 2 * short for long, short in itertools.pairwise(lengths))
        assert len(runs) == n
    for keys, ids in runs.runs:
        order = np.lexsort((ids, keys.imag, keys.real))  # of equal keys, what came first is first
        assert order.tolist() == list(range(len(keys)))
    held = [i for _, ids in runs.runs for i in ids.tolist()]
    assert sorted(held) == list(range(n))


@pytest.mark.parametrize("span", [1, 40, 2**40, 2**52, 2**62])
@pytest.mark.parametrize("low", [0, -(2**61), 1_790_000_000_000])
def test_many_keys_come_into_the_order_of_a_stable_argsort(span, low):
    keys = low + np.random.default_rng(3).integers(0, span, 2_000)
    assert in_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()
