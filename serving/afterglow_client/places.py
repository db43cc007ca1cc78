"""Where a partition of a topic begins, and where it ends."""

from __future__ import annotations

import time
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    KafkaError,
    KafkaException,
    TopicPartition,
)

_MOVING: Final = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_AGAIN_S: Final = 0.1


def ends_of(consumer: Any, topic: str, partition: int, timeout_s: float) -> tuple[int, int]:
    """The first offset that the log holds, and the one that comes next.

    Not by ``get_watermark_offsets``, which asks for both and, where only the first of its questions
    fails, gives the end for the beginning and says nothing: whoever begins there overlooks all.

    Args:
        consumer: to ask with.
        topic: its name.
        partition: of the topic.
        timeout_s: how long the answers may take, and a leader may have to be found.

    Raises:
        KafkaException: they took longer, or were refused.
    """
    deadline_s = time.monotonic() + timeout_s
    begin, end = (
        _offset(consumer, TopicPartition(topic, partition, place), deadline_s)
        for place in (OFFSET_BEGINNING, OFFSET_END)
    )
    return begin, end


def _offset(consumer: Any, place: TopicPartition, deadline_s: float) -> int:
    while True:
        left_s = max(deadline_s - time.monotonic(), 0.0)
        try:
            (found,) = consumer.offsets_for_times([place], timeout=left_s)
            if found.error is None:
                return int(found.offset)
            raise KafkaException(found.error)
        except KafkaException as error:
            said: KafkaError = error.args[0]
            will_pass = said.retriable() or said.code() in _MOVING
            if not will_pass or left_s <= _AGAIN_S:
                raise
        time.sleep(_AGAIN_S)
