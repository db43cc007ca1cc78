"""The courier: brings outbox entries to the broker, in transactions, from a thread of its own.

A transaction holds the changes of whole entries, the memberships that they lead to, and how far
each shard has come. So a consumer that reads only what was committed sees every change once, and a
courier that starts anew knows from the broker itself what has arrived. All couriers share one
transactional name: starting one ends what an earlier one has left open, and shuts it out.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from operators.broker_news import BrokerNews
from operators.compacted import TopicUnread, latest
from operators.metrics import Metrics
from operators.topics import Topics
from state.changes import is_gone

log = structlog.get_logger()

Headers = list[tuple[str, str | bytes | None]]

_AT_ONCE: Final = 5_000
"""Records after which a transaction is closed though more entries wait."""

_TRIES: Final = 100
_PAUSE_S: Final = 0.05
_SHUT_OUT: Final = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}


class PublishError(Exception):
    """Changes could not be published; they stay in the outbox, and a restart tries again."""


class ShutOut(PublishError):
    """Another courier has begun under the same name, or this one was silent for too long."""


@dataclass(slots=True, frozen=True)
class Published:
    """One outbox entry: the changes of a shard's commit as (key, value) records.

    Attributes:
        shard: whose.
        seq: of the commit.
        records: the changes, and who was forgotten (``state.changes.Gone``).
        record_ms: the log's timestamp of the last event in the commit, epoch milliseconds; negative
            where none led to it, or that is not known any more.
    """

    shard: int
    seq: int
    records: Sequence[tuple[bytes, bytes]]
    record_ms: int = -1


class Position(msgspec.Struct, frozen=True, order=True):
    """How far a shard's changes are published: an entry's epoch and sequence."""

    epoch: int = 0
    seq: int = 0


class Membership(msgspec.Struct, frozen=True):
    """What the memberships topic says of a user: a part of the user's last change."""

    user_id: str
    epoch: int
    n: int
    ts: int
    segments: list[str]


@dataclass(slots=True, frozen=True)
class Terms:
    """How to publish.

    Attributes:
        topics: where to.
        name: the transactional id; empty for no transactions.
        timeout_s: how long the broker may stay away.
        waiting: most records that wait before ``send`` makes its caller wait.
    """

    topics: Topics = field(default_factory=Topics)
    name: str = "afterglow-publisher"
    timeout_s: float = 60.0
    waiting: int = 200_000


_to_membership = msgspec.json.Decoder(Membership)
_to_position = msgspec.json.Decoder(Position)
_encoder = msgspec.json.Encoder()


def published_positions(
    config: Mapping[str, Any],
    topic: str,
    *,
    timeout_s: float = 60.0,
    grace_s: float | None = None,
) -> dict[int, Position]:
    """How far each shard is published, by the broker's word; see ``latest``."""
    found = latest(config, topic, timeout_s, grace_s=grace_s)
    return {int(key): _to_position.decode(raw) for key, raw in found.items()}


class Courier:
    """Publishes entries in the order of sending.

    Args:
        config: of the producer; ``bootstrap.servers`` at least.
        terms: how and where to.
        alive: called now and then while ``send`` waits.
        metrics: where to count.

    Raises:
        PublishError: the broker does not take a courier.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        terms: Terms,
        alive: Callable[[], None] = lambda: None,
        metrics: Metrics | None = None,
    ) -> None:
        self._terms, self._alive = terms, alive
        self._metrics = metrics or Metrics()
        defaults = {"linger.ms": 1, "enable.idempotence": True, "compression.type": "zstd"}
        named = {"transactional.id": terms.name} if terms.name else {}
        self._news = BrokerNews("publisher")
        self._producer = Producer({**self._news.config, **defaults, **named, **config})
        self._queue: deque[Published] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._done: dict[int, int] = {}
        self._failure: PublishError | None = None
        self._refused: KafkaError | None = None
        self._closing = False
        self._reached = self._begin(config)
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._thread.start()

    # -- for the worker -----------------------------------------------------------------------

    def send(self, entries: Iterable[Published]) -> None:
        """Take entries over; waits while too many records are under way.

        Raises:
            PublishError: an earlier entry could not be published.
        """
        with self._changed:
            for entry in entries:
                self._queue.append(entry)
                self._queued += len(entry.records)
            self._metrics.unpublished.set(self._queued)
            self._changed.notify_all()
            while self._queued > self._terms.waiting and self._failure is None:
                self._changed.wait(0.1)
                self._alive()
            if self._failure is not None:
                raise self._failure

    def arrived(self) -> dict[int, int]:
        """For each shard the last sequence that has arrived since this was asked before."""
        with self._changed:
            done, self._done = self._done, {}
        return done

    def close(self, timeout_s: float) -> None:
        """Wait for what was sent.

        Raises:
            PublishError: not all of it has arrived.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._thread.is_alive():
                raise self._error(f"{self._queued} are not acknowledged after {timeout_s:.0f} s")

    # -- the thread ---------------------------------------------------------------------------

    def _begin(self, config: Mapping[str, Any]) -> dict[int, Position]:
        """Shut earlier couriers out, then see what they have brought."""
        deadline_s = time.monotonic() + self._terms.timeout_s
        try:
            while self._terms.name:
                try:
                    self._producer.init_transactions(self._terms.timeout_s)
                    break
                except KafkaException as error:
                    if not error.args[0].retriable() or time.monotonic() > deadline_s:
                        raise
                    self._alive()
            topic = self._terms.topics.positions
            return published_positions(config, topic, timeout_s=self._terms.timeout_s)
        except KafkaException as error:
            raise self._error(error.args[0].str()) from error
        except TopicUnread as error:
            raise self._error(str(error)) from error

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait(0.2)
                    self._producer.poll(0)  # or trouble would be told when it is long over
                if not self._queue:
                    return
                entries = self._take()
            try:
                self._bring([e for e in entries if not self._has_arrived(e)])
            except Exception as error:  # whatever it is, the worker must learn of it
                said = error if isinstance(error, PublishError) else self._error(repr(error))
                with self._changed:
                    self._failure = said
                    self._changed.notify_all()
                return
            with self._changed:
                self._queued -= sum(len(entry.records) for entry in entries)
                self._done |= {entry.shard: entry.seq for entry in entries}
                self._changed.notify_all()
            # a commit of many shards is one observation
            now_ms = time.time_ns() // 1_000_000
            moments = {entry.record_ms for entry in entries if entry.record_ms >= 0}
            ages_s = [(now_ms - moment) / 1000 for moment in moments]
            changes = sum(not is_gone(value) for entry in entries for _, value in entry.records)
            self._metrics.observe_published(changes, ages_s, self._queued)

    def _take(self) -> list[Published]:
        entries: list[Published] = []
        records = 0
        while self._queue and records < _AT_ONCE:
            entries.append(self._queue.popleft())
            records += len(entries[-1].records)
        return entries

    def _has_arrived(self, entry: Published) -> bool:
        reached = self._reached.get(entry.shard)
        return reached is not None and _position(entry) <= reached

    def _bring(self, entries: Sequence[Published]) -> None:
        """One transaction, tried until it is through."""
        if not entries:
            return
        deadline_s, tries = time.monotonic() + self._terms.timeout_s, 0
        while True:
            try:
                self._try(entries)
                break
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                tries += 1
                if error.code() in _SHUT_OUT:
                    raise ShutOut(str(self._error(error.str()))) from raised
                late = time.monotonic() > deadline_s
                again = error.txn_requires_abort() or error.retriable()
                if error.fatal() or not again or late or self._refused or tries > _TRIES:
                    raise self._error((self._refused or error).str()) from raised
                log.warning("changes_published_again", error=error.str())
                self._metrics.retries.inc()
                time.sleep(_PAUSE_S)
                self._abort(error)
        self._news.well()
        self._reached |= {entry.shard: _position(entry) for entry in entries}

    def _try(self, entries: Sequence[Published]) -> None:
        self._refused = None
        if self._terms.name:
            self._producer.begin_transaction()
        self._produce_all(entries)
        if not self._terms.name:
            # Nothing may be called published before it is.
            self._flush()
            self._produce_positions(entries)
            self._flush()
            return
        self._produce_positions(entries)
        deadline_s = time.monotonic() + self._terms.timeout_s
        while True:
            try:
                self._producer.commit_transaction(1.0)
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if not error.retriable() or time.monotonic() > deadline_s:
                    raise

    def _produce_all(self, entries: Sequence[Published]) -> None:
        topics = self._terms.topics
        members: dict[bytes, bytes] = {}
        for entry in entries:
            for key, value in entry.records:
                if not is_gone(value):
                    self._produce(topics.changes, key, value)
            members |= dict(entry.records)
        for user, change in members.items():
            membership = _to_membership.decode(change)
            if is_gone(change):  # nothing is left to be kept; up to where the user came is told
                place: Headers = [("epoch", str(membership.epoch)), ("n", str(membership.n))]
                self._produce(topics.memberships, user, None, place)
            else:
                self._produce(topics.memberships, user, _encoder.encode(membership))

    def _produce_positions(self, entries: Sequence[Published]) -> None:
        reached = {entry.shard: _position(entry) for entry in entries}
        for shard, position in reached.items():
            key = str(shard).encode()
            self._produce(self._terms.topics.positions, key, _encoder.encode(position))

    def _flush(self) -> None:
        waiting = self._producer.flush(self._terms.timeout_s)
        if waiting or self._refused:
            raise KafkaException(self._refused or KafkaError(KafkaError._TIMED_OUT))

    def _produce(
        self, topic: str, key: bytes, value: bytes | None, headers: Headers | None = None
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, key=key, value=value, headers=headers, on_delivery=self._delivered
                )
                return
            except BufferError:
                self._producer.poll(0.05)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None and not error.retriable() and not error.txn_requires_abort():
            code = error.code()
            if code not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
                self._refused = error

    def _abort(self, why: KafkaError) -> None:
        """Give the transaction up, so that the next try begins with nothing."""
        if not self._terms.name:
            return
        deadline_s = time.monotonic() + self._terms.timeout_s
        while True:
            try:
                self._producer.abort_transaction(1.0)
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                if error.code() in _SHUT_OUT:
                    raise ShutOut(str(self._error(error.str()))) from raised
                if error.fatal() or not error.retriable() or time.monotonic() > deadline_s:
                    raise self._error(f"{why.str()}; then {error.str()}") from raised

    def _error(self, why: str) -> PublishError:
        topic = self._terms.topics.changes
        return PublishError(
            f"changes could not be published to {topic!r}: {why.rstrip('.')}. They stay in the "
            "outbox and are published after a restart; check the topic, the broker and what "
            "this user may do there (docs/operations.md)"
        )


def _position(entry: Published) -> Position:
    """Where an entry stands; all its changes are of one epoch."""
    return Position(_to_membership.decode(entry.records[-1][1]).epoch, entry.seq)
