"""Hash → number, held against a dict."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.hash_index import HashIndex, numbered

# neighbours in the table, the same low or high halves, and the ends of the range
hashes = st.one_of(
    st.integers(1, 200),
    st.integers(1, 200).map(lambda n: n << 32),
    st.integers(1, 2**64 - 1),
    st.just(2**64 - 1),
)


def as_hashes(values):
    return np.array(values, dtype=np.uint64)


@given(st.lists(st.lists(hashes, max_size=150), max_size=6))
@settings(max_examples=150)
def test_the_first_number_of_each_hash_counts(parts):
    index, truth, number = HashIndex(), {}, 0
    for part in parts:
        index.add(as_hashes(part), np.arange(number, number + len(part)))
        for each in part:
            truth.setdefault(each, number)
            number += 1
        assert len(index) == len(truth)
        asked = [*truth, *(h ^ 1 for h in truth), 2**63 + 11]
        found = index.find(as_hashes(asked))
        assert found.tolist() == [truth.get(h, -1) for h in asked]


def test_whole_arrays_of_any_shape_are_asked_at_once():
    index = HashIndex()
    index.add(as_hashes([5, 6]), np.array([10, 20]))
    asked = as_hashes([[5, 7, 6], [6, 5, 0]])
    assert index.find(asked).tolist() == [[10, -1, 20], [20, 10, -1]]
    assert index.find(asked[:, ::2]).tolist() == [[10, 20], [20, -1]]
    assert index.find(asked[:0]).shape == (0, 3)
    assert HashIndex().find(asked).tolist() == [[-1] * 3] * 2


def test_nothing_is_never_found():
    """0 stands for no item, so an id that is made to have this hash is found nowhere."""
    index = HashIndex()
    index.add(as_hashes([0, 4]), np.array([0, 1]))
    assert index.find(as_hashes([0, 4])).tolist() == [-1, 1]


def test_many_are_held_in_bounded_space():
    index, rng = HashIndex(), np.random.default_rng(1)
    some = rng.integers(1, 2**63, 300_000, dtype=np.uint64)
    for start in range(0, len(some), 7_000):
        part = some[start : start + 7_000]
        index.add(part, np.arange(start, start + len(part)))
    _, first = np.unique(some, return_index=True)
    assert len(index) == len(first)
    assert (index.find(some[first]) == first).all()
    assert index.bytes_held() <= 300_000 * 16 * 8
    again = index.bytes_held()
    index.add(some[:1000], np.arange(1000))
    assert index.bytes_held() == again


@given(st.lists(st.one_of(hashes, st.just(0)), max_size=300))
def test_numbers_count_up_as_hashes_come_first(values):
    first, which = numbered(as_hashes(values))
    distinct = list(dict.fromkeys(values))
    assert [values[place] for place in first.tolist()] == distinct
    assert [distinct[number] for number in which.tolist()] == values
    assert first.tolist() == sorted(first.tolist())
