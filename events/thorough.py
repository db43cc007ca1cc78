"""The thorough decoder: any message, by way of objects, with the reason for every refusal.

It is given what the scanner does not take: MessagePack, texts with escapes, numbers of odd forms,
and all that is bad. JSON messages are parsed a thousand at a time: joined by newlines and handed to
one typed ``decode_lines`` call. That alone would let bad messages join into good ones: the parser
takes any white space between two values, and none at all. So each message of such a chunk begins
with ``{`` and ends with ``}``. Then no value reaches over a join: between two tokens inside of an
object ``}`` and ``{`` never follow each other, and inside of a text the newline is refused. So each
message holds one value at least, and as many values as messages means one each. A chunk that does
not pass is parsed message by message.

What types and bounds cannot say is then asked of whole columns, and whatever fails there is
suspect: the careful decoder looks at it alone, finds the reason, or clears it. So a bad message
costs what it costs itself, and the other ones lose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from math import isfinite
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch, Read
from events.careful import Refused, decode_one, is_packed, parse
from events.columns import (
    ABSENT,
    CODE_OF_TYPE,
    Fields,
    amounts_minor,
    numbers,
    order_hashes,
    texts,
    times_ms,
)
from events.hashing import event_hashes
from events.schema import (
    ADD_TO_CART,
    MAX_TS_MS,
    PURCHASE,
    REFUND,
    REMOVE_FROM_CART,
    TYPES,
    EventRules,
    Message,
)
from events.texts import Texts

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


@dataclass(slots=True, frozen=True)
class Found:
    """What some messages of a read are worth.

    Attributes:
        batch: the good events among them.
        places: where in the read each of them stands, ascending, int64[len(batch)].
        refused: why each of the others is none, by its place in the read.
    """

    batch: Batch
    places: I64
    refused: dict[int, Refused]


class ThoroughDecoder:
    """Decodes messages of any form.

    Args:
        rules: from the settings.
    """

    def __init__(self, rules: EventRules) -> None:
        self._rules = rules
        self._code_of_type: dict[str, int] = {
            name: CODE_OF_TYPE[name] for name in TYPES if name in rules.types
        }
        self._currencies = {None, "", rules.currency}

    def __call__(self, read: Read, places: I64) -> Found:
        """Decode the messages at some places of a read, int64[k], ascending."""
        fields, refused = self._fields(read, places.tolist())
        places = places[[place not in refused for place in places.tolist()]]
        batch = self._batch(fields, read, places)
        suspect = self._suspect(fields, batch, read.record_ts_ms[places])
        if suspect.any():
            found = self._judge(read, places[suspect])
            if found:
                refused |= found
                keep = ~np.isin(places, list(found))
                batch, places = batch.where(keep), places[keep]
        np.maximum(batch.amount_minor, 0, out=batch.amount_minor)
        return Found(batch, places, refused)

    def _fields(self, read: Read, places: list[int]) -> tuple[Fields, dict[int, Refused]]:
        """What the messages that parse say, and why each of the others does not."""
        fields = Fields()
        refused: dict[int, Refused] = {}
        for at in range(0, len(places), CHUNK):
            some = places[at : at + CHUNK]
            payloads = [read.payloads[i] for i in some]
            try:
                messages = self._parse(payloads)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                messages = self._parse_each(payloads, some, refused)
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
        self, payloads: Sequence[bytes], places: Sequence[int], refused: dict[int, Refused]
    ) -> Sequence[Message]:
        """The messages of a chunk that parse; the others are added to ``refused``."""
        messages = []
        for place, payload in zip(places, payloads, strict=True):
            try:
                messages.append(parse(payload, self._rules))
            except Refused as reason:
                refused[place] = reason
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

    def _batch(self, fields: Fields, read: Read, places: I64) -> Batch:
        """Fields as columns; a bad one where a closer look will refuse the message."""
        users, event_ids = Texts.of(fields.user_id), Texts.of(fields.event_id)
        codes = bytearray(map(self._code_of_type.get, fields.type, repeat(_UNKNOWN)))
        types = np.frombuffer(codes, dtype=np.int8)
        event_hash = event_hashes(users.hashes(), event_ids.hashes(), self._rules.salt)
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
            item=texts(fields.item_id),
            category=texts(fields.category),
            device=texts(fields.device),
            country=texts(fields.country),
            source=texts(fields.source),
            partition=read.partition[places],
            offset=read.offset[places],
        )

    def _suspect(self, fields: Fields, batch: Batch, record_ts_ms: I64) -> Bools:
        """Which messages a closer look must clear, bool[n]."""
        types, ts_ms, minor = batch.type, batch.ts_ms, batch.amount_minor
        suspect: Bools = (types < 0) | (ts_ms < 0) | (ts_ms > MAX_TS_MS)
        suspect |= (minor < ABSENT) | (_MONEY[types] & (minor < 0))
        suspect |= self._out_of_time(ts_ms, record_ts_ms)
        suspect |= _CART[types] & ~batch.item.present
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
