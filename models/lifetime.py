"""The value of the coming time: purchases still to come, times what each will be worth.

Two models stand behind it. ``models.alive`` knows who is still a customer and how often they will
buy, ``models.spend`` what they will pay; as the two are independent, the value is their product.
Both need only counters that the engine keeps anyway: orders, the first and the last of them, spend.

Fader, Hardie and Lee: "RFM and CLV: using iso-value curves for customer base analysis", Journal of
Marketing Research 42(4), 2005. There is no discounting here: over a year or less it is small beside
what the models do not know.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.alive import BgNbd
from models.spend import GammaGamma
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


def lifetime_value(
    alive: BgNbd, spend: GammaGamma, past: Past, m: F64, t: float, averaged: F64 | None = None
) -> F64:
    """What each user will spend in the next ``t``, on the mean, float64[n], in the unit of ``m``.

    Args:
        alive: the fitted model of purchases.
        spend: the fitted model of what one is worth.
        past: of the users, in the unit of time that ``alive`` was fitted in.
        m: mean spend per purchase, float64[n].
        t: the horizon, in that unit of time.
        averaged: how many purchases ``m`` is the mean over, float64[n]; None for ``past.x``, which
            is right where ``m`` leaves out the first purchase.

    Raises:
        ValueError: as for ``BgNbd.expected_purchases`` and ``GammaGamma.expected_spend``.

    >>> alive = BgNbd(r=0.2426, alpha=4.4136, a=0.7929, b=2.4259)
    >>> spend = GammaGamma(p=6.25, q=3.74, gamma=15.44)
    >>> past = Past(np.array([2.0]), np.array([30.43]), np.array([38.86]))
    >>> lifetime_value(alive, spend, past, np.array([22.35]), 39.0).round(2).tolist()
    [30.24]
    """
    worth = spend.expected_spend(past.x if averaged is None else averaged, m)
    return alive.expected_purchases(*past, t) * worth
