"""Reading a compacted topic from end to end: the last value of every key.

Only what was committed is read. While a transaction is open, what it writes is neither there nor
not there. Reading can wait for it to be decided (by its producer's end, or by the start of the next
producer under the same name), or pass by what is still open after a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from operators.broker_errors import RIGHTS, is_forbidden, will_pass

_POLL_S: Final = 0.5
_AT_ONCE: Final = 5_000
_UNKNOWN: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}


_BESIDE: Final = {KafkaError.GROUP_AUTHORIZATION_FAILED}
"""The group is a name that the client must be given: nothing joins it."""


class TopicUnread(Exception):
    """A topic could not be read to its end."""


def latest(
    config: Mapping[str, Any],
    topic: str,
    timeout_s: float = 60.0,
    wanted: Callable[[bytes], bool] = lambda _: True,
    grace_s: float | None = None,
) -> dict[bytes, bytes]:
    """The last committed value of every key; nothing of a topic that does not exist yet.

    Args:
        config: of a Kafka client; ``bootstrap.servers`` at least.
        topic: its name.
        timeout_s: how long it may take.
        wanted: which keys to keep.
        grace_s: how long to wait for open transactions; None for as long as all may take.

    Raises:
        TopicUnread: the broker does not answer, or a transaction is left open for too long.
    """
    deadline_s = time.monotonic() + timeout_s
    try:
        return _Reader(config, topic, deadline_s, grace_s).read(wanted)
    except KafkaException as error:
        raise unread(topic, error) from error


def unread(topic: str, error: KafkaException) -> TopicUnread:
    """What to raise when a topic cannot be read."""
    advice = f". {RIGHTS}" if is_forbidden(error.args[0]) else ""
    return TopicUnread(f"{topic!r} could not be read: {error.args[0].str()}{advice}")


class _Newest:
    """Which record of a key is the last: in a partition the one behind, else the one of later time.

    Keys stand in several partitions where a topic was given more of them.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[int, int]] = {}

    def replaces(self, key: bytes, partition: int, at_ms: int) -> bool:
        """Whether a record takes the place of what was read of its key before."""
        former = self._held.get(key)
        if former is not None and former[0] != partition and former[1] > at_ms:
            return False
        self._held[key] = (partition, at_ms)
        return True


class _Reader:
    def __init__(
        self, config: Mapping[str, Any], topic: str, deadline_s: float, grace_s: float | None
    ) -> None:
        self._config, self._topic, self._deadline_s = config, topic, deadline_s
        self._grace_s = grace_s

    def read(self, wanted: Callable[[bytes], bool]) -> dict[bytes, bytes]:
        with closing(self._consumer("read_uncommitted")) as all_of_it:
            ends = self._ends(all_of_it)
            if not ends:
                return {}
            held: dict[bytes, bytes] = {}
            with closing(self._consumer("read_committed")) as consumer:
                consumer.assign([TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in ends])
                self._fill(consumer, ends, held, wanted)
            return held

    def _consumer(self, isolation: str) -> Consumer:
        return Consumer(
            {
                "fetch.wait.max.ms": 10,
                "session.timeout.ms": 6_000,
                **self._config,
                "group.id": "afterglow-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
            }
        )

    def _ends(self, consumer: Consumer) -> dict[int, int]:
        """Where each partition ends, open transactions included; asked again while leaders move."""
        while True:
            try:
                return self._look(consumer)
            except KafkaException as error:
                if not will_pass(error):
                    raise
                time.sleep(min(_POLL_S, self._left_s()))

    def _look(self, consumer: Consumer) -> dict[int, int]:
        found = consumer.list_topics(self._topic, timeout=self._left_s()).topics[self._topic]
        if found.error is not None:
            if found.error.code() in _UNKNOWN:
                return {}
            raise KafkaException(found.error)
        ends = {}
        for p in found.partitions:
            place = TopicPartition(self._topic, p)
            ends[p] = int(consumer.get_watermark_offsets(place, timeout=self._left_s())[1])
        return ends

    def _fill(
        self,
        consumer: Consumer,
        ends: dict[int, int],
        held: dict[bytes, bytes],
        wanted: Callable[[bytes], bool],
    ) -> None:
        unread = {p for p, end in ends.items() if end > 0}
        undecided: set[int] = set()
        newest = _Newest()
        reached_s = 0.0
        while unread:
            self._left_s()
            if unread == undecided and self._grace_s is not None:
                reached_s = reached_s or time.monotonic()
                if time.monotonic() - reached_s > self._grace_s:
                    return
            for message in consumer.consume(_AT_ONCE, _POLL_S):
                error, p = message.error(), int(message.partition() or 0)
                if error is None:
                    key, value = message.key() or b"", message.value()
                    at_ms = int(message.timestamp()[1])
                    if not wanted(key) or not newest.replaces(key, p, at_ms):
                        continue
                    if value is None:
                        held.pop(key, None)
                    else:
                        held[key] = value
                elif error.code() == KafkaError._PARTITION_EOF:
                    # It stands before the first open transaction, if there is one.
                    undecided.add(p)
                    if (message.offset() or 0) >= ends[p]:
                        unread.discard(p)
                        undecided.discard(p)
                elif error.fatal() or not (error.retriable() or error.code() in _BESIDE):
                    raise KafkaException(error)

    def _left_s(self) -> float:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TopicUnread(
                f"{self._topic!r} could not be read to its end in time: the broker is slow, or a "
                "transaction was left open there"
            )
        return left_s
