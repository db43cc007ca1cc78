"""Files of events: CSV, JSON lines (gzip or not) or Parquet, as messages by the contract.

A CSV's columns are found under the contract's names; ``--map order_id=session_id`` takes a field
from another column, and ``--type view=product_view`` renames a value of ``type``. An empty cell is
an absent field. JSON lines are taken as they are, unless something is mapped.

A row that makes no good event is still a message, so that the engine says why it is none; only
what makes the file unreadable is an error here.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

FIELDS: Final = (
    *("event_id", "user_id", "type", "ts", "source", "item_id", "category", "amount", "currency"),
    *("quantity", "order_id", "session_id", "device", "country", "value"),
)
REQUIRED: Final = ("event_id", "user_id", "type", "ts")
_TELL_EVERY: Final = 1000
_DIGITS: Final = 18
"""Of an integer that surely fits into 64 bits."""


class RowError(Exception):
    """A file cannot be read as events; the message says what to do."""


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """``a=b`` options as a map.

    >>> parse_pairs(["user_id=visitor"], "--map")
    {'user_id': 'visitor'}

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
    path: Path,
    columns: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The messages of a file, in its order; JSON each, unless the file had other lines.

    Args:
        path: ends in ``.csv`` or ``.jsonl`` (or ``.json``, ``.ndjson``), perhaps with ``.gz``,
            or in ``.parquet``.
        columns: contract field to the column or key it is taken from.
        types: a value of ``type`` in the file to the contract's.
        on_bytes: told every thousand messages how many bytes of the file, as it lies on the disk,
            have been read.

    Raises:
        RowError: no such file, another kind of file, a field that the contract does not have; and,
            while reading, a required column is missing or the file is broken.
    """
    columns, types = dict(columns or {}), dict(types or {})
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if not path.is_file():
        raise RowError(f"{path}: there is no such file")
    _check_fields(columns)
    if kind == "csv":
        return _messages(path, lambda file: _csv_messages(path, file, columns, types), on_bytes)
    if kind in ("jsonl", "json", "ndjson"):
        return _messages(path, lambda file: _json_messages(file, columns, types), on_bytes)
    if kind == "parquet":
        if path.suffix == ".gz":
            raise RowError(f"{path}: Parquet is compressed inside; unpack it first")
        from events.parquet import parquet_messages  # what it needs takes half a second to import

        return parquet_messages(path, columns, types, on_bytes)
    raise RowError(f"{path}: must be .csv or .jsonl, perhaps with .gz, or .parquet, but is .{kind}")


def _check_fields(columns: Mapping[str, str]) -> None:
    for name, column in columns.items():
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(FIELDS)}"
            raise RowError(f"--map {name}={column}: the contract has no field {name!r}{hint}")


def _messages(
    path: Path,
    parse: Callable[[BinaryIO], Iterator[bytes]],
    on_bytes: Callable[[int], None] | None,
) -> Iterator[bytes]:
    """The messages of a file, with its faults as errors in words."""
    try:
        with path.open("rb") as raw, _unpacked(path, raw) as file:
            for count, message in enumerate(parse(file), 1):
                yield message
                if on_bytes is not None and count % _TELL_EVERY == 0:
                    on_bytes(raw.tell())
    except UnicodeDecodeError as error:
        raise RowError(f"{path}: must be UTF-8, but is not: {error}; save it as UTF-8") from error
    except (csv.Error, EOFError, zlib.error, OSError) as error:
        raise RowError(f"{path}: cannot be read to its end: {error}") from error


def _unpacked(path: Path, raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.open(raw)) if path.suffix == ".gz" else raw


def _json_messages(
    file: BinaryIO, columns: dict[str, str], types: dict[str, str]
) -> Iterator[bytes]:
    messages = filter(None, map(bytes.strip, file))
    if not (columns or types):
        return messages
    return (_remapped(message, columns, types) for message in messages)


def _remapped(message: bytes, columns: dict[str, str], types: dict[str, str]) -> bytes:
    """A JSON message with fields taken from other keys; what is no object stays as it is."""
    try:
        row = msgspec.json.decode(message, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return message
    row |= {name: row[column] for name, column in columns.items() if column in row}
    if isinstance(row.get("type"), str):
        row["type"] = types.get(row["type"], row["type"])
    return msgspec.json.encode(row)


def _csv_messages(
    path: Path, file: BinaryIO, columns: dict[str, str], types: dict[str, str]
) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    # Spreadsheets begin a file with a byte order mark.
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        rows = csv.reader(text)
        header = next(rows, None)
        if not header:
            raise RowError(f"{path}: must begin with a line of column names, but is empty")
        places = _places(path, header, columns)
        at_type = next(i for name, i, _ in places if name == "type")
        for row in rows:
            if not row:
                continue
            row += [""] * (len(header) - len(row))
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


def _integer(text: str) -> int | str:
    """A number if it is one; else the text, and the engine says what is wrong with it."""
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) <= _DIGITS:
        return int(text)
    return text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


_CONVERT: Final[Mapping[str, Callable[[str], Any]]] = {
    "ts": _integer,
    "quantity": _integer,
    "value": _number,
}
"""What is not a text in the contract; an amount may stay a decimal text."""
