"""Time zones by name, as the table of offsets that the layers below take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from dataflows.settings import SettingsError
from state.local_time import Zone
from state.times import NEVER_MS

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(2101, 1, 1, tzinfo=UTC)
_STEP: Final = timedelta(days=7)
"""No zone changes its offset twice in a week."""


def zone(name: str) -> Zone:
    """A time zone from 1970 to 2100; before and after it as at the ends.

    Raises:
        SettingsError: there is none of that name.

    >>> zone("UTC").offsets.shape
    (2, 1)
    >>> berlin = zone("Europe/Berlin")
    >>> summer = np.array([1_790_000_000_000])  # September 2026
    >>> int(berlin.local_ms(summer)[0] - summer[0]) // 3_600_000
    2
    """
    try:
        found = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SettingsError(
            f"context.timezone: must be a name such as Europe/Berlin, but {name!r} came"
        ) from error
    rows = [(NEVER_MS, _offset_ms(found, _FIRST))]
    at = _FIRST
    while at < _LAST:
        then = at + _STEP
        if _offset_ms(found, then) != rows[-1][1]:
            changed = _change(found, at, then)
            rows.append((int(changed.timestamp()) * 1000, _offset_ms(found, changed)))
        at = then
    return Zone(np.array(rows, dtype=np.int64).T.copy())


def _change(found: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The second from which on the offset is another."""
    was = _offset_ms(found, before)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(found, datetime.fromtimestamp(middle, UTC)) == was:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def _offset_ms(found: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(found).utcoffset() or timedelta()
    return int(offset.total_seconds() * 1000)
