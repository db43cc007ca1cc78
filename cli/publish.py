"""``afterglow publish``: a file of events to Kafka, with a progress bar."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

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
from cli.event_times import EventTimes
from cli.interrupts import Interrupts
from cli.long_rows import LongRows
from cli.renames import Renames
from dataflows.durations import duration_text
from dataflows.plans import kafka_config
from dataflows.settings import Settings
from events.row_columns import RowError, parse_pairs
from events.rows import read_messages

_ANSWERS_S: Final = 60.0
_LAST_ANSWERS_S: Final = 5.0
"""How long an interrupted command waits for acknowledgements."""
_LOOK_S: Final = 0.2
"""How long nothing else is done than waiting, so that a signal is noticed."""


class _Head(msgspec.Struct):
    user_id: str = ""
    ts: Any = None


def publish_file(
    settings: Settings,
    file: Path,
    maps: list[str],
    types: list[str],
    topic: str,
    rate: float,
    interrupts: Interrupts,
) -> int:
    """Publish every message of a file, keyed by user; 0 if all were taken, 1 if there were none.

    Where a signal came the code is that of the signal, and what was acknowledged is said.
    """
    need_kafka(settings)
    columns, renames, long_rows = parse_pairs(maps, "--map"), Renames(types), LongRows(file)
    # most of what can be wrong with a file shows before anything is sent
    if next(read_messages(file, columns, renames), None) is None:
        print(
            f"afterglow: {file} holds no message, so there is nothing to publish", file=sys.stderr
        )
        return 1
    sender = _Sender(settings, topic or settings.kafka.events, interrupts)
    broken: RowError | None = None
    with _bar(file) as bar:
        task = bar.tasks[0].id

        def show(read_bytes: int) -> None:
            bar.update(task, completed=read_bytes, events=sender.handed_on)

        start_s = time.monotonic()
        try:
            for message in read_messages(file, columns, renames, show, long_rows.take):
                if not sender.send(message):
                    break
                if rate:
                    sender.wait(start_s + sender.handed_on / rate)
            else:
                show(file.stat().st_size)
        except RowError as error:
            broken = error
        sender.flush()
    print(f"{sender.sent:,} published to {sender.topic}, {sender.failed:,} failed")
    sender.times.say()
    if sender.failed:
        print(f"the first failure: {sender.first_error}", file=sys.stderr)
    if broken is not None or interrupts.requested:
        _say_partial(settings, sender)
    else:
        renames.warn()
    long_rows.warn()
    if broken is not None:
        raise broken
    return interrupts.code or int(sender.failed > 0)


def _say_partial(settings: Settings, sender: _Sender) -> None:
    """Say how far a publishing came that ended before the end of its file, and what comes next."""
    first = "" if sender.failed else f", the first {sender.sent:,} of the file"
    print(
        f"afterglow: the file is not published to its end: {sender.sent:,} messages are "
        f"acknowledged{first}. To publish it again counts those a second time, but for events at "
        f"most {duration_text(settings.dedup.window)} of event time behind the newest "
        "(dedup.window): the engine remembers ids only so long. Publish only what is missing",
        file=sys.stderr,
    )


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
    def __init__(self, settings: Settings, topic: str, interrupts: Interrupts) -> None:
        defaults: dict[str, Any] = {**QUIET, "compression.type": "zstd", "linger.ms": 5}
        self._producer = Producer({**defaults, **kafka_config(settings)})
        topics_of(self._producer, kafka_config(settings))
        self._interrupts = interrupts
        self._head = msgspec.json.Decoder(_Head)
        self.topic, self.first_error = topic, ""
        self.handed_on = self.sent = self.failed = 0
        self.times = EventTimes()

    def send(self, message: bytes) -> bool:
        """Hand one message on; wait while the queue is full. False if interrupted before it."""
        try:
            head = self._head.decode(message)
        except msgspec.DecodeError:
            head = _Head()
        key = head.user_id.encode() or None
        while not self._interrupts.requested:
            try:
                self._producer.produce(self.topic, message, key, on_delivery=self._done)
            except BufferError:
                self._producer.poll(0.1)
                continue
            except KafkaException as error:
                self._done(error.args[0], None)
            self.handed_on += 1
            self.times.take(head.ts)
            return True
        return False

    def wait(self, until_s: float) -> None:
        """Look after deliveries until then, by the monotonic clock."""
        while (left_s := until_s - time.monotonic()) > 0 and not self._interrupts.requested:
            self._producer.poll(min(left_s, _LOOK_S))

    def flush(self) -> None:
        """Wait for the last deliveries; what is left then has failed."""
        start_s = time.monotonic()
        while left := self._producer.flush(_LOOK_S):
            waited_s = time.monotonic() - start_s
            if waited_s > (_LAST_ANSWERS_S if self._interrupts.requested else _ANSWERS_S):
                break
        self.failed += left
        if left and not self.first_error:
            self.first_error = f"no acknowledgement within {waited_s:.0f} s; does the broker run?"

    def _done(self, error: KafkaError | None, _message: Message | None) -> None:
        if error is None:
            self.sent += 1
        else:
            self.failed += 1
            self.first_error = self.first_error or str(error)
