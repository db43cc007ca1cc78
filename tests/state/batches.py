"""Batches for tests: only the columns that matter are given."""

import numpy as np

from events.batch import Batch
from events.texts import Texts


def batch_of(**columns) -> Batch:
    """A batch with the given columns; ``item`` is a list of texts or None."""
    n = len(columns["type"])

    def column(name, dtype):
        return np.array(columns.get(name, [0] * n), dtype=dtype)

    return Batch(
        users=Texts.of(columns.get("users", [""] * n)),
        event_ids=Texts.of([""] * n),
        type=column("type", np.int8),
        ts_ms=column("ts_ms", np.int64),
        amount_minor=column("amount_minor", np.int64),
        quantity=column("quantity", np.int64),
        value=np.full(n, np.nan),
        event_hash=column("event_hash", np.uint64),
        order_hash=column("order_hash", np.uint64),
        item=Texts.of(columns.get("item", [None] * n)),
        category=Texts.absent(n),
        device=Texts.absent(n),
        country=Texts.absent(n),
        source=Texts.absent(n),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(n),
    )
