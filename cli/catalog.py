"""``afterglow catalog``: what the shop says of its items, sent and shown."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from cli.common import QUIET, UserError, need_kafka, topics_of
from cli.long_rows import LongRows
from dataflows.plans import event_rules, kafka_config
from dataflows.settings import Settings
from events.careful import Refused
from events.catalog import read_item
from events.cells import Cells, OnLines, too_many
from events.row_columns import check_header
from events.rows import check_file, in_words, unpacked
from events.schema import EventRules
from operators.compacted import latest

_FIELDS: Final = (
    *("item_id", "title", "category", "brand", "price", "currency", "tags", "available"),
)
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHOWN: Final = 10
_LONG: Final = 60


def publish_catalog(settings: Settings, file: Path) -> int:
    """Publish every item of a file, keyed by its id; 0 if there were some, all good and taken."""
    need_kafka(settings)
    topic = _topic(settings)
    rules, sender = event_rules(settings), _Sender(settings, topic)
    long_rows, bad = LongRows(file), 0
    for place, item in _items(file, long_rows.take):
        try:
            key, raw = _checked(item, rules)
        except Refused as error:
            bad += 1
            if bad <= _SHOWN:
                at = f"{error.path}: " if error.path else ""
                print(f"{file}:{place}: {at}{error.detail}", file=sys.stderr)
            continue
        sender.send(key, raw)
    if not (sender.handed_on or bad):
        print(f"afterglow: {file} holds no item, so there is nothing to publish", file=sys.stderr)
        return 1
    sender.flush()
    print(f"{sender.sent:,} items published to {topic}, {bad:,} bad, {sender.failed:,} failed")
    if sender.failed:
        print(f"the first failure: {sender.first_error}", file=sys.stderr)
    long_rows.warn()
    return 1 if bad or sender.failed else 0


def remove_item(settings: Settings, item: str) -> int:
    """Take an item out of the catalogue; 1 if it says nothing of that item."""
    need_kafka(settings)
    topic = _topic(settings)
    if not _held(settings, topic, item):
        print(f"the catalogue {topic!r} says nothing of {item!r}: check its id", file=sys.stderr)
        return 1
    sender = _Sender(settings, topic)
    sender.send(item.encode(), None)
    sender.flush()
    if sender.failed:
        raise UserError(f"{item!r} was not taken out: {sender.first_error}")
    print(f"{item!r} is taken out")
    return 0


def show_item(settings: Settings, item: str) -> int:
    """Print what the catalogue says of an item, as JSON."""
    need_kafka(settings)
    topic = _topic(settings)
    raw = _held(settings, topic, item)
    if not raw:
        raise UserError(f"the catalogue {topic!r} holds no item {item!r}")
    try:
        _, found = read_item(item.encode(), raw, event_rules(settings))
    except Refused as error:
        raise UserError(f"what {topic!r} says of {item!r} is refused: {error.detail}") from error
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
    return 0


def _held(settings: Settings, topic: str, item: str) -> bytes | None:
    """What the catalogue says of an item last; nothing if it is not there, or was taken out."""
    config, key = {**QUIET, **kafka_config(settings)}, item.encode()
    topics_of(Producer(config), kafka_config(settings))
    return latest(config, topic, wanted=lambda other: other == key).get(key)


def _topic(settings: Settings) -> str:
    if not settings.kafka.catalog:
        raise UserError("kafka.catalog must name the topic of the catalogue, but is empty")
    return settings.kafka.catalog


def _checked(raw: bytes | Refused, rules: EventRules) -> tuple[bytes, bytes]:
    """(key, message); ``Refused`` if there is none, or the engine would refuse it."""
    if isinstance(raw, Refused):
        raise raw
    item_id, _ = read_item(b"", raw, rules)
    return item_id.encode(), raw


def _items(file: Path, on_lines: OnLines) -> Iterator[tuple[int, bytes | Refused]]:
    """(line, message) of every item in a file; for what can be no message, why not."""
    kind = file.name.removesuffix(".gz").rpartition(".")[2]
    check_file(file)
    if kind not in ("csv", "jsonl", "ndjson", "json"):
        raise UserError(f"{file}: must be .csv or .jsonl (.json, .ndjson), perhaps with .gz")
    with (
        in_words(file),
        file.open("rb") as raw,
        # Spreadsheets begin a file with a byte order mark.
        io.TextIOWrapper(unpacked(file, raw), "utf-8-sig", newline="") as text,
    ):
        yield from _rows(file, text, on_lines) if kind == "csv" else _lines(text)


def _lines(text: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    for place, line in enumerate(text, 1):
        if line.strip():
            yield place, line.strip().encode()


def _rows(
    file: Path, text: Iterable[str], on_lines: OnLines
) -> Iterator[tuple[int, bytes | Refused]]:
    """CSV: an empty cell is an absent field, and ``|`` stands between tags."""
    rows = Cells(text, on_lines)
    check_header(file, rows.header, _FIELDS)
    if "item_id" not in rows.header or not set(rows.header) <= set(_FIELDS):
        raise UserError(
            f"{file}: columns must be item_id and any of {', '.join(_FIELDS[1:])}, but are "
            f"{', '.join(rows.header)}"
        )
    for line, row in rows:
        try:
            yield line, msgspec.json.encode(_item(line, row, rows.header))
        except Refused as error:
            yield line, error


def _item(line: int, row: Sequence[str], header: Sequence[str]) -> dict[str, Any]:
    if wrong := too_many(line, row, header):
        raise Refused("malformed", "", wrong)
    item: dict[str, Any] = {name: cell for name, cell in zip(header, row, strict=False) if cell}
    if "tags" in item:
        item["tags"] = [tag.strip() for tag in item["tags"].split("|") if tag.strip()]
    if "available" in item:
        said = item["available"]
        item["available"] = _TRUTHS.get(said.strip().lower())
        if item["available"] is None:
            *words, last = _TRUTHS
            must = f"must be {', '.join(words)} or {last}"
            raise Refused("invalid", "$.available", f"{must}, but {said[:_LONG]!r} came")
    return item


class _Sender:
    def __init__(self, settings: Settings, topic: str) -> None:
        defaults: dict[str, Any] = {**QUIET, "compression.type": "zstd", "linger.ms": 5}
        self._producer = Producer({**defaults, **kafka_config(settings)})
        topics_of(self._producer, kafka_config(settings))
        self._topic, self.first_error = topic, ""
        self.handed_on = self.sent = self.failed = 0

    def send(self, key: bytes, value: bytes | None) -> None:
        """Hand one message on; wait while the queue is full."""
        self.handed_on += 1
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=self._done)
                return
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._done(error.args[0], None)
                return

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
