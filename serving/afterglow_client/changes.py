"""Following the segment changes without ever being wrong quietly.

Two topics are read side by side. ``segment-changes`` tells what happens, once and in order, as long
as nothing goes wrong on the way. ``memberships`` is compacted: its last record of a user says where
the user stands and how many changes that took. A consumer that begins takes everybody from there.
Later its records are an audit: where one is ahead of the changes that came, and the change topic
has been read beyond that moment, changes were lost (by retention, by a copy of the topic, by a bug
before us), and a correction is told in their place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec
from confluent_kafka import Consumer, Message

from afterglow_client.errors import UNREADABLE, NotAfterglow
from afterglow_client.fold import Counts, Fold
from afterglow_client.log import Log, where
from afterglow_client.news import (
    Change,
    Correction,
    News,
    Standing,
    change_of,
    removed_at,
    standing_of,
    user_of,
)

__all__ = ["Change", "Changes", "Correction", "Counts", "News"]

_FETCH_S: Final = 0.2
_FAR_MS: Final = 1 << 62
_DOUBTS: Final = 100_000
"""Memberships are not read further ahead of the changes than this."""


class _Doubt(msgspec.Struct, array_like=True):
    """A standing that is ahead of the changes; they may yet come.

    Attributes:
        standing: of the user; no segments and n of 0 if the user was removed.
        stamp_ms: of the record, by the broker.
        arrived_s: monotonic; 0 after a resume.
        place: where the user stood, if the user was removed; by the record's headers, or by what
            was told until then.
    """

    standing: Standing
    stamp_ms: int
    arrived_s: float
    place: tuple[int, int] | None = None


class _State(msgspec.Struct, array_like=True):
    fold: bytes
    positions: list[tuple[str, int, int]]
    doubts: list[_Doubt]
    waiting: list[Change | Correction]


class Changes:
    """Follows the changes of all users; for one thread.

    Args:
        config: of a Kafka client; ``bootstrap.servers`` at least.
        state: what ``state()`` gave earlier, to go on from there.
        begin: without a state: ``now`` takes everybody from the memberships, then follows;
            ``beginning`` tells all that the change topic still holds.
        changes, memberships: names of the topics, as ``kafka.changes`` and ``kafka.memberships``
            in the engine's settings.
        patience_s: how long a change may be on its way after the user's membership has come.
        answer_s: how long the broker may be silent at the start.
        open_consumer: makes the Kafka consumer.

    Raises:
        Unavailable: no broker answers, or there is no such topic.
        Forbidden: the broker refuses.
        NotAfterglow: a record or the saved state cannot be read.

    Every piece of news has ``user_id``, ``entered``, ``exited`` and ``segments``::

        with Changes({"bootstrap.servers": "127.0.0.1:9092"}, state=saved) as changes:
            for news in changes:
                handle(news)
                keep(changes.state())
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        state: bytes | None = None,
        *,
        begin: Literal["now", "beginning"] = "now",
        changes: str = "segment-changes",
        memberships: str = "memberships",
        patience_s: float = 2.0,
        answer_s: float = 30.0,
        open_consumer: Callable[[dict[str, Any]], Any] = Consumer,
    ) -> None:
        if begin not in ("now", "beginning"):
            raise ValueError(f"begin must be 'now' or 'beginning', but is {begin!r}")
        self._patience_s = patience_s
        self._fold = Fold()
        self._fetched: deque[Message] = deque()
        self._waiting: deque[News] = deque()
        self._doubts: deque[_Doubt] = deque()
        self._log = Log(config, changes, memberships, answer_s, open_consumer)
        try:
            self._begin(state, is_now=begin == "now" and state is None)
        except BaseException:
            self.close()
            raise

    # -- for the consumer ---------------------------------------------------------------------

    def __iter__(self) -> Iterator[News]:
        """All news, for ever."""
        while True:
            news = self.poll(1.0)
            if news is not None:
                yield news

    def poll(self, timeout_s: float) -> News | None:
        """The next piece of news; None if there is none in time.

        Args:
            timeout_s: how long to wait for one; 0 takes what is there.

        Raises:
            Unavailable, Forbidden: the broker does not do what is needed.
            NotAfterglow: a record is none of the engine's.
        """
        deadline_s, has_fetched = time.monotonic() + timeout_s, False
        while not self._waiting:
            if self._fetched:
                self._take(self._fetched.popleft())
                continue
            self._settle()
            if self._waiting:
                break
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 and has_fetched:
                return None
            self._fetch(min(max(left_s, 0.0), _FETCH_S))
            has_fetched = True
        return self._waiting.popleft()

    def state(self) -> bytes:
        """All that is needed to go on after the news that was given last."""
        positions = [(topic, p, offset) for (topic, p), offset in self._log.positions.items()]
        doubts, waiting = list(self._doubts), list(self._waiting)
        return msgspec.msgpack.encode(_State(self._fold.dump(), positions, doubts, waiting))

    def segments(self, user_id: str) -> tuple[str, ...]:
        """A user's segments by what was read so far."""
        return self._fold.segments(user_id)

    def everyone(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Users who were ever in a segment, and those they are in, by what was read so far."""
        return self._fold.everyone()

    @property
    def counts(self) -> Counts:
        """What came so far."""
        return self._fold.counts

    @property
    def is_settled(self) -> bool:
        """Whether the changes are read to their end, and nothing is in doubt."""
        at_end = self._log.is_beyond(_FAR_MS, waited=True)
        return at_end and not (self._doubts or self._fetched or self._waiting)

    def refill(self) -> None:
        """Read all memberships again; where one is ahead of what was told, a correction follows."""
        self._log.begin_again(self._log.memberships)
        self._fetched.clear()
        self._log.start()

    def close(self) -> None:
        """Leave the broker."""
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------

    def _begin(self, state: bytes | None, is_now: bool) -> None:
        if state is not None:
            self._restore(state)
        # Where the changes end is asked first: what happens while the memberships are read is told.
        self._log.begin_both(changes_at_end=is_now)
        if is_now:
            for message in self._log.read_memberships():
                if message.value() is not None:
                    self._fold.load(standing_of(message.value(), where(message)))
                else:
                    self._fold.unload(_key(message), removed_at(message.headers()))
                self._log.take(message)
        self._log.start()

    def _restore(self, state: bytes) -> None:
        try:
            saved = msgspec.msgpack.decode(state, type=_State)
        except UNREADABLE as error:
            raise NotAfterglow(
                f"the saved state of a consumer cannot be read ({error}): begin without it, and "
                "everybody's segments are taken from the memberships topic"
            ) from error
        self._fold = Fold.restored(saved.fold)
        positions = {(topic, p): offset for topic, p, offset in saved.positions}
        wanted = {self._log.changes, self._log.memberships}
        if other := {topic for topic, _ in positions} - wanted:
            raise NotAfterglow(
                f"the saved state belongs to the topics {sorted(other)}, but asked for are "
                f"{sorted(wanted)}: give the same names, or begin without the state"
            )
        self._log.positions = positions
        for doubt in saved.doubts:
            doubt.arrived_s = time.monotonic()
        self._doubts, self._waiting = deque(saved.doubts), deque(saved.waiting)

    def _fetch(self, timeout_s: float) -> None:
        self._log.hold_memberships(len(self._doubts) > _DOUBTS)
        self._fetched.extend(self._log.fetch(timeout_s))

    def _take(self, message: Message) -> None:
        if message.topic() == self._log.changes:
            change = change_of(message.value() or b"", where(message))
            self._waiting.extend(self._fold.change(change))
        else:
            self._audit(message)
        self._log.take(message)

    def _audit(self, message: Message) -> None:
        """Doubt what was told, if a membership is ahead of it."""
        stamp_ms, now_s = message.timestamp()[1], time.monotonic()
        if message.value() is None:
            user_id = _key(message)
            place = removed_at(message.headers()) or self._fold.place(user_id)
            self._doubts.append(_Doubt(Standing(user_id, 0, 0, []), stamp_ms, now_s, place))
            return
        standing = standing_of(message.value(), where(message))
        if self._fold.is_ahead(standing):
            self._doubts.append(_Doubt(standing, stamp_ms, now_s))

    def _settle(self) -> None:
        """Tell corrections where changes should have come by now."""
        while self._doubts and not self._waiting:
            doubt = self._doubts[0]
            if doubt.place is None and not self._fold.is_ahead(doubt.standing):
                self._doubts.popleft()
                continue
            if not self._is_past(doubt):
                return
            self._doubts.popleft()
            if doubt.place is None:
                self._waiting.extend(self._fold.settle(doubt.standing))
            else:
                self._waiting.extend(self._fold.forget(doubt.standing.user_id, doubt.place))

    def _is_past(self, doubt: _Doubt) -> bool:
        """Whether the changes have been read beyond the moment of a membership."""
        waited = time.monotonic() - doubt.arrived_s >= self._patience_s
        return self._log.is_beyond(doubt.stamp_ms + int(self._patience_s * 1000), waited)


def _key(message: Message) -> str:
    """Whose a record of memberships is."""
    return user_of(message.key() or b"", where(message))
