"""Reads to batches: many messages at once, and only what is suspect one by one.

Clean JSON messages are parsed a thousand at a time: joined by newlines and handed to one typed
``decode_lines`` call, which is the fastest parser there is for Python and leaves a chunk small
enough to stay in cache. A count of the newlines proves that no message reaches into the next one;
otherwise two bad messages could join into good ones. A chunk that does not parse is parsed message
by message.

What types and bounds cannot say is then asked of whole columns, and whatever fails there is
suspect: the careful decoder looks at it alone, finds the reason, or clears it. So a bad message
costs what it costs itself, and the other ones lose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch, DeadLetter, Read, Span
from events.careful import Refused, check, is_packed, parse
from events.columns import (
    CODE_OF_TYPE,
    Coder,
    amounts_minor,
    is_object,
    numbers,
    order_hashes,
    times_ms,
)
from events.hashing import combine, hash_texts
from events.schema import (
    ADD_TO_CART,
    MAX_AMOUNT,
    MAX_TS_MS,
    NO_CONTEXT,
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

    def __call__(self, read: Read) -> tuple[Batch, list[DeadLetter]]:
        """The good events of a read, in log order, and the letters for the others."""
        letters: list[DeadLetter] = []
        messages: list[Message] = []
        refused: list[int] = []
        for start in range(0, len(read.payloads), CHUNK):
            payloads = read.payloads[start : start + CHUNK]
            try:
                messages += self._parse(payloads)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                messages += self._parse_each(payloads, read, start, refused, letters)
        index = np.arange(len(read.payloads))
        if refused:
            index = np.delete(index, refused)
        batch, suspect = self._columns(messages, read, index)
        if suspect.any():
            good = self._clear(messages, read, index, suspect, letters)
            batch = batch.take(np.flatnonzero(good))
        batch.spans = [_dated(span, batch) for span in read.spans]
        batch.more = read.more
        if len(read.record_ts_ms):
            batch.newest_record_ms = int(read.record_ts_ms.max())
        return batch, letters

    def _parse(self, payloads: Sequence[bytes]) -> list[Message]:
        """All messages of a chunk, or a ``DecodeError`` that names none."""
        if max(map(len, payloads)) > self._rules.max_bytes:
            raise msgspec.DecodeError
        if is_packed(payloads[0]):
            if not all(map(is_packed, payloads)):
                raise msgspec.DecodeError
            return [_PACKED.decode(payload) for payload in payloads]
        joined = b"\n".join(payloads)
        messages = _JSON.decode_lines(joined)
        if len(messages) != len(payloads) or joined.count(b"\n") != len(payloads) - 1:
            raise msgspec.DecodeError
        return messages

    def _parse_each(
        self,
        payloads: Sequence[bytes],
        read: Read,
        start: int,
        refused: list[int],
        letters: list[DeadLetter],
    ) -> list[Message]:
        """The messages of a chunk that parse; the places of the others, and their letters."""
        messages = []
        for i, payload in enumerate(payloads, start):
            try:
                messages.append(parse(payload, self._rules))
            except Refused as reason:
                refused.append(i)
                letters.append(_letter(read, i, reason))
        return messages

    def _clear(
        self,
        messages: list[Message],
        read: Read,
        index: I64,
        suspect: Bools,
        letters: list[DeadLetter],
    ) -> Bools:
        """Look at the suspects one by one: which events are good, bool[n]."""
        good = np.ones(len(messages), dtype=np.bool_)
        for place in np.flatnonzero(suspect).tolist():
            i = int(index[place])
            try:
                check(messages[place], int(read.record_ts_ms[i]), self._rules)
            except Refused as reason:
                good[place] = False
                letters.append(_letter(read, i, reason))
        return good

    def _columns(self, messages: list[Message], read: Read, index: I64) -> tuple[Batch, Bools]:
        """Messages as columns, and which of them a closer look must clear, bool[n]."""
        rules = self._rules
        users = [m.user_id for m in messages]
        event_ids = [m.event_id for m in messages]
        names = [m.type for m in messages]
        types = np.array(list(map(self._code_of_type.get, names, repeat(-1))), dtype=np.int8)
        ts_ms = times_ms([m.ts for m in messages])
        amounts = [m.amount for m in messages]
        amount_minor, has_amount = amounts_minor(amounts, rules.minor_digits)
        values = [m.value for m in messages]
        value = numbers(values, "f8", np.nan)
        coders = self._coders
        item = coders["item"].labels([m.item_id for m in messages])
        suspect = (types < 0) | (ts_ms < 0) | (ts_ms > MAX_TS_MS)
        suspect |= _MONEY[types] & ~has_amount
        suspect |= _CART[types] & (item.codes < 0)
        suspect |= (amount_minor > MAX_AMOUNT * 10**rules.minor_digits) | np.isinf(value)
        suspect |= self._out_of_time(ts_ms, read.record_ts_ms[index])
        if (
            _has_odd_texts(messages, users, rules)
            or np.count_nonzero(~has_amount) != amounts.count(None)
            or np.count_nonzero(np.isnan(value)) != values.count(None)
        ):
            suspect[:] = True
        event_hash = combine(hash_texts(users), hash_texts(event_ids))
        batch = Batch(
            users=users,
            event_ids=event_ids,
            type=types,
            ts_ms=ts_ms,
            amount_minor=amount_minor,
            quantity=numbers([m.quantity for m in messages], "i8", 0),
            value=value,
            event_hash=event_hash,
            order_hash=order_hashes(messages, types, event_hash),
            item=item,
            category=coders["category"].labels([m.category for m in messages]),
            device=coders["device"].labels([m.device for m in messages]),
            country=coders["country"].labels([m.country for m in messages]),
            source=coders["source"].labels([m.source for m in messages]),
            partition=read.partition[index],
            offset=read.offset[index],
        )
        return batch, suspect

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


def _has_odd_texts(messages: list[Message], users: list[str], rules: EventRules) -> bool:
    """Whether some text or context of the messages may be refused; nobody knows yet which."""
    return (
        not "".join(users).isprintable()  # no control characters; rarely only an unusual space
        or not {m.currency for m in messages} <= {None, "", rules.currency}
        or not all(is_object(c) for m in messages if (c := m.context) is not NO_CONTEXT)
    )


def _dated(span: Span, batch: Batch) -> Span:
    """The span with the highest event time among its good events."""
    ts_ms = batch.ts_ms[batch.partition == span.partition]
    return replace(span, max_ts_ms=int(ts_ms.max())) if len(ts_ms) else span
