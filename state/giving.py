"""The loops of offers: one offer is given to, or ends for, many users.

``rule`` holds what an offer says of itself, int64: how long it lasts, its cool-down, its cap and
the window of that (0 for none), the bit of its group, and how many offers may stand at a time.
``held`` has since, end and number of givings of each user, ``earlier`` the givings before the last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from state.nodes import I64, Bools
from state.times import FAR_MS, NEVER_MS


@compiled
def free_ms(rule: I64, held: I64, earlier: I64, row: int) -> int:
    """From when on cap and cool-down allow a giving."""
    cooldown, cap, window = rule[1], rule[2], rule[3]
    count = held[2]
    if count <= 0:
        return NEVER_MS
    free: int = held[1] + cooldown
    if cap == 0 or count < cap:
        return free
    if window == 0:
        return FAR_MS
    first: int = held[0] if cap == 1 else earlier[row, cap - 2]
    again: int = max(free, first + window)
    return again


@step
def _give(held: I64, earlier: I64, row: int, known: bool, now: int, end: int) -> None:
    """Note a giving, and the one before it where these are needed."""
    if known and len(earlier):
        for k in range(earlier.shape[1] - 1, 0, -1):
            earlier[row, k] = earlier[row, k - 1]
        earlier[row, 0] = held[row, 0]
    held[row, 0], held[row, 1] = now, end
    held[row, 2] = held[row, 2] + 1 if known else 1


@compiled
def give_and_end(
    rule: I64,
    truth: Bools,
    rise: I64,
    rows: I64,
    now_ms: I64,
    before_ms: I64,
    bit: int,
    had: NDArray[np.uint16],
    held: I64,
    earlier: I64,
    stand: I64,
    groups: I64,
    due_ms: I64,
    tally: I64,
) -> None:
    """One offer for all rows; offers come in order of priority."""
    lasts, group, most = rule[0], rule[4], rule[5]
    for i in range(len(rows)):
        row, now = rows[i], now_ms[i]
        end = free = NEVER_MS
        known = had[row] & bit != 0
        if known:
            end, free = held[row, 1], free_ms(rule, held[row], earlier, row)
        stood, stands = end > before_ms[i], end > now
        kept = stands or (truth[i] and free <= now)
        kept = kept and stand[i] < most and groups[i] & group == 0
        if kept:
            if not stands:
                _give(held, earlier, row, known, now, now + lasts)
                had[row] |= bit
                tally[0] += 1
            stand[i] += 1
            groups[i] |= group
            due_ms[i] = min(due_ms[i], held[row, 1])
        elif stands:
            held[row, 1] = now
        else:
            again = free
            if not truth[i]:
                again = max(rise[i], free, now + 1) if len(rise) else FAR_MS
            if again > now:  # else others hold it back, and their ends are due
                due_ms[i] = min(due_ms[i], again)
        tally[1] += int(kept) - int(stood)
