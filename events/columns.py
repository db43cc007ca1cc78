"""Messages that are known to be good, as columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Labels
from events.hashing import combine, hash_texts
from events.schema import PURCHASE, REFUND, TYPES, Message

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

CODE_OF_TYPE: Final[dict[str, int]] = {name: code for code, name in enumerate(TYPES)}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL: Final = re.compile(r"\d{1,10}(\.\d{1,20})?", re.ASCII)
_OWN_ORDER: Final = np.uint64(0xD1B54A32D192ED03)
"""Keeps the hash of an order without an id apart from those of order ids."""


def times_ms(values: Sequence[int | str]) -> I64:
    """Event times, int64[n]; RFC 3339 texts are floored to the millisecond.

    -1 for a text that is no such time with an offset.
    """
    if str in set(map(type, values)):
        return np.array([_time_ms(v) if isinstance(v, str) else v for v in values], np.int64)
    return np.array(values, dtype=np.int64)


def amounts_minor(values: Sequence[float | str | None], minor_digits: int) -> tuple[I64, Bools]:
    """Amounts in minor units, int64[n], 0 where absent; and where one was given, bool[n].

    Rounded half-even as the decimal text says: a float is the nearest to some short decimal, and
    where that lies close to a tie the decimal decides.

    >>> amounts_minor([1.005, "1.015", 2, None, 0.1 + 0.2], 2)[0].tolist()
    [100, 102, 200, 0, 30]

    What is no finite number or decimal text counts as absent.
    """
    if values.count(None) == len(values):
        return np.zeros(len(values), np.int64), np.zeros(len(values), np.bool_)
    exact: Sequence[Any] = values
    if str in set(map(type, values)):
        exact = [_decimal(v) if isinstance(v, str) else v for v in values]
    major = np.array(exact, dtype=np.float64)
    given = np.isfinite(major)
    scaled = np.where(given, np.clip(major, 0.0, 1e12), 0.0) * 10.0**minor_digits
    minor = np.rint(scaled).astype(np.int64)
    near = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) < 1e-6 + scaled * 1e-15
    for i in np.flatnonzero(near).tolist():
        value = exact[i]
        decimal = value if isinstance(value, Decimal) else Decimal(repr(value))
        minor[i] = int(decimal.scaleb(minor_digits).to_integral_value(ROUND_HALF_EVEN))
    return minor, given


def is_object(raw: msgspec.Raw) -> bool:
    """Whether undecoded JSON or MessagePack is a map, or null."""
    first = bytes(raw)[:1]
    return first in (b"{", b"n", b"\xc0", b"\xde", b"\xdf") or b"\x80" <= first <= b"\x8f"


class Coder(dict[str | None, int]):
    """Codes the texts of one column; a text has the same code in every batch.

    Looking a text up that is known is one dictionary access; new ones are added on the way. Empty
    texts are absent.

    Args:
        cap: with more texts than this it starts anew, so that memory is bounded.

    >>> coder = Coder()
    >>> held = coder.labels(["a", None, "b", "a"])
    >>> held.codes.tolist(), held.values
    ([0, -1, 1, 0], ['a', 'b'])
    """

    def __init__(self, cap: int = 2**17) -> None:
        super().__init__({None: -1, "": -1})
        self._cap = cap
        self._values: list[str] = []

    def __missing__(self, text: str | None) -> int:
        assert text is not None
        code = self[text] = len(self._values)
        self._values.append(text)
        return code

    def labels(self, texts: list[str | None]) -> Labels:
        """A column of texts as codes into its values."""
        if texts.count(None) == len(texts):
            return Labels(np.full(len(texts), -1, dtype=np.int32), [])
        if len(self._values) > self._cap:
            self.clear()
            self.update({None: -1, "": -1})
            self._values = []
        codes = np.array(list(map(self.__getitem__, texts)), dtype=np.int32)
        return Labels(codes, self._values)


def numbers(values: Sequence[float | None], dtype: str, absent: float) -> NDArray[Any]:
    """A number column, [n], with ``absent`` where there is none."""
    if values.count(None) == len(values):
        return np.full(len(values), absent, dtype=dtype)
    return np.array([absent if v is None else v for v in values], dtype=dtype)


def order_hashes(messages: Sequence[Message], types: NDArray[np.int8], event_hash: U64) -> U64:
    """The hash of each purchase's and refund's order, uint64[n]; 0 for other events."""
    out = np.zeros(len(messages), dtype=np.uint64)
    money = np.flatnonzero((types == PURCHASE) | (types == REFUND))
    if len(money):
        ids = [messages[i].order_id or "" for i in money.tolist()]
        named = np.fromiter(map(bool, ids), np.bool_, len(ids))
        own = combine(event_hash[money], np.full(len(money), _OWN_ORDER))
        out[money] = np.where(named, hash_texts(ids), own)
    return out


def _time_ms(text: str) -> int:
    try:
        moment: datetime = msgspec.convert(text, datetime)
        return -1 if moment.tzinfo is None else (moment - _EPOCH) // timedelta(milliseconds=1)
    except (msgspec.ValidationError, OverflowError, ValueError):
        return -1


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
