"""The shop's steps as messages: JSON or MessagePack by the contract, and the broken ones.

A step becomes text by one f-string over prepared fragments, because a generator must be cheaper
than the engine it feeds. Broken messages are made from good ones by a named act of damage, so a
test knows not only that a message is bad but why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.shop_habits import CATEGORIES, COUNTRIES, DEVICES
from events.shop_sessions import TYPES, Steps

I64 = NDArray[np.int64]
Message = dict[str, Any]

_SOURCES: Final = ("app", "web", "web")
"""Where each device of ``DEVICES`` shops."""

_YEAR_MS: Final = 365 * 86_400_000


class Messages:
    """Writes the messages of one shop.

    Args:
        prefix: starts every event, order and session id, so that two shops never share one.
        country: index into ``COUNTRIES`` of each user, int64[users].
        items: how many items there are.
        packed: MessagePack instead of JSON.
    """

    def __init__(self, prefix: str, country: I64, items: int, packed: bool) -> None:
        self._prefix = prefix
        self._country = country
        self._packed = packed
        names = [f'"item_id":"{item_id(i)}","category":"{category(i)}",' for i in range(items)]
        self._items = [*names, ""]  # item -1 is none
        self._countries = [f'"country":"{name}"}}' for name in COUNTRIES]
        self._types = [
            f'","type":"{kind}","source":"{_SOURCES[d]}","device":"{DEVICES[d]}","ts":'
            for kind in TYPES
            for d in range(len(DEVICES))
        ]

    def write(self, steps: Steps, serial: I64, ts_ms: I64) -> list[bytes]:
        """One message per step; ``serial`` int64[n] numbers the events."""
        if self._packed:
            return [_pack(m) for m in self.as_dicts(steps, serial, ts_ms)]
        prefix, items = self._prefix, self._items
        head = steps["type"].astype(np.int64) * len(DEVICES) + steps["device"]
        where = self._country[steps["user"]].tolist()
        text = [
            f'{{"event_id":"{prefix}{e:x}","user_id":"u{u:06d}{self._types[h]}{t},'
            f'"session_id":"{prefix}s{v}",{items[i]}{extra}{self._countries[c]}'
            for e, u, h, t, v, i, extra, c in zip(
                serial.tolist(),
                steps["user"].tolist(),
                head.tolist(),
                ts_ms.tolist(),
                steps["visit"].tolist(),
                steps["item"].tolist(),
                self._extras(steps),
                where,
                strict=True,
            )
        ]
        return "\n".join(text).encode().split(b"\n")

    def as_dicts(self, steps: Steps, serial: I64, ts_ms: I64) -> Iterator[Message]:
        """The same messages as maps, one by one."""
        columns = [steps[name].tolist() for name in ("user", "visit", "type", "device", "item")]
        extras = self._extras(steps)
        where = self._country[steps["user"]].tolist()
        rows = zip(serial.tolist(), ts_ms.tolist(), *columns, where, extras, strict=True)
        for e, t, user, visit, kind, device, item, c, extra in rows:
            message: Message = {
                "event_id": f"{self._prefix}{e:x}",
                "user_id": user_id(user),
                "type": TYPES[kind],
                "source": _SOURCES[device],
                "device": DEVICES[device],
                "ts": t,
                "session_id": f"{self._prefix}s{visit}",
            }
            if item >= 0:
                message |= {"item_id": item_id(item), "category": category(item)}
            if extra:
                message |= msgspec.json.decode(f"{{{extra[:-1]}}}")
            message["country"] = COUNTRIES[c]
            yield message

    def _extras(self, steps: Steps) -> list[str]:
        """What only some types carry, as JSON members with a comma behind; mostly empty."""
        out = [""] * len(steps)
        for i in np.flatnonzero(steps["amount_minor"]).tolist():
            step = steps[i]
            amount, order, quantity = step["amount_minor"], step["order"], step["quantity"]
            out[i] = f'"amount":{amount // 100}.{amount % 100:02d},"currency":"EUR",'
            if order >= 0:
                out[i] += f'"order_id":"{self._prefix}o{order}",'
            if quantity:
                out[i] += f'"quantity":{quantity},'
        for i in np.flatnonzero(steps["stars"] >= 0).tolist():
            out[i] = f'"value":{steps[i]["stars"]},'
        for i in np.flatnonzero(steps["type"] == _ATTRIBUTES).tolist():
            newsletter = "true" if steps[i]["visit"] % 2 else "false"
            out[i] = f'"context":{{"newsletter":{newsletter}}},'
        return out

    def write_broken(self, steps: Steps, serial: I64, ts_ms: I64, way: I64) -> list[bytes]:
        """The same steps damaged; ``way`` int64[n] indexes ``DAMAGES``."""
        encode = _pack if self._packed else msgspec.json.encode
        messages = self.as_dicts(steps, serial, ts_ms)
        return [
            _DAMAGE[DAMAGES[w]](message, encode)
            for w, message in zip(way.tolist(), messages, strict=True)
        ]


def user_id(user: int) -> str:
    """The id of a user by number.

    >>> user_id(123)
    'u000123'
    """
    return f"u{user:06d}"


def item_id(item: int) -> str:
    """The id of an item by number."""
    return f"i{item:05d}"


def category(item: int) -> str:
    """The category of an item by number; they take turns."""
    return CATEGORIES[item % len(CATEGORIES)]


_ATTRIBUTES: Final = TYPES.index("attributes")
_pack: Final = msgspec.msgpack.encode
_Encode = Callable[[Any], bytes]
_Damage = Callable[[Message, _Encode], bytes]


def _with(**fields: Any) -> _Damage:
    return lambda message, encode: encode(message | fields)


def _without(name: str) -> _Damage:
    return lambda message, encode: encode({k: v for k, v in message.items() if k != name})


def _not_a_number(message: Message, encode: _Encode) -> bytes:
    """NaN as an amount; msgspec's JSON would write null, other producers do write NaN."""
    if encode is _pack:
        return encode(message | {"amount": float("nan")})
    return encode(message | {"amount": 0.5}).replace(b'"amount":0.5', b'"amount":NaN')


def _not_utf8(message: Message, encode: _Encode) -> bytes:
    return encode(message).replace(message["user_id"].encode(), b"u\xff\xfe0123")


_DAMAGE: Final[dict[str, _Damage]] = {
    "cut off": lambda message, encode: encode(message)[:-7],
    "text as time": _with(ts="yesterday"),
    "not a number": _not_a_number,
    "unknown type": _with(type="teleport"),
    "no user": _without("user_id"),
    "no time": _without("ts"),
    "no event id": _without("event_id"),
    "number as user": _with(user_id=123),
    "control character": _with(user_id="u\x00007"),
    "not utf-8": _not_utf8,
    "long id": _with(event_id="e" * 65),
    "negative amount": _with(type="purchase", item_id="i00001", amount=-5),
    "an array": lambda message, encode: encode([message]),
    "empty": lambda message, encode: b"",  # noqa: ARG005
    "far future": lambda message, encode: encode(message | {"ts": message["ts"] + _YEAR_MS}),
}

DAMAGES: Final = tuple(_DAMAGE)
"""The ways a message can be broken, by name. ``far future`` is one year ahead of the log's own
time, which only a log with times of its own can tell."""
