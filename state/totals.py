"""What the arms of an experiment came to: exact integers, per shard, added up by whoever reads.

Totals are absolute and stored with the commit of their shard, so they hold each event once however
often the engine was killed. The square of a user's revenue does not fit into 64 bits together with
those of many others; it is kept as three sums over its upper and lower half.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
Totals = I64
"""By arm, then by place: int64[arms, PLACES]."""

USERS, IMPRESSIONS, CLICKS, CLICKS_SQUARED, CONVERSIONS, REVENUE, HIGH, MIXED, LOW = range(9)
PLACES: Final = 9
HALF_BITS: Final = 20
"""Of a revenue that are its lower half."""


@dataclass(slots=True, frozen=True)
class ArmTotals:
    """What one arm came to; revenue in minor units.

    Attributes:
        users: that were exposed.
        impressions, clicks: of them within the window of their first exposure.
        clicks_squared: the sum of the squares of each one's clicks.
        conversions: users who converted within it.
        revenue: what they spent within it.
        revenue_squared: the sum of the squares of what each one spent.
    """

    users: int = 0
    impressions: int = 0
    clicks: int = 0
    clicks_squared: int = 0
    conversions: int = 0
    revenue: int = 0
    revenue_squared: int = 0


def arm_totals(totals: Totals) -> list[ArmTotals]:
    """The totals of each arm by name.

    >>> row = np.zeros((1, PLACES), dtype=np.int64)
    >>> row[0, [USERS, HIGH, MIXED, LOW]] = 1, 9, 6, 4   # one user, who spent 3 * 2**20 + 2
    >>> arm_totals(row)[0].revenue_squared == (3 * 2**20 + 2) ** 2
    True
    """
    out = []
    for row in totals.tolist():
        high, mixed, low = row[HIGH], row[MIXED], row[LOW]
        squares = (high << 2 * HALF_BITS) + (mixed << HALF_BITS + 1) + low
        out.append(ArmTotals(*[*row[:HIGH], squares]))
    return out


def encode_totals(totals: Totals) -> bytes:
    """As they stand in a commit record."""
    return totals.astype("<i8").tobytes()


def sum_totals(stored: Iterable[bytes | None], arms: int) -> Totals:
    """The totals of all shards; a shard without any adds nothing.

    >>> one = encode_totals(np.ones((2, PLACES), dtype=np.int64))
    >>> sum_totals([one, None, one], 2)[:, USERS].tolist()
    [2, 2]
    """
    out = np.zeros((arms, PLACES), dtype=np.int64)
    for raw in stored:
        if raw is not None and len(raw) == out.nbytes:
            out += np.frombuffer(raw, dtype="<i8").reshape(out.shape)
    return out
