"""The catalogue topic: read from its beginning at every start, then followed.

The topic is compacted, so all that holds is there and no position need be kept. Every process reads
all of it, because every lane holds all items. Reading takes no thread of its own: the lane's step
asks about once a second for what has come, and the client fetches in between.

A bad message is told in the log and counted, and is no dead letter, because it is found again at
every start by every process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from events.catalog import Facts, read_facts
from events.schema import EventRules
from operators.broker_errors import is_forbidden
from operators.compacted import TopicUnread, unread

log = structlog.get_logger("afterglow.catalog")

_AT_ONCE: Final = 2_000
_WAIT_S: Final = 0.2
_LOOK_S: Final = 1.0
_DISCOVER_S: Final = 5.0
_MORE_S: Final = 30.0
"""How often a topic that is not there is looked for, and more partitions of one that is."""
_TOLD_MOST: Final = 20
"""So many bad messages are told one by one; all are counted."""
_UNKNOWN: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}


class CatalogReader:
    """Reads what the shop says of its items.

    Args:
        config: of the consumer; ``bootstrap.servers`` at least.
        topic: the catalogue.
        rules: the shop's currency and the size of a message.

    Attributes:
        counts: messages by the reason why they were refused; those that were taken under "".
    """

    def __init__(self, config: Mapping[str, Any], topic: str, rules: EventRules) -> None:
        self._topic, self._rules = topic, rules
        self._consumer = Consumer(
            {
                "fetch.wait.max.ms": 100,
                "queued.min.messages": _AT_ONCE,
                "session.timeout.ms": 2_000,
                **config,
                "group.id": "afterglow-catalog",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        self._partitions: set[int] = set()
        self._at_end: set[int] = set()
        self._forbidden: KafkaError | None = None
        self._discovered_s, self._told = 0.0, 0
        self.counts = {"": 0}

    def catch_up(self, timeout_s: float = 60.0) -> Iterator[Facts]:
        """All that is in the topic now, in parts.

        Raises:
            TopicUnread: it could not be read to its end in time.
        """
        deadline_s = time.monotonic() + timeout_s
        self._discover(timeout_s)
        while self._partitions - self._at_end:
            if self._forbidden is not None:
                raise unread(self._topic, KafkaException(self._forbidden))
            if time.monotonic() > deadline_s:
                raise TopicUnread(
                    f"{self._topic!r} could not be read to its end in {timeout_s:.0f} s: the "
                    "broker is slow or away"
                )
            yield self._take(self._consumer.consume(_AT_ONCE, _WAIT_S))

    def poll(self) -> Facts:
        """What has come since this was last asked; returns at once."""
        now_s = time.monotonic()
        every_s = _MORE_S if self._partitions else _DISCOVER_S
        if now_s - self._discovered_s >= every_s:
            with suppress(TopicUnread):  # whoever reads events says so
                self._discover(_LOOK_S)
        return self._take(self._consumer.consume(_AT_ONCE, 0) if self._partitions else [])

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _discover(self, timeout_s: float) -> None:
        """Find the topic's partitions, new ones too; none if there is no such topic yet."""
        self._discovered_s = time.monotonic()
        try:
            found = self._consumer.list_topics(self._topic, timeout=timeout_s).topics[self._topic]
        except KafkaException as error:
            raise unread(self._topic, error) from error
        if found.error is not None:
            if found.error.code() not in _UNKNOWN:
                log.warning("catalog_unreadable", topic=self._topic, error=str(found.error))
            return
        new = set(found.partitions) - self._partitions
        self._partitions |= new
        self._consumer.incremental_assign(
            [TopicPartition(self._topic, p, OFFSET_BEGINNING) for p in sorted(new)]
        )

    def _take(self, messages: list[KafkaMessage]) -> Facts:
        good: list[tuple[bytes, bytes | None]] = []
        for message in messages:
            error = message.error()
            if error is None:
                good.append((message.key() or b"", message.value()))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add(int(message.partition() or 0))
            elif is_forbidden(error):
                self._forbidden = error
            elif error.fatal():
                log.warning("catalog_unreadable", topic=self._topic, error=str(error))
        facts, refused = read_facts(good, self._rules)
        self.counts[""] += len(good) - len(refused)
        for item, why in refused:
            self.counts[why.reason] = self.counts.get(why.reason, 0) + 1
            self._told += 1
            if self._told <= _TOLD_MOST:
                log.warning(
                    "catalog_message_refused",
                    item=item,
                    reason=why.reason,
                    path=why.path,
                    detail=why.detail,
                )
        return facts
