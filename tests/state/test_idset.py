"""The set of ids against a dict from hash to tag."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state.idset import LEAST_HASH, IdSet

HASHES = st.lists(
    st.one_of(st.integers(int(LEAST_HASH), 40), st.integers(2**64 - 20, 2**64 - 1)),
    max_size=40,
    unique=True,
)
STEPS = st.lists(
    st.one_of(
        st.tuples(HASHES, st.integers(0, 9)),
        st.tuples(st.integers(0, 9), st.integers(0, 10)),
    ),
    max_size=20,
)


def check(ids, oracle):
    assert len(ids) == len(oracle)
    known = np.array(list(oracle), dtype=np.uint64)
    assert not ids.add(known, np.full(len(known), 11, np.uint16)).any()  # nor do tags change
    hashes, tags = ids.listed()
    assert sorted(zip(hashes.tolist(), tags.tolist(), strict=True)) == sorted(oracle.items())


def add(ids, oracle, hashes, tag_of):
    """Add to both; the second time that one of them comes it is not new, nor is its tag taken."""
    hashes, known = list(hashes), set(oracle)
    tags = [tag_of(h) for h in hashes]
    again = [(tag + 1) % 12 for tag in tags]
    new = ids.add(np.array(hashes + hashes, np.uint64), np.array(tags + again, np.uint16))
    for h, tag, is_new in zip(hashes + hashes, tags + again, new.tolist(), strict=True):
        assert is_new == (h not in known)
        known.add(h)
        oracle.setdefault(h, tag)


def drop(ids, oracle, first, stop):
    ids.drop(first, stop)
    for h in [h for h, tag in oracle.items() if first <= tag < stop]:
        del oracle[h]


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_equals_a_dict(steps):
    ids, oracle = IdSet(), {}
    for what, number in steps:
        if isinstance(what, list):
            add(ids, oracle, what, lambda h, number=number: (h + number) % 10)
        else:
            drop(ids, oracle, what, number)
        check(ids, oracle)


def test_growth_in_small_and_large_steps_with_tags_leaving_meanwhile():
    rng, ids, oracle = np.random.default_rng(5), IdSet(), {}
    for round_ in range(150):
        size = int(rng.choice([1, 30, 400, 3_000]))
        hashes = rng.integers(2, 2**64 - 1, size, dtype=np.uint64).tolist()
        add(ids, oracle, dict.fromkeys(hashes), lambda _, tag=round_ % 12: tag)
        if round_ % 3 == 0:
            drop(ids, oracle, (round_ + 1) % 12, (round_ + 1) % 12 + 2)
        if round_ % 10 == 0:
            check(ids, oracle)
    check(ids, oracle)


def test_twenty_bytes_per_id_and_twice_that_for_a_moment_of_growth():
    rng, ids, held = np.random.default_rng(6), IdSet(), []
    for _ in range(80):
        ids.add(rng.integers(2, 2**64 - 1, 2_500, dtype=np.uint64), np.zeros(2_500, np.uint16))
        held.append(ids.bytes_held() / len(ids))
    assert np.median(held) <= 21
    assert max(held) <= 42
