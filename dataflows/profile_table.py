"""Profiles as a Parquet file: what all profiles have as columns, everything as a document.

Times are timestamps in UTC, money is integers in minor units. What the settings name (features,
scores, segments) are maps, so that files of other settings have the same columns. The column
``document`` holds the whole profile as JSON, for what has no column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

_ROWS: Final = 10_000
"""Profiles of one row group."""

_COUNTS: Final = {
    "lifetime": ("events", "orders", "spend", "refunds"),
    "window": ("orders", "spend"),
}
_TIMES: Final = ("as_of", "first_seen", "last_seen", "last_order")
_WHOLE: Final = ("commit", "changes")
_KNOWN: Final = {*_TIMES, *_WHOLE, *_COUNTS, "v", "user_id"}


def write_table(documents: Iterable[bytes], out: Path) -> int:
    """Write profiles to a Parquet file; how many there were.

    Args:
        documents: profiles in MessagePack, as they stand in the store.
        out: the file; what it held is replaced once all is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(pa)
    part, count = out.with_name(f".{out.name}.part"), 0
    profiles: Iterator[dict[str, Any]] = map(msgspec.msgpack.decode, documents)
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            while some := list(islice(profiles, _ROWS)):
                writer.write_table(pa.Table.from_pylist(list(map(_row, some)), schema=schema))
                count += len(some)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return count


def _schema(pa: Any) -> Any:
    time, whole, number, text = pa.timestamp("ms", tz="UTC"), pa.int64(), pa.float64(), pa.string()
    membership = pa.struct([("since", time), ("version", whole), ("valid_to", time)])
    rfm = [("recency_days", whole), ("r", whole), ("f", whole), ("m", whole), ("label", text)]
    fields = [
        ("user_id", text),
        *((name, time) for name in _TIMES),
        *((name, whole) for name in _WHOLE),
        *((name, pa.struct([(part, whole) for part in parts])) for name, parts in _COUNTS.items()),
        ("decayed", pa.struct([("orders", number), ("spend", number)])),
        ("rfm", pa.struct(rfm)),
        ("features", pa.map_(text, number)),
        ("scores", pa.map_(text, number)),
        ("segments", pa.map_(text, membership)),
        ("document", text),
    ]
    return pa.schema(fields)


def _row(profile: Mapping[str, Any]) -> dict[str, Any]:
    """One profile as a row; a column takes what it has names for.

    >>> row = _row({"user_id": "ann", "intent": 1.5, "segments": {}, "scores": {"churn": 0.2}})
    >>> row["features"], row["scores"], row["segments"]
    ([('intent', 1.5)], [('churn', 0.2)], [])
    """
    return {
        **{name: profile.get(name) for name in (*_KNOWN, "decayed", "rfm")},
        "features": _numbers({k: v for k, v in profile.items() if k not in _KNOWN}),
        "scores": _numbers(profile.get("scores") or {}),
        "segments": list((profile.get("segments") or {}).items()),
        "document": msgspec.json.encode(profile).decode(),
    }


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Those values that are numbers."""
    return [
        (name, float(value))
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
