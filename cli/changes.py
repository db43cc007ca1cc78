"""``afterglow changes``: the change topic, followed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from cli.common import QUIET, UserError, need_kafka, topics_of
from dataflows.plans import kafka_config
from dataflows.settings import Settings
from state.changes import Change

_decoder = msgspec.json.Decoder(Change)


def follow(settings: Settings, as_json: bool, seconds: float, beginning: bool) -> int:
    """Print changes as they come."""
    need_kafka(settings)
    consumer = open_changes(kafka_config(settings), settings.kafka.changes, beginning=beginning)
    deadline = time.monotonic() + seconds if seconds else float("inf")
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            value = message.value() or b"{}"
            print(value.decode() if as_json else line(_decoder.decode(value)), flush=True)
    finally:
        consumer.close()
    return 0


def open_changes(config: dict[str, Any], topic: str, *, beginning: bool) -> Consumer:
    """A consumer of all partitions of the change topic, in no group."""
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
    found = topics_of(consumer, topic)[topic]
    if found.error is not None:
        raise UserError(f"the topic {topic!r} cannot be read: {found.error}")
    start = OFFSET_BEGINNING if beginning else OFFSET_END
    consumer.assign([TopicPartition(topic, p, start) for p in found.partitions])
    return consumer


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
