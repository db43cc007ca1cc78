"""Times are epoch milliseconds UTC in int64; these are their landmarks and units.

``NEVER_MS`` stands for "has not happened" and ``FAR_MS`` for "nothing ahead". Both are far enough
from the ends of int64 that adding or subtracting any real duration cannot overflow.
"""

from __future__ import annotations

from typing import Final

NEVER_MS: Final = -(2**62)
FAR_MS: Final = 2**62

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
