"""Reads to batches and dead letters: the scanner takes what is clean, another decoder the rest.

Both give the same result for what both take, so how a message was decoded can never be told from
its event.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from events.batch import Batch, DeadLetter, Read, Span
from events.careful import Refused
from events.scan import Scanner
from events.schema import EventRules
from events.thorough import ThoroughDecoder


class Decoder:
    """Turns reads into batches and dead letters.

    Args:
        rules: from the settings.

    >>> read = Read("t", [b'{"event_id":"1","user_id":"ann","type":"search","ts":5}', b"?"],
    ...     np.array([-1, -1]), np.array([0, 0], np.int32), np.array([0, 1]), [Span(0, 0, 2)])
    >>> batch, letters = Decoder(EventRules())(read)
    >>> batch.users.tolist(), batch.spans[0].max_ts_ms, letters[0].reason, letters[0].offset
    (['ann'], 5, 'not_a_map', 1)
    """

    def __init__(self, rules: EventRules) -> None:
        self._scan = Scanner(rules)
        self._look = ThoroughDecoder(rules)

    def __call__(self, read: Read) -> tuple[Batch, list[DeadLetter]]:
        """The good events of a read and the letters for the others, both in log order."""
        refused: dict[int, Refused] = {}
        batch, clean = self._scan(read)
        if not clean.all():
            kept, others = np.flatnonzero(clean), np.flatnonzero(~clean)
            found = self._look(read, others)
            refused = found.refused
            order = np.argsort(np.concatenate([kept, found.places]))
            batch = Batch.joined([batch.take(kept), found.batch]).take(order)
        batch.spans = [_dated(span, batch) for span in read.spans]
        batch.more = read.more
        if len(read.record_ts_ms):
            batch.newest_record_ms = int(read.record_ts_ms.max())
        batch.partitions = read.partitions
        return batch, [_letter(read, i, refused[i]) for i in sorted(refused)]


def headers(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """The headers of a dead letter's message."""
    values = {
        "reason": letter.reason,
        "path": letter.path,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": letter.at_ms,
    }
    return [(name, str(value).encode()) for name, value in values.items()]


def _letter(read: Read, i: int, refused: Refused) -> DeadLetter:
    return DeadLetter(
        payload=read.payloads[i],
        key=None if read.keys is None else read.keys[i],
        reason=refused.reason,
        path=refused.path,
        detail=refused.detail,
        topic=read.topic,
        partition=int(read.partition[i]),
        offset=int(read.offset[i]),
        at_ms=int(read.record_ts_ms[i]),
    )


def _dated(span: Span, batch: Batch) -> Span:
    """The span with the highest event time among its good events."""
    ts_ms = batch.ts_ms[batch.partition == span.partition]
    return replace(span, max_ts_ms=int(ts_ms.max())) if len(ts_ms) else span
