"""A heart beats now and then, and nothing that happens to its pipe stops the work."""

import os
import time
from contextlib import suppress

import pytest

from operators import heart
from operators.heart import EVERY_S, Heart


@pytest.fixture
def pipe():
    """The two ends, reading first."""
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def fill(writing):
    """Write until nothing more fits; how much did."""
    os.set_blocking(writing, False)
    count = 0
    with suppress(BlockingIOError):
        while True:
            count += os.write(writing, bytes(4096))
    return count


def test_the_first_beat_comes_at_once(pipe):
    reading, writing = pipe
    Heart(writing).beat()
    assert os.read(reading, 10) == b"."


def test_it_beats_no_more_often_than_it_should_and_again_when_it_is_time(pipe):
    reading, writing = pipe
    beating, began_s = Heart(writing), time.monotonic()
    while time.monotonic() - began_s < 2.5 * EVERY_S:
        beating.beat()
        time.sleep(0.001)
    assert os.read(reading, 10) == b"..."


def test_a_full_pipe_neither_blocks_nor_raises(pipe, monkeypatch):
    monkeypatch.setattr(heart, "EVERY_S", 0.0)
    reading, writing = pipe
    count = fill(writing)
    beating, began_s = Heart(writing), time.monotonic()
    beating.beat()
    assert time.monotonic() - began_s < 1
    assert len(os.read(reading, 2 * count)) == count
    beating.beat()
    assert os.read(reading, 10) == b"."


def test_the_pipe_is_made_so_that_a_beat_cannot_block(pipe):
    _, writing = pipe
    assert os.get_blocking(writing)
    Heart(writing)
    assert not os.get_blocking(writing)


@pytest.mark.parametrize("end", [0, 1], ids=["nobody-reads", "closed"])
def test_a_closed_pipe_does_not_raise(end):
    ends = os.pipe()
    beating = Heart(ends[1])
    os.close(ends[end])
    beating.beat()
    os.close(ends[1 - end])


def test_without_a_pipe_it_does_nothing():
    Heart().beat()
