"""The pasts of buyers as BG/NBD looks at them, from counters that the engine keeps anyway.

Orders, the first and the last of them, in weeks: ``models.alive`` learns from these who is still a
customer. Fader, Hardie and Lee: "RFM and CLV: using iso-value curves for customer base analysis",
Journal of Marketing Research 42(4), 2005.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from state.times import DAY_MS, NEVER_MS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WEEK_MS: Final = 7 * DAY_MS


class Past(NamedTuple):
    """What BG/NBD looks at, float64[n] each.

    Attributes:
        x: repeat purchases.
        t_x: weeks from the first purchase to the last.
        T: weeks from the first purchase to now.
    """

    x: F64
    t_x: F64
    T: F64


def from_orders(
    orders: NDArray[Any], first_order_ms: I64, last_order_ms: I64, now_ms: I64 | int
) -> Past:
    """The inputs of BG/NBD in weeks, from the engine's columns.

    Odd inputs are put right: a last order before the first counts as the first, and an order after
    ``now_ms`` moves now to itself. A user without orders is no customer yet: they come out as one
    who bought once, endlessly long ago, so that next to nothing is expected of them; leave them out
    of fits (``orders > 0``).

    Args:
        orders: how many each user has made, [n]; the first is not a repeat.
        first_order_ms: when they made the first, int64[n].
        last_order_ms: when they made the last, int64[n].
        now_ms: time of evaluation, int64[n] or one for all.

    >>> week = WEEK_MS
    >>> past = from_orders(np.array([3, 1]), np.array([0, week]), np.array([week, week]), 3 * week)
    >>> [column.tolist() for column in past]
    [[2.0, 0.0], [1.0, 0.0], [3.0, 2.0]]
    """
    x = np.maximum(np.asarray(orders, dtype=np.float64) - 1.0, 0.0)
    first = np.where(np.asarray(orders) > 0, np.maximum(first_order_ms, NEVER_MS), NEVER_MS)
    last = np.where(x > 0.0, np.maximum(last_order_ms, first), first)
    now = np.maximum(now_ms, last)
    # as whole milliseconds first, which are exact
    return Past(x, (last - first) / WEEK_MS, (now - first) / WEEK_MS)
