"""Batches for tests: only the columns that matter are given."""

import numpy as np

from events.batch import Batch, Labels


def batch_of(**columns) -> Batch:
    """A batch with the given columns; ``item`` is a list of texts or None."""
    n = len(columns["type"])

    def column(name, dtype):
        return np.array(columns.get(name, [0] * n), dtype=dtype)

    return Batch(
        users=columns.get("users", [""] * n),
        event_ids=[""] * n,
        type=column("type", np.int8),
        ts_ms=column("ts_ms", np.int64),
        amount_minor=column("amount_minor", np.int64),
        quantity=column("quantity", np.int64),
        value=np.full(n, np.nan),
        event_hash=column("event_hash", np.uint64),
        order_hash=column("order_hash", np.uint64),
        item=labels(columns.get("item", [None] * n)),
        category=labels([None] * n),
        device=labels([None] * n),
        country=labels([None] * n),
        source=labels([None] * n),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(n),
    )


def labels(texts) -> Labels:
    """A text column."""
    values = sorted({text for text in texts if text is not None})
    code = {text: i for i, text in enumerate(values)} | {None: -1}
    return Labels(np.array([code[text] for text in texts], dtype=np.int32), values)
