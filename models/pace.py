"""The pace of learning by example, in event time: enough to follow what changes, and no more.

What an example teaches a busy shop the last hundred have taught already, and to make one costs as
much as a list of items. To make a few costs hardly less than to make many, so where the pace is
reached there are none until some have been saved up.
"""

from __future__ import annotations

from typing import Final

from state.times import NEVER_MS, SECOND_MS

_WORTH_IT: Final = 32
"""Examples saved up, from none, for which it is worth beginning again."""


class Pace:
    """How many examples may be made.

    Args:
        per_s: in a second of event time.
        most: that may be saved up; at the beginning they are there.

    >>> pace = Pace(per_s=100, most=64)
    >>> pace.take(50, now_ms=0), pace.take(50, now_ms=0)
    (50, 14)
    >>> pace.take(50, now_ms=300), pace.take(9, now_ms=400), pace.take(50, now_ms=400)
    (0, 9, 31)
    """

    def __init__(self, per_s: float, most: int) -> None:
        self._per_ms, self._most = per_s / SECOND_MS, most
        self._saved, self._newest_ms = float(most), NEVER_MS
        self._spent = False

    def take(self, wanted: int, now_ms: int) -> int:
        """How many of so many examples may be made at a time; they count as made."""
        if self._newest_ms != NEVER_MS:
            passed_ms = max(now_ms - self._newest_ms, 0)
            self._saved = min(self._saved + passed_ms * self._per_ms, self._most)
        self._newest_ms = max(self._newest_ms, now_ms)
        self._spent &= self._saved < _WORTH_IT
        made = 0 if self._spent else min(wanted, int(self._saved))
        self._saved -= made
        self._spent |= self._saved < 1
        return made
