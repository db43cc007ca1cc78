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

from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch, Read
from events.compiled import compiled, inlined, step
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
    PAD,
    U64,
    Bools,
    Texts,
    combined,
    hash_at,
    same_at,
    words_of,
)

_KEYS: Final = (
    *("user_id", "event_id", "item_id", "category", "device", "country", "source", "order_id"),
    *("session_id", "currency", "type", "ts", "amount", "quantity", "value", "context"),
)
_USER, _EVENT, _ITEM, _CATEGORY, _DEVICE, _COUNTRY, _SOURCE, _ORDER = range(8)
_SESSION, _CURRENCY, _TYPE, _TS, _AMOUNT, _QUANTITY, _VALUE, _CONTEXT, _UNKNOWN = range(8, 17)
_MOST: Final = np.array([128, 64, 128, 128, *[64] * 5, 1 << 20, 16], dtype=np.int64)
"""Bytes of each text; a longer one in fewer characters is for the thorough decoder."""

_NEEDED: Final = 1 << _USER | 1 << _EVENT | 1 << _TYPE | 1 << _TS
_MOST_QUANTITY: Final = 1_000_000
_MOST_DIGITS: Final = 15
"""A decimal of so many digits is told from every other one by a float, so both ways agree."""

_DEEPEST: Final = 60

_ONE: Final = np.uint64(0x0101010101010101)
_TOP: Final = np.uint64(0x8080808080808080)
_SPACES: Final = np.uint64(0x2020202020202020)
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)
_BITS: Final = 6
_SHIFT: Final = np.uint64(64 - _BITS)
_TWIST: Final = np.uint64(0x9E3779B97F4A7C15)
_OWN_ORDER: Final = np.uint64(0xD1B54A32D192ED03)
"""Keeps the hash of an order without an id apart from those of order ids."""

_QUOTE, _BACKSLASH, _COMMA, _COLON = ord('"'), ord("\\"), ord(","), ord(":")
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = ord("{"), ord("}"), ord("["), ord("]")
_ZERO, _NINE, _MINUS, _PLUS, _DOT = ord("0"), ord("9"), ord("-"), ord("+"), ord(".")
_SPACE, _TAB, _LINE, _RETURN = ord(" "), ord("\t"), ord("\n"), ord("\r")
_E, _SMALL_E, _N, _T, _F, _UPPER_T, _Z = map(ord, "EentfTZ")
_DELETE: Final = 0x7F
_NULL: Final = np.uint64(int.from_bytes(b"null", "little"))
_TRUE: Final = np.uint64(int.from_bytes(b"true", "little"))
_ALSE: Final = np.uint64(int.from_bytes(b"alse", "little"))
_AFTER_BACKSLASH: Final = np.isin(np.arange(256), list(b'"\\/bfnrt'))
_DAYS_BEFORE: Final = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_DAY_MS: Final = 86_400_000


class Bounds(NamedTuple):
    """What the settings say, in numbers.

    Attributes:
        currency_length: bytes of the only currency.
        most_bytes: of a message.
        digits, most_minor: decimal digits of the minor unit, and the highest amount in it.
        most_ahead_ms, most_age_ms: of event time against the log's; a negative age for any.
    """

    currency_length: int
    most_bytes: int
    digits: int
    most_minor: int
    most_ahead_ms: int
    most_age_ms: int


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
        )

    def __call__(self, read: Read) -> tuple[Batch, Bools]:
        """All messages as columns, and which of them may be believed, bool[n]."""
        block = b"".join([*read.payloads, PAD])
        length = np.fromiter(map(len, read.payloads), np.int64, len(read.payloads))
        stop, out = np.cumsum(length), Columns.of(len(length))
        _scan(
            np.frombuffer(block, dtype=np.uint8),
            words_of(block),
            stop - length,
            stop,
            read.record_ts_ms,
            self._allowed,
            self._currency.words,
            self._bounds,
            out,
        )
        texts = [Texts(block, out.start[key], out.length[key]) for key in range(_ORDER)]
        batch = Batch(
            users=Texts(block, out.start[_USER], out.length[_USER], out.hash[0]),
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


# -- tables ---------------------------------------------------------------------------------------


def _word(raw: bytes) -> int:
    return int.from_bytes(raw[:8].ljust(8, b"\0"), "little")


def _multiplier(words: list[int]) -> int:
    """One under which the top bits of all words differ."""
    for odd in count(int(_TWIST), 2):
        if len({(w * odd & 2**64 - 1) >> int(_SHIFT) for w in words}) == len(words):
            return odd
    raise AssertionError("there are not more words than places")


def _tables(*all_names: tuple[str, ...]) -> tuple[U64, I64, U64]:
    """Perfect hashes of lists of names: multipliers, codes and lengths, and first two words."""
    odd = np.zeros(len(all_names), dtype=np.uint64)
    code = np.full((len(all_names), 1 << _BITS, 2), -1, dtype=np.int64)
    held = np.zeros((len(all_names), 1 << _BITS, 2), dtype=np.uint64)
    for k, names in enumerate(all_names):
        raw = [name.encode() for name in names]
        twisted = [(_word(r) * int(_TWIST) ^ _word(r[8:])) & 2**64 - 1 for r in raw]
        odd[k] = _multiplier(twisted)
        for i, (r, twist) in enumerate(zip(raw, twisted, strict=True)):
            at = (twist * int(odd[k]) & 2**64 - 1) >> int(_SHIFT)
            code[k, at] = i, len(r)
            held[k, at] = _word(r), _word(r[8:])
    return odd, code, held


_ODD, _CODE, _HELD = _tables(_KEYS, TYPES)
_OF_KEYS, _OF_TYPES = 0, 1


# -- steps: each is given a place and gives the one behind what it read, or -1 --------------------


@inlined
def _code(words: U64, at: int, n: int, which: int) -> Any:
    """The code of the name of ``n`` bytes at a place; -1 for no such name."""
    if n > 16:
        return -1
    first, second = words[at], np.uint64(0)
    if n < 8:
        first &= ONES[n]
    else:
        second = words[at + 8] & ONES[n - 8]
    place = np.int64((((first * _TWIST) ^ second) * _ODD[which]) >> _SHIFT)
    same = _HELD[which, place, 0] == first and _HELD[which, place, 1] == second
    return _CODE[which, place, 0] if same and _CODE[which, place, 1] == n else -1


@inlined
def _after_space(data: Any, at: int) -> Any:
    while data[at] == _SPACE or data[at] == _LINE or data[at] == _TAB or data[at] == _RETURN:
        at += 1
    return at


@inlined
def _to_special(words: U64, at: int, end: int) -> Any:
    """The first quote, backslash, control character or byte beyond ASCII; ``end`` if none."""
    while at < end:
        word = words[at]
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        found = ((quote - _ONE) & ~quote) | ((backslash - _ONE) & ~backslash)
        found = (found | ((word - _SPACES) & ~word) | word) & _TOP
        if found:
            lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
            return at + np.int64((((lowest - np.uint64(1)) & _ONE) * _ONE) >> np.uint64(56))
        at += 8
    return end


@step
def _after_letter(data: Any, at: int, end: int) -> Any:
    """Behind one UTF-8 character of two bytes or more."""
    first = data[at]
    low, high, more = 0x80, 0xBF, 0
    if 0xC2 <= first <= 0xDF:
        more = 1
    elif 0xE0 <= first <= 0xEF:
        more = 2
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    elif 0xF0 <= first <= 0xF4:
        more = 3
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    if more == 0 or at + more >= end or not low <= data[at + 1] <= high:
        return -1
    for k in range(2, more + 1):
        if not 0x80 <= data[at + k] <= 0xBF:
            return -1
    return at + more + 1


@step
def _text_stop(data: Any, words: U64, at: int, end: int, escapes: bool) -> Any:
    """The quote that ends a text; -1 for an escape, unless simple ones are allowed."""
    while True:
        at = _to_special(words, at, end)
        if at >= end:
            return -1
        byte = data[at]
        if byte == _QUOTE:
            return at
        if byte >= 0x80:
            at = _after_letter(data, at, end)
            if at < 0:
                return -1
        elif escapes and byte == _BACKSLASH and _AFTER_BACKSLASH[data[at + 1]]:
            at += 2
        else:
            return -1


@step
def _after_digits(data: Any, at: int) -> Any:
    begin = at
    while _ZERO <= data[at] <= _NINE:
        at += 1
    return at if at > begin else -1


@step
def _after_number(data: Any, at: int) -> Any:
    """Behind a number of any form that JSON knows."""
    if data[at] == _MINUS:
        at += 1
    begin = at
    at = _after_digits(data, at)
    if at < 0 or (data[begin] == _ZERO and at > begin + 1):
        return -1
    if data[at] == _DOT:
        at = _after_digits(data, at + 1)
        if at < 0:
            return -1
    if data[at] == _E or data[at] == _SMALL_E:
        at += 1
        if data[at] == _PLUS or data[at] == _MINUS:
            at += 1
        at = _after_digits(data, at)
    return at


@step
def _after_key(data: Any, words: U64, at: int, end: int) -> Any:
    """Behind a key and its colon, wherever spaces stand."""
    at = _after_space(data, at)
    if data[at] != _QUOTE:
        return -1
    at = _text_stop(data, words, at + 1, end, True)
    if at < 0:
        return -1
    at = _after_space(data, at + 1)
    return at + 1 if data[at] == _COLON else -1


@step
def _after_value(data: Any, words: U64, at: int, end: int) -> Any:
    """Behind any value; what is in it is checked and not kept."""
    depth, maps = 0, np.uint64(0)
    while True:
        at = _after_space(data, at)
        byte = data[at]
        if byte == _QUOTE:
            at = _text_stop(data, words, at + 1, end, True)
            if at < 0:
                return -1
            at += 1
        elif byte in (_OPEN, _OPEN_LIST):
            is_map = byte == _OPEN
            inside = _after_space(data, at + 1)
            if data[inside] == (_CLOSE if is_map else _CLOSE_LIST):
                at = inside + 1
            else:
                depth += 1
                if depth > _DEEPEST:
                    return -1
                maps = maps << np.uint64(1) | np.uint64(is_map)
                at = inside
                if is_map:
                    at = _after_key(data, words, at, end)
                    if at < 0:
                        return -1
                continue
        elif byte == _MINUS or _ZERO <= byte <= _NINE:
            at = _after_number(data, at)
            if at < 0:
                return -1
        elif words[at] & ONES[4] == _TRUE or words[at] & ONES[4] == _NULL:
            at += 4
        elif byte == _F and words[at + 1] & ONES[4] == _ALSE:
            at += 5
        else:
            return -1
        while True:  # behind a value: on in what it is in, or out of it
            if at > end:
                return -1
            if depth == 0:
                return at
            at = _after_space(data, at)
            byte = data[at]
            at += 1
            is_map = maps & np.uint64(1) == np.uint64(1)
            if byte == _COMMA:
                if is_map:
                    at = _after_key(data, words, at, end)
                    if at < 0:
                        return -1
                break
            if byte != (_CLOSE if is_map else _CLOSE_LIST):
                return -1
            depth -= 1
            maps >>= np.uint64(1)


@inlined
def _two(data: Any, at: int) -> Any:
    """Two digits; -1 where there are none."""
    tens, ones = np.int64(data[at]) - _ZERO, np.int64(data[at + 1]) - _ZERO
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1


@step
def _time_ms(data: Any, at: int, n: int) -> Any:
    """The time in a text of the form ``2026-01-31T12:34:56.789+01:00``, floored; or -1."""
    if n < 20 or data[at + 4] != _MINUS or data[at + 7] != _MINUS or data[at + 10] != _UPPER_T:
        return -1
    if data[at + 13] != _COLON or data[at + 16] != _COLON:
        return -1
    century, years, month = _two(data, at), _two(data, at + 2), _two(data, at + 5)
    day, hour = _two(data, at + 8), _two(data, at + 11)
    minute, second = _two(data, at + 14), _two(data, at + 17)
    if century < 0 or years < 0 or not 1 <= month <= 12 or day < 1:
        return -1
    if not 0 <= hour <= 23 or not 0 <= minute <= 59 or not 0 <= second <= 59:
        return -1
    year, end = 100 * century + years, at + n
    ms: Any = 0
    if year < 1970:
        return -1
    is_leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    in_month = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (is_leap and month == 2)
    if day > in_month:
        return -1
    before = year - 1
    days = 365 * before + before // 4 - before // 100 + before // 400 - 719_162
    days += _DAYS_BEFORE[month - 1] + (is_leap and month > 2) + day - 1
    at += 19
    if data[at] == _DOT:
        at += 1
        scale, begin = 100, at
        while at < end and _ZERO <= data[at] <= _NINE:
            ms += scale * (np.int64(data[at]) - _ZERO)
            scale //= 10
            at += 1
        if at == begin:
            return -1
    offset = 0
    if data[at] == _Z:
        at += 1
    else:
        ahead = data[at] == _PLUS
        hours, minutes = _two(data, at + 1), _two(data, at + 4)
        if (not ahead and data[at] != _MINUS) or data[at + 3] != _COLON:
            return -1
        if not 0 <= hours <= 23 or not 0 <= minutes <= 59:
            return -1
        offset = (60 * hours + minutes) * 60_000
        offset = offset if ahead else -offset
        at += 6
    if at != end:
        return -1
    return days * _DAY_MS + ((60 * hour + minute) * 60 + second) * 1000 + ms - offset


# -- one message ----------------------------------------------------------------------------------


@step
def _number(data: Any, at: int) -> Any:
    """A decimal as an integer and how many of its digits stand behind the point.

    Returns:
        The place behind it, or -1; the integer; its decimals.
    """
    begin, decimals = at, 0
    number: Any = 0
    while _ZERO <= data[at] <= _NINE and at - begin <= _MOST_DIGITS:
        number = 10 * number + np.int64(data[at]) - _ZERO
        at += 1
    digits = at - begin
    if digits == 0 or (digits > 1 and data[begin] == _ZERO):
        return -1, 0, 0
    if data[at] == _DOT:
        at += 1
        while _ZERO <= data[at] <= _NINE and digits + decimals <= _MOST_DIGITS:
            number = 10 * number + np.int64(data[at]) - _ZERO
            decimals += 1
            at += 1
        if decimals == 0:
            return -1, 0, 0
    return (at if digits + decimals <= _MOST_DIGITS else -1), number, decimals


@step
def _minor(number: int, decimals: int, digits: int, most: int) -> Any:
    """A decimal in minor units, rounded half-even; -1 above the most there may be."""
    minor = number
    for _ in range(decimals, digits):
        minor *= 10
        if minor > most:
            return -1
    if decimals > digits:
        power = 1
        for _ in range(digits, decimals):
            power *= 10
        minor = number // power
        twice = 2 * (number - minor * power)
        if twice > power or (twice == power and minor & 1 == 1):
            minor += 1
    return minor if minor <= most else -1


@inlined
def _text_end(data: Any, words: U64, at: int, end: int, key: int) -> Any:
    """The quote that ends the text of a field, or -1; a user's id must be ASCII."""
    begin = at
    at = _to_special(words, at, end)
    if at < end and data[at] != _QUOTE and key != _USER:
        at = _text_stop(data, words, at, end, False)
    if at < 0 or at >= end or data[at] != _QUOTE or at - begin > _MOST[key]:
        return -1
    return at


@inlined
def _integer_or_time(data: Any, words: U64, key: int, at: int, end: int) -> Any:
    """An integer, or the text of a time: the place behind it, or -1, and what it is."""
    if key == _TS and data[at] == _QUOTE:
        begin = at + 1
        at = _to_special(words, begin, end)
        if at >= end or data[at] != _QUOTE:
            return -1, 0
        return at + 1, _time_ms(data, begin, at - begin)
    at, number, decimals = _number(data, at)
    return (-1 if decimals > 0 else at), number


@inlined
def _amount(data: Any, at: int, bounds: Bounds) -> Any:
    """An amount, a number or the text of one: the place behind it, or -1, and what it is."""
    quoted = data[at] == _QUOTE
    at, number, decimals = _number(data, at + quoted)
    if at < 0 or (quoted and data[at] != _QUOTE):
        return -1, 0
    minor = _minor(number, decimals, bounds.digits, bounds.most_minor)
    return (at + quoted if minor >= 0 else -1), minor


@inlined
def _float(data: Any, at: int) -> Any:
    """A small integer over a small power of ten, so that the division is exact."""
    negative = data[at] == _MINUS
    at, number, decimals = _number(data, at + negative)
    if at < 0 or (negative and number == 0):
        return -1, 0.0
    scale = 1.0
    for _ in range(decimals):
        scale *= 10.0
    return at, (-(number / scale) if negative else number / scale)


@compiled
def _scan(
    data: NDArray[np.uint8],
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
    clean, kinds, ts_ms, amounts, quantities, values, start, length, hashes = out
    for i in range(len(starts)):
        clean[i], kinds[i], ts_ms[i], amounts[i], quantities[i] = False, -1, -1, 0, 0
        values[i] = np.nan
        hashes[0, i], hashes[1, i], hashes[2, i] = 0, 0, 0
        for k in range(_ORDER + 1):
            start[k, i], length[k, i] = 0, -1
        at, end = starts[i], stops[i]
        if end - at < 2 or end - at > bounds.most_bytes or data[at] != _OPEN:
            continue
        seen, more = 0, True
        while more:
            at = _after_space(data, at + 1)
            if data[at] != _QUOTE:
                break
            begin = at + 1
            at = _text_stop(data, words, begin, end, False)
            if at < 0:
                break
            key = _code(words, begin, at - begin, _OF_KEYS)
            if key < 0:
                key = _UNKNOWN
            elif seen >> key & 1:
                break
            at = _after_space(data, at + 1)
            if data[at] != _COLON:
                break
            at = _after_space(data, at + 1)
            is_text, is_null = data[at] == _QUOTE, words[at] & ONES[4] == _NULL
            if is_null and not _NEEDED >> key & 1:
                at += 4
            else:
                seen |= 1 << key
                if key <= _TYPE:
                    if not is_text:
                        break
                    begin = at + 1
                    at = _text_end(data, words, begin, end, key)
                    n = at - begin
                    if at < 0:
                        break
                    at += 1
                    if key == _TYPE:
                        code = _code(words, begin, n, _OF_TYPES)
                        if code < 0 or not allowed[code]:
                            break
                        kinds[i] = code
                    elif n > 0:
                        if key <= _ORDER:
                            start[key, i], length[key, i] = begin, n
                        elif key == _CURRENCY and (
                            n != bounds.currency_length or not same_at(words, begin, currency, 0, n)
                        ):
                            break
                elif key == _AMOUNT:
                    at, amounts[i] = _amount(data, at, bounds)
                elif key == _VALUE:
                    at, values[i] = _float(data, at)
                elif key == _TS:
                    at, ts_ms[i] = _integer_or_time(data, words, key, at, end)
                elif key == _QUANTITY:
                    at, quantities[i] = _integer_or_time(data, words, key, at, end)
                elif key == _UNKNOWN or data[at] == _OPEN:
                    at = _after_value(data, words, at, end)
                else:
                    break
                if at < 0:
                    break
            at = _after_space(data, at)
            more = data[at] == _COMMA
        if more or data[at] != _CLOSE or at + 1 != end or seen & _NEEDED != _NEEDED:
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
        for k in range(start[_USER, i], start[_USER, i] + users):
            more |= data[k] == _DELETE
        if more:
            continue
        user = hash_at(words, start[_USER, i], users)
        event = combined(user, hash_at(words, start[_EVENT, i], events))
        hashes[0, i], hashes[1, i] = user, event
        kind = kinds[i]
        if kind in (PURCHASE, REFUND):
            if not seen >> _AMOUNT & 1:
                continue
            if length[_ORDER, i] > 0:
                hashes[2, i] = hash_at(words, start[_ORDER, i], length[_ORDER, i])
            else:
                hashes[2, i] = combined(event, _OWN_ORDER)
        elif kind in (ADD_TO_CART, REMOVE_FROM_CART) and length[_ITEM, i] < 1:
            continue
        clean[i] = True
