"""Lane names that Bytewax spreads evenly: one lane on each worker.

Bytewax sends a key to the worker at the SipHash-1-3 of its bytes and ``0xff``, modulo the number of
workers. With one key per worker that leaves some idle, so names are tried until each has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

_MASK = (1 << 64) - 1


def lane_names(workers: int) -> list[str]:
    """The name of each worker's lane, in the order of the workers.

    >>> lane_names(1)
    ['lane-0']
    >>> [worker_of(name, 3) for name in lane_names(3)]
    [0, 1, 2]
    """
    return [
        next(n for n in _tries(lane) if worker_of(n, workers) == lane) for lane in range(workers)
    ]


def lane_shards(lane: int, lanes: int, shards: int) -> Sequence[int]:
    """The shards of one lane out of so many.

    >>> list(lane_shards(1, 3, 8))
    [1, 4, 7]
    """
    return range(lane, shards, lanes)


def worker_of(key: str, workers: int) -> int:
    """The worker that Bytewax gives a key to."""
    return _siphash13(key.encode() + b"\xff") % workers


def _tries(lane: int) -> Iterator[str]:
    yield f"lane-{lane}"
    yield from (f"lane-{lane}-{i}" for i in count(1))


def _siphash13(data: bytes) -> int:
    """SipHash with one round per word and three at the end, under the key of zeros.

    Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
    """
    v0, v1, v2, v3 = (
        0x736F6D6570736575,
        0x646F72616E646F6D,
        0x6C7967656E657261,
        0x7465646279746573,
    )
    whole = len(data) - len(data) % 8
    last = int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, whole, 8)]
    for word in (*words, last):
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= 0xFF
    for _ in range(3):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round(v0: int, v1: int, v2: int, v3: int) -> tuple[int, int, int, int]:
    v0 = (v0 + v1) & _MASK
    v1 = _rotated(v1, 13) ^ v0
    v0 = _rotated(v0, 32)
    v2 = (v2 + v3) & _MASK
    v3 = _rotated(v3, 16) ^ v2
    v0 = (v0 + v3) & _MASK
    v3 = _rotated(v3, 21) ^ v0
    v2 = (v2 + v1) & _MASK
    v1 = _rotated(v1, 17) ^ v2
    return v0, v1, _rotated(v2, 32), v3


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> (64 - by)) & _MASK
