"""Parquet files of events as messages by the contract, the same that a JSON line would be.

Columns are found under the contract's names, as in a CSV; others are not read. A null is an absent
field. What a column may hold follows from what it is for: ``ts`` times with a zone, epoch
milliseconds or RFC 3339 texts; ``amount`` decimals, numbers or texts; ``context`` a struct, a map,
or a text that holds a JSON object. Dictionaries are what they stand for. Whole numbers may come as
floats, which is what pandas makes of a column with gaps.

Whatever a row holds, it becomes a message, so that the engine says what is wrong with it. A column
of a type that can never be right, and a file that cannot be read, are errors here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from events.row_columns import FIELDS, RowError, check_columns

_ROWS: Final = 4_096
"""Rows that are in memory at once."""

_NUMBERS: Final = ("ts", "quantity", "value", "amount")
_WHOLE: Final = ("ts", "quantity")
Convert = Callable[[Any], Any]

_LONGEST: Final = 2**53
"""Above this a float is not a whole number for certain."""


def parquet_messages(
    path: Path,
    columns: Mapping[str, str],
    types: Mapping[str, str],
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """The messages of a file, in its order, as JSON.

    Args:
        path: the file.
        columns: contract field to the column it is taken from.
        types: a value of ``type`` in the file to the contract's.
        on_bytes: told now and then how many bytes of the file have been read, about.

    Raises:
        RowError: the file is no Parquet, a column is missing or of a type that cannot be right, or
            its data are damaged.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise RowError(
            f"{path}: Parquet needs the package pyarrow, which is not there: {error}; "
            "pip install pyarrow, or give CSV or JSON lines"
        ) from error
    with _in_words(path), pq.ParquetFile(path) as file:
        places = _places(path, file.schema_arrow, columns)
    return _all(path, places, types, on_bytes)


def _all(
    path: Path,
    places: Mapping[str, tuple[str, Convert]],
    types: Mapping[str, str],
    on_bytes: Callable[[int], None] | None,
) -> Iterator[bytes]:
    import pyarrow.parquet as pq

    with _in_words(path), pq.ParquetFile(path) as file:
        total, size, done = file.metadata.num_rows, path.stat().st_size, 0
        wanted = sorted({column for column, _ in places.values()})
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
            yield from _messages(batch, places, types)
            done += batch.num_rows
            if on_bytes is not None:
                on_bytes(size * done // max(total, 1))


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """What goes wrong with a file as an error that says so."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise RowError(f"{path}: texts must be UTF-8, but one is not: {error}") from error
    except (pa.ArrowException, OSError, LookupError, ValueError, MemoryError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise RowError(
            f"{path}: is not a Parquet file that can be read to its end: {said}"
        ) from error


def _places(path: Path, schema: Any, columns: Mapping[str, str]) -> dict[str, tuple[str, Convert]]:
    """By field the column that it is taken from, and how its values are taken."""
    places: dict[str, tuple[str, Convert]] = {}
    for name in (*FIELDS, "context"):
        column = columns.get(name, name)
        found = schema.get_all_field_indices(column)
        if len(found) > 1:
            raise RowError(f"{path}: there are {len(found)} columns {column!r}; one is needed")
        if found:
            places[name] = (column, _converter(path, name, schema.field(found[0])))
    check_columns(path, columns, schema.names)
    return places


def _converter(path: Path, name: str, field: Any) -> Convert:
    """How values of a column become those of a field.

    Raises:
        RowError: they never can.
    """
    import pyarrow.types as kinds

    kind = field.type
    while kinds.is_dictionary(kind):
        kind = kind.value_type
    texts = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
    if kinds.is_null(kind):
        return _same
    if name == "context":
        if kinds.is_struct(kind) or kinds.is_map(kind):
            return _nested
        if texts:
            return _json_text
        raise _wrong(path, name, field, "a struct, a map, or texts that hold JSON objects")
    if texts:
        return _same
    if any(is_bytes(kind) for is_bytes in _bytes(kinds)):
        return bytes.decode
    if name == "ts" and kinds.is_timestamp(kind):
        if kind.tz is None:
            raise _wrong(
                path, name, field, "times with a zone (such as UTC), or epoch milliseconds"
            )
        return _epoch_ms
    if kinds.is_integer(kind):
        return _same if name in _NUMBERS else str
    if kinds.is_floating(kind) and name in _NUMBERS:
        return _whole if name in _WHOLE else _finite
    if kinds.is_decimal(kind) and name in _NUMBERS:
        return _number_of_decimal if name != "amount" else _plain_decimal
    needed = {
        "ts": "times with a zone, epoch milliseconds, or RFC 3339 texts",
        "amount": "decimals, numbers or texts",
        "quantity": "whole numbers",
        "value": "numbers",
    }
    raise _wrong(path, name, field, needed.get(name, "texts"))


def _bytes(kinds: Any) -> tuple[Callable[[Any], bool], ...]:
    """Whether a type holds bytes."""
    return (
        *(kinds.is_binary, kinds.is_large_binary),
        *(kinds.is_binary_view, kinds.is_fixed_size_binary),
    )


def _wrong(path: Path, name: str, field: Any, needed: str) -> RowError:
    return RowError(
        f"{path}: the column {field.name!r}, taken for {name!r}, must hold {needed}, but holds "
        f"{field.type}; convert it, or take another with --map {name}=<column>"
    )


def _messages(
    batch: Any, places: Mapping[str, tuple[str, Convert]], types: Mapping[str, str]
) -> Iterator[bytes]:
    encode = msgspec.json.Encoder(decimal_format="number").encode
    held = [
        _values(name, batch.column(batch.schema.get_field_index(column)), convert)
        for name, (column, convert) in places.items()
    ]
    names = list(places)
    at_type = names.index("type")
    held[at_type] = [types.get(kind, kind) for kind in held[at_type]]
    for row in zip(*held, strict=True):
        yield encode({n: value for n, value in zip(names, row, strict=True) if value is not None})


def _values(name: str, column: Any, convert: Convert) -> Sequence[Any]:
    import pyarrow as pa

    if name == "ts" and pa.types.is_timestamp(column.type):
        # below a millisecond nothing is kept, before and after 1970 alike
        return [None if v is None else convert(v) for v in _ticks(column)]
    values = column.to_pylist()
    return values if convert is _same else [None if v is None else convert(v) for v in values]


def _ticks(column: Any) -> Iterator[tuple[int, int] | None]:
    """(ticks since the epoch, ticks of a millisecond) of each time: no time is out of range."""
    import pyarrow as pa

    per_s = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[column.type.unit]
    for tick in column.cast(pa.int64()).to_pylist():
        yield None if tick is None else (tick, per_s)


def _epoch_ms(tick: tuple[int, int]) -> int:
    return tick[0] * 1000 // tick[1]


def _same(value: Any) -> Any:
    return value


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _whole(value: float) -> float | int | str:
    """A whole number that came as a float; what is none stays, and the engine refuses it."""
    if math.isfinite(value) and value == int(value) and abs(value) <= _LONGEST:
        return int(value)
    return _finite(value)


def _plain_decimal(value: Decimal) -> str:
    """A decimal without an exponent, as the contract has it."""
    return format(value, "f")


def _number_of_decimal(value: Decimal) -> float | int | str:
    return int(value) if value == value.to_integral_value() else float(value)


def _json_text(text: str) -> Any:
    """What a text holds as JSON; else the text, and the engine says that it is no object."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _nested(value: Any) -> Any:
    """A value of a struct or map as JSON has it; what is null in a struct is not there."""
    if isinstance(value, dict):
        return {key: _nested(v) for key, v in value.items() if v is not None}
    if isinstance(value, list):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return {str(key): _nested(v) for key, v in value if v is not None}
        return [_nested(v) for v in value]
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value
