"""Files of events: CSV, JSON lines (gzip or not) or Parquet, as messages by the contract.

A CSV's columns are found under the contract's names; ``--map order_id=session_id`` takes a field
from another column, and ``--type view=product_view`` renames a value of ``type``. An empty cell is
an absent field, and a row with more cells than the header is a text that says so. JSON lines are
taken as they are, unless something is mapped. What is mapped must be there: a column, or a key of
one line at least.

A row that makes no good event is still a message, so that the engine says why it is none; only
what makes the file unreadable is an error here.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec

from events.cells import CONVERT, Cells, OnLines, too_many, untold
from events.parquet import parquet_messages
from events.row_columns import (
    FIELDS,
    RowError,
    check_columns,
    check_header,
    check_options,
    listed,
)

_JSON_LINES: Final = ("jsonl", "json", "ndjson")
_TELL_EVERY: Final = 1000
_SHOWN: Final = 60
_NAMED_OF: Final = 100
"""So many lines tell which keys there are."""


def read_messages(
    path: Path,
    columns: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_lines: OnLines = untold,
) -> Iterator[bytes]:
    """The messages of a file, in its order; JSON each, unless the file had other lines.

    Args:
        path: ends in ``.csv`` or ``.jsonl`` (or ``.json``, ``.ndjson``), perhaps with ``.gz``,
            or in ``.parquet``.
        columns: contract field to the column or key it is taken from.
        types: a value of ``type`` in the file to the contract's.
        on_bytes: told every thousand messages how many bytes of the file, as it lies on the disk,
            have been read.
        on_lines: told of each row of a CSV that goes over several lines.

    Raises:
        RowError: no such file, another kind of file, a field or a type that the contract does not
            have; and, while reading, a required column is missing or the file is broken.
    """
    columns, types = dict(columns or {}), dict(types or {})
    kind = _kind(path)
    check_file(path)
    check_options(columns, types)
    if kind == "csv":
        return _messages(
            path, lambda file: _csv_messages(path, file, columns, types, on_lines), on_bytes
        )
    if kind in _JSON_LINES:
        return _messages(path, lambda file: _json_messages(path, file, columns, types), on_bytes)
    if kind == "parquet":
        if path.suffix == ".gz":
            raise RowError(f"{path}: Parquet is compressed inside; unpack it first")
        return parquet_messages(path, columns, types, on_bytes)
    endings = ", ".join(f".{each}" for each in ("csv", *_JSON_LINES))
    raise RowError(
        f"{path}: must be {endings}, perhaps with .gz, or .parquet, but "
        f"{f'is .{kind}' if kind else 'its name has no such ending'}; rename it, or convert it"
    )


def is_json_lines(path: Path) -> bool:
    """Whether a file is read as JSON lines, by its name."""
    return _kind(path) in _JSON_LINES


def places_of(path: Path, numbers: Collection[int]) -> dict[int, str]:
    """Where some messages of a file stand in it, as people count: ``line 3``, ``row 3``.

    Args:
        path: of a file that could be read so far.
        numbers: of the messages, from 0 on.

    Raises:
        RowError: it cannot be read any more.
    """
    if _kind(path) == "parquet":
        return {number: f"row {number + 1:,}" for number in numbers}
    lines = _csv_lines if _kind(path) == "csv" else _json_lines
    found: dict[int, str] = {}
    if not numbers:
        return found
    with in_words(path), path.open("rb") as raw, unpacked(path, raw) as file:
        for number, line in enumerate(lines(file)):
            if number in numbers:
                found[number] = f"line {line:,}"
                if len(found) == len(numbers):
                    break
    return found


def _kind(path: Path) -> str:
    """The ending of a name, without that of gzip; empty where there is none."""
    return Path(path.name.removesuffix(".gz")).suffix.removeprefix(".")


def check_file(path: Path) -> None:
    """Raise ``RowError`` where there is no file to be read."""
    if path.is_dir():
        raise RowError(f"{path}: must be a file, but is a directory; name a file in it")
    if not path.exists():
        raise RowError(f"{path}: there is no such file")
    if not path.is_file():
        raise RowError(f"{path}: must be a file, for it is read twice; write to one what comes")


def _messages(
    path: Path,
    parse: Callable[[BinaryIO], Iterator[bytes]],
    on_bytes: Callable[[int], None] | None,
) -> Iterator[bytes]:
    """The messages of a file, with its faults as errors in words."""
    with in_words(path), path.open("rb") as raw, unpacked(path, raw) as file:
        for count, message in enumerate(parse(file), 1):
            yield message
            if on_bytes is not None and count % _TELL_EVERY == 0:
                on_bytes(raw.tell())


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """What goes wrong with a file as an error that says so."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise RowError(f"{path}: must be UTF-8, but is not: {error}; save it as UTF-8") from error
    except (csv.Error, EOFError, zlib.error, OSError) as error:
        raise RowError(f"{path}: cannot be read to its end: {error}") from error


def unpacked(path: Path, raw: BinaryIO) -> BinaryIO:
    """What a file holds, whether it is packed or not."""
    return cast(BinaryIO, gzip.open(raw)) if path.suffix == ".gz" else raw


def _json_messages(
    path: Path, file: BinaryIO, columns: dict[str, str], types: dict[str, str]
) -> Iterator[bytes]:
    if columns:
        _check_keys(path, _lines(file), columns)
        file.seek(0)
    messages: Iterator[bytes] = filter(None, map(bytes.strip, _lines(file)))
    for first in messages:
        if first[:1] == b"[" and first[1:_SHOWN].lstrip()[:1] in (b"", b"{"):
            raise RowError(
                f"{path}: must hold one JSON object a line, but begins with a list of them; write "
                "each in a line of its own, such as with jq -c '.[]'"
            )
        messages = chain([first], messages)
        break
    if not (columns or types):
        return messages
    return (_remapped(message, columns, types) for message in messages)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; without the byte order mark that editors of Windows begin a file with."""
    first = file.readline()
    return chain([first.removeprefix(BOM_UTF8)], file)


def _check_keys(path: Path, lines: Iterable[bytes], columns: Mapping[str, str]) -> None:
    """Refuse JSON lines none of which has a key that is mapped; all such keys are named."""
    sought = {msgspec.json.encode(column): column for column in columns.values()}
    there: dict[str, None] = {}
    for number, line in enumerate(lines):
        if number >= _NAMED_OF and there and not any(text in line for text in (*sought, b"\\")):
            continue  # without one of the texts, and without an escape that may stand in one
        row = _row(line)
        if row is not None:
            there |= dict.fromkeys(row)
            sought = {text: column for text, column in sought.items() if column not in row}
        if not sought:
            return
    if not there:
        return  # no line is an object, and the engine says so
    absent = {name: column for name, column in columns.items() if column in sought.values()}
    maps = ", ".join(f"--map {name}={column}" for name, column in absent.items())
    raise RowError(
        f"{path}: {maps}: no line has a key {listed(absent.values(), 'or')}; there are "
        f"{', '.join(there)}"
    )


def _json_lines(file: BinaryIO) -> Iterator[int]:
    """The line of each message, from 1 on."""
    return (number for number, line in enumerate(file, 1) if line.strip())


def _csv_lines(file: BinaryIO) -> Iterator[int]:
    """The line in which each row begins, from 1 on; the header is none of them."""
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        yield from (line for line, _ in Cells(text))


def _row(message: bytes) -> dict[str, Any] | None:
    """What a JSON object holds; None of what is none."""
    try:
        return msgspec.json.decode(message, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


def _remapped(message: bytes, columns: dict[str, str], types: dict[str, str]) -> bytes:
    """A JSON message with fields taken from other keys; what is no object stays as it is."""
    row = _row(message)
    if row is None:
        return message
    row |= {name: row[column] for name, column in columns.items() if column in row}
    if isinstance(row.get("type"), str):
        row["type"] = types.get(row["type"], row["type"])
    return msgspec.json.encode(row)


def _csv_messages(
    path: Path, file: BinaryIO, columns: dict[str, str], types: dict[str, str], on_lines: OnLines
) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    # Spreadsheets begin a file with a byte order mark.
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        rows = Cells(text, on_lines)
        header = rows.header
        check_header(path, header, [columns.get(name, name) for name in FIELDS])
        check_columns(path, columns, header)
        places = _places(header, columns)
        at_type = next(i for name, i, _ in places if name == "type")
        for line, row in rows:
            if wrong := too_many(line, row, header):
                yield encode(f"{wrong}: {','.join(row)}")
                continue
            row += [""] * (len(header) - len(row))
            row[at_type] = types.get(row[at_type], row[at_type])
            yield encode({name: convert(row[i]) for name, i, convert in places if row[i]})


def _places(
    header: Sequence[str], columns: Mapping[str, str]
) -> list[tuple[str, int, Callable[[str], Any]]]:
    """Where each field stands in a row, and how its text is taken."""
    return [
        (name, header.index(columns.get(name, name)), CONVERT.get(name, str))
        for name in FIELDS
        if columns.get(name, name) in header
    ]
