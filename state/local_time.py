"""Hour, weekday and part of day of a user's last event, in the shop's own time zone.

A time zone is a table of offsets: which one holds from which time on. Whoever makes the plan looks
it up, so nothing here knows calendars, and a replay of old events uses the summer times of then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.features import Feature, RowView
from state.times import DAY_MS, HOUR_MS, NEVER_MS
from state.view import Kind

I64 = NDArray[np.int64]

PARTS: Final = ("night", "morning", "afternoon", "evening")
"""Of six hours each, from midnight on."""

_MONDAY: Final = 3
"""1970-01-01 was a Thursday, three days after a Monday."""


def _utc() -> I64:
    return np.array([[NEVER_MS], [0]], dtype=np.int64)


@dataclass(slots=True, frozen=True, eq=False)
class Zone:
    """A time zone.

    Attributes:
        offsets: int64[2, n]: times in epoch milliseconds, ascending, and what is to be added to
            UTC from each on, in milliseconds.

    >>> zone = Zone(np.array([[NEVER_MS, 5 * HOUR_MS], [0, HOUR_MS]]))
    >>> zone.local_ms(np.array([4 * HOUR_MS, 5 * HOUR_MS])).tolist() == [4 * HOUR_MS, 6 * HOUR_MS]
    True
    """

    offsets: I64 = field(default_factory=_utc)

    def local_ms(self, ts_ms: I64) -> I64:
        """What clocks there show, as if it were UTC, int64[n]."""
        since, offset = self.offsets
        place = np.searchsorted(since, ts_ms, side="right") - 1 if len(since) > 1 else 0
        local: I64 = ts_ms + offset[place]
        return local


def context_features(zone: Zone) -> dict[str, Feature]:
    """``context.hour`` (0 to 23), ``context.weekday`` (Monday is 1), ``context.part_of_day``."""

    def local(view: RowView) -> I64:
        return view.once("local time", lambda v: zone.local_ms(v.value("last_seen")))

    def hour(view: RowView) -> I64:
        return local(view) % DAY_MS // HOUR_MS

    def weekday(view: RowView) -> I64:
        return (local(view) // DAY_MS + _MONDAY) % 7 + 1

    return {
        "context.hour": Feature(Kind.NUMBER, hour),
        "context.weekday": Feature(Kind.NUMBER, weekday),
        "context.part_of_day": Feature(
            Kind.TEXT,
            lambda view: hour(view) * len(PARTS) // 24,
            code=lambda text: PARTS.index(text) if text in PARTS else -2,
            text=PARTS.__getitem__,
        ),
    }
