"""Compiled loops read memory by address, and work where nothing can be kept, too."""

import numpy as np
import pytest
from numba.core.errors import NumbaError, NumbaRuntimeError

from events import compiled as module
from events.compiled import allocating, byte_at, bytes_at, compiled, word_at, words_at


def total(values):
    out = 0
    for value in values:
        out += value
    return out


def test_where_nothing_can_be_kept_loops_are_compiled_all_the_same(monkeypatch):
    real = module.njit

    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(module, "njit", njit)
    assert compiled(total)(np.arange(5)) == 10


@compiled
def read(address, out):
    out[0], out[1] = byte_at(address), word_at(address)
    out[2], out[3] = bytes_at(address)[1], words_at(address)[1]


@pytest.mark.parametrize("at", [0, 1, 7, 8, 13])
def test_bytes_and_words_are_read_wherever_they_begin(at):
    block = np.random.default_rng(1).integers(128, 256, 40, dtype=np.uint8)
    raw, out = block.tobytes(), np.zeros(4, np.uint64)
    read(block.ctypes.data + at, out)
    words = [int.from_bytes(raw[k : k + 8], "little") for k in (at, at + 8)]
    assert out.tolist() == [raw[at], words[0], raw[at + 1], words[1]]


@compiled
def write(address, value):
    bytes_at(address)[1] = value
    words_at(address + 3)[1] = value


def test_what_is_taken_for_an_array_may_be_written():
    block = np.zeros(24, np.uint8)
    write(block.ctypes.data, 7)
    assert {place: int(block[place]) for place in np.flatnonzero(block)} == {1: 7, 11: 7}


@allocating
def summed(values):
    out = np.empty(len(values), np.int64)
    out[:] = values
    return out.sum()


def twice(values):
    return (values * 2).sum()


def test_only_a_loop_that_says_so_may_make_arrays():
    assert summed(np.arange(5)) == 10
    with pytest.raises((NumbaError, NumbaRuntimeError), match="NRT required"):
        compiled(twice)(np.arange(5))
