"""The item table's form in the store: one record per item, read by any lane at its start.

A record is of fixed width and names neighbours by hash, because rows mean something within one
process only; the name of the category follows it. Weights are given with the landmark they count
from, so that records of different times can be mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from models import esteem
from models.items import SEGMENTS_MOST, ItemTable
from models.neighbours import NOBODY, Neighbours
from state.times import NEVER_MS

I64 = NDArray[np.int64]

_PLAIN = ("first_ms", "last_ms", "price", "available")
_WEIGHTS = ("popularity", "impressions", "clicks")
_MORE = ("trend", "by_segment", "cosine.users", *esteem.SUMS)
TREND, SEGMENTS, COSINE, ESTEEM = 1, 2, 4, 8
"""Parts that a record may have beside those of the first version."""
_PARTS: Final = 1 << 12
"""``near`` holds the number of places, below this, and the parts above it."""


def _record(parts: int, near: int, together: int) -> np.dtype[np.void]:
    trend = [("trend", "<f8")] if parts & TREND else []
    segments = [("by_segment", "<f4", (SEGMENTS_MOST,))] if parts & SEGMENTS else []
    said = [(name, "<f4") for name in esteem.SUMS] if parts & ESTEEM else []
    cosine = [
        ("cosine.users", "<f8"),
        ("cosine.hash", "<u8", (near,)),
        ("cosine.weight", "<f4", (near,)),
    ]
    return np.dtype(
        [
            ("near", "<u2"),
            ("together", "<u2"),
            ("landmark_ms", "<i8"),
            ("popularity", "<f8"),
            ("impressions", "<f4"),
            ("clicks", "<f4"),
            ("first_ms", "<i8"),
            ("last_ms", "<i8"),
            ("price", "<i8"),
            ("available", "?"),
            *trend,
            *segments,
            *said,
            ("covisits.hash", "<u8", (near,)),
            ("covisits.weight", "<f4", (near,)),
            ("together.hash", "<u8", (together,)),
            ("together.weight", "<f4", (together,)),
            *(cosine if parts & COSINE else ()),
        ]
    )


def pack_items(items: ItemTable, rows: I64) -> tuple[list[bytes], list[bytes]]:
    """Fields (ids) and values (records) of some items."""
    table = items.table
    near, together = items.covisits.places, items.together.places
    parts = TREND | ESTEEM | SEGMENTS * items.tells_apart | COSINE * bool(items.cosine.places)
    out = np.zeros(len(rows), dtype=_record(parts, near, together))
    out["near"], out["together"] = near + parts * _PARTS, together
    out["landmark_ms"] = items.landmark_ms
    for name in (*_PLAIN, *_WEIGHTS, *_MORE):
        if name in (out.dtype.names or ()):
            out[name] = table[name][rows]
    for name, kind in _kinds(items, out):
        beside = kind.item[rows]
        out[f"{name}.hash"] = np.where(beside == NOBODY, 0, table["hash"][beside])
        out[f"{name}.weight"] = kind.weight[rows]
    raw, size = out.tobytes(), out.dtype.itemsize
    categories = items.categories.texts(table["category"][rows]).bytes_list()
    values = [raw[i * size : (i + 1) * size] + text for i, text in enumerate(categories)]
    return items.ids.texts(rows).bytes_list(), values


def load_items(
    items: ItemTable,
    fields: Sequence[bytes],
    values: Sequence[bytes],
    segments: Sequence[str] = (),
) -> None:
    """Add stored items to an empty table.

    Args:
        items: the table.
        fields: the items' ids, as ``pack_items`` gave them at any time.
        values: their records.
        segments: the names of the segments then.
    """
    if items.tells_apart:
        items.segments = list(segments)
    by_form: dict[tuple[int, int, int], list[int]] = {}
    for place, value in enumerate(values):
        near, together = np.frombuffer(value[:4], "<u2").tolist()
        by_form.setdefault((*divmod(near, _PARTS), together), []).append(place)
    rows = items.rows(Texts.of_bytes(list(fields)))
    for form, places in by_form.items():
        dtype = _record(*form)
        raw = b"".join(values[k][: dtype.itemsize] for k in places)
        held = np.frombuffer(raw, dtype)
        names = Texts.of_bytes([values[k][dtype.itemsize :] or None for k in places])
        _load(items, rows[places], held, names)
    items.table["changed"][: len(items)] = False
    items.find_popular()


def _load(items: ItemTable, rows: I64, held: NDArray[np.void], categories: Texts) -> None:
    table = items.table
    newest_ms = int(held["landmark_ms"].max())
    if items.landmark_ms == NEVER_MS:
        items.landmark_ms = newest_ms
    elif newest_ms > items.landmark_ms:
        items.rebase(newest_ms)
    back_ms = held["landmark_ms"] - float(items.landmark_ms)
    scale = 2.0 ** (back_ms / items.plan.half_life_ms)
    for name in _PLAIN:
        table[name][rows] = held[name]
    for name in _WEIGHTS:
        table[name][rows] = held[name] * scale
    parts = held.dtype.names or ()
    if "trend" in parts:
        table["trend"][rows] = held["trend"] * 2.0 ** (back_ms / items.plan.trend_ms)
    for name in esteem.SUMS:
        if name in parts:
            table[name][rows] = held[name] * scale
    if "by_segment" in parts and items.tells_apart:
        table["by_segment"][rows] = held["by_segment"] * scale[:, None]
    table["category"][rows] = items.categories.number(categories)
    if items.cosine.places and "cosine.users" in (held.dtype.names or ()):
        items.cosine.users[rows] = held["cosine.users"] * scale
    for name, kind in _kinds(items, held):
        _load_neighbours(items, kind, rows, held[f"{name}.hash"], held[f"{name}.weight"], scale)


def _kinds(items: ItemTable, held: NDArray[np.void]) -> list[tuple[str, Neighbours]]:
    """The neighbourhoods that there are and that records tell of."""
    kinds = {"covisits": items.covisits, "together": items.together, "cosine": items.cosine}
    told = held.dtype.names or ()
    return [(n, kind) for n, kind in kinds.items() if kind.places and f"{n}.hash" in told]


def _load_neighbours(
    items: ItemTable,
    kind: Neighbours,
    rows: I64,
    hashes: NDArray[np.uint64],
    weights: NDArray[np.float32],
    scale: NDArray[np.float64],
) -> None:
    near = items.find(hashes.copy())  # in a record they are not aligned
    weights = np.where(near == NOBODY, -1.0, weights * scale[:, None]).astype(np.float32)
    order = np.argsort(-weights, axis=1, kind="stable")[:, : kind.places]
    count = order.shape[1]
    kind.item[rows, :count] = np.take_along_axis(near, order, axis=1)
    kind.weight[rows, :count] = np.maximum(np.take_along_axis(weights, order, axis=1), 0.0)
