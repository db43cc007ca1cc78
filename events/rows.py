"""Files of events: CSV or JSON lines, gzip or not, as messages by the contract.

A CSV's columns are found under the contract's names; ``--map order_id=session_id`` takes a field
from another column, and ``--type view=product_view`` renames a value of ``type``. JSON lines are
taken as they are, unless something is mapped.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

FIELDS: Final = (
    *("event_id", "user_id", "type", "ts", "source", "item_id", "category", "amount", "currency"),
    *("quantity", "order_id", "session_id", "device", "country", "value"),
)
REQUIRED: Final = ("event_id", "user_id", "type", "ts")


class RowError(Exception):
    """A file cannot be read as events; the message says what to do."""


def _integer(text: str) -> Any:
    return int(text) if text.isdigit() else text


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


_CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {
    "ts": _integer,
    "quantity": _integer,
    "value": _number,
}
"""What is not a text in the contract; an amount may stay a decimal text."""


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """``a=b`` options as a map.

    Raises:
        RowError: an option of another form.
    """
    pairs = {}
    for text in texts:
        left, mark, right = text.partition("=")
        if not (left and mark and right):
            raise RowError(f"{flag} {text}: must be of the form NAME=VALUE")
        pairs[left] = right
    return pairs


def read_messages(
    path: Path, columns: Mapping[str, str] | None = None, types: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """The messages of a file, in its order.

    Args:
        path: ends in ``.csv`` or ``.jsonl`` (or ``.json``, ``.ndjson``), perhaps with ``.gz``.
        columns: contract field to the column or key it is taken from.
        types: a value of ``type`` in the file to the contract's.

    Raises:
        RowError: no such file, another kind of file, or a required column is missing.
    """
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if not path.is_file():
        raise RowError(f"{path}: there is no such file")
    if kind == "csv":
        return _csv_messages(path, dict(columns or {}), dict(types or {}))
    if kind in ("jsonl", "json", "ndjson"):
        return _json_messages(path, dict(columns or {}), dict(types or {}))
    raise RowError(f"{path}: must be .csv or .jsonl, perhaps with .gz, but is .{kind}")


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked."""
    opened = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
    return cast(BinaryIO, opened)


def _json_messages(path: Path, columns: dict[str, str], types: dict[str, str]) -> Iterator[bytes]:
    with open_bytes(path) as file:
        for line in file:
            message = line.strip()
            if message:
                yield _remapped(message, columns, types) if columns or types else message


def _remapped(message: bytes, columns: dict[str, str], types: dict[str, str]) -> bytes:
    """A JSON message with fields taken from other keys; what is no object stays as it is."""
    try:
        row = msgspec.json.decode(message, type=dict[str, Any])
    except msgspec.DecodeError:
        return message
    row |= {name: row[column] for name, column in columns.items() if column in row}
    if isinstance(row.get("type"), str):
        row["type"] = types.get(row["type"], row["type"])
    return msgspec.json.encode(row)


def _csv_messages(path: Path, columns: dict[str, str], types: dict[str, str]) -> Iterator[bytes]:
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        rows = csv.reader(text)
        header = next(rows, [])
        places = _places(path, header, columns)
        encode = msgspec.json.Encoder().encode
        at_type = next(i for name, i, _ in places if name == "type")
        for row in rows:
            if len(row) <= at_type:
                continue
            row[at_type] = types.get(row[at_type], row[at_type])
            yield encode({name: convert(row[i]) for name, i, convert in places if row[i]})


def _places(
    path: Path, header: Sequence[str], columns: Mapping[str, str]
) -> list[tuple[str, int, Callable[[str], Any]]]:
    """Where each field stands in a row, and how its text is taken."""
    places = []
    for name in FIELDS:
        column = columns.get(name, name)
        if column in header:
            places.append((name, header.index(column), _CONVERT.get(name, str)))
        elif name in columns:
            raise RowError(
                f"{path}: --map {name}={column}: there is no column {column!r}; there are "
                f"{', '.join(header)}"
            )
        elif name in REQUIRED:
            raise RowError(
                f"{path}: a column {name!r} is needed; say which one it is with "
                f"--map {name}=<one of {', '.join(header)}>"
            )
    return places
