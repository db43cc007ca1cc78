"""The publisher: committed changes to the change topic, each shard's in the order of its commits.

A change is published from memory once its commit is acknowledged; after a restart first what the
outbox still holds. The worker never waits for the broker: delivery reports come in while it works,
and an outbox entry is trimmed when all of its shard up to it has been delivered. A crash in between
publishes an entry again, with the same ids.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message, Producer

PARTITION: Final = "publisher"
_TRIM_EVERY_S: Final = 0.2


class PublishError(Exception):
    """Changes could not be published; they stay in the outbox, and a restart tries again."""


@dataclass(slots=True, frozen=True)
class Published:
    """One outbox entry: the changes of a shard's commit as (key, value) records."""

    shard: int
    seq: int
    records: Sequence[tuple[bytes, bytes]]


PULSE: Final = Published(-1, 0, ())
"""Nothing to publish: lets the publisher look after deliveries while no change comes."""


@dataclass(slots=True)
class _Entry:
    seq: int
    missing: int


Trim = Callable[[Iterable[tuple[int, int]]], None]


class KafkaPublisher(FixedPartitionedSink[Published, None]):
    """One publisher to one topic.

    Args:
        config: of the producer; ``bootstrap.servers`` at least.
        topic: of the changes.
        trim: forgets a shard's entries up to a sequence, for pairs of both.
        timeout_s: how long the last deliveries may take at a drain.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        trim: Trim,
        timeout_s: float = 30.0,
    ) -> None:
        self._config, self._topic, self._timeout_s = config, topic, timeout_s
        self._trim = trim

    def list_parts(self) -> list[str]:
        """One part: one publisher."""
        return [PARTITION]

    def part_fn(self, _item_key: str) -> int:
        """Whatever lane a change comes from."""
        return 0

    def build_part(self, _step_id: str, _part: str, _resume: None, /) -> _KafkaPart:
        """Connect."""
        return _KafkaPart(self._config, self._topic, self._trim, self._timeout_s)


class _KafkaPart(StatefulSinkPartition[Published, None]):
    def __init__(self, config: Mapping[str, Any], topic: str, trim: Trim, timeout_s: float) -> None:
        defaults = {"linger.ms": 1, "enable.idempotence": True, "compression.type": "zstd"}
        self._producer = Producer({**defaults, **config})
        self._topic, self._trim, self._timeout_s = topic, trim, timeout_s
        self._waiting: dict[int, deque[_Entry]] = defaultdict(deque)
        self._done: dict[int, int] = {}
        self._trimmed_s = time.monotonic()
        self._failure: KafkaError | None = None

    def write_batch(self, values: list[Published]) -> None:
        """Hand entries to the producer; look after deliveries on the way."""
        for published in values:
            if not published.records:
                continue
            entry = _Entry(published.seq, len(published.records))
            self._waiting[published.shard].append(entry)
            for key, value in published.records:
                self._produce(key, value, published.shard, entry)
        self._producer.poll(0)
        self._raise_failure()
        if self._done and time.monotonic() - self._trimmed_s >= _TRIM_EVERY_S:
            self._trim_done()

    def snapshot(self) -> None:
        """Nothing: the outbox remembers."""

    def close(self) -> None:
        """Wait for the last deliveries.

        Raises:
            PublishError: some did not come.
        """
        waiting = self._producer.flush(self._timeout_s)
        self._trim_done()
        if waiting:
            self._fail(f"{waiting} are not acknowledged after {self._timeout_s:.0f} s")
        self._raise_failure()

    def _produce(self, key: bytes, value: bytes, shard: int, entry: _Entry) -> None:
        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                self._failure = error
                return
            entry.missing -= 1
            queue = self._waiting[shard]
            while queue and not queue[0].missing:
                self._done[shard] = queue.popleft().seq

        while True:
            try:
                self._producer.produce(self._topic, key=key, value=value, on_delivery=delivered)
                return
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                self._fail(str(error.args[0]))

    def _trim_done(self) -> None:
        self._trimmed_s = time.monotonic()
        done, self._done = self._done, {}
        if done:
            self._trim(done.items())

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._fail(str(self._failure))

    def _fail(self, why: str) -> NoReturn:
        raise PublishError(
            f"changes could not be published to {self._topic!r}: {why}. They stay in the outbox "
            "and are published after a restart; check the topic and the broker"
        )


class CollectingPublisher(FixedPartitionedSink[Published, None]):
    """Hands the records of every entry to a function; for replays.

    Args:
        take: gets (key, value) records, in order.
        trim: as for ``KafkaPublisher``.
    """

    def __init__(self, take: Callable[[Sequence[tuple[bytes, bytes]]], None], trim: Trim) -> None:
        self._take, self._trim = take, trim

    def list_parts(self) -> list[str]:
        """One part."""
        return [PARTITION]

    def part_fn(self, _item_key: str) -> int:
        """Whatever lane a change comes from."""
        return 0

    def build_part(self, _step_id: str, _part: str, _resume: None, /) -> _CollectingPart:
        """Nothing to connect to."""
        return _CollectingPart(self._take, self._trim)


class _CollectingPart(StatefulSinkPartition[Published, None]):
    def __init__(self, take: Callable[[Sequence[tuple[bytes, bytes]]], None], trim: Trim) -> None:
        self._take, self._trim = take, trim

    def write_batch(self, values: list[Published]) -> None:
        """Take the entries; they are safe at once."""
        last: dict[int, int] = {}
        for published in values:
            if not published.records:
                continue
            self._take(published.records)
            last[published.shard] = published.seq
        self._trim(last.items())

    def snapshot(self) -> None:
        """Nothing to remember."""
