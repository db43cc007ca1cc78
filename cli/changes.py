"""``afterglow changes``: the change topic, followed."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from cli.common import QUIET, UserError, need_kafka, topics_of
from dataflows.plans import kafka_config
from dataflows.settings import Settings
from state.changes import Change

_NOT_THERE: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE}
_LOOK_S: Final = 0.5
"""How often a topic that is not there is looked for."""

_decoder = msgspec.json.Decoder(Change)


def follow(settings: Settings, as_json: bool, seconds: float, beginning: bool) -> int:
    """Print changes as they come; a topic that is not there yet is waited for."""
    need_kafka(settings)
    topic = settings.kafka.changes
    deadline_s = time.monotonic() + seconds if seconds else float("inf")
    consumer, partitions = _opened(kafka_config(settings), topic)
    try:
        if not partitions:
            print(
                f"the topic {topic!r} is not there yet: an engine makes it when it starts "
                "(`afterglow run`). Waiting for it",
                file=sys.stderr,
                flush=True,
            )
            beginning = True  # all that will be in it comes from now on
        while not partitions:
            if time.monotonic() > deadline_s:
                print(f"the topic {topic!r} has not come in {seconds:g} s", file=sys.stderr)
                return 1
            time.sleep(_LOOK_S)
            partitions = _partitions(consumer, kafka_config(settings), topic)
        _begin(consumer, topic, partitions, beginning=beginning)
        while time.monotonic() < deadline_s:
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            print(_shown(message, as_json=as_json), flush=True)
    finally:
        consumer.close()
    return 0


def _shown(message: Message, *, as_json: bool) -> str:
    value = message.value() or b""
    try:
        change = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"the record at {message.topic()}/{message.partition()}/{message.offset()} is no "
            f"change ({error}): check kafka.changes"
        ) from error
    return value.decode() if as_json else line(change)


def open_changes(config: dict[str, Any], topic: str, *, beginning: bool) -> Consumer:
    """A consumer of all partitions of the change topic, which is there, in no group."""
    consumer, partitions = _opened(config, topic)
    _begin(consumer, topic, partitions, beginning=beginning)
    return consumer


def _opened(config: dict[str, Any], topic: str) -> tuple[Consumer, list[int]]:
    """A consumer that has not begun, and the topic's partitions; none of one that is not there."""
    consumer = Consumer(
        {
            **QUIET,
            **config,
            "group.id": f"afterglow-changes-{uuid4()}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
        }
    )
    return consumer, _partitions(consumer, config, topic)


def _partitions(consumer: Consumer, config: dict[str, Any], topic: str) -> list[int]:
    found = topics_of(consumer, config, topic)[topic]
    if found.error is None:
        return list(found.partitions)
    if found.error.code() in _NOT_THERE:
        return []
    raise UserError(
        f"the topic {topic!r} cannot be read: {found.error.str()}. Check kafka.changes and what "
        "this user may read"
    )


def _begin(consumer: Consumer, topic: str, partitions: list[int], *, beginning: bool) -> None:
    start = OFFSET_BEGINNING if beginning else OFFSET_END
    consumer.assign([TopicPartition(topic, p, start) for p in partitions])


def line(change: Change) -> str:
    """A change as people read it.

    >>> from state.changes import Cause
    >>> print(line(Change(id="1-07-3-0", user_id="ann", segment="vip", action="entered", ts=0,
    ...     decided_at=0, version=1, epoch=1, n=1, segments=["vip"],
    ...     cause=Cause(kind="timer", values={"intent": 3.99}, thresholds={"intent": 4}))))
    1970-01-01 00:00:00  ann  → vip  timer  intent 3.99 (4)
    """
    at = datetime.fromtimestamp(change.ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    arrow = "→" if change.action == "entered" else "←"
    measures = ", ".join(
        f"{name} {_short(value)} ({_short(change.cause.thresholds.get(name))})"
        for name, value in change.cause.values.items()
    )
    return f"{at}  {change.user_id}  {arrow} {change.segment}  {change.cause.kind}  {measures}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
