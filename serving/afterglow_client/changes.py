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
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from afterglow_client.errors import Forbidden, NotAfterglow, Unavailable
from afterglow_client.fold import Counts, Fold
from afterglow_client.news import Change, Correction, News, Standing, change_of, standing_of

__all__ = ["Change", "Changes", "Correction", "Counts", "News"]

_AT_ONCE: Final = 1_000
_LOOK_S: Final = 30.0
"""How often it is asked whether topics have more partitions."""

_LOOK_SOON_S: Final = 1.0
"""The same while there is no topic of memberships, which may appear with the first change."""
_LOOKS: Final = 10
"""After so many of those, with changes coming, there is something wrong."""

_DOUBTS: Final = 100_000
"""Memberships are not read further ahead of the changes than this."""

_REFUSED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_GONE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}

Place = tuple[str, int]
"""A topic and a partition."""


class _Doubt(msgspec.Struct, array_like=True):
    """A standing that is ahead of the changes; they may yet come.

    Attributes:
        standing: of the user; no segments and n of 0 if the user was removed.
        stamp_ms: of the record, by the broker.
        arrived_s: monotonic; 0 after a resume.
        place: where the user stood, if the user was removed.
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
        self._changes, self._memberships = changes, memberships
        self._patience_s, self._answer_s = patience_s, answer_s
        self._fold = Fold()
        self._positions: dict[Place, int] = {}
        self._ends: dict[int, int] = {}
        self._newest_ms: dict[int, int] = {}
        self._fetched: deque[Message] = deque()
        self._waiting: deque[News] = deque()
        self._doubts: deque[_Doubt] = deque()
        self._is_paused = False
        self._looked_s, self._unaudited = time.monotonic(), 0
        self._consumer = open_consumer(
            {
                "group.id": "afterglow-client",
                "fetch.wait.max.ms": 50,
                **config,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
            }
        )
        try:
            self._begin(state, begin)
        except KafkaException as error:
            self.close()
            raise self._in_words(error.args[0]) from error
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
        """The next piece of news; None if there is none in time."""
        deadline_s = time.monotonic() + timeout_s
        while not self._waiting:
            if self._fetched:
                self._take(self._fetched.popleft())
                continue
            self._settle()
            if self._waiting:
                break
            left_s = deadline_s - time.monotonic()
            if left_s < 0:
                return None
            self._fetch(min(left_s, 0.2))
        return self._waiting.popleft()

    def state(self) -> bytes:
        """All that is needed to go on after the news that was given last."""
        positions = [(topic, p, offset) for (topic, p), offset in self._positions.items()]
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
        read = {p for topic, p in self._positions if topic == self._changes}
        return self._ends.keys() >= read and not (self._doubts or self._fetched or self._waiting)

    def refill(self) -> None:
        """Read all memberships again; where one is ahead of what was told, a correction follows."""
        try:
            self._go_to_the_beginning_of(self._memberships)
            self._start()
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()

    # -- beginning ----------------------------------------------------------------------------

    def _begin(self, state: bytes | None, begin: str) -> None:
        if state is not None:
            self._restore(state)
        known = state is not None
        for topic in (self._changes, self._memberships):
            at_end = topic == self._changes and begin == "now" and not known
            for p in self._partitions(topic):
                if (topic, p) not in self._positions:
                    self._positions[topic, p] = self._range(topic, p)[int(at_end)]
        if begin == "now" and not known:
            self._read_everybody()
        self._start()

    def _restore(self, state: bytes) -> None:
        try:
            saved = msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise NotAfterglow(
                f"the saved state of a consumer cannot be read ({error}): begin without it, and "
                "everybody's segments are taken from the memberships topic"
            ) from error
        self._fold = Fold.restored(saved.fold)
        self._positions = {(topic, p): offset for topic, p, offset in saved.positions}
        wanted = {self._changes, self._memberships}
        if other := {topic for topic, _ in self._positions} - wanted:
            raise NotAfterglow(
                f"the saved state belongs to the topics {sorted(other)}, but asked for are "
                f"{sorted(wanted)}: give the same names, or begin without the state"
            )
        for doubt in saved.doubts:
            doubt.arrived_s = time.monotonic()
        self._doubts, self._waiting = deque(saved.doubts), deque(saved.waiting)

    def _read_everybody(self) -> None:
        """Take everybody's standing, up to where the memberships end now.

        Where the changes end was asked before, so what happens in between is told.
        """
        unread = [place for place in self._positions if place[0] == self._memberships]
        self._assign(unread)
        left, deadline_s = {p for _, p in unread}, time.monotonic() + self._answer_s
        while left:
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{self._memberships!r} could not be read: the broker is silent")
            for message in self._consumer.consume(_AT_ONCE, 0.2):
                deadline_s = time.monotonic() + self._answer_s
                error, p = message.error(), message.partition()
                if error is None:
                    if message.value() is not None:
                        self._fold.load(standing_of(message.value(), _where(message)))
                    self._note_position(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(p)
                else:
                    self._endure(message)

    def _assign(self, places: list[Place]) -> None:
        self._consumer.assign([TopicPartition(t, p, self._positions[t, p]) for t, p in places])

    def _partitions(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, timeout=self._answer_s).topics[topic]
        if found.error is None:
            return sorted(found.partitions)
        if topic == self._memberships and found.error.code() in _GONE:
            return []  # nobody was in any segment yet
        raise KafkaException(found.error)

    def _range(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=self._answer_s
        )
        return int(low), int(high)

    # -- reading ------------------------------------------------------------------------------

    def _fetch(self, timeout_s: float) -> None:
        try:
            is_audited = any(topic == self._memberships for topic, _ in self._positions)
            if time.monotonic() - self._looked_s > (_LOOK_S if is_audited else _LOOK_SOON_S):
                self._look_for_partitions()
            self._limit_doubts()
            self._fetched.extend(self._consumer.consume(_AT_ONCE, timeout_s))
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error

    def _look_for_partitions(self) -> None:
        """Read partitions that were added, from their beginnings."""
        self._looked_s = time.monotonic()
        for topic in (self._changes, self._memberships):
            found = self._partitions(topic)
            self._unaudited += int(not found and bool(self._newest_ms))
            if self._unaudited > _LOOKS:
                raise Unavailable(
                    f"changes come, but there is no topic {self._memberships!r} to hold them "
                    "against: check its name (kafka.memberships in the engine's settings)"
                )
            for p in found:
                if (topic, p) not in self._positions:
                    self._positions[topic, p] = self._range(topic, p)[0]
                    place = TopicPartition(topic, p, self._positions[topic, p])
                    self._consumer.incremental_assign([place])

    def _limit_doubts(self) -> None:
        is_full = len(self._doubts) > _DOUBTS
        if is_full != self._is_paused:
            places = [TopicPartition(*at) for at in self._positions if at[0] == self._memberships]
            (self._consumer.pause if is_full else self._consumer.resume)(places)
            self._is_paused = is_full

    def _take(self, message: Message) -> None:
        is_change = message.topic() == self._changes
        if message.error() is not None:
            if message.error().code() == KafkaError._PARTITION_EOF:
                if is_change:
                    self._ends[message.partition()] = message.offset()
                return
            self._endure(message)
            return
        if is_change:
            p = message.partition()
            if message.offset() >= self._ends.get(p, 0):
                self._ends.pop(p, None)
            self._newest_ms[p] = max(self._newest_ms.get(p, 0), message.timestamp()[1])
            self._waiting.extend(self._fold.change(change_of(message.value(), _where(message))))
        else:
            self._audit(message)
        self._note_position(message)

    def _audit(self, message: Message) -> None:
        """Doubt what was told, if a membership is ahead of it."""
        stamp_ms, now_s = message.timestamp()[1], time.monotonic()
        if message.value() is None:
            user_id = (message.key() or b"").decode()
            place = self._fold.place(user_id)
            self._doubts.append(_Doubt(Standing(user_id, 0, 0, []), stamp_ms, now_s, place))
            return
        standing = standing_of(message.value(), _where(message))
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
        late_ms = doubt.stamp_ms + int(self._patience_s * 1000)
        return all(
            self._newest_ms.get(p, 0) >= late_ms or (waited and p in self._ends)
            for topic, p in self._positions
            if topic == self._changes
        )

    def _note_position(self, message: Message) -> None:
        place, offset = (message.topic(), message.partition()), message.offset() + 1
        self._positions[place] = max(self._positions[place], offset)

    def _endure(self, message: Message) -> None:
        """Go on after an error if that is possible."""
        error = message.error()
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._go_on_where_the_log_begins(message.topic(), message.partition())
        elif error.fatal() or error.code() in _REFUSED | _GONE:
            raise self._in_words(error)

    def _go_on_where_the_log_begins(self, topic: str, partition: int) -> None:
        """Our place is not in the log any more; what was lost is found by counts and by audit."""
        self._positions[topic, partition] = self._range(topic, partition)[0]
        self._go_to_the_beginning_of(self._memberships)
        self._start()

    def _go_to_the_beginning_of(self, topic: str) -> None:
        for name, p in self._positions:
            if name == topic:
                self._positions[name, p] = self._range(name, p)[0]

    def _start(self) -> None:
        """Read on from our places; what was fetched and not taken comes again."""
        self._fetched.clear()
        self._ends.clear()
        self._is_paused = False
        self._assign(list(self._positions))

    def _in_words(self, error: KafkaError) -> Exception:
        if error.code() in _REFUSED:
            return Forbidden(
                f"the broker refuses: {error.str()}. The user needs to read and describe "
                f"{self._changes!r} and {self._memberships!r}, and the group of 'group.id'"
            )
        if error.code() in _GONE:
            return Unavailable(
                f"there is no topic {self._changes!r} or {self._memberships!r}: the engine makes "
                "them when it starts; check their names (kafka.changes, kafka.memberships)"
            )
        return Unavailable(
            f"the broker does not answer as it should: {error.str()}. Check bootstrap.servers and "
            "that it runs; the saved state stays good"
        )


def _where(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"
