"""The lane's clock: how far event time has certainly come, for users who are silent.

Each partition's watermark is its highest event time less the allowed lateness; the lane's is the
lowest over the partitions that still have input; until every partition of the log was heard of,
time stands still. Once all of them are read to the end, time goes
on by the wall clock, which the caller reads and hands in; a replay hands in none, and its clock
follows the events alone. The clock never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable

from events.batch import Span
from state.times import NEVER_MS


class Clock:
    """Event time of one lane.

    Args:
        lateness_ms: how much later than the newest event another may still come.
        wall_delay_ms: how far the clock stays behind the wall once input has caught up, so that
            an event on its way still comes before the timers of its own time.

    >>> clock = Clock(lateness_ms=5_000)
    >>> clock.observe([Span(0, 0, 9, max_ts_ms=100_000), Span(1, 0, 4, max_ts_ms=80_000)])
    75000
    >>> clock.observe([Span(1, 4, 4, at_end=True)])
    95000
    >>> clock.observe([Span(0, 9, 9, at_end=True)], wall_ms=200_000)
    199500
    """

    def __init__(self, lateness_ms: int, wall_delay_ms: int = 500) -> None:
        self.now_ms = NEVER_MS
        self.newest_ms = NEVER_MS
        self._lateness_ms = lateness_ms
        self._wall_delay_ms = wall_delay_ms
        self._newest: dict[int, int] = {}
        self._at_end: dict[int, bool] = {}
        self._partitions = 0

    def restore(self, now_ms: int) -> None:
        """Take over a committed clock; the latest of several counts."""
        self.now_ms = max(self.now_ms, now_ms)

    def observe(
        self, spans: Iterable[Span], wall_ms: int | None = None, partitions: int = 0
    ) -> int:
        """Move on with what was read and, when input has caught up, with the wall; gives now.

        Args:
            spans: what was read.
            wall_ms: the wall clock; None in a replay.
            partitions: how many the log has, as far as whoever read this knows.
        """
        self._partitions = max(self._partitions, partitions)
        for span in spans:
            seen = max(self._newest.get(span.partition, NEVER_MS), span.max_ts_ms)
            self._newest[span.partition] = seen
            self._at_end[span.partition] = span.at_end
            self.newest_ms = max(self.newest_ms, seen)
        if len(self._at_end) < self._partitions:
            return self.now_ms
        live = [self._newest[p] for p, ended in self._at_end.items() if not ended]
        if live:
            self._raise_to(min(live) - self._lateness_ms)
        elif wall_ms is not None:
            self._raise_to(wall_ms - self._wall_delay_ms)
        elif self._newest:
            self._raise_to(self.newest_ms - self._lateness_ms)
        return self.now_ms

    def _raise_to(self, ms: int) -> None:
        self.now_ms = max(self.now_ms, ms)
