"""The publisher as a Bytewax sink: one for all lanes, each shard's changes in the order of commits.

A change is published once its commit is acknowledged; after a restart first what the outbox still
holds. An outbox entry is trimmed when it is known to have arrived. The worker never waits for the
broker, unless too much is under way: then the lanes pause with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from operators.courier import Courier, Published, PublishError, ShutOut, Terms
from operators.metrics import Metrics
from state.store_errors import FencedOff, StoreUnavailable

__all__ = [
    "PARTITION",
    "PULSE",
    "CollectingPublisher",
    "KafkaPublisher",
    "PublishError",
    "Published",
]

PARTITION: Final = "publisher"
_TRIM_EVERY_S: Final = 1.0
"""Trimming waits for a store that is busy with a commit. What is not trimmed when an engine dies is
published again where transactions are off."""
_TAKEOVER_S: Final = 3.0
"""How long another engine may take from shutting our courier out to taking our shards."""

PULSE: Final = Published(-1, 0, ())
"""Nothing to publish: lets the publisher look after deliveries while no change comes."""

Trim = Callable[[Iterable[tuple[int, int]]], None]


class KafkaPublisher(FixedPartitionedSink[Published, None]):
    """One publisher of all changes.

    Args:
        config: of the producer; ``bootstrap.servers`` at least.
        terms: where and how to publish.
        trim: forgets a shard's entries up to a sequence, for pairs of both.
        is_owner: whether this engine still owns its shards.
        alive: called now and then while it waits.
        drain_s: how long the last deliveries may take at a drain.
        metrics: where to count.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        terms: Terms,
        trim: Trim,
        is_owner: Callable[[], bool] = lambda: True,
        alive: Callable[[], None] = lambda: None,
        drain_s: float = 30.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._config, self._terms, self._drain_s = config, terms, drain_s
        self._trim, self._is_owner, self._alive = trim, is_owner, alive
        self._metrics = metrics

    def list_parts(self) -> list[str]:
        """One part: one publisher."""
        return [PARTITION]

    def part_fn(self, _item_key: str) -> int:
        """Whatever lane a change comes from."""
        return 0

    def build_part(self, _step_id: str, _part: str, _resume: None, /) -> _KafkaPart:
        """Connect."""
        courier = Courier(self._config, self._terms, self._alive, self._metrics)
        return _KafkaPart(courier, self._trim, self._is_owner, self._drain_s)


class _KafkaPart(StatefulSinkPartition[Published, None]):
    def __init__(
        self, courier: Courier, trim: Trim, is_owner: Callable[[], bool], drain_s: float
    ) -> None:
        self._courier, self._trim, self._is_owner = courier, trim, is_owner
        self._drain_s = drain_s
        self._arrived: dict[int, int] = {}
        self._trimmed_s = time.monotonic()

    def write_batch(self, values: list[Published]) -> None:
        """Hand entries to the courier; forget those that have arrived."""
        try:
            self._courier.send([published for published in values if published.records])
        except ShutOut as error:
            self._explain(error)
            raise
        if time.monotonic() - self._trimmed_s >= _TRIM_EVERY_S:
            self._trim_arrived()

    def snapshot(self) -> None:
        """Nothing: the outbox remembers."""

    def close(self) -> None:
        """Wait for the last deliveries.

        Raises:
            PublishError: some did not come.
        """
        try:
            self._courier.close(self._drain_s)
        finally:
            self._trim_arrived()

    def _trim_arrived(self) -> None:
        self._trimmed_s = time.monotonic()
        self._arrived |= self._courier.arrived()
        if self._arrived:
            with suppress(StoreUnavailable):  # asked again the next time
                self._trim(self._arrived.items())
                self._arrived = {}

    def _explain(self, error: ShutOut) -> None:
        """Tell being replaced, which is final, from having been silent for too long."""
        deadline_s = time.monotonic() + _TAKEOVER_S
        while time.monotonic() < deadline_s:
            if not self._is_owner():
                raise FencedOff(
                    "another engine publishes the changes now and owns the shards; this one ends. "
                    "Run one engine per store: stop the other one first if it is not meant to run"
                ) from error
            time.sleep(0.1)


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
