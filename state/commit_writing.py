"""The commands of a commit's shards, written in one pass as they travel.

Redis and Valkey take a command as a count and then every argument behind its length. A commit has
thousands of short arguments for some sixty shards; as objects they would cost more than all else
that is done with them, so they are written from where they lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from events.texts import I32, I64, U64, Texts, addresses
from events.words import PAD, copy_bytes
from state.commit import Operation, Writes
from state.writing import put_digits

U8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]

_AROUND: Final = 24
"""Bytes around an argument at most: the sign, the digits of its length, two ends of line."""
_OPENING: Final = 96
"""Bytes of a command's name and its two numbers at most; the numbers of a head need as many."""
_STAR, _DOLLAR, _RETURN, _NEWLINE = map(ord, "*$\r\n")

_NAMES: Final = ("HSET", "HDEL", "APPEND")
_COMMANDS: Final = Texts.of([f"${len(name)}\r\n{name}\r\n" for name in _NAMES])
_NONE: Final = Texts.absent(0)
_KEYS_BEFORE: Final = 2
"""The commit record and the outbox."""
_NAMED: Final = 3
"""Arguments of every command before its keys: what runs it, the script and how many keys."""
_BEGIN, _FIRST_KEYS, _OWN_KEYS, _FENCE, _ENTRIES, _RECORD, _BEFORE, _AFTER = range(8)


class Keys(NamedTuple):
    """The keys of some operations, k, for so many shards from 0 on, as they travel.

    Attributes:
        texts: of each operation, all shards' keys.
        held: where their bytes lie, int64[k].
        start, length: of each key in them, int64[k, shards] and int32[k, shards].
    """

    texts: Sequence[Texts]
    held: I64
    start: I64
    length: I32

    @classmethod
    def of(cls, texts: Sequence[Texts]) -> Keys:
        """Those of each operation."""
        none = np.empty((0, 0), dtype=np.int64)
        return cls(
            texts,
            addresses(texts),
            np.stack([each.start for each in texts]) if texts else none,
            np.stack([each.length for each in texts]) if texts else none.astype(np.int32),
        )


class Frames(NamedTuple):
    """What n shards have beside the columns.

    Attributes:
        shards: which, int64[n].
        numbers: the sequence that must be stored, that of the commit, arguments of outbox entries,
            own keys, and all arguments that are not of the columns; int64[5, n].
        parts: what stands in all commands at the same place, as it travels, n texts each: the
            script, the first keys, own keys, the fence, entries of the outbox, the record with its
            number of arguments, operations of their own before and after those of the columns.
    """

    shards: I64
    numbers: I64
    parts: Sequence[Texts]


def keys_before_own(writes: Writes, shards: I64) -> I64:
    """How many keys each of some shards has before its own, those of its columns; int64[n]."""
    begin, stop = _bounds(writes.operations, shards)
    found: I64 = np.count_nonzero(stop > begin, axis=0) + _KEYS_BEFORE
    return found


def commands(writes: Writes, keys: Keys, frames: Frames) -> list[memoryview]:
    """The commands of all shards.

    Args:
        writes: the columns.
        keys: of its operations.
        frames: what else there is.
    """
    operations, n = writes.operations, len(frames.shards)
    heads = _COMMANDS.take(np.array([_NAMES.index(each.command) for each in operations], np.int64))
    sides = [side for each in operations for side in (each.fields, each.values or _NONE)]
    start, length = _laid_out(sides)
    part_start, part_length = _laid_out(frames.parts)
    key_room = int(keys.length.max(initial=0)) * len(operations) * n
    texts = int(np.maximum(length, 0).sum()) + _AROUND * len(length) + int(part_length.sum())
    opening = _OPENING * n * (len(operations) + 2)
    out = np.empty(texts + key_room + opening + len(PAD), np.uint8)
    ends = np.zeros(n + 1, dtype=np.int64)
    _write(
        _bounds(operations, frames.shards),
        addresses(sides),
        np.cumsum([0, *map(len, sides)])[:-1],
        np.array([each.values is not None for each in operations], dtype=np.bool_),
        start,
        length,
        heads.words,
        heads.start,
        heads.length,
        keys.held,
        keys.start,
        keys.length,
        frames.shards,
        frames.numbers,
        addresses(frames.parts),
        part_start.reshape(-1, n),
        part_length.reshape(-1, n),
        out,
        ends,
    )
    raw = out.data
    return [raw[a:b] for a, b in pairwise(ends.tolist())]


def _bounds(operations: Sequence[Operation], shards: I64) -> I64:
    """Where each operation's arguments of each shard begin and end, int64[2, operations, n]."""
    out = np.empty((2, len(operations), len(shards)), dtype=np.int64)
    for place, each in enumerate(operations):
        out[0, place] = each.shard.searchsorted(shards)
        out[1, place] = each.shard.searchsorted(shards, side="right")
    return out


def _laid_out(columns: Sequence[Texts]) -> tuple[I64, I32]:
    """Where the texts of all columns begin in the bytes of each, and their lengths."""
    start = [np.empty(0, dtype=np.int64), *(each.start for each in columns)]
    length = [np.empty(0, dtype=np.int32), *(each.length for each in columns)]
    return np.concatenate(start), np.concatenate(length)


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


@inlined
def _put_part(out: U8, at: int, held: I64, start: I64, length: I32, part: int, i: int) -> Any:
    """What lies ready as it travels."""
    copy_bytes(out.ctypes.data + at, held[part] + start[part, i], length[part, i])
    return at + length[part, i]


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
    shards: I64,
    numbers: I64,
    parts: I64,
    part_start: I64,
    part_length: I32,
    out: U8,
    ends: I64,
) -> None:
    """Write each shard's command.

    Args:
        bounds: where each operation's arguments of each shard begin and end,
            int64[2, operations, n].
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
        name_start: where each key begins in them, int64[operations, shards].
        name_length: its bytes, int32[operations, shards].
        shards: int64[n].
        numbers: of the frames.
        parts: where the bytes of each part of the frames lie, int64[8].
        part_start: where each begins in them, int64[8, n].
        part_length: its bytes, int32[8, n].
        out: filled with commands.
        ends: of each, int64[n + 1] with a 0 before all; filled.
    """
    at = 0
    for i in range(len(shards)):
        shard, keys, arguments = shards[i], numbers[3, i] + _KEYS_BEFORE, numbers[4, i]
        for o in range(len(names)):
            count = bounds[1, o, i] - bounds[0, o, i]
            if count > 0:
                keys += 1
                arguments += 3 + count * (2 if has_values[o] else 1)
        out[at] = _STAR
        at = _put_end(out, put_digits(out, at + 1, _NAMED + keys + arguments))
        at = _put_part(out, at, parts, part_start, part_length, _BEGIN, i)
        at = _put_number(out, at, keys)
        at = _put_part(out, at, parts, part_start, part_length, _FIRST_KEYS, i)
        for o in range(len(names)):
            if bounds[1, o, i] > bounds[0, o, i]:
                size = name_length[o, shard]
                copy_bytes(out.ctypes.data + at, names[o] + name_start[o, shard], size)
                at += size
        at = _put_part(out, at, parts, part_start, part_length, _OWN_KEYS, i)
        at = _put_part(out, at, parts, part_start, part_length, _FENCE, i)
        for k in range(3):
            at = _put_number(out, at, numbers[k, i])
        for part in (_ENTRIES, _RECORD, _BEFORE):
            at = _put_part(out, at, parts, part_start, part_length, part, i)
        key = _KEYS_BEFORE
        for o in range(len(names)):
            begin, stop = bounds[0, o, i], bounds[1, o, i]
            if begin == stop:
                continue
            key += 1
            copy_bytes(out.ctypes.data + at, heads.ctypes.data + head_start[o], head_length[o])
            at += head_length[o]
            fields, values = first[2 * o], first[2 * o + 1]
            paired = has_values[o]
            at = _put_number(out, at, key)
            at = _put_number(out, at, (stop - begin) * (2 if paired else 1))
            for k in range(begin, stop):
                text = fields + k
                at = _put_text(out, at, held[2 * o] + start[text], length[text])
                if paired:
                    text = values + k
                    at = _put_text(out, at, held[2 * o + 1] + start[text], length[text])
        at = _put_part(out, at, parts, part_start, part_length, _AFTER, i)
        ends[i + 1] = at
