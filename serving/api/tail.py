"""Reading the change topic: one thread that follows its end, and readers of its past."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from serving.api.feed import Feed, LogGone, Message

_POLL_S: Final = 0.1
_AT_ONCE: Final = 200
_ASK_S: Final = 5.0
_AGAIN_S: Final = 1.0
_DISCOVER_POLLS: Final = 300
_CLOSE_S: Final = 5.0
_GONE: Final = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}
_QUIET: Final = {KafkaError._PARTITION_EOF}


class Tail:
    """Follows the end of the topic, for a feed.

    Args:
        config: of a Kafka client; ``bootstrap.servers`` at least.
        topic: of the changes.
    """

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
        self._config, self._topic = dict(config), topic
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, feed: Feed) -> None:
        """Hand all that comes to a feed of the running event loop."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._run, args=(feed, loop), name="changes", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def past(self, places: Mapping[int, int]) -> Past:
        """A reader from these places on."""
        return Past(open_consumer(self._config), self._topic, places)

    def _run(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        places: dict[int, int] = {}
        while not self._ended.is_set():
            try:
                consumer = open_consumer(self._config)
                try:
                    self._follow(consumer, feed, loop, places)
                finally:
                    consumer.close()
            except (KafkaException, ValueError) as error:
                why = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                self._tell(loop, setattr, feed, "trouble", f"the change topic: {why}")
                self._ended.wait(_AGAIN_S)

    def _follow(
        self,
        consumer: Consumer,
        feed: Feed,
        loop: asyncio.AbstractEventLoop,
        places: dict[int, int],
    ) -> None:
        self._assign(consumer, places)
        self._tell(loop, feed.begin, dict(places))
        polls = 0
        while not self._ended.is_set():
            messages = received(consumer, _AT_ONCE, _POLL_S)
            if messages:
                places |= {p: offset + 1 for p, offset, _ in messages}
                self._tell(loop, feed.take, messages)
            polls += 1
            if polls % _DISCOVER_POLLS == 0 and self._assign(consumer, places):
                self._tell(loop, feed.begin, dict(places))

    def _assign(self, consumer: Consumer, places: dict[int, int]) -> bool:
        """Read every partition; one that is new from its beginning, at first from its end."""
        found = consumer.list_topics(self._topic, timeout=_ASK_S).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        new = [p for p in found.partitions if p not in places]
        if not new:
            consumer.assign([TopicPartition(self._topic, p, at) for p, at in places.items()])
            return False
        at_first = not places
        for p in sorted(new):
            low, high = consumer.get_watermark_offsets(
                TopicPartition(self._topic, p), timeout=_ASK_S
            )
            places[p] = high if at_first else low
        consumer.assign([TopicPartition(self._topic, p, at) for p, at in places.items()])
        return True

    def _tell(self, loop: asyncio.AbstractEventLoop, call: Any, *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended before this thread
            loop.call_soon_threadsafe(call, *arguments)


class Past:
    """Reads from a place on, for one follower.

    Args:
        consumer: of its own.
        topic: of the changes.
        places: where to begin, by partition.
    """

    def __init__(self, consumer: Consumer, topic: str, places: Mapping[int, int]) -> None:
        self._consumer = consumer
        consumer.assign([TopicPartition(topic, p, at) for p, at in places.items()])

    def read(self) -> list[Message]:
        """What comes next, perhaps nothing yet.

        Raises:
            LogGone: the place is not there any more.
        """
        try:
            return received(self._consumer, _AT_ONCE, _POLL_S)
        except KafkaException as error:
            if error.args[0].code() in _GONE:
                raise LogGone(error.args[0].str()) from error
            raise

    def close(self) -> None:
        """End reading."""
        self._consumer.close()


def open_consumer(config: Mapping[str, Any]) -> Consumer:
    """A consumer in no group, of what was committed."""
    return Consumer(
        {
            "fetch.wait.max.ms": 10,
            **config,
            "log_level": 2,
            "group.id": f"afterglow-serve-{uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )


def received(consumer: Consumer, most: int, wait_s: float) -> list[Message]:
    """Messages that are there; what is no message and passes by itself is left out.

    Raises:
        KafkaException: what does not pass by itself.
    """
    out: list[Message] = []
    for message in consumer.consume(most, wait_s):
        error = message.error()
        if error is None:
            value = message.value()
            if value is not None:
                out.append((int(message.partition() or 0), int(message.offset() or 0), value))
        elif error.code() in _GONE or (
            error.code() not in _QUIET and not error.retriable() and error.fatal()
        ):
            raise KafkaException(error)
    return out
