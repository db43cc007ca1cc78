"""Reads to batches: many messages at once, and only what is suspect one by one.

Clean JSON messages are parsed a thousand at a time: joined by newlines and handed to one typed
``decode_lines`` call, which is the fastest parser there is for Python and leaves a chunk small
enough to stay in cache. That alone would let bad messages join into good ones: the parser takes
any white space between two values, and none at all. So each message of such a chunk begins with
``{`` and ends with ``}``. Then no value reaches over a join: between two tokens inside of an object
``}`` and ``{`` never follow each other, and inside of a text the newline is refused. So each
message holds one value at least, and as many values as messages means one each. A chunk that does
not pass is parsed message by message.

What types and bounds cannot say is then asked of whole columns, and whatever fails there is
suspect: the careful decoder looks at it alone, finds the reason, or clears it. So a bad message
costs what it costs itself, and the other ones lose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from math import isfinite
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch, DeadLetter, Read, Span
from events.careful import Refused, decode_one, is_packed, parse
from events.columns import (
    ABSENT,
    CODE_OF_TYPE,
    Coder,
    Fields,
    amounts_minor,
    numbers,
    order_hashes,
    times_ms,
)
from events.hashing import combine, hash_texts
from events.schema import (
    ADD_TO_CART,
    MAX_AMOUNT,
    MAX_TS_MS,
    PURCHASE,
    REFUND,
    REMOVE_FROM_CART,
    TYPES,
    EventRules,
    Message,
)

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

CHUNK: Final = 1_000
"""Messages parsed in one call."""

_JSON: Final = msgspec.json.Decoder(Message)
_PACKED: Final = msgspec.msgpack.Decoder(Message)
_OPEN: Final = ord("{")
_CLOSE: Final = ord("}")
_UNKNOWN: Final = 0xFF
"""The byte of -1."""
_MONEY: Final = np.isin(np.arange(len(TYPES)), [PURCHASE, REFUND])
_CART: Final = np.isin(np.arange(len(TYPES)), [ADD_TO_CART, REMOVE_FROM_CART])


class Decoder:
    """Turns reads into batches and dead letters.

    Args:
        rules: from the settings.

    >>> read = Read("t", [b'{"event_id":"1","user_id":"ann","type":"search","ts":5}', b"?"],
    ...     np.array([-1, -1]), np.array([0, 0], np.int32), np.array([0, 1]), [Span(0, 0, 2)])
    >>> batch, letters = Decoder(EventRules())(read)
    >>> batch.users, batch.spans[0].max_ts_ms, letters[0].reason, letters[0].offset
    (['ann'], 5, 'not_a_map', 1)
    """

    def __init__(self, rules: EventRules) -> None:
        self._rules = rules
        columns = ("item", "category", "device", "country", "source")
        self._coders = {name: Coder() for name in columns}
        self._code_of_type: dict[str, int] = {
            name: CODE_OF_TYPE[name] for name in TYPES if name in rules.types
        }
        self._currencies = {None, "", rules.currency}

    def __call__(self, read: Read) -> tuple[Batch, list[DeadLetter]]:
        """The good events of a read and the letters for the others, both in log order."""
        fields, refused = self._fields(read)
        index = np.arange(len(read.payloads))
        if refused:
            index = np.delete(index, list(refused))
        batch = self._batch(fields, read, index)
        suspect = self._suspect(fields, batch, read.record_ts_ms[index])
        if suspect.any():
            found = self._judge(read, index[suspect])
            if found:
                refused |= found
                batch = batch.where(~np.isin(index, list(found)))
        np.maximum(batch.amount_minor, 0, out=batch.amount_minor)
        batch.spans = [_dated(span, batch) for span in read.spans]
        batch.more = read.more
        if len(read.record_ts_ms):
            batch.newest_record_ms = int(read.record_ts_ms.max())
        batch.partitions = read.partitions
        return batch, [_letter(read, i, refused[i]) for i in sorted(refused)]

    def _fields(self, read: Read) -> tuple[Fields, dict[int, Refused]]:
        """What the messages that parse say, and why each of the others does not."""
        fields = Fields()
        refused: dict[int, Refused] = {}
        for start in range(0, len(read.payloads), CHUNK):
            payloads = read.payloads[start : start + CHUNK]
            try:
                messages = self._parse(payloads)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                messages = self._parse_each(payloads, start, refused)
            fields.add(messages)
        return fields, refused

    def _parse(self, payloads: Sequence[bytes]) -> Sequence[Message]:
        """All messages of a chunk, or an error that names none."""
        length = np.fromiter(map(len, payloads), np.int64, len(payloads))
        if length.min() < 2 or length.max() > self._rules.max_bytes:
            raise msgspec.DecodeError
        if is_packed(payloads[0]):
            if not all(map(is_packed, payloads)):
                raise msgspec.DecodeError
            return [_PACKED.decode(payload) for payload in payloads]
        joined = b"\n".join(payloads)
        stop = np.cumsum(length + 1) - 1
        held = np.frombuffer(joined, dtype=np.uint8)
        if (held[stop - length] != _OPEN).any() or (held[stop - 1] != _CLOSE).any():
            raise msgspec.DecodeError
        if not joined.isascii():
            joined.decode()  # the parser lets pass what is not UTF-8 in fields that it skips
        messages = _JSON.decode_lines(joined)
        if len(messages) != len(payloads):
            raise msgspec.DecodeError
        return messages

    def _parse_each(
        self, payloads: Sequence[bytes], start: int, refused: dict[int, Refused]
    ) -> Sequence[Message]:
        """The messages of a chunk that parse; the others are added to ``refused``."""
        messages = []
        for i, payload in enumerate(payloads, start):
            try:
                messages.append(parse(payload, self._rules))
            except Refused as reason:
                refused[i] = reason
        return messages

    def _judge(self, read: Read, places: I64) -> dict[int, Refused]:
        """Look at suspects one by one: which are refused, and why."""
        refused = {}
        for i in places.tolist():
            try:
                decode_one(read.payloads[i], int(read.record_ts_ms[i]), self._rules)
            except Refused as reason:
                refused[i] = reason
        return refused

    def _batch(self, fields: Fields, read: Read, index: I64) -> Batch:
        """Fields as columns; a bad one where a closer look will refuse the message."""
        users, event_ids, coders = fields.user_id, fields.event_id, self._coders
        codes = bytearray(map(self._code_of_type.get, fields.type, repeat(_UNKNOWN)))
        types = np.frombuffer(codes, dtype=np.int8)
        hashes = hash_texts(users + event_ids)
        event_hash = combine(hashes[: len(users)], hashes[len(users) :])
        quantity = numbers(fields.quantity)
        return Batch(
            users=users,
            event_ids=event_ids,
            type=types,
            ts_ms=times_ms(fields.ts),
            amount_minor=amounts_minor(fields.amount, self._rules.minor_digits),
            quantity=np.where(np.isnan(quantity), 0.0, quantity).astype(np.int64),
            value=numbers(fields.value),
            event_hash=event_hash,
            order_hash=order_hashes(fields.order_id, types, event_hash),
            item=coders["item"].labels(fields.item_id),
            category=coders["category"].labels(fields.category),
            device=coders["device"].labels(fields.device),
            country=coders["country"].labels(fields.country),
            source=coders["source"].labels(fields.source),
            partition=read.partition[index],
            offset=read.offset[index],
        )

    def _suspect(self, fields: Fields, batch: Batch, record_ts_ms: I64) -> Bools:
        """Which messages a closer look must clear, bool[n]."""
        types, ts_ms, minor = batch.type, batch.ts_ms, batch.amount_minor
        most_minor = MAX_AMOUNT * 10**self._rules.minor_digits
        suspect: Bools = (types < 0) | (ts_ms < 0) | (ts_ms > MAX_TS_MS)
        suspect |= (minor < ABSENT) | (minor > most_minor) | (_MONEY[types] & (minor < 0))
        suspect |= self._out_of_time(ts_ms, record_ts_ms)
        cart = np.flatnonzero(_CART[types])
        suspect[cart] |= np.array([not fields.item_id[i] for i in cart.tolist()], dtype=np.bool_)
        if np.count_nonzero(~np.isfinite(batch.value)) > fields.value.count(None):
            suspect |= [value is not None and not isfinite(value) for value in fields.value]
        if not "".join(fields.user_id).isprintable():  # no control characters, and no odd space
            suspect |= [not user.isprintable() for user in fields.user_id]
        if not set(fields.currency) <= self._currencies:
            suspect |= [currency not in self._currencies for currency in fields.currency]
        return suspect

    def _out_of_time(self, ts_ms: I64, record_ts_ms: I64) -> Bools:
        ahead_ms = ts_ms - record_ts_ms
        out: Bools = ahead_ms > self._rules.max_ahead_ms
        if self._rules.max_age_ms is not None:
            out |= -ahead_ms > self._rules.max_age_ms
        return out & (record_ts_ms >= 0)


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
