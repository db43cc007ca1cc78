"""Memberships that end undecided, because their definition or their user is no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.changes import Kind
from state.decisions import Decided
from state.memberships import U64
from state.naming import Naming
from state.table import Table

I64 = NDArray[np.int64]


def ended(
    table: Table,
    naming: Naming,
    rows: I64,
    before: U64,
    ending: np.uint64,
    now_ms: I64,
    kind: Kind,
    decided_at_ms: int,
    values: Sequence[bytes] | None = None,
    thresholds: bytes = b"{}",
) -> Decided | None:
    """The exits of some users, one for each membership that ends; counts them in the table.

    Args:
        table: the lane's.
        naming: what places stand for.
        rows: distinct, int64[n].
        before: what each is in, by place, uint64[n].
        ending: the memberships that end, by place.
        now_ms: when, int64[n].
        kind: why.
        decided_at_ms: when that was decided.
        values: for the cause of each row's exits, as JSON, n; nothing if None.
        thresholds: for all causes, as JSON.

    Returns:
        The exits in the order of rows and places; None if there are none.
    """
    some = np.flatnonzero(before & ending)
    bits = np.flatnonzero([int(ending) >> place & 1 for place in range(len(naming.names))])
    has = (before[some, None] >> bits.astype(np.uint64) & np.uint64(1)) != 0
    index, which = np.nonzero(has)
    if not len(index):
        return None
    rows, before, now_ms = rows[some], before[some], now_ms[some]
    place = bits[which]
    first = np.searchsorted(index, index)
    n = table["changes"][rows][index].astype(np.int64) + np.arange(1, len(index) + 1) - first
    turned = np.left_shift(np.uint64(1), place.astype(np.uint64))
    gone = np.append(np.uint64(0), np.bitwise_xor.accumulate(turned))
    table["changes"][rows] += np.bincount(index, minlength=len(rows)).astype(np.uint32)
    count = len(index)
    why = [b"{}"] * count if values is None else [values[i] for i in some[index].tolist()]
    return Decided(
        naming=naming,
        row=rows[index],
        segment=place,
        entered=np.zeros(count, dtype=np.bool_),
        ts_ms=now_ms[index],
        n=n,
        mask=before[index] ^ gone[1:] ^ gone[first],
        kind=kind,
        decided_at_ms=decided_at_ms,
        event_id=Texts.absent(count),
        late=np.zeros(count, dtype=np.bool_),
        values=why,
        thresholds=[thresholds] * count,
    )
