"""The vectorised index, held against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from state.hashset import KeyIndex

Pair = tuple[int, int]

# few owners and keys, among them the extremes, so that pairs come back and share words
OWNERS = st.sampled_from([0, 1, 2, 5, 2**31 - 1])
KEYS = st.one_of(st.integers(0, 12), st.sampled_from([2**63, 2**64 - 1, 2**64 - 2, 1 << 32]))
PAIRS = st.lists(st.tuples(OWNERS, KEYS), max_size=60, unique=True)
ACTIONS = st.sampled_from(["insert", "number", "remove"])
STEPS = st.lists(st.tuples(ACTIONS, PAIRS), max_size=12)


def arrays(pairs: list[Pair]) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    owners = np.array([owner for owner, _ in pairs], dtype=np.int32)
    return owners, np.array([key for _, key in pairs], dtype=np.uint64)


def check(index: KeyIndex, oracle: dict[Pair, int], asked: list[Pair]) -> None:
    assert len(index) == len(oracle)
    assert index.find(*arrays(asked)).tolist() == [oracle.get(pair, -1) for pair in asked]


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_equals_a_dict(steps: list[tuple[str, list[Pair]]]) -> None:
    index, oracle, next_slot = KeyIndex(), dict[Pair, int](), 0
    seen = {pair for _, pairs in steps for pair in pairs}
    for action, pairs in steps:
        if action == "insert":
            fresh = [pair for pair in pairs if pair not in oracle]
            slots = np.arange(next_slot, next_slot + len(fresh), dtype=np.int32)
            index.insert(*arrays(fresh), slots)
            oracle.update(zip(fresh, slots.tolist(), strict=True))
            next_slot += len(fresh)
        elif action == "number":
            fresh = [pair for pair in pairs if pair not in oracle]
            free = np.arange(next_slot, next_slot + 3)  # three that were used before
            twice = [*pairs, *reversed(pairs)]
            slots, first = index.number(*arrays(twice), free, next_slot + 10)
            assert [twice[i] for i in first.tolist()] == fresh
            given = [*free.tolist(), *range(next_slot + 10, next_slot + 70)]
            oracle.update(zip(fresh, given, strict=False))
            assert slots.tolist() == [oracle[pair] for pair in twice]
            next_slot += 70
        else:
            assert index.remove(*arrays(pairs)).tolist() == [oracle.pop(p, -1) for p in pairs]
        check(index, oracle, sorted(seen))


def test_a_long_life_of_comings_and_goings() -> None:
    rng = np.random.default_rng(7)
    index, oracle = KeyIndex(), dict[Pair, int]()
    for round_ in range(60):
        pairs = [(int(o), int(k)) for o, k in zip(*rng.integers(0, 300, (2, 700)), strict=True)]
        fresh = list(dict.fromkeys(pair for pair in pairs if pair not in oracle))
        slots = rng.integers(0, 2**31 - 1, len(fresh)).astype(np.int32)
        index.insert(*arrays(fresh), slots)
        oracle.update(zip(fresh, slots.tolist(), strict=True))
        gone = [pair for pair in oracle if (pair[0] + pair[1] + round_) % 2]
        index.remove(*arrays(gone))
        for pair in gone:
            del oracle[pair]
        check(index, oracle, pairs)
    # marks are cleared away: the table stays in proportion to what lives in it
    assert index.bytes_held() <= 16 * 8 * max(len(oracle) + 700, 64)


def test_a_pair_may_be_asked_twice() -> None:
    index = KeyIndex()
    index.insert(*arrays([(3, 9)]), np.array([4], dtype=np.int32))
    assert index.find(*arrays([(3, 9), (3, 8), (3, 9)])).tolist() == [4, -1, 4]


def test_grows_past_a_hundred_thousand_keys_that_differ_in_high_bits_only() -> None:
    keys = np.arange(120_000, dtype=np.uint64) << np.uint64(44)
    owners = np.zeros(len(keys), dtype=np.int32)
    index = KeyIndex()
    for part in np.array_split(np.arange(len(keys), dtype=np.int32), 40):
        index.insert(owners[part], keys[part], part)
    assert index.find(owners, keys).tolist() == list(range(len(keys)))
    assert (index.find(owners + np.int32(1), keys) == -1).all()
    assert index.bytes_held() <= 128 * len(keys)


@pytest.mark.parametrize(("owner", "slot"), [(-1, 0), (0, -1), (2**31, 0), (0, 2**31)])
def test_owners_and_slots_that_do_not_fit_are_refused(owner: int, slot: int) -> None:
    index = KeyIndex()
    with pytest.raises(ValueError, match="must not be negative and must fit"):
        index.insert(np.array([owner]), np.array([3], dtype=np.uint64), np.array([slot]))
    assert len(index) == 0
