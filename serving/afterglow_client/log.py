"""Reading two topics side by side, from places of our own, without a consumer group.

Which offset comes next is kept here and moves only when a record was taken, so that it can be saved
together with what was made of the records. A place that a topic does not hold any more is left for
where the topic begins now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from afterglow_client.errors import AfterglowError, Forbidden, Unavailable
from afterglow_client.places import ends_of

_AT_ONCE: Final = 1_000
_LOOK_S: Final = 30.0
"""How often it is asked whether topics have more partitions."""

_LOOK_SOON_S: Final = 1.0
"""The same while there is no topic of memberships, which may appear with the first change."""

_LOOKS: Final = 10
"""After so many of those, with changes coming, there is something wrong."""

_REFUSED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_GONE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}

Place = tuple[str, int]
"""A topic and a partition."""


class Log:
    """The changes and the memberships, as they stand on the broker.

    Args:
        config: of a Kafka client.
        changes, memberships: names of the topics.
        answer_s: how long the broker may take for an answer.
        open_consumer: makes the Kafka consumer.

    Attributes:
        positions: the offset that comes next, by topic and partition.

    Raises (every method):
        Unavailable, Forbidden: the broker does not do what is needed.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        changes: str,
        memberships: str,
        answer_s: float,
        open_consumer: Callable[[dict[str, Any]], Any] = Consumer,
    ) -> None:
        self.changes, self.memberships, self._answer_s = changes, memberships, answer_s
        self.positions: dict[Place, int] = {}
        self._ends: dict[int, int] = {}
        self._newest_ms: dict[int, int] = {}
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

    # -- places -------------------------------------------------------------------------------

    def begin(self, topic: str, *, at_end: bool = False) -> bool:
        """Begin partitions of a topic that have no position yet at their beginning or end.

        Returns:
            Whether partitions are gone, so that it is another topic, and all of it is begun.
        """
        try:
            found = self._partitions(topic)
            held = [p for name, p in self.positions if name == topic]
            is_another = bool(found) and not set(held) <= set(found)
            for p in held if is_another else ():
                del self.positions[topic, p]
            for p in found:
                if (topic, p) not in self.positions:
                    self.positions[topic, p] = self._range(topic, p)[int(at_end)]
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error
        return is_another

    def begin_both(self, *, changes_at_end: bool = False) -> bool:
        """As ``begin``, changes first; where either is another topic, memberships are read anew."""
        is_another = self.begin(self.changes, at_end=changes_at_end)
        is_another |= self.begin(self.memberships)
        if is_another:
            self.begin_again(self.memberships)
        return is_another

    def begin_again(self, topic: str) -> None:
        """Go back to where a topic begins."""
        try:
            for name, p in self.positions:
                if name == topic:
                    self.positions[name, p] = self._range(name, p)[0]
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error

    def start(self) -> None:
        """Read on from the positions; what was fetched and not taken comes again."""
        self._ends.clear()
        self._newest_ms.clear()
        self._is_paused = False
        self._assign(list(self.positions))

    def take(self, message: Message) -> None:
        """A record was taken: the next one's place is beyond it."""
        place, offset = (message.topic(), message.partition()), message.offset() + 1
        self.positions[place] = max(self.positions[place], offset)

    # -- reading ------------------------------------------------------------------------------

    def read_memberships(self) -> Iterator[Message]:
        """All memberships up to where they end now."""
        unread = [place for place in self.positions if place[0] == self.memberships]
        self._assign(unread)
        left, deadline_s = {p for _, p in unread}, time.monotonic() + self._answer_s
        while left:
            if time.monotonic() > deadline_s:
                raise Unavailable(f"{self.memberships!r} could not be read: the broker is silent")
            for message in self._consume(0.2):
                deadline_s = time.monotonic() + self._answer_s
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    self._check(error)

    def fetch(self, timeout_s: float) -> list[Message]:
        """Records that have come within some time; to be asked when all of them are taken."""
        has_memberships = any(topic == self.memberships for topic, _ in self.positions)
        if time.monotonic() - self._looked_s > (_LOOK_S if has_memberships else _LOOK_SOON_S):
            self._look_for_partitions()
        found: list[Message] = []
        for message in self._consume(timeout_s):
            error = message.error()
            if error is None:
                self._note(message)
                found.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                if message.topic() == self.changes:
                    self._ends[message.partition()] = message.offset()
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._leave(message.topic(), message.partition())
                return []  # what was found comes again
            else:
                self._check(error)
        return found

    def hold_memberships(self, hold: bool) -> None:
        """Fetch no memberships for now, or again."""
        if hold != self._is_paused:
            places = [TopicPartition(*at) for at in self.positions if at[0] == self.memberships]
            (self._consumer.pause if hold else self._consumer.resume)(places)
            self._is_paused = hold

    def is_beyond(self, stamp_ms: int, waited: bool) -> bool:
        """Whether the changes have been fetched beyond a time.

        Args:
            stamp_ms: by the broker's timestamps.
            waited: whether that time has passed here, so that an end that was reached counts.
        """
        return all(
            self._newest_ms.get(p, 0) >= stamp_ms or (waited and p in self._ends)
            for topic, p in self.positions
            if topic == self.changes
        )

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    # -- inside -------------------------------------------------------------------------------

    def _assign(self, places: list[Place]) -> None:
        self._consumer.assign([TopicPartition(t, p, self.positions[t, p]) for t, p in places])

    def _consume(self, timeout_s: float) -> list[Message]:
        try:
            found: list[Message] = self._consumer.consume(_AT_ONCE, timeout_s)
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error
        return found

    def _note(self, message: Message) -> None:
        """How far the changes have come."""
        p, stamp_ms = message.partition(), message.timestamp()[1]
        if message.topic() == self.changes:
            if message.offset() >= self._ends.get(p, 0):
                self._ends.pop(p, None)
            self._newest_ms[p] = max(self._newest_ms.get(p, 0), stamp_ms)

    def _leave(self, topic: str, partition: int) -> None:
        """Our place is not in the log any more; what was lost is found by counts and by audit."""
        try:
            self.positions[topic, partition] = self._range(topic, partition)[0]
        except KafkaException as error:
            raise self._in_words(error.args[0]) from error
        self.begin_again(self.memberships)
        self.start()

    def _look_for_partitions(self) -> None:
        """Read partitions that were added, from their beginnings."""
        self._looked_s = time.monotonic()
        before = set(self.positions)
        if self.begin_both():
            self.start()
            before = set(self.positions)
        for topic, p in self.positions.keys() - before:
            place = TopicPartition(topic, p, self.positions[topic, p])
            self._consumer.incremental_assign([place])
        is_audited = any(topic == self.memberships for topic, _ in self.positions)
        self._unaudited += int(not is_audited and bool(self._newest_ms))
        if self._unaudited > _LOOKS:
            raise Unavailable(
                f"changes come, but there is no topic {self.memberships!r} to hold them against: "
                "check its name (kafka.memberships in the engine's settings)"
            )

    def _partitions(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, timeout=self._answer_s).topics[topic]
        if found.error is None:
            return sorted(found.partitions)
        if topic == self.memberships and found.error.code() in _GONE:
            return []  # nobody was in any segment yet
        raise KafkaException(found.error)

    def _range(self, topic: str, partition: int) -> tuple[int, int]:
        return ends_of(self._consumer, topic, partition, self._answer_s)

    def _check(self, error: KafkaError) -> None:
        """Go on after an error that mends itself."""
        if error.fatal() or error.code() in _REFUSED | _GONE:
            raise self._in_words(error)

    def _in_words(self, error: KafkaError) -> AfterglowError:
        if error.code() in _REFUSED:
            return Forbidden(
                f"the broker refuses: {error.str()}. The user needs to read and describe "
                f"{self.changes!r} and {self.memberships!r}"
            )
        if error.code() in _GONE:
            return Unavailable(
                f"there is no topic {self.changes!r} or {self.memberships!r}: the engine makes "
                "them when it starts; check their names (kafka.changes, kafka.memberships)"
            )
        return Unavailable(
            f"the broker does not answer as it should: {error.str()}. Check bootstrap.servers and "
            "that it runs; the saved state stays good"
        )


def where(message: Message) -> str:
    """Topic, partition and offset of a record."""
    return f"{message.topic()}/{message.partition()}/{message.offset()}"
