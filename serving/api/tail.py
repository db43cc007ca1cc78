"""Reading the change topic: one thread that follows its end, and readers of its past.

Where a reader stands is told by its messages and by the ends that it comes to, because behind the
last message of a transaction stands a marker, which no reader gets to see.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from afterglow_client.places import ends_of
from serving.api.feed import Feed, LogGone, Message

log = structlog.get_logger()

_POLL_S: Final = 0.1
_AT_ONCE: Final = 200
_ASK_S: Final = 5.0
_AGAIN_S: Final = 1.0
_DISCOVER_POLLS: Final = 300
_CLOSE_S: Final = 5.0
_GONE: Final = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}


@dataclass(slots=True)
class Found:
    """What one poll brought.

    Attributes:
        messages: with a value, in order.
        places: what comes next, of partitions with messages or whose end was reached.
        gone: why it cannot be read on, of partitions whose log does not hold our place any more.
    """

    messages: list[Message] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    gone: dict[int, str] = field(default_factory=dict)


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
        def tell(call: Callable[..., None], *arguments: Any) -> None:
            with suppress(RuntimeError):  # the loop has ended before this thread
                loop.call_soon_threadsafe(call, *arguments)

        places: dict[int, int] = {}
        while not self._ended.is_set():
            try:
                consumer = open_consumer(self._config)
                try:
                    self._follow(_Reading(consumer, self._topic, feed, tell, places))
                finally:
                    consumer.close()
            except (KafkaException, ValueError) as error:
                why = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                tell(setattr, feed, "trouble", f"the change topic: {why}")
                self._ended.wait(_AGAIN_S)

    def _follow(self, reading: _Reading) -> None:
        reading.begin()
        polls = 0
        while not self._ended.is_set():
            reading.read()
            polls += 1
            if polls % _DISCOVER_POLLS == 0:
                reading.look()


class _Reading:
    """One consumer at work for a feed.

    Args:
        consumer: without an assignment.
        topic: of the changes.
        feed: that gets what comes.
        tell: has a method of the feed called in its event loop.
        places: what comes next, by partition; kept up to date.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        feed: Feed,
        tell: Callable[..., None],
        places: dict[int, int],
    ) -> None:
        self._consumer, self._topic, self._places = consumer, topic, places
        self._feed, self._tell = feed, tell

    def begin(self) -> None:
        """Read on from the places; at first from the end."""
        if not self.look():
            self._go(self._feed.begin)

    def read(self) -> None:
        """Hand on what comes."""
        found = received(self._consumer, _AT_ONCE, _POLL_S)
        self._places |= found.places
        if found.messages:
            self._tell(self._feed.take, found.messages)
        if found.places:
            self._tell(self._feed.reach, found.places)
        if found.gone:  # retention was faster, or the topic was made anew
            log.warning("changes_begin_anew", topic=self._topic, why=found.gone)
            self._places |= {p: self._range(p)[0] for p in found.gone}
            self._go(self._feed.begin_anew)

    def look(self) -> bool:
        """Whether there are other partitions than before; a new one is read from its beginning."""
        found = self._consumer.list_topics(self._topic, timeout=_ASK_S).topics[self._topic]
        if found.error is not None:
            raise KafkaException(found.error)
        at_first = not self._places
        new = found.partitions.keys() - self._places.keys()
        lost = self._places.keys() - found.partitions.keys()
        self._places |= {p: self._range(p)[int(at_first)] for p in sorted(new)}
        for p in lost:
            del self._places[p]
        if lost:
            log.warning("changes_begin_anew", topic=self._topic, why=f"no partitions {lost} now")
        if new or lost:
            self._go(self._feed.begin_anew if lost else self._feed.begin)
        return bool(new or lost)

    def _go(self, tell_places: Callable[[Mapping[int, int]], None]) -> None:
        self._tell(tell_places, dict(self._places))
        self._consumer.assign([TopicPartition(self._topic, *at) for at in self._places.items()])

    def _range(self, partition: int) -> tuple[int, int]:
        """Where a partition begins, and where it ends."""
        return ends_of(self._consumer, self._topic, partition, _ASK_S)


class Past:
    """Reads from a place on, for one follower.

    Args:
        consumer: of its own.
        topic: of the changes.
        places: where to begin, by partition.

    Attributes:
        places: what comes next, by partition, also beyond what is no message.
    """

    def __init__(self, consumer: Consumer, topic: str, places: Mapping[int, int]) -> None:
        self._consumer = consumer
        self._reading = threading.Lock()  # who goes while a read is on its way closes meanwhile
        self.places: dict[int, int] = dict(places)
        consumer.assign([TopicPartition(topic, p, at) for p, at in places.items()])

    def read(self) -> list[Message]:
        """What comes next, perhaps nothing yet.

        Raises:
            LogGone: the place is not there any more.
        """
        with self._reading:
            found = received(self._consumer, _AT_ONCE, _POLL_S)
        if found.gone:
            raise LogGone("; ".join(found.gone.values()))
        self.places |= found.places
        return found.messages

    def close(self) -> None:
        """End reading."""
        with self._reading:
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
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )


def received(consumer: Consumer, most: int, wait_s: float) -> Found:
    """What is there; an error that passes by itself is left out.

    Raises:
        KafkaException: an error that does not.
    """
    found = Found()
    for message in consumer.consume(most, wait_s):
        error, p, offset = message.error(), int(message.partition() or 0), message.offset()
        if error is None:
            value = message.value()
            found.places[p] = int(offset or 0) + 1
            if value is not None:
                found.messages.append((p, int(offset or 0), value))
        elif error.code() == KafkaError._PARTITION_EOF:
            found.places[p] = max(found.places.get(p, 0), int(offset or 0))
        elif error.code() in _GONE:
            found.gone[p] = error.str()
        elif error.fatal() and not error.retriable():
            raise KafkaException(error)
    return found
