"""The event log: one consumer per group over all its partitions, positions kept by the lanes.

Bytewax's own Kafka source runs one consumer and four threads per partition, takes messages one by
one and jumps silently to the end when its offset has expired. This one assigns its partitions to a
single consumer, polls many messages at once, starts where the lanes' commits say, and ends in
words when the log no longer holds that place. Offsets are also given to the consumer group, for
lag monitors only.

Each poll becomes one read. While the log is quiet, empty reads go out every few milliseconds:
they carry time and commits, so that nothing behind them needs a timer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from numpy.typing import NDArray

from events.batch import Read, Span
from operators.ahead import Ahead, Told
from operators.broker_errors import BrokerSilent, SourceError
from operators.broker_news import BrokerNews
from operators.message_keys import MessageKeys
from operators.places import Places, PositionLost, Share
from operators.stop import Stop

__all__ = ["EventReader", "EventSource", "PositionLost", "SourceError", "SourceSpec"]

I64 = NDArray[np.int64]

log = structlog.get_logger()

_NO_DATA = {
    KafkaError._PARTITION_EOF,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
}
_START_TIMEOUT_S = 30.0
_RUNNING_TIMEOUT_S = 1.0
"""While it runs, the source may hold its worker up only so long."""
_AWAY_S, _AWAY_TIMEOUT_S = 1.0, 0.2
"""How often a broker that is away is looked for, and how long it may take to answer then."""
_IDLE_S = 0.001
_FULL_S = 0.005
"""How long a reader rests that may not read, because lanes are behind."""
_CLOSE_S = 10.0
_GROUP = "group-"
_BELIEVED_MS = 86_400_000
"""The log's own times may be so far ahead of this machine's clock."""
_LOST = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}


@dataclass(slots=True, frozen=True)
class SourceSpec:
    """How the log is read.

    Attributes:
        topic: of the events.
        group: the consumer group that lag monitors look at.
        fetch_max: most messages in one read.
        fetch_wait_ms: so long a broker without news keeps a question. Most answer as soon as there
            is some; the embedded one always waits to the end.
        poll_s: how long a poll waits for messages.
        gather_s: least time from one read to the next while there is no backlog. Each read costs
            an evaluation and a commit, so very small ones would burn a core for nothing.
        tick_s: an idle source sends an empty read at least so often.
        commit_s: how often offsets are given to the consumer group.
        discover_s: how often the topic is asked for new partitions.
        ahead_most: so many messages may be on their way to the lanes of other workers.
    """

    topic: str = "events"
    group: str = "afterglow"
    fetch_max: int = 5_000
    fetch_wait_ms: int = 100
    poll_s: float = 0.004
    gather_s: float = 0.008
    tick_s: float = 0.05
    commit_s: float = 5.0
    discover_s: float = 30.0
    ahead_most: int = 200_000


class EventSource(FixedPartitionedSource[Read, None]):
    """The events topic.

    Args:
        config: of the consumer; ``bootstrap.servers`` at least.
        spec: how to read.
        positions: the lowest position of any shard for each partition, asked when reading begins.
        stop: ends the source when it is raised.
        groups: how many readers share the partitions: reader ``i`` has those with
            ``partition % groups == i``.
        on_ends: told the end of each partition every so often, for lag.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        spec: SourceSpec,
        positions: Callable[[], Mapping[int, int]],
        stop: Stop,
        on_ends: Callable[[Sequence[Span], dict[int, int]], None] | None = None,
        groups: int = 1,
        told: Told | None = None,
    ) -> None:
        self._config, self._spec, self._told = config, spec, told
        self._positions, self._stop, self._on_ends = positions, stop, on_ends
        self._groups = groups

    def list_parts(self) -> list[str]:
        """The groups of partitions."""
        return [f"{_GROUP}{group}" for group in range(self._groups)]

    def check(self) -> None:
        """Look for the topic before a dataflow runs, because Bytewax shouts when one fails.

        Raises:
            SourceError: it is not there, or not as it was; or no broker answers.
        """
        with closing(self._consumer(BrokerNews("source"))) as consumer:
            address = self._config["bootstrap.servers"]
            places = Places(consumer, self._spec.topic, address=address)
            places.partitions(self._positions(), _START_TIMEOUT_S)

    def build_part(self, _step_id: str, part: str, _resume: None, /) -> EventReader:
        """Connect and find the place to begin."""
        news = BrokerNews("source")
        return EventReader(
            self._consumer(news),
            self._spec,
            self._positions(),
            self._stop,
            self._on_ends,
            Share(int(part.removeprefix(_GROUP)), self._groups),
            news,
            self._told and Ahead(self._spec.ahead_most, self._told),
        )

    def _consumer(self, news: BrokerNews) -> Consumer:
        return Consumer(
            {
                **news.config,
                "fetch.wait.max.ms": self._spec.fetch_wait_ms,
                "queued.min.messages": 20_000,
                # While so many wait here none are fetched, and by default for a whole second more.
                "fetch.queue.backoff.ms": 10,
                "check.crcs": False,
                # Nothing joins the group, so all this bounds is how long closing waits for the
                # offsets it told a broker that has gone away.
                "session.timeout.ms": 2_000,
                **self._config,
                "group.id": self._spec.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
            }
        )


class EventReader(StatefulSourcePartition[Read, None]):
    """Reads a share of the partitions of one topic with one consumer."""

    def __init__(
        self,
        consumer: Consumer,
        spec: SourceSpec,
        positions: Mapping[int, int],
        stop: Stop,
        on_ends: Callable[[Sequence[Span], dict[int, int]], None] | None,
        share: Share | None = None,
        news: BrokerNews | None = None,
        ahead: Ahead | None = None,
    ) -> None:
        self._news = news or BrokerNews("source")
        self._consumer, self._spec, self._stop, self._on_ends = consumer, spec, stop, on_ends
        self._next: dict[int, int] = {}
        self._eof: dict[int, int] = {}
        self._sent_s = self._committed_s = self._discovered_s = time.monotonic()
        self._wait_s = self._next_s = 0.0
        self._ahead = ahead
        self._places = Places(consumer, spec.topic, share)
        self._assign(self._places.beginnings(positions, self._next, _START_TIMEOUT_S))
        self._hello = True

    def next_batch(self) -> Sequence[Read]:
        """One read, or none if there is nothing to say yet; ``StopIteration`` to drain."""
        if self._hello:
            self._hello = False
            return [self._read([])]
        if self._stop.requested:
            raise StopIteration
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._wait_s = self._next_s - now_s
            return []
        begun_s = now_s
        is_away = self._news.is_away
        if now_s - self._discovered_s >= (_AWAY_S if is_away else self._spec.discover_s):
            self._discovered_s = now_s
            # Before the poll: assigning begins again at the positions of the last read.
            self._take_in_new_partitions(_AWAY_TIMEOUT_S if is_away else _RUNNING_TIMEOUT_S)
        room = self._room(now_s)
        messages = self._poll(room) if room else []  # and lanes hear of the time all the same
        now_s = time.monotonic()
        self._next_s = begun_s + self._spec.gather_s
        self._wait_s = 0.0 if messages else _IDLE_S if room else _FULL_S
        if now_s - self._committed_s >= self._spec.commit_s:
            self._committed_s = now_s
            self._tell_group()
        if not messages and now_s - self._sent_s < self._spec.tick_s:
            return []
        self._sent_s = now_s
        read = self._read(messages)
        if read.more:
            self._next_s = 0.0
        return [read]

    def next_awake(self) -> datetime | None:
        """At once while there is input, else when there may be some."""
        return datetime.now(UTC) + timedelta(seconds=self._wait_s) if self._wait_s else None

    def snapshot(self) -> None:
        """Nothing: the lanes keep the positions."""

    def close(self) -> None:
        """Leave the broker, or give up on it: without it the client may never come back."""
        self._tell_group()
        closing = threading.Thread(target=self._consumer.close, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            log.warning("consumer_close_timed_out", waited_s=_CLOSE_S)

    # -- reading ------------------------------------------------------------------------------

    def _room(self, now_s: float) -> int:
        """How many messages may be read now, so that what queues behind stays bounded."""
        most = self._spec.fetch_max
        return most if self._ahead is None else min(most, self._ahead.room(self._next, now_s))

    def _poll(self, most: int) -> list[Message]:
        # To wait for many would wait for the last of them: take what is there, or the first and
        # what came with it.
        polled = self._consumer.consume(most, 0)
        if not polled and (polled := self._consumer.consume(1, self._spec.poll_s)):
            polled += self._consumer.consume(most - 1, 0)
        if not any(map(Message.error, polled)):
            if polled:
                self._news.well()
            return polled
        good = []
        for message in polled:
            error = message.error()
            if error is None:
                good.append(message)
            else:
                self._handle(error, message)
        return good

    def _handle(self, error: KafkaError, message: Message) -> None:
        code, partition = error.code(), message.partition()
        if code == KafkaError._PARTITION_EOF and partition is not None:
            self._eof[partition] = message.offset() or 0
            self._news.well()
        elif code in _LOST and partition is not None:
            raise self._places.lost(partition, self._next[partition])
        elif error.fatal():
            raise SourceError(f"the log {self._spec.topic!r} cannot be read: {error}")
        elif code not in _NO_DATA:
            self._news.trouble(error)

    def _read(self, messages: list[Message]) -> Read:
        n = len(messages)
        partition = np.fromiter(map(Message.partition, messages), np.int32, n)
        offset = np.fromiter(map(Message.offset, messages), np.int64, n)
        ends, spans, behind = self._ends(), [], 0
        for p, start in self._next.items():
            mine = offset[partition == p]
            stop = int(mine[-1]) + 1 if len(mine) else start
            # Offsets without a message (marks of transactions) may lie between the two.
            stop = max(stop, self._eof.get(p, stop))
            at_end = self._eof.get(p) == stop or stop >= ends.get(p, stop + 1)
            at_end = at_end and not self._news.is_away  # nobody knows what has come there
            spans.append(Span(p, start, stop, at_end=at_end))
            self._next[p] = stop
            behind += max(ends.get(p, stop) - stop, 0)
        if self._on_ends is not None:
            self._on_ends(spans, ends)
        return Read(
            topic=self._spec.topic,
            payloads=[value or b"" for value in map(Message.value, messages)],
            record_ts_ms=_stamps_ms(messages),
            partition=partition,
            offset=offset,
            spans=spans,
            keys=MessageKeys(messages),
            more=max(n, behind) >= self._spec.fetch_max,
            partitions=self._places.count,
        )

    def _ends(self) -> dict[int, int]:
        """The end of each partition as far as the consumer has been told."""
        out = {}
        for p in self._next:
            _, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._spec.topic, p), cached=True
            )
            if high >= 0:
                out[p] = high
        return out

    # -- partitions ---------------------------------------------------------------------------

    def _take_in_new_partitions(self, timeout_s: float) -> None:
        try:
            self._assign(self._places.beginnings({}, self._next, timeout_s))
            self._news.well()
        except BrokerSilent as error:
            if not self._news.is_away:  # that is said already
                log.warning("partitions_not_looked_for", error=str(error))

    def _assign(self, starts: Mapping[int, int]) -> None:
        if starts:
            self._next.update(starts)
            topic = self._spec.topic
            self._consumer.assign([TopicPartition(topic, p, o) for p, o in self._next.items()])
            log.info("partitions_assigned", topic=topic, starts=dict(starts))

    def _tell_group(self) -> None:
        places = [TopicPartition(self._spec.topic, p, o) for p, o in self._next.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            log.warning("group_offsets_not_taken", error=str(error))


def _stamps_ms(messages: Sequence[Message]) -> I64:
    """The log's time of each message; where it is the producer's, none far in the future.

    Most topics hold the producer's time, and a producer whose clock is wrong by years must not move
    time for everybody. Within a day it may as well be this machine's clock that is wrong.
    """
    n = len(messages)
    pairs = np.fromiter(chain.from_iterable(map(Message.timestamp, messages)), np.int64, 2 * n)
    kinds, found = pairs[::2], pairs[1::2]
    most = time.time_ns() // 1_000_000 + _BELIEVED_MS
    return np.where(kinds == TIMESTAMP_LOG_APPEND_TIME, found, np.minimum(found, most))
