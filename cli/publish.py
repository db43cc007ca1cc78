"""``afterglow publish``: a file of events to Kafka, with a progress bar."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaError, Message, Producer
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from cli.common import need_kafka
from dataflows.plans import kafka_config
from dataflows.settings import Settings
from events.rows import parse_pairs, read_messages


class _User(msgspec.Struct):
    user_id: str = ""


def publish_file(
    settings: Settings,
    file: Path,
    maps: list[str],
    types: list[str],
    topic: str,
    rate: float,
) -> int:
    """Publish every message of a file, keyed by user; 0 if all were taken."""
    need_kafka(settings)
    messages = read_messages(file, parse_pairs(maps, "--map"), parse_pairs(types, "--type"))
    sender = _Sender(settings, topic or settings.kafka.events)
    columns = (
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f} events"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"publishing {file.name}", total=None)
        start_s = time.monotonic()
        for count, message in enumerate(messages, 1):
            sender.send(message)
            if count % 1000 == 0:
                bar.update(task, completed=count)
            if rate and (ahead_s := start_s + count / rate - time.monotonic()) > 0:
                sender.poll(ahead_s)
        sender.flush()
        bar.update(task, completed=sender.sent)
    print(f"{sender.sent:,} published to {sender.topic}, {sender.failed:,} failed")
    if sender.failed:
        print(f"the first failure: {sender.first_error}", file=sys.stderr)
    return 1 if sender.failed else 0


class _Sender:
    def __init__(self, settings: Settings, topic: str) -> None:
        defaults: dict[str, Any] = {"compression.type": "zstd", "linger.ms": 5}
        self._producer = Producer({**defaults, **kafka_config(settings)})
        self._key = msgspec.json.Decoder(_User)
        self.topic, self.sent, self.failed, self.first_error = topic, 0, 0, ""

    def send(self, message: bytes) -> None:
        """Hand one message on; wait while the queue is full."""
        try:
            key = self._key.decode(message).user_id.encode()
        except msgspec.DecodeError:
            key = b""
        while True:
            try:
                self._producer.produce(self.topic, message, key or None, on_delivery=self._done)
                return
            except BufferError:
                self._producer.poll(0.1)

    def poll(self, seconds: float) -> None:
        """Look after deliveries for so long."""
        self._producer.poll(seconds)

    def flush(self) -> None:
        """Wait for the last deliveries; what is left then has failed."""
        left = self._producer.flush(60)
        self.failed += left
        if left and not self.first_error:
            self.first_error = "no acknowledgement within 60 s; does the broker run?"

    def _done(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self.sent += 1
        else:
            self.failed += 1
            self.first_error = self.first_error or str(error)
