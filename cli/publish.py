"""``afterglow publish``: a file of events to Kafka, with a progress bar."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from cli.common import QUIET, need_kafka, topics_of
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
    columns, renamed = parse_pairs(maps, "--map"), parse_pairs(types, "--type")
    read_messages(file, columns, renamed)
    sender = _Sender(settings, topic or settings.kafka.events)
    with _bar(file) as bar:
        task = bar.tasks[0].id

        def show(read_bytes: int) -> None:
            bar.update(task, completed=read_bytes, events=sender.handed_on)

        start_s = time.monotonic()
        for message in read_messages(file, columns, renamed, show):
            sender.send(message)
            if rate:
                sender.wait(start_s + sender.handed_on / rate)
        sender.flush()
        show(file.stat().st_size)
    print(f"{sender.sent:,} published to {sender.topic}, {sender.failed:,} failed")
    if sender.failed:
        print(f"the first failure: {sender.first_error}", file=sys.stderr)
    return 1 if sender.failed else 0


def _bar(file: Path) -> Progress:
    """A bar over the bytes of the file; nothing where nobody watches."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    bar.add_task(f"publishing {file.name}", total=file.stat().st_size, events=0)
    return bar


class _Sender:
    def __init__(self, settings: Settings, topic: str) -> None:
        defaults: dict[str, Any] = {**QUIET, "compression.type": "zstd", "linger.ms": 5}
        self._producer = Producer({**defaults, **kafka_config(settings)})
        topics_of(self._producer)
        self._key = msgspec.json.Decoder(_User)
        self.topic, self.first_error = topic, ""
        self.handed_on = self.sent = self.failed = 0

    def send(self, message: bytes) -> None:
        """Hand one message on; wait while the queue is full."""
        self.handed_on += 1
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
            except KafkaException as error:
                self._done(error.args[0], None)
                return

    def wait(self, until_s: float) -> None:
        """Look after deliveries until then, by the monotonic clock."""
        while (left_s := until_s - time.monotonic()) > 0:
            self._producer.poll(left_s)

    def flush(self) -> None:
        """Wait for the last deliveries; what is left then has failed."""
        left = self._producer.flush(60)
        self.failed += left
        if left and not self.first_error:
            self.first_error = "no acknowledgement within 60 s; does the broker run?"

    def _done(self, error: KafkaError | None, _message: Message | None) -> None:
        if error is None:
            self.sent += 1
        else:
            self.failed += 1
            self.first_error = self.first_error or str(error)
