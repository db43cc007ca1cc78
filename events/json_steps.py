"""Steps through the bytes of JSON, strictly by its grammar, for compiled loops.

Each is given the address of a byte and gives that of the one behind what it has read, or -1 where
that is not there. A step may read beyond the end of a message; its caller notices, because the end
does not come where it must. Escapes are not undone: texts with any are left to others.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from events.compiled import byte_at, inlined, step, word_at
from events.texts import ONES

QUOTE, BACKSLASH, COMMA, COLON = ord('"'), ord("\\"), ord(","), ord(":")
OPEN, CLOSE, OPEN_LIST, CLOSE_LIST = ord("{"), ord("}"), ord("["), ord("]")
ZERO, NINE, MINUS, PLUS, DOT = ord("0"), ord("9"), ord("-"), ord("+"), ord(".")
NULL: Final = np.uint64(int.from_bytes(b"null", "little"))

_SPACE, _TAB, _LINE, _RETURN = ord(" "), ord("\t"), ord("\n"), ord("\r")
_E, _SMALL_E, _F = ord("E"), ord("e"), ord("f")
_TRUE: Final = np.uint64(int.from_bytes(b"true", "little"))
_ALSE: Final = np.uint64(int.from_bytes(b"alse", "little"))
_AFTER_BACKSLASH: Final = np.isin(np.arange(256), list(b'"\\/bfnrt'))
_DEEPEST: Final = 60
_ONE: Final = np.uint64(0x0101010101010101)
_TOP: Final = np.uint64(0x8080808080808080)
_SPACES: Final = np.uint64(0x2020202020202020)
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)


@inlined
def after_space(at: int) -> Any:
    """Behind all white space."""
    while (
        byte_at(at) == _SPACE
        or byte_at(at) == _LINE
        or byte_at(at) == _TAB
        or byte_at(at) == _RETURN
    ):
        at += 1
    return at


@inlined
def to_special(at: int, end: int) -> Any:
    """The first quote, backslash, control character or byte beyond ASCII; ``end`` if none."""
    while at < end:
        word = word_at(at)
        quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
        found = ((quote - _ONE) & ~quote) | ((backslash - _ONE) & ~backslash)
        found = (found | ((word - _SPACES) & ~word) | word) & _TOP
        if found:
            lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
            return at + np.int64((((lowest - np.uint64(1)) & _ONE) * _ONE) >> np.uint64(56))
        at += 8
    return end


@step
def after_letter(at: int, end: int) -> Any:
    """Behind one UTF-8 character of two bytes or more."""
    first = byte_at(at)
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
    if more == 0 or at + more >= end or not low <= byte_at(at + 1) <= high:
        return -1
    for k in range(2, more + 1):
        if not 0x80 <= byte_at(at + k) <= 0xBF:
            return -1
    return at + more + 1


@step
def text_stop(at: int, end: int, escapes: bool) -> Any:
    """The quote that ends a text; -1 for an escape, unless simple ones are allowed."""
    while True:
        at = to_special(at, end)
        if at >= end:
            return -1
        byte = byte_at(at)
        if byte == QUOTE:
            return at
        if byte >= 0x80:
            at = after_letter(at, end)
            if at < 0:
                return -1
        elif escapes and byte == BACKSLASH and _AFTER_BACKSLASH[byte_at(at + 1)]:
            at += 2
        else:
            return -1


@step
def after_digits(at: int) -> Any:
    """Behind one digit or more."""
    begin = at
    while ZERO <= byte_at(at) <= NINE:
        at += 1
    return at if at > begin else -1


@step
def after_number(at: int) -> Any:
    """Behind a number of any form that JSON knows."""
    if byte_at(at) == MINUS:
        at += 1
    begin = at
    at = after_digits(at)
    if at < 0 or (byte_at(begin) == ZERO and at > begin + 1):
        return -1
    if byte_at(at) == DOT:
        at = after_digits(at + 1)
        if at < 0:
            return -1
    if byte_at(at) == _E or byte_at(at) == _SMALL_E:
        at += 1
        if byte_at(at) == PLUS or byte_at(at) == MINUS:
            at += 1
        at = after_digits(at)
    return at


@step
def after_key(at: int, end: int) -> Any:
    """Behind a key and its colon, wherever spaces stand."""
    at = after_space(at)
    if byte_at(at) != QUOTE:
        return -1
    at = text_stop(at + 1, end, True)
    if at < 0:
        return -1
    at = after_space(at + 1)
    return at + 1 if byte_at(at) == COLON else -1


@step
def after_value(at: int, end: int) -> Any:
    """Behind any value; what is in it is checked and not kept."""
    depth, maps = 0, np.uint64(0)
    while True:
        at = after_space(at)
        byte = byte_at(at)
        if byte == QUOTE:
            at = text_stop(at + 1, end, True)
            if at < 0:
                return -1
            at += 1
        elif byte in (OPEN, OPEN_LIST):
            is_map = byte == OPEN
            inside = after_space(at + 1)
            if byte_at(inside) == (CLOSE if is_map else CLOSE_LIST):
                at = inside + 1
            else:
                depth += 1
                if depth > _DEEPEST:
                    return -1
                maps = maps << np.uint64(1) | np.uint64(is_map)
                at = inside
                if is_map:
                    at = after_key(at, end)
                    if at < 0:
                        return -1
                continue
        elif byte == MINUS or ZERO <= byte <= NINE:
            at = after_number(at)
            if at < 0:
                return -1
        elif word_at(at) & ONES[4] == _TRUE or word_at(at) & ONES[4] == NULL:
            at += 4
        elif byte == _F and word_at(at + 1) & ONES[4] == _ALSE:
            at += 5
        else:
            return -1
        while True:  # behind a value: on in what it is in, or out of it
            if at > end:
                return -1
            if depth == 0:
                return at
            at = after_space(at)
            byte = byte_at(at)
            at += 1
            is_map = maps & np.uint64(1) == np.uint64(1)
            if byte == COMMA:
                if is_map:
                    at = after_key(at, end)
                    if at < 0:
                        return -1
                break
            if byte != (CLOSE if is_map else CLOSE_LIST):
                return -1
            depth -= 1
            maps >>= np.uint64(1)
