"""The units that flow: a read of the log, and the batch of good events decoded from it.

A **read** is what one poll of the source returned, still bytes. A **batch** is its good events as
columns, in log order; what was bad has become dead letters. Both carry **spans**: for each source
partition, which offsets were covered. Spans chain (each starts where the last one stopped, also
over offsets that hold no event), so a lane can skip what it has and notice what it missed.

Texts are places in the bytes that the log gave (``events.texts``): inside a process nothing of them
is copied, and between processes only what a batch holds travels, as one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Span:
    """Offsets ``start`` up to, not including, ``stop`` of one source partition.

    Attributes:
        partition: the source partition.
        start: the first offset covered; the ``stop`` of the span before.
        stop: the offset that comes next.
        max_ts_ms: the highest event time among its good events; -1 where it has none.
        at_end: the partition has been read to its end, so it holds no watermark back.
    """

    partition: int
    start: int
    stop: int
    max_ts_ms: int = -1
    at_end: bool = False


@dataclass(slots=True)
class Read:
    """What one poll of the source returned: ``n`` messages, undecoded, and the spans they cover.

    Attributes:
        topic: the topic or file they came from.
        payloads: the message values, n.
        record_ts_ms: the log's own timestamp of each, int64[n]; -1 where the log has none.
        partition: int32[n].
        offset: int64[n].
        spans: what was covered, at most one per partition; ``max_ts_ms`` is not yet known.
        keys: the message keys, or None where the source has none.
        more: more input is known to wait, so whoever commits may wait for it too.
        partitions: how many the whole log has, other readers' included; 0 where nobody says.
    """

    topic: str
    payloads: list[bytes]
    record_ts_ms: I64
    partition: I32
    offset: I64
    spans: list[Span]
    keys: Sequence[bytes | None] | None = None
    more: bool = False
    partitions: int = 0


@dataclass(slots=True)
class Batch:
    """Good events as columns, in log order.

    Attributes:
        users: user ids, n.
        event_ids: event ids, n.
        type: index into ``events.schema.TYPES``, int8[n].
        ts_ms: event time, int64[n].
        amount_minor: the line's total in minor units, int64[n]; 0 where absent.
        quantity: int64[n]; 0 where absent.
        value: float64[n]; NaN where absent.
        event_hash: stable hash of user id and event id, uint64[n].
        order_hash: stable hash of the order id (of the event id where there is none), uint64[n];
            only purchases and refunds carry one, the others 0.
        item, category, device, country, source: text columns.
        partition: int32[n].
        offset: int64[n].
        spans: what the read behind this batch covered, with ``max_ts_ms`` filled in.
        more: more input is known to wait.
        newest_record_ms: the log's latest timestamp in that read; -1 where the log has none.
        partitions: how many the whole log has; 0 where nobody says.
        seen_ms: the highest event time of its read up to each event, int64[n], where the read had
            more events than are left; else None.
    """

    users: Texts
    event_ids: Texts
    type: I8
    ts_ms: I64
    amount_minor: I64
    quantity: I64
    value: F64
    event_hash: U64
    order_hash: U64
    item: Texts
    category: Texts
    device: Texts
    country: Texts
    source: Texts
    partition: I32
    offset: I64
    spans: list[Span] = field(default_factory=list)
    more: bool = False
    newest_record_ms: int = -1
    partitions: int = 0
    seen_ms: I64 | None = None

    def __len__(self) -> int:
        return len(self.users)

    def seen(self) -> I64:
        """The highest event time of its read up to each event, int64[n]."""
        return np.maximum.accumulate(self.ts_ms) if self.seen_ms is None else self.seen_ms

    def where(self, keep: Bools) -> Batch:
        """Only the events to keep, bool[n]; the spans stay whole."""
        return self.take(np.flatnonzero(keep))

    def take(self, index: I64) -> Batch:
        """Some of the events, int64[k], in that order; the spans stay whole."""
        return Batch(
            **{name: getattr(self, name)[index] for name in _NUMBERS},
            **{name: getattr(self, name).take(index) for name in _TEXTS},
            spans=self.spans,
            more=self.more,
            newest_record_ms=self.newest_record_ms,
            partitions=self.partitions,
            seen_ms=None if self.seen_ms is None else self.seen_ms[index],
        )

    @staticmethod
    def chained(batches: Sequence[Batch]) -> Batch:
        """Batches in the order of their reads as one; spans that follow on each other are joined.

        Where one does not, both stay, so that whoever takes the batch notices the gap.
        """
        if len(batches) == 1:
            return batches[0]
        out, gaps = Batch.joined(batches), []
        if out.seen_ms is not None:
            out.seen_ms = _seen_in_order(batches)
        spans: dict[int, Span] = {}
        for span in (span for batch in batches for span in batch.spans):
            before = spans.get(span.partition)
            if before is not None and span.start <= before.stop:
                most_ms = max(before.max_ts_ms, span.max_ts_ms)
                stop = max(before.stop, span.stop)
                spans[span.partition] = replace(
                    span, start=before.start, stop=stop, max_ts_ms=most_ms
                )
            elif before is None:
                spans[span.partition] = span
            else:
                gaps.append(span)
        out.spans = [*spans.values(), *gaps]
        out.more = batches[-1].more
        out.newest_record_ms = max(batch.newest_record_ms for batch in batches)
        out.partitions = max(batch.partitions for batch in batches)
        return out

    @staticmethod
    def joined(parts: Sequence[Batch]) -> Batch:
        """The events of all parts, one part after another; without spans."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _NUMBERS
        }
        for name in _TEXTS:
            columns[name] = Texts.joined([getattr(part, name) for part in parts])
        if any(part.seen_ms is not None for part in parts):
            columns["seen_ms"] = np.concatenate([part.seen() for part in parts])
        return Batch(**columns)


def _seen_in_order(batches: Sequence[Batch]) -> I64:
    """What each event was seen after, also of the events of other lanes in the reads before."""
    out, before_ms = [], -1
    for batch in batches:
        out.append(np.maximum(batch.seen(), before_ms))
        before_ms = max([before_ms, *(span.max_ts_ms for span in batch.spans)])
    return np.concatenate(out)


_NUMBERS: Final = (
    "type",
    "ts_ms",
    "amount_minor",
    "quantity",
    "value",
    "event_hash",
    "order_hash",
    "partition",
    "offset",
)
_TEXTS: Final = ("users", "event_ids", "item", "category", "device", "country", "source")


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """One message that could not become an event, with the reason and where it came from.

    Attributes:
        payload, key: the original bytes.
        reason: a short code from ``events.schema.REASONS``.
        path: what in the message is at fault, such as ``$.amount``; empty for the whole.
        detail: the sentence for people: what must hold and what came.
        topic, partition, offset: its place in the log; together its id.
        at_ms: the log's timestamp of the message; -1 where it has none.
    """

    payload: bytes
    key: bytes | None
    reason: str
    path: str
    detail: str
    topic: str
    partition: int
    offset: int
    at_ms: int
