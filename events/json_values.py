"""Numbers, amounts and times in the bytes of JSON, for compiled loops: exact, or not at all."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from events.compiled import byte_at, inlined, step
from events.json_steps import COLON, DOT, MINUS, NINE, PLUS, ZERO

_MOST_DIGITS: Final = 15
"""A decimal of so many digits is told from every other one by a float, so all ways agree."""

_UPPER_T, _Z = ord("T"), ord("Z")
_DAYS_BEFORE: Final = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])
_DAY_MS: Final = 86_400_000


@step
def decimal_of(at: int) -> Any:
    """A decimal as an integer and how many of its digits stand behind the point.

    Returns:
        The place behind it, or -1; the integer; its decimals.
    """
    begin, decimals = at, 0
    number: Any = 0
    while ZERO <= byte_at(at) <= NINE and at - begin <= _MOST_DIGITS:
        number = 10 * number + np.int64(byte_at(at)) - ZERO
        at += 1
    digits = at - begin
    if digits == 0 or (digits > 1 and byte_at(begin) == ZERO):
        return -1, 0, 0
    if byte_at(at) == DOT:
        at += 1
        while ZERO <= byte_at(at) <= NINE and digits + decimals <= _MOST_DIGITS:
            number = 10 * number + np.int64(byte_at(at)) - ZERO
            decimals += 1
            at += 1
        if decimals == 0:
            return -1, 0, 0
    return (at if digits + decimals <= _MOST_DIGITS else -1), number, decimals


@step
def in_minor(number: int, decimals: int, digits: int, most: int) -> Any:
    """A decimal in minor units, rounded half-even; -1 where it was above the most there may be."""
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
        if minor == most and twice > 0:
            return -1
        if twice > power or (twice == power and minor & 1 == 1):
            minor += 1
    return minor if minor <= most else -1


@inlined
def two(at: int) -> Any:
    """Two digits; -1 where there are none."""
    tens, ones = np.int64(byte_at(at)) - ZERO, np.int64(byte_at(at + 1)) - ZERO
    return 10 * tens + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1


@step
def time_ms(at: int, n: int) -> Any:
    """The time in a text of the form ``2026-01-31T12:34:56.789+01:00``, floored; or -1."""
    if (
        n < 20
        or byte_at(at + 4) != MINUS
        or byte_at(at + 7) != MINUS
        or byte_at(at + 10) != _UPPER_T
    ):
        return -1
    if byte_at(at + 13) != COLON or byte_at(at + 16) != COLON:
        return -1
    century, years, month = two(at), two(at + 2), two(at + 5)
    day, hour = two(at + 8), two(at + 11)
    minute, second = two(at + 14), two(at + 17)
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
    if byte_at(at) == DOT:
        at += 1
        scale, begin = 100, at
        while at < end and ZERO <= byte_at(at) <= NINE:
            ms += scale * (np.int64(byte_at(at)) - ZERO)
            scale //= 10
            at += 1
        if at == begin:
            return -1
    offset = 0
    if byte_at(at) == _Z:
        at += 1
    else:
        ahead = byte_at(at) == PLUS
        hours, minutes = two(at + 1), two(at + 4)
        if (not ahead and byte_at(at) != MINUS) or byte_at(at + 3) != COLON:
            return -1
        if not 0 <= hours <= 23 or not 0 <= minutes <= 59:
            return -1
        offset = (60 * hours + minutes) * 60_000
        offset = offset if ahead else -offset
        at += 6
    if at != end:
        return -1
    return days * _DAY_MS + ((60 * hour + minute) * 60 + second) * 1000 + ms - offset
