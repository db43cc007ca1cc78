"""The times of a file's events, as its reader should see them: a wrong unit shows at once."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

_NO_ONE_BEFORE_MS: Final = 315_532_800_000
"""1980: seconds since 1970 taken for milliseconds lie before it until the year 11969."""


class EventTimes:
    """The oldest and the newest of some times.

    Attributes:
        oldest_ms, newest_ms: epoch milliseconds; None before any.

    >>> times = EventTimes()
    >>> for ts in (1_790_000_000_000, "2026-09-21T16:13:50+02:00", "soon", None):
    ...     times.take(ts)
    >>> str(times)
    'events from 2026-09-21 14:13:20 to 2026-09-21 14:13:50 UTC'
    """

    def __init__(self, oldest_ms: int | None = None, newest_ms: int | None = None) -> None:
        self.oldest_ms, self.newest_ms = oldest_ms, newest_ms

    def take(self, ts: object) -> None:
        """Count a ``ts`` of a message; what is no time is passed over."""
        ts_ms = _ms(ts)
        if ts_ms is None:
            return
        if self.oldest_ms is None or ts_ms < self.oldest_ms:
            self.oldest_ms = ts_ms
        if self.newest_ms is None or ts_ms > self.newest_ms:
            self.newest_ms = ts_ms

    def __str__(self) -> str:
        if self.oldest_ms is None or self.newest_ms is None:
            return "no event times"
        return f"events from {utc(self.oldest_ms)} to {utc(self.newest_ms)} UTC"

    def say(self) -> None:
        """Print the range; on standard error, that seconds seem to have come for milliseconds."""
        if self.newest_ms is None:
            return
        print(self)
        warn_of_seconds("ts", self.newest_ms, "the newest event")


def warn_of_seconds(name: str, ts_ms: int, what: str) -> None:
    """Say on standard error that seconds seem to have come for milliseconds, where they do.

    Args:
        name: what must be milliseconds.
        ts_ms: the newest time of it.
        what: is of that time.
    """
    if ts_ms < _NO_ONE_BEFORE_MS:
        print(
            f"warning: {name} must be epoch milliseconds, but seconds seem to have come: {what} "
            f"is of {utc(ts_ms)}. Multiply {name} by 1000, and begin again",
            file=sys.stderr,
        )


def _ms(ts: object) -> int | None:
    if isinstance(ts, int) and not isinstance(ts, bool):
        return ts
    if isinstance(ts, str):
        try:
            moment = datetime.fromisoformat(ts)
            return None if moment.tzinfo is None else int(moment.timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    return None


def utc(ts_ms: int) -> str:
    """A time as people read it; one beyond the calendar as it is."""
    try:
        return datetime.fromtimestamp(ts_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{ts_ms} ms after 1970"
