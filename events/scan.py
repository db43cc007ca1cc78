"""The fast decoder: one pass over the bytes of all messages, straight into columns.

It knows JSON and the contract, and it is proud: what it is not sure of it does not take. A message
with an escape in a field, an exponent, a doubled key, a user id beyond ASCII, a bound that is
passed, anything bad at all is left to the thorough decoder, which says what it is worth. So this
one needs no reasons, and what it takes must be what the thorough one would have made of it; a
property test holds the two together.

Each message is read once from front to back, in place: keys are told apart by a perfect hash of
their first eight bytes, texts are noted as places in the joined bytes, numbers are computed digit
by digit as exact integers. What is read beyond a message's own end is found out when its end does
not come where it must; behind the last one lies ``PAD``, which is never JSON.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch, Read
from events.compiled import byte_at, compiled, inlined, word_at
from events.json_steps import (
    CLOSE,
    COLON,
    COMMA,
    MINUS,
    NULL,
    OPEN,
    QUOTE,
    after_space,
    after_value,
    text_stop,
    to_special,
)
from events.json_values import decimal_of, in_minor, time_ms
from events.names import OF_KEYS, OF_TYPES, code_of
from events.schema import (
    ADD_TO_CART,
    MAX_AMOUNT,
    MAX_TS_MS,
    PURCHASE,
    REFUND,
    REMOVE_FROM_CART,
    TYPES,
    EventRules,
)
from events.texts import (
    I64,
    ONES,
    U64,
    Bools,
    Texts,
    combined,
    event_hash_of,
    hash_at,
    same_at,
)
from events.words import PAD, place_of, words_of

_USER, _EVENT, _ITEM, _CATEGORY, _DEVICE, _COUNTRY, _SOURCE, _ORDER = range(8)
_SESSION, _CURRENCY, _TYPE, _TS, _AMOUNT, _QUANTITY, _VALUE, _CONTEXT, _UNKNOWN = range(8, 17)
_MOST: Final = np.array([128, 64, 128, 128, *[64] * 5, 1 << 20, 16], dtype=np.int64)
"""Bytes of each text; a longer one in fewer characters is for the thorough decoder."""

_NEEDED: Final = 1 << _USER | 1 << _EVENT | 1 << _TYPE | 1 << _TS
_MOST_QUANTITY: Final = 1_000_000
_OWN_ORDER: Final = np.uint64(0xD1B54A32D192ED03)
"""Keeps the hash of an order without an id apart from those of order ids."""

_DELETE: Final = 0x7F


class Bounds(NamedTuple):
    """What the settings say, in numbers.

    Attributes:
        currency_length: bytes of the only currency.
        most_bytes: of a message.
        digits, most_minor: decimal digits of the minor unit, and the highest amount in it.
        most_ahead_ms, most_age_ms: of event time against the log's; a negative age for any.
        salt: of the events' hashes.
    """

    currency_length: int
    most_bytes: int
    digits: int
    most_minor: int
    most_ahead_ms: int
    most_age_ms: int
    salt: np.uint64


class Columns(NamedTuple):
    """What is filled in for each message, as in ``Batch``.

    Attributes:
        clean: whether the other columns may be believed, bool[n].
        start, length: places of the texts, by key, [8, n].
        hash: of the user, of user and event, of the order, uint64[3, n].
    """

    clean: Bools
    type: NDArray[np.int8]
    ts_ms: I64
    amount: I64
    quantity: I64
    value: NDArray[np.float64]
    start: I64
    length: NDArray[np.int32]
    hash: U64

    @classmethod
    def of(cls, n: int) -> Columns:
        """Room for n messages."""
        return cls(
            clean=np.empty(n, dtype=np.bool_),
            type=np.empty(n, dtype=np.int8),
            ts_ms=np.empty(n, dtype=np.int64),
            amount=np.empty(n, dtype=np.int64),
            quantity=np.empty(n, dtype=np.int64),
            value=np.empty(n, dtype=np.float64),
            start=np.empty((_ORDER + 1, n), dtype=np.int64),
            length=np.empty((_ORDER + 1, n), dtype=np.int32),
            hash=np.empty((3, n), dtype=np.uint64),
        )


class Scanner:
    """Takes what is clean of a read.

    Args:
        rules: from the settings.
    """

    def __init__(self, rules: EventRules) -> None:
        self._allowed = np.array([name in rules.types for name in TYPES])
        self._currency = Texts.of([rules.currency])
        self._bounds = Bounds(
            currency_length=int(self._currency.length[0]),
            most_bytes=rules.max_bytes,
            digits=rules.minor_digits,
            most_minor=int(MAX_AMOUNT) * 10**rules.minor_digits,
            most_ahead_ms=rules.max_ahead_ms,
            most_age_ms=-1 if rules.max_age_ms is None else rules.max_age_ms,
            salt=np.uint64(rules.salt),
        )

    def __call__(self, read: Read) -> tuple[Batch, Bools]:
        """All messages as columns, and which of them may be believed, bool[n]."""
        block = b"".join([*read.payloads, PAD])
        length = np.fromiter(map(len, read.payloads), np.int64, len(read.payloads))
        stop, out = np.cumsum(length), Columns.of(len(length))
        _scan(
            words_of(block),
            stop - length,
            stop,
            read.record_ts_ms,
            self._allowed,
            self._currency.words,
            self._bounds,
            out,
        )
        whole = Texts(block, out.start[_USER], out.length[_USER], out.hash[0])
        texts = [whole.at(out.start[key], out.length[key]) for key in range(_ORDER)]
        batch = Batch(
            users=whole,
            event_ids=texts[_EVENT],
            type=out.type,
            ts_ms=out.ts_ms,
            amount_minor=out.amount,
            quantity=out.quantity,
            value=out.value,
            event_hash=out.hash[1],
            order_hash=out.hash[2],
            item=texts[_ITEM],
            category=texts[_CATEGORY],
            device=texts[_DEVICE],
            country=texts[_COUNTRY],
            source=texts[_SOURCE],
            partition=read.partition,
            offset=read.offset,
        )
        return batch, out.clean


# -- one field ------------------------------------------------------------------------------------


@inlined
def _text_end(at: int, end: int, key: int) -> Any:
    """The quote that ends the text of a field, or -1; a user's id must be ASCII."""
    begin = at
    at = to_special(at, end)
    if at < end and byte_at(at) != QUOTE and key != _USER:
        at = text_stop(at, end, False)
    if at < 0 or at >= end or byte_at(at) != QUOTE or at - begin > _MOST[key]:
        return -1
    return at


@inlined
def _integer_or_time(key: int, at: int, end: int) -> Any:
    """An integer, or the text of a time: the place behind it, or -1, and what it is."""
    if key == _TS and byte_at(at) == QUOTE:
        begin = at + 1
        at = to_special(begin, end)
        if at >= end or byte_at(at) != QUOTE:
            return -1, 0
        return at + 1, time_ms(begin, at - begin)
    at, number, decimals = decimal_of(at)
    return (-1 if decimals > 0 else at), number


@inlined
def _amount(at: int, bounds: Bounds) -> Any:
    """An amount, a number or the text of one: the place behind it, or -1, and what it is."""
    quoted = byte_at(at) == QUOTE
    at, number, decimals = decimal_of(at + quoted)
    if at < 0 or (quoted and byte_at(at) != QUOTE):
        return -1, 0
    minor = in_minor(number, decimals, bounds.digits, bounds.most_minor)
    return (at + quoted if minor >= 0 else -1), minor


@inlined
def _float(at: int) -> Any:
    """A small integer over a small power of ten, so that the division is exact."""
    negative = byte_at(at) == MINUS
    at, number, decimals = decimal_of(at + negative)
    if at < 0 or (negative and number == 0):
        return -1, 0.0
    scale = 1.0
    for _ in range(decimals):
        scale *= 10.0
    return at, (-(number / scale) if negative else number / scale)


@compiled
def _scan(
    words: U64,
    starts: I64,
    stops: I64,
    record_ts_ms: I64,
    allowed: Bools,
    currency: U64,
    bounds: Bounds,
    out: Columns,
) -> None:
    """Fill in all columns, message by message; whatever is not sure leaves it unclean."""
    first = place_of(words)
    clean, kinds, ts_ms, amounts, quantities, values, start, length, hashes = out
    for i in range(len(starts)):
        clean[i], kinds[i], ts_ms[i], amounts[i], quantities[i] = False, -1, -1, 0, 0
        values[i] = np.nan
        hashes[0, i], hashes[1, i], hashes[2, i] = 0, 0, 0
        for k in range(_ORDER + 1):
            start[k, i], length[k, i] = 0, -1
        at, end = first + starts[i], first + stops[i]
        if end - at < 2 or end - at > bounds.most_bytes or byte_at(at) != OPEN:
            continue
        seen, more = 0, True
        while more:
            at = after_space(at + 1)
            if byte_at(at) != QUOTE:
                break
            begin = at + 1
            at = text_stop(begin, end, False)
            if at < 0:
                break
            key = code_of(begin, at - begin, OF_KEYS)
            if key < 0:
                key = _UNKNOWN
            elif seen >> key & 1:
                break
            at = after_space(at + 1)
            if byte_at(at) != COLON:
                break
            at = after_space(at + 1)
            is_text, is_null = byte_at(at) == QUOTE, word_at(at) & ONES[4] == NULL
            if is_null and not _NEEDED >> key & 1:
                at += 4
            else:
                seen |= 1 << key
                if key <= _TYPE:
                    if not is_text:
                        break
                    begin = at + 1
                    at = _text_end(begin, end, key)
                    n = at - begin
                    if at < 0:
                        break
                    at += 1
                    if key == _TYPE:
                        code = code_of(begin, n, OF_TYPES)
                        if code < 0 or not allowed[code]:
                            break
                        kinds[i] = code
                    elif n > 0:
                        if key <= _ORDER:
                            start[key, i], length[key, i] = begin - first, n
                        elif key == _CURRENCY and (
                            n != bounds.currency_length or not same_at(begin, place_of(currency), n)
                        ):
                            break
                elif key == _AMOUNT:
                    at, amounts[i] = _amount(at, bounds)
                elif key == _VALUE:
                    at, values[i] = _float(at)
                elif key == _TS:
                    at, ts_ms[i] = _integer_or_time(key, at, end)
                elif key == _QUANTITY:
                    at, quantities[i] = _integer_or_time(key, at, end)
                elif key == _UNKNOWN or byte_at(at) == OPEN:
                    at = after_value(at, end)
                else:
                    break
                if at < 0:
                    break
            at = after_space(at)
            more = byte_at(at) == COMMA
        if more or byte_at(at) != CLOSE or at + 1 != end or seen & _NEEDED != _NEEDED:
            continue
        users, events = length[_USER, i], length[_EVENT, i]
        moment, ahead_ms = ts_ms[i], ts_ms[i] - record_ts_ms[i]
        if users < 1 or events < 1 or quantities[i] > _MOST_QUANTITY:
            continue
        if moment < 0 or moment > MAX_TS_MS:
            continue
        if record_ts_ms[i] >= 0:
            if ahead_ms > bounds.most_ahead_ms:
                continue
            if 0 <= bounds.most_age_ms < -ahead_ms:
                continue
        user_at = first + start[_USER, i]
        for k in range(user_at, user_at + users):
            more |= byte_at(k) == _DELETE
        if more:
            continue
        user = hash_at(first + start[_USER, i], users)
        event = event_hash_of(user, hash_at(first + start[_EVENT, i], events), bounds.salt)
        hashes[0, i], hashes[1, i] = user, event
        kind = kinds[i]
        if kind in (PURCHASE, REFUND):
            if not seen >> _AMOUNT & 1:
                continue
            if length[_ORDER, i] > 0:
                hashes[2, i] = hash_at(first + start[_ORDER, i], length[_ORDER, i])
            else:
                hashes[2, i] = combined(event, _OWN_ORDER)
        elif kind in (ADD_TO_CART, REMOVE_FROM_CART) and length[_ITEM, i] < 1:
            continue
        clean[i] = True
