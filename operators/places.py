"""Places in the log: where reading begins, and what is said when it cannot begin there.

A stored position must lie inside the log. If it does not, the log was cut off or is another one,
and going on anywhere else would lose or invent events in silence.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaException,
    TopicPartition,
)

from operators.broker_errors import (
    RIGHTS,
    BrokerSilent,
    SourceError,
    is_forbidden,
    unanswered,
    will_pass,
)

_AGAIN_S: Final = 0.1


class PositionLost(SourceError):
    """The log does not hold the place where reading must go on."""


@dataclass(slots=True, frozen=True)
class Share:
    """The partitions of one reader among several: those with ``partition % readers == reader``.

    >>> [p for p in range(7) if p in Share(1, 3)]
    [1, 4]
    """

    reader: int = 0
    readers: int = 1

    def __contains__(self, partition: int) -> bool:
        return partition % self.readers == self.reader


class Places:
    """Asks the broker for the partitions of one topic and the offsets that they hold.

    Args:
        consumer: to ask with.
        topic: of the log.
        share: the partitions to find places in.
        address: of the broker, to be named where it does not answer.

    Attributes:
        count: how many partitions the topic has in all, as far as was asked.
    """

    def __init__(
        self, consumer: Consumer, topic: str, share: Share | None = None, address: str = ""
    ) -> None:
        self._consumer, self._topic, self._address = consumer, topic, address
        self._share = share or Share()
        self.count = 0

    def beginnings(
        self, positions: Mapping[int, int], known: Collection[int], timeout_s: float
    ) -> dict[int, int]:
        """Where to begin in each partition of the share that is not known yet.

        Args:
            positions: the stored ones; a partition without one begins at its first offset.
            known: partitions that are read already.
            timeout_s: how long the broker may take for each answer.

        Raises:
            BrokerSilent: it took longer.
            PositionLost: the log does not hold a stored position.
            SourceError: there is no such topic, or it has lost partitions.
        """
        found = self.partitions({*positions, *known}, timeout_s)
        mine = [p for p in found if p in self._share and p not in known]
        begins = {p: self._begin(p, positions.get(p), timeout_s) for p in mine}
        self.count = len(found)
        return begins

    def partitions(self, had: Collection[int], timeout_s: float) -> list[int]:
        """All partitions of the topic.

        Args:
            had: those that it must have.
            timeout_s: how long the broker may take.

        Raises:
            BrokerSilent: it took longer.
            SourceError: there is no such topic, or it has lost partitions.
        """
        found = self._partitions(timeout_s)
        if had and len(found) <= max(had):
            raise SourceError(
                f"the topic {self._topic!r} has {len(found)} partitions, but positions are "
                f"stored for {max(had) + 1}: it was recreated or shrunk. Read the old topic to "
                "its end, or start with another redis.prefix"
            )
        return found

    def lost(self, partition: int, wanted: int, timeout_s: float = 30.0) -> PositionLost:
        """What to raise when a partition no longer holds the offset that is wanted."""
        return self._lost(partition, wanted, *self._range(partition, timeout_s))

    def _begin(self, partition: int, position: int | None, timeout_s: float) -> int:
        low, high = self._range(partition, timeout_s)
        if position is None:
            return low
        if not low <= position <= high:
            raise self._lost(partition, position, low, high)
        return position

    def _partitions(self, timeout_s: float) -> list[int]:
        try:
            found = self._consumer.list_topics(self._topic, timeout=timeout_s).topics[self._topic]
        except KafkaException as error:
            raise self._silent(error) from error
        if found.error is not None and is_forbidden(found.error):
            raise SourceError(
                f"the topic {self._topic!r} may not be read by this user: {found.error.str()}. "
                f"{RIGHTS}"
            )
        if found.error is not None:
            raise SourceError(
                f"the topic {self._topic!r} cannot be read: {found.error.str()}. Create it, or set "
                "kafka.events to the topic that producers write to"
            )
        return sorted(found.partitions)

    def _range(self, partition: int, timeout_s: float) -> tuple[int, int]:
        try:
            return ends_of(self._consumer, self._topic, partition, timeout_s)
        except KafkaException as error:
            raise self._silent(error) from error

    def _silent(self, error: KafkaException) -> BrokerSilent:
        return BrokerSilent(unanswered(error.args[0], self._address))

    def _lost(self, partition: int, wanted: int, low: int, high: int) -> PositionLost:
        return PositionLost(
            f"{self._topic!r} partition {partition} must be read from offset {wanted}, but the "
            f"log holds {low} to {high}. If retention has removed what was not yet read, the "
            "events between are lost: give the topic a longer retention. If the topic was "
            "recreated, start with another redis.prefix"
        )


def ends_of(consumer: Consumer, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
    """The first offset that the log holds of a partition, and the one that comes next.

    Args:
        consumer: to ask with.
        topic: of the log.
        partition: of the topic.
        timeout_s: how long the answers may take; its leader may have to be found.

    Raises:
        KafkaException: they took longer, or were refused.
    """
    deadline_s = time.monotonic() + timeout_s
    begin, end = (
        _offset(consumer, TopicPartition(topic, partition, place), deadline_s)
        for place in (OFFSET_BEGINNING, OFFSET_END)
    )
    return begin, end


def _offset(consumer: Consumer, place: TopicPartition, deadline_s: float) -> int:
    """The offset of a place; asked again while the partition's leader is being found.

    Not by ``get_watermark_offsets``, which asks for both ends of the log and, where only the
    first of its questions fails, gives the end for the beginning and says nothing.
    """
    while True:
        left_s = max(deadline_s - time.monotonic(), 0.0)
        try:
            (found,) = consumer.offsets_for_times([place], timeout=left_s)
            if found.error is None:
                return int(found.offset)
            raise KafkaException(found.error)
        except KafkaException as error:
            if not will_pass(error) or left_s <= _AGAIN_S:
                raise
        time.sleep(_AGAIN_S)
