"""A log to read: topics of a test's own on the embedded broker, and what was read of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from events.batch import Read
from operators.ahead import Told
from operators.source import EventReader, EventSource, SourceSpec
from operators.stop import Stop

NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}
"""A broker that never answers."""


def produce(broker: str, topic: str, values: Iterable[tuple[int, bytes | None]]) -> None:
    """Write (partition, value) messages; returns when all are there."""
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1, "enable.idempotence": True})
    for partition, value in values:
        producer.produce(topic, value, key=b"k", partition=partition)
        producer.poll(0)
    assert producer.flush(20) == 0


def consume(
    broker: str,
    topic: str,
    count: int,
    partitions: int = 4,
    *,
    wait_s: float = 20,
    **config: str,
) -> list[Message]:
    """The first ``count`` messages of a topic, each partition's in its order."""
    consumer = Consumer(
        {"bootstrap.servers": broker, "group.id": "reader", "fetch.wait.max.ms": 10, **config}
    )
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
    out: list[Message] = []
    deadline_s = time.monotonic() + wait_s
    while len(out) < count and time.monotonic() < deadline_s:
        out += consumer.consume(count, 0.2)
    out += consumer.consume(1, 0.2)
    consumer.close()
    assert not any(message.error() for message in out)
    return out


def open_reader(
    broker: str,
    topic: str,
    positions: dict[int, int] | None = None,
    *,
    stop: Stop | None = None,
    config: dict[str, object] | None = None,
    told: Told | None = None,
    **spec: float,
) -> EventReader:
    """A reader as the dataflow would open it."""
    source = EventSource(
        {"bootstrap.servers": broker, "log_level": 0, **(config or {})},
        SourceSpec(topic=topic, **{"fetch_wait_ms": 4, **spec}),
        lambda: positions or {},
        stop or Stop(),
        told=told,
    )
    (part,) = source.list_parts()
    return source.build_part("source", part, None)


def read_until(reader: EventReader, done: Callable[[list[Read]], bool]) -> list[Read]:
    """Reads until they are what is waited for."""
    reads: list[Read] = []
    deadline_s = time.monotonic() + 20
    while not done(reads):
        assert time.monotonic() < deadline_s, reads[-1:]
        reads += reader.next_batch()
    return reads


def at_ends(reads: list[Read]) -> bool:
    """The last read has reached the end of every partition."""
    return bool(reads) and all(span.at_end for span in reads[-1].spans)


def payloads(reads: Iterable[Read]) -> list[bytes]:
    """What was read."""
    return [payload for read in reads for payload in read.payloads]


def assert_chained(reads: list[Read], start: dict[int, int]) -> dict[int, int]:
    """Spans chain without a gap and hold exactly their messages; where they stop."""
    at = dict(start)
    for read in reads:
        for span in read.spans:
            assert span.start == at.get(span.partition, 0)
            assert span.stop >= span.start
            at[span.partition] = span.stop
            mine = read.offset[read.partition == span.partition].tolist()
            assert mine == list(range(span.start, span.stop))
    return at
