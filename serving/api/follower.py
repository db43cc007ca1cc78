"""One client that follows the changes: what waits for it, and when it is cut off."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Record:
    """A change as it goes out.

    Attributes:
        partition, offset: where it stands in the topic.
        user_id, segment: of whom, and which; to choose by.
        frame: the server-sent event, shared by all who get it.
    """

    partition: int
    offset: int
    user_id: str
    segment: str
    frame: bytes


Wanted = Callable[[Record], bool]


class Follower:
    """A bounded queue between the feed and one connection.

    Args:
        most: records that may wait when more come; with more than these it is too slow.
        wanted: which records it asked for.
        backlog: what it gets first; this may be longer.
    """

    def __init__(self, most: int, wanted: Wanted, backlog: Iterable[Record] = ()) -> None:
        self._most, self._wanted = most, wanted
        self._waiting: deque[bytes] = deque(r.frame for r in backlog if wanted(r))
        self._owed = len(self._waiting)
        self._woken = asyncio.Event()
        self.reason = ""

    def offer(self, records: Iterable[Record]) -> None:
        """Hand it records; if too many wait from before, cut it off, and drop what waits.

        However many come at once, it has the time until the next ones to take them.
        """
        if len(self._waiting) > self._most + self._owed:
            self.end("slow")
        if self.reason:
            return
        self._waiting.extend(r.frame for r in records if self._wanted(r))
        if self._waiting:
            self._woken.set()

    def tell(self, frame: bytes) -> None:
        """Hand it what everybody gets, whatever was asked for."""
        if not self.reason:
            self._waiting.append(frame)
            self._woken.set()

    def end(self, reason: str) -> None:
        """Cut it off: ``slow``, or ``closing`` with the server."""
        self.reason = self.reason or reason
        if reason == "slow":
            self._waiting.clear()
        self._woken.set()

    async def take(self, wait_s: float) -> bytes:
        """What waits, in one piece; nothing if nothing came for so long, or it was cut off."""
        if not self._waiting and not self.reason:
            self._woken.clear()
            with suppress(TimeoutError):  # and yet something may have come in that moment
                await asyncio.wait_for(self._woken.wait(), wait_s)
        taken = b"".join(self._waiting)
        self._waiting.clear()
        self._owed = 0
        return taken
