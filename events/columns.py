"""From messages to columns: what they say, field by field, and each field as an array.

Messages are taken apart while they are still in cache, one list comprehension per field, which is
the quickest way through a few hundred thousand small objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.hashing import combine, hash_texts
from events.schema import MAX_AMOUNT, PURCHASE, REFUND, TYPES, Message
from events.texts import Texts

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

CODE_OF_TYPE: Final[dict[str, int]] = {name: code for code, name in enumerate(TYPES)}

ABSENT: Final = -1
UNREADABLE: Final = -2

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_BELOW_MS: Final = re.compile(r"(?<=\.\d{3})\d+", re.ASCII)
_DECIMAL: Final = re.compile(r"\d{1,10}(\.\d{1,20})?", re.ASCII)
_OWN_ORDER: Final = np.uint64(0xD1B54A32D192ED03)
"""Keeps the hash of an order without an id apart from those of order ids."""


@dataclass(slots=True)
class Fields:
    """What messages say, one list per field, in log order; named as in ``Message``."""

    event_id: list[str] = field(default_factory=list)
    user_id: list[str] = field(default_factory=list)
    type: list[str] = field(default_factory=list)
    ts: list[int | str] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)
    item_id: list[str | None] = field(default_factory=list)
    category: list[str | None] = field(default_factory=list)
    amount: list[float | str | None] = field(default_factory=list)
    currency: list[str | None] = field(default_factory=list)
    quantity: list[int | None] = field(default_factory=list)
    order_id: list[str | None] = field(default_factory=list)
    device: list[str | None] = field(default_factory=list)
    country: list[str | None] = field(default_factory=list)
    value: list[float | None] = field(default_factory=list)

    def add(self, messages: Sequence[Message]) -> None:
        """Append messages."""
        self.event_id += [m.event_id for m in messages]
        self.user_id += [m.user_id for m in messages]
        self.type += [m.type for m in messages]
        self.ts += [m.ts for m in messages]
        self.source += [m.source for m in messages]
        self.item_id += [m.item_id for m in messages]
        self.category += [m.category for m in messages]
        self.amount += [m.amount for m in messages]
        self.currency += [m.currency for m in messages]
        self.quantity += [m.quantity for m in messages]
        self.order_id += [m.order_id for m in messages]
        self.device += [m.device for m in messages]
        self.country += [m.country for m in messages]
        self.value += [m.value for m in messages]


def times_ms(values: Sequence[int | str]) -> I64:
    """Event times, int64[n]; RFC 3339 texts are floored to the millisecond.

    -1 for a text that is no such time with an offset.

    >>> times_ms([5, "1970-01-01T00:00:01.9999Z", "1970-01-01T02:00:00+02:00", "noon"]).tolist()
    [5, 1999, 0, -1]
    """
    if str in set(map(type, values)):
        values = [_time_ms(v) if isinstance(v, str) else v for v in values]
    return np.array(values, dtype=np.int64)


def amounts_minor(values: Sequence[float | str | None], minor_digits: int) -> I64:
    """Amounts in minor units, int64[n]; -1 where absent, -2 where no decimal from 0 to the most.

    Rounded half-even as the decimal text says: a float is the nearest to some short decimal, and
    where that lies close to a tie the decimal decides.

    >>> amounts_minor([1.005, "1.015", 2, None, 0.1 + 0.2, "1e3", float("nan")], 2).tolist()
    [100, 102, 200, -1, 30, -2, -2]
    >>> amounts_minor([MAX_AMOUNT, "1000000000.004", -0.004], 2).tolist()
    [100000000000, -2, -2]
    """
    out = np.full(len(values), ABSENT, dtype=np.int64)
    if values.count(None) < len(values):
        place = [i for i, value in enumerate(values) if value is not None]
        out[place] = _minor([value for value in values if value is not None], minor_digits)
    return out


def _minor(values: Sequence[float | str], minor_digits: int) -> I64:
    exact: Sequence[Any] = values
    if str in set(map(type, values)):
        exact = [_decimal(v) if isinstance(v, str) else v for v in values]
    major = np.array(exact, dtype=np.float64)
    known = (major >= 0) & (major <= MAX_AMOUNT)  # which NaN is not
    scaled = np.where(known, major, 0.0) * 10.0**minor_digits
    minor = np.rint(scaled).astype(np.int64)
    near = np.abs(scaled - np.trunc(scaled) - 0.5) < 1e-6 + scaled * 1e-15
    for i in np.flatnonzero(near).tolist():
        value = exact[i]
        decimal = value if isinstance(value, Decimal) else Decimal(repr(value))
        minor[i] = int(decimal.scaleb(minor_digits).to_integral_value(ROUND_HALF_EVEN))
    return np.where(known, minor, UNREADABLE)


def texts(values: Sequence[str | None]) -> Texts:
    """A text column; what is empty is absent."""
    if values.count(None) == len(values):
        return Texts.absent(len(values))
    return Texts.of([value or None for value in values])


def numbers(values: Sequence[float | None]) -> F64:
    """A number column, float64[n], NaN where there is none."""
    if values.count(None) == len(values):
        return np.full(len(values), np.nan)
    return np.fromiter(values, np.float64, len(values))  # of None it makes NaN


def order_hashes(order_ids: Sequence[str | None], types: NDArray[np.int8], event_hash: U64) -> U64:
    """The hash of each purchase's and refund's order, uint64[n]; 0 for other events."""
    out = np.zeros(len(types), dtype=np.uint64)
    money = np.flatnonzero((types == PURCHASE) | (types == REFUND))
    if len(money):
        ids = [order_ids[i] or "" for i in money.tolist()]
        named = np.fromiter(map(bool, ids), np.bool_, len(ids))
        own = combine(event_hash[money], np.full(len(money), _OWN_ORDER))
        out[money] = np.where(named, hash_texts(ids), own)
    return out


def _time_ms(text: str) -> int:
    try:  # without what lies below a millisecond, which would be rounded
        moment: datetime = msgspec.convert(_BELOW_MS.sub("", text, count=1), datetime)
        return -1 if moment.tzinfo is None else (moment - _EPOCH) // _MS
    except (msgspec.ValidationError, OverflowError):
        return -1


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _DECIMAL.fullmatch(text) else None
