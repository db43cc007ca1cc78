"""Made-up batches for what no public log holds: impressions in positions, and load."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.texts import Texts

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]


def batch(items: Texts, kinds: I8, ts_ms: I64, value: F64 | None = None) -> Batch:
    """Events of no user in particular: who they belong to is said by the groups.

    Args:
        items: of each event, n.
        kinds: codes of types of event, int8[n].
        ts_ms: int64[n].
        value: float64[n]; none if not given.
    """
    n = len(items)
    nothing, zero = Texts.absent(n), np.zeros(n, dtype=np.int64)
    columns: dict[str, Any] = {
        **dict.fromkeys(("users", "event_ids", "category", "device", "country", "source"), nothing),
        **dict.fromkeys(("amount_minor", "quantity", "offset"), zero),
        **dict.fromkeys(("event_hash", "order_hash"), zero.astype(np.uint64)),
        "type": kinds,
        "ts_ms": ts_ms,
        "value": np.full(n, np.nan) if value is None else value,
        "item": items,
        "partition": zero.astype(np.int32),
    }
    return Batch(**columns)
