"""Copying bytes by whole words, also to a place that overlaps with where they come from."""

import numpy as np
import pytest

from events.compiled import compiled
from events.words import PAD, open_words, put_bytes


@compiled
def copy(words, at, held, start, length):
    return put_bytes(words, at, held, start, length)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 31, 64, 65, 127, 300, 1_000])
@pytest.mark.parametrize("start", [0, 1, 8, 13])
def test_bytes_arrive_and_those_before_them_stay(length, start):
    held = np.random.default_rng(length).integers(0, 256, 1_100, dtype=np.uint8)
    out = np.zeros(1_100, dtype=np.uint8)
    out[:5] = 9
    assert copy(open_words(out), 5, open_words(held), start, length) == 5 + length
    assert out[:5].tolist() == [9] * 5
    assert out[5 : 5 + length].tolist() == held[start : start + length].tolist()
    assert not out[5 + length + len(PAD) :].any()


@pytest.mark.parametrize("length", [1, 8, 40, 64, 200, 1_000])
@pytest.mark.parametrize("by", [0, 1, 3, 8, 9, 32, 100])
def test_bytes_may_move_to_the_front_over_themselves(length, by):
    block = np.random.default_rng(by).integers(0, 256, 1_200, dtype=np.uint8)
    moved = block[by : by + length].tolist()
    copy(open_words(block), 0, open_words(block), by, length)
    assert block[:length].tolist() == moved
