"""The columns of a commit as its shards' commands have them, written in one pass.

Redis and Valkey take a command as a count and then every argument behind its length. A commit has
thousands of short arguments for some sixty shards; as objects they would cost more than all else
that is done with them, so they are written from where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from events.texts import I32, I64, U64, Texts
from events.words import PAD, copy_bytes
from state.commit import Operation, Writes
from state.writing import put_digits

U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]

_AROUND: Final = 24
"""Bytes around an argument at most: the sign, the digits of its length, two ends of line."""
_OPENING: Final = 96
"""Bytes of a command's name and its two numbers at most."""
_DOLLAR, _RETURN, _NEWLINE = ord("$"), ord("\r"), ord("\n")

_NAMES: Final = ("HSET", "HDEL", "APPEND")
_COMMANDS: Final = Texts.of([f"${len(name)}\r\n{name}\r\n" for name in _NAMES])

_NONE: Final = Texts.absent(0)
_KEYS_BEFORE: Final = 2
"""The commit record and the outbox."""


@dataclass(slots=True, frozen=True)
class Body:
    """What one shard's command has of the columns.

    Attributes:
        keys: as they travel, and how many.
        operations: as they travel, and how many arguments they are.
    """

    keys: memoryview
    key_count: int
    operations: memoryview
    argument_count: int


EMPTY: Final = Body(memoryview(b""), 0, memoryview(b""), 0)


def bodies(writes: Writes, names: Callable[[Operation, int], Texts]) -> dict[int, Body]:
    """The bodies of all shards' commands, by shard.

    Args:
        writes: the columns, not none.
        names: the keys of so many shards, from 0 on, for an operation, as they travel.
    """
    operations, shards = writes.operations, np.array(writes.shards, dtype=np.int64)
    most = int(shards[-1]) + 1
    keys = [names(each, most).take(shards) for each in operations]
    heads = _COMMANDS.take(np.array([_NAMES.index(each.command) for each in operations]))
    sides = [side for each in operations for side in (each.fields, each.values or _NONE)]
    start = np.concatenate([each.start for each in sides])
    length = np.concatenate([each.length for each in sides])
    first = np.cumsum([0, *map(len, sides)])[:-1]
    has_values = np.array([each.values is not None for each in operations])
    edges = np.append(shards, most)
    bounds = np.stack([np.searchsorted(each.shard, edges) for each in operations])
    n = len(shards)
    room = int(np.maximum(length, 0).sum()) + _AROUND * len(length) + _OPENING * bounds.size
    key_room = sum(int(each.length.sum()) for each in keys)
    out, key_out = np.empty(room + len(PAD), np.uint8), np.empty(key_room + len(PAD), np.uint8)
    ends, counts = np.zeros((2, n + 1), dtype=np.int64), np.empty((2, n), dtype=np.int64)
    _write(
        bounds,
        _addresses(sides),
        first,
        has_values,
        start,
        length,
        heads.words,
        heads.start,
        heads.length,
        _addresses(keys),
        np.stack([each.start for each in keys]),
        np.stack([each.length for each in keys]),
        key_out,
        out,
        ends,
        counts,
    )
    parts = zip(
        *(pairwise(ends[0].tolist()), counts[0].tolist()),
        *(pairwise(ends[1].tolist()), counts[1].tolist()),
        strict=True,
    )
    key_raw, raw = key_out.data, out.data
    found = (Body(key_raw[a:b], keys, raw[c:d], count) for (a, b), keys, (c, d), count in parts)
    return dict(zip(shards.tolist(), found, strict=True))


def _addresses(texts: Sequence[Texts]) -> I64:
    """Where the bytes of each column of texts lie; who asks keeps them."""
    return np.array([each.words.ctypes.data for each in texts], dtype=np.int64)


@inlined
def _put_end(out: U8, at: int) -> Any:
    out[at], out[at + 1] = _RETURN, _NEWLINE
    return at + 2


@inlined
def _put_text(out: U8, at: int, source: int, length: int) -> Any:
    """An argument that lies at an address."""
    out[at] = _DOLLAR
    at = _put_end(out, put_digits(out, at + 1, length))
    copy_bytes(out.ctypes.data + at, source, length)
    return _put_end(out, at + length)


@inlined
def _put_number(out: U8, at: int, number: int) -> Any:
    """A number that is not negative, as an argument."""
    digits, rest = 1, number // 10
    while rest > 0:
        digits += 1
        rest //= 10
    out[at] = _DOLLAR
    at = _put_end(out, put_digits(out, at + 1, digits))
    return _put_end(out, put_digits(out, at, number))


@compiled
def _write(
    bounds: I64,
    held: I64,
    first: I64,
    has_values: Bools,
    start: I64,
    length: I32,
    heads: U64,
    head_start: I64,
    head_length: I32,
    names: I64,
    name_start: I64,
    name_length: I32,
    key_out: U8,
    out: U8,
    ends: I64,
    counts: I64,
) -> None:
    """Write each shard's keys and operations.

    Args:
        bounds: of each operation's arguments by shard, int64[operations, n + 1].
        held: where the bytes of each operation's fields lie, and those of its values;
            int64[2 * operations].
        first: where these begin in ``start`` and ``length``, int64[2 * operations].
        has_values: of each operation.
        start: where each argument begins in its bytes.
        length: its bytes.
        heads: the bytes of the commands' names.
        head_start: where each operation's begins in them.
        head_length: its bytes.
        names: where the bytes of each operation's keys lie, int64[operations].
        name_start: where each key begins in them, int64[operations, n].
        name_length: its bytes, int32[operations, n].
        key_out: filled with keys.
        out: filled with operations.
        ends: of each shard's keys and operations, int64[2, n + 1] with a 0 before all; filled.
        counts: of its keys, and of the arguments of its operations; int64[2, n]; filled.
    """
    key_at = at = 0
    for i in range(counts.shape[1]):
        keys = arguments = 0
        for o in range(len(bounds)):
            begin, stop = bounds[o, i], bounds[o, i + 1]
            if begin == stop:
                continue
            keys += 1
            copy_bytes(key_out.ctypes.data + key_at, names[o] + name_start[o, i], name_length[o, i])
            key_at += name_length[o, i]
            copy_bytes(out.ctypes.data + at, heads.ctypes.data + head_start[o], head_length[o])
            at += head_length[o]
            fields, values = first[2 * o], first[2 * o + 1]
            paired = has_values[o]
            count = (stop - begin) * (2 if paired else 1)
            at = _put_number(out, at, keys + _KEYS_BEFORE)
            at = _put_number(out, at, count)
            for k in range(begin, stop):
                text = fields + k
                at = _put_text(out, at, held[2 * o] + start[text], length[text])
                if paired:
                    text = values + k
                    at = _put_text(out, at, held[2 * o + 1] + start[text], length[text])
            arguments += 3 + count
        ends[0, i + 1], ends[1, i + 1] = key_at, at
        counts[0, i], counts[1, i] = keys, arguments
