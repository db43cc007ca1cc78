"""The units that flow: a read of the log, and the batch of good events decoded from it.

A **read** is what one poll of the source returned, still bytes. A **batch** is its good events as
columns, in log order; what was bad has become dead letters. Both carry **spans**: for each source
partition, which offsets were covered. Spans chain (each starts where the last one stopped, also
over offsets that hold no event), so a lane can skip what it has and notice what it missed.

Inside a process text columns are lists of ``str``; between processes they travel joined, because
one long string is pickled hundreds of times faster than a list of short ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import compress, pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
T = TypeVar("T")

Texts = Sequence[str | None]
CodeTexts = Callable[[Texts], tuple[I32, list[str]]]
"""Texts to codes, int32[n], -1 where absent, and the texts that codes are indexes into."""


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


class Labels:
    """A text column as codes into its distinct values.

    Coding costs a dictionary access per event, and many columns are asked for by nobody, so a
    column may come as texts with the function that codes them, and is coded at the first look.

    Args:
        codes: int32[n], -1 where absent.
        values: the texts that codes are indexes into; those in use at least.

    Attributes:
        codes, values: the same.
    """

    __slots__ = ("_coded", "_pending")

    def __init__(self, codes: I32, values: list[str]) -> None:
        self._coded: tuple[I32, list[str]] | None = (codes, values)
        self._pending: tuple[Texts, CodeTexts, Bools | None] | None = None

    @classmethod
    def of(cls, texts: Texts, code: CodeTexts, keep: Bools | None = None) -> Labels:
        """A column not coded yet: ``texts`` (those to ``keep``), and what will code them."""
        labels = cls.__new__(cls)
        labels._coded, labels._pending = None, (texts, code, keep)
        return labels

    @property
    def codes(self) -> I32:
        """Int32[n], -1 where absent."""
        return self._code()[0]

    @property
    def values(self) -> list[str]:
        """The texts that codes are indexes into."""
        return self._code()[1]

    def where(self, keep: Bools) -> Labels:
        """Only the rows to keep, bool[n]; the values stay."""
        if self._pending is None:
            return Labels(self.codes[keep], self.values)
        texts, code, kept = self._pending
        return Labels.of(texts if kept is None else _pick(texts, kept), code, keep)

    def _code(self) -> tuple[I32, list[str]]:
        if self._pending is not None:
            texts, code, kept = self._pending
            self._coded = code(texts if kept is None else _pick(texts, kept))
            self._pending = None
        assert self._coded is not None
        return self._coded

    def __reduce__(self) -> tuple[type[Labels], tuple[I32, list[str]]]:
        codes, texts = self._code()
        used = np.unique(codes)
        used = used[used >= 0]
        values = [texts[code] for code in used.tolist()]
        packed = np.searchsorted(used, codes).astype(np.int32)
        return Labels, (np.where(codes < 0, np.int32(-1), packed), values)


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
    """

    users: list[str]
    event_ids: list[str]
    type: I8
    ts_ms: I64
    amount_minor: I64
    quantity: I64
    value: F64
    event_hash: U64
    order_hash: U64
    item: Labels
    category: Labels
    device: Labels
    country: Labels
    source: Labels
    partition: I32
    offset: I64
    spans: list[Span] = field(default_factory=list)
    more: bool = False
    newest_record_ms: int = -1
    partitions: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def where(self, keep: Bools) -> Batch:
        """Only the events to keep, bool[n]; the spans stay whole."""
        return Batch(
            users=_pick(self.users, keep),
            event_ids=_pick(self.event_ids, keep),
            **{name: getattr(self, name)[keep] for name in _NUMBERS},
            **{name: getattr(self, name).where(keep) for name in _TEXTS},
            spans=self.spans,
            more=self.more,
            newest_record_ms=self.newest_record_ms,
            partitions=self.partitions,
        )

    def __reduce__(self) -> tuple[Callable[..., Batch], tuple[Any, ...]]:
        columns = [getattr(self, name) for name in (*_NUMBERS, *_TEXTS)]
        ids = (_join(self.users), _join(self.event_ids))
        rest = (self.spans, self.more, self.newest_record_ms, self.partitions)
        return _unpickle, (*ids, *columns, *rest)


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
_TEXTS: Final = ("item", "category", "device", "country", "source")


def _pick(texts: Sequence[T], keep: Bools) -> list[T]:
    """The texts to keep; the mask is walked as bytes, which is several times faster."""
    return list(compress(texts, keep.tobytes()))


def _join(texts: list[str]) -> tuple[str, I32]:
    """Texts as one string and their lengths."""
    return "".join(texts), np.fromiter(map(len, texts), np.int32, len(texts))


def _split(joined: str, lengths: I32) -> list[str]:
    ends = np.cumsum(lengths).tolist()
    return [joined[a:b] for a, b in pairwise([0, *ends])]


def _unpickle(users: tuple[str, I32], event_ids: tuple[str, I32], *rest: Any) -> Batch:
    *columns, spans, more, newest, partitions = rest
    named = dict(zip((*_NUMBERS, *_TEXTS), columns, strict=True))
    texts = _split(*users), _split(*event_ids)
    return Batch(
        *texts, **named, spans=spans, more=more, newest_record_ms=newest, partitions=partitions
    )


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
