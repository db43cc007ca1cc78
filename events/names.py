"""Names told apart by a perfect hash of their first sixteen bytes, for compiled loops."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import numpy as np

from events.compiled import inlined, word_at
from events.schema import TYPES
from events.texts import I64, ONES, U64

KEYS: Final = (
    *("user_id", "event_id", "item_id", "category", "device", "country", "source", "order_id"),
    *("session_id", "currency", "type", "ts", "amount", "quantity", "value", "context"),
)
"""The fields of a message; a field's place here is its code."""

OF_KEYS, OF_TYPES = 0, 1

_BITS: Final = 6
_SHIFT: Final = np.uint64(64 - _BITS)
_TWIST: Final = np.uint64(0x9E3779B97F4A7C15)


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


_ODD, _CODE, _HELD = _tables(KEYS, TYPES)


@inlined
def code_of(at: int, n: int, which: int) -> Any:
    """The code of the name of ``n`` bytes from an address on; -1 for no such name."""
    if n > 16:
        return -1
    first, second = word_at(at), np.uint64(0)
    if n < 8:
        first &= ONES[n]
    else:
        second = word_at(at + 8) & ONES[n - 8]
    place = np.int64((((first * _TWIST) ^ second) * _ODD[which]) >> _SHIFT)
    same = _HELD[which, place, 0] == first and _HELD[which, place, 1] == second
    return _CODE[which, place, 0] if same and _CODE[which, place, 1] == n else -1
