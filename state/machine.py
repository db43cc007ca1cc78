"""The machine: runs traced conditions over blocks of rows, and decides segments and families.

Registers are rows of one int64 matrix, [registers, n]; floats lie in it by their bits and truths
as 0 and 1. Each instruction is a loop over a block of rows, so that what is in the registers stays
in the cache and what an instruction is costs next to nothing. One call evaluates all conditions of
all segments: as numpy calls they cost more than the work they did, at batches of some hundred rows.

What is decided is as ``state.memberships`` says. Times of units are parameters; a register of -1
stands for "never".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined, step
from state.times import DAY_MS, FAR_MS

I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

(
    CONSTANT,
    LESS,
    LESS_EQUAL,
    EQUAL,
    LESS_F,
    LESS_EQUAL_F,
    EQUAL_F,
    NOT,
    AND,
    OR,
    LEAST,
    GREATEST,
    ADD,
    SUBTRACT,
    AS_FLOAT,
    ADD_F,
    SUBTRACT_F,
    MULTIPLY_F,
    DIVIDE_F,
    CHOOSE,
    TAG,
    FAMILY,
) = range(22)
"""Operations: what each writes to its register is in ``_calculate``, of the last two in ``run``."""

DWELL, COOLDOWN, MAX_FLIPS, PAUSED = range(4)
"""What holds a flip back: places in the counts of a unit."""

UNIT_PARAMETERS: Final = 12
"""A tag's: index, column, registers of joins, leaves, when they rise, its members and when they
flip, dwell, cool-down, flips a day, column of flips. A family's: index, column, first place in
names, first of its conditions, how many, registers of when they flip, of its labels and of when
those flip."""

_BLOCK: Final = 512
_IN_A_DAY: Final = 256
"""Flips are kept as a day times this and how many there were in it."""


@compiled
def run(
    code: I64,
    constants: I64,
    registers: I64,
    units: I64,
    conditions: I64,
    paused: NDArray[np.bool_],
    members: U64,
    since_ms: I64,
    family: I8,
    family_since_ms: I64,
    kept: I64,
    valid_to_ms: I64,
    due_ms: I64,
    suppressed: I64,
    flips: I64,
) -> int:
    """Fill all registers and decide all units.

    Args:
        code: instructions, int64[k, 5]: operation, register or unit, and up to three registers.
        constants: int64[c].
        registers: int64[r, n], the inputs filled, register 0 with each row's time; changed.
        units: parameters, int64[u, UNIT_PARAMETERS].
        conditions: registers of the families' conditions.
        paused: the units that leave everybody where they are, bool[u].
        members: of the rows' memory, as ``state.memberships.SegmentState`` has it; changed.
        since_ms: of it.
        family: of it.
        family_since_ms: of it.
        kept: of it, the flips of a day.
        valid_to_ms: filled with ``FAR_MS``, int64[n, tags + families]; changed.
        due_ms: filled with ``FAR_MS``, int64[n]; changed.
        suppressed: flips held back, by unit and by what did it, int64[u, 4]; changed.
        flips: room for all: row << 7 | entered << 6 | segment, in no order.

    Returns:
        How many flips there are.
    """
    found: Any = np.int64(0)  # no literal: a step is compiled anew for each
    n = registers.shape[1]
    floats = registers.view(np.float64)
    for lo in range(0, n, _BLOCK):
        hi = min(lo + _BLOCK, n)
        for k in range(len(code)):
            operation, place = code[k, 0], code[k, 1]
            if operation == TAG:
                found = _tag(
                    units[place],
                    paused[place],
                    lo,
                    hi,
                    registers,
                    members,
                    since_ms,
                    kept,
                    valid_to_ms,
                    due_ms,
                    suppressed[place],
                    flips,
                    found,
                )
            elif operation == FAMILY:
                found = _family(
                    units[place],
                    paused[place],
                    lo,
                    hi,
                    registers,
                    conditions,
                    family,
                    family_since_ms,
                    valid_to_ms,
                    due_ms,
                    suppressed[place],
                    flips,
                    found,
                )
            else:
                _calculate(code[k], constants, lo, hi, registers, floats)
    return int(found)


@step
def _calculate(
    instruction: I64,
    constants: I64,
    lo: int,
    hi: int,
    registers: I64,
    floats: NDArray[np.float64],
) -> None:
    """One operation over a block of rows."""
    operation = instruction[0]
    out, x = registers[instruction[1]], floats[instruction[1]]
    if operation == CONSTANT:
        out[lo:hi] = constants[instruction[2]]
        return
    a, b, c = registers[instruction[2]], registers[instruction[3]], registers[instruction[4]]
    p, q = floats[instruction[2]], floats[instruction[3]]
    if operation == LESS:
        for i in range(lo, hi):
            out[i] = a[i] < b[i]
    elif operation == LESS_EQUAL:
        for i in range(lo, hi):
            out[i] = a[i] <= b[i]
    elif operation == EQUAL:
        for i in range(lo, hi):
            out[i] = a[i] == b[i]
    elif operation == LESS_F:
        for i in range(lo, hi):
            out[i] = p[i] < q[i]
    elif operation == LESS_EQUAL_F:
        for i in range(lo, hi):
            out[i] = p[i] <= q[i]
    elif operation == EQUAL_F:
        for i in range(lo, hi):
            out[i] = p[i] == q[i]
    elif operation == NOT:
        for i in range(lo, hi):
            out[i] = 1 - a[i]
    elif operation == AND:
        for i in range(lo, hi):
            out[i] = a[i] & b[i]
    elif operation == OR:
        for i in range(lo, hi):
            out[i] = a[i] | b[i]
    elif operation == LEAST:
        for i in range(lo, hi):
            out[i] = min(a[i], b[i])
    elif operation == GREATEST:
        for i in range(lo, hi):
            out[i] = max(a[i], b[i])
    elif operation == ADD:
        for i in range(lo, hi):
            out[i] = a[i] + b[i]
    elif operation == SUBTRACT:
        for i in range(lo, hi):
            out[i] = a[i] - b[i]
    elif operation == AS_FLOAT:
        for i in range(lo, hi):
            x[i] = a[i]
    elif operation == ADD_F:
        for i in range(lo, hi):
            x[i] = p[i] + q[i]
    elif operation == SUBTRACT_F:
        for i in range(lo, hi):
            x[i] = p[i] - q[i]
    elif operation == MULTIPLY_F:
        for i in range(lo, hi):
            x[i] = p[i] * q[i]
    elif operation == DIVIDE_F:
        for i in range(lo, hi):
            x[i] = p[i] / q[i] if q[i] != 0.0 else np.nan
    elif operation == CHOOSE:
        for i in range(lo, hi):
            out[i] = b[i] if a[i] else c[i]


@step
def _tag(
    unit: I64,
    paused: bool,
    lo: int,
    hi: int,
    registers: I64,
    members: U64,
    since_ms: I64,
    kept: I64,
    valid_to_ms: I64,
    due_ms: I64,
    suppressed: I64,
    flips: I64,
    found: int,
) -> Any:
    """Let rows in and out of a tag, and note when to look again; how many flips there are now."""
    tag, column, joins, leaves, entry, lapse = unit[0], unit[1], unit[2], unit[3], unit[4], unit[5]
    held_to, flips_to, dwell_ms, cooldown_ms = unit[6], unit[7], unit[8], unit[9]
    most, limit = unit[10], unit[11]
    now_ms, bit = registers[0], np.uint64(1) << np.uint64(tag)
    for i in range(lo, hi):
        now, was = now_ms[i], (members[i] & bit) != 0
        flip = registers[leaves if was else joins, i] != 0
        if paused:
            suppressed[PAUSED] += flip
            registers[held_to, i], registers[flips_to, i] = was, FAR_MS
            continue
        if flip and now < since_ms[i, tag] + (dwell_ms if was else cooldown_ms):
            suppressed[DWELL if was else COOLDOWN] += 1
            flip = False
        if flip and most and _flips_on(kept[i, limit], now // DAY_MS) >= most:
            suppressed[MAX_FLIPS] += 1
            flip = False
        if flip:
            members[i] ^= bit
            since_ms[i, tag] = now
            if most:
                day = now // DAY_MS
                kept[i, limit] = day * _IN_A_DAY + _flips_on(kept[i, limit], day) + 1
            flips[found] = i << 7 | (not was) << 6 | tag
            found += 1
        held = was != flip
        # a member waits for the exit to rise, everybody else for the entry
        test, rise, hold_ms = leaves, lapse, dwell_ms
        if not held:
            test, rise, hold_ms = joins, entry, cooldown_ms
        next_ms = registers[rise, i] if rise >= 0 else FAR_MS
        if hold_ms or most:
            free_ms = since_ms[i, tag] + hold_ms
            if most and _flips_on(kept[i, limit], now // DAY_MS) >= most:
                free_ms = max(free_ms, (now // DAY_MS + 1) * DAY_MS)
            next_ms = free_ms if registers[test, i] else max(next_ms, free_ms)
        registers[held_to, i], registers[flips_to, i] = held, next_ms
        if held:
            valid_to_ms[i, column] = next_ms
        due_ms[i] = min(due_ms[i], next_ms)
    return found


@inlined
def _flips_on(kept: Any, day: Any) -> Any:
    """How many flips are remembered of a day."""
    return kept % _IN_A_DAY if kept // _IN_A_DAY == day else 0


@step
def _family(
    unit: I64,
    paused: bool,
    lo: int,
    hi: int,
    registers: I64,
    conditions: I64,
    family: I8,
    family_since_ms: I64,
    valid_to_ms: I64,
    due_ms: I64,
    suppressed: I64,
    flips: I64,
    found: int,
) -> Any:
    """Give rows the first label that holds, and note when to look again; how many flips now."""
    place, column, base, first, count = unit[0], unit[1], unit[2], unit[3], unit[4]
    turn, label_to, flips_to, now_ms = unit[5], unit[6], unit[7], registers[0]
    for i in range(lo, hi):
        old = np.int64(family[i, place])
        label = np.int64(-1)
        for at in range(count):
            if registers[conditions[first + at], i]:
                label = np.int64(at)
                break
        if paused:
            suppressed[PAUSED] += label != old
            registers[label_to, i], registers[flips_to, i] = old, FAR_MS
            continue
        if label != old:
            family[i, place], family_since_ms[i, place] = label, now_ms[i]
            if old >= 0:
                flips[found] = i << 7 | (base + old)
                found += 1
            if label >= 0:
                flips[found] = i << 7 | 1 << 6 | (base + label)
                found += 1
        # with the first flip of any single test: early at worst, and cheap
        next_ms = registers[turn, i] if turn >= 0 else FAR_MS
        registers[label_to, i], registers[flips_to, i] = label, next_ms
        if label >= 0:
            valid_to_ms[i, column] = next_ms
        due_ms[i] = min(due_ms[i], next_ms)
    return found
