"""The careful decoder: one message at a time, slowly, with the reason for every refusal.

It takes over where the fast decoder found that *something* in a chunk is not as it must be. Both
read messages through the same ``Message`` and make columns with the same functions, so they can
differ only in what they refuse, and a property test holds them together.
"""

from __future__ import annotations

import math
import re
from typing import Final, TypeVar

import msgspec
from msgspec import DecodeError, ValidationError

from events.columns import amounts_minor, times_ms
from events.faults import in_words
from events.schema import (
    ADD_TO_CART,
    MAX_AMOUNT,
    MAX_TS_MS,
    PURCHASE,
    REFUND,
    REMOVE_FROM_CART,
    RESERVED,
    TYPES,
    EventRules,
    Message,
)

_JSON: Final = msgspec.json.Decoder(Message)
_PACKED: Final = msgspec.msgpack.Decoder(Message)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AT: Final = re.compile(r" - at (?P<key>`key` in )?`(?P<path>.*)`$")
_MISSING: Final = re.compile(r"missing required field `(.*?)`")
_MONEY: Final = {TYPES[PURCHASE], TYPES[REFUND]}
_CART: Final = {TYPES[ADD_TO_CART], TYPES[REMOVE_FROM_CART]}
_SHOWN: Final = 60
_TOLD: Final = 160

T = TypeVar("T")


class Refused(Exception):
    """Why a message is no event: a code of ``REASONS``, the path at fault, a sentence."""

    def __init__(self, reason: str, path: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.path, self.detail = reason, path, detail


def decode_one(payload: bytes, record_ts_ms: int, rules: EventRules) -> Message:
    """The event in one message.

    Args:
        payload: the message's bytes.
        record_ts_ms: the log's timestamp of it; -1 where it has none.
        rules: from the settings.

    Raises:
        Refused: it cannot be taken.
    """
    message = parse(payload, rules)
    check(message, record_ts_ms, rules)
    return message


def check(message: Message, record_ts_ms: int, rules: EventRules) -> None:
    """Raise ``Refused`` for what a parsed message may not say."""
    _check_texts(message)
    _check_type(message, rules)
    _check_money(message, rules)
    _check_time(message, record_ts_ms, rules)


def is_packed(payload: bytes) -> bool:
    """Whether the first byte is that of a MessagePack map."""
    return bool(payload) and (0x80 <= payload[0] <= 0x8F or payload[0] in (0xDE, 0xDF))


def is_json(payload: bytes) -> bool:
    """Whether the first byte is that of a JSON object, or space before one."""
    return bool(payload) and payload[0] in b"{ \t\r\n"


def parse(payload: bytes, rules: EventRules) -> Message:
    """The message in some bytes, its fields within their bounds, or ``Refused``."""
    return read_map(payload, rules.max_bytes, _JSON, _PACKED)


def read_map(
    payload: bytes,
    max_bytes: int,
    json: msgspec.json.Decoder[T],
    packed: msgspec.msgpack.Decoder[T],
) -> T:
    """What a JSON object or a MessagePack map holds, by the decoder of its kind, or ``Refused``."""
    if len(payload) > max_bytes:
        raise Refused("too_large", "", f"at most {max_bytes} bytes, but {len(payload)} came")
    try:
        if is_packed(payload):
            return packed.decode(payload)
        if is_json(payload):
            if not payload.isascii():
                payload.decode()  # the parser lets pass what is not UTF-8 in fields that it skips
            return json.decode(payload)
    except ValidationError as error:
        raise _invalid(str(error), payload) from error
    except (DecodeError, RecursionError) as error:
        raise Refused("malformed", "", str(error)) from error
    except UnicodeDecodeError as error:
        raise Refused("malformed", "", f"text must be UTF-8: {error}") from error
    raise Refused(
        "not_a_map",
        "",
        "a JSON object or a MessagePack map is needed, but the message "
        + (_shown(payload) if payload else "is empty"),
    )


def _shown(payload: bytes) -> str:
    """What a message that is no map holds; a text in JSON may say why it is none."""
    try:
        return f"is a text: {msgspec.json.decode(payload, type=str)[:_TOLD]!r}"
    except (DecodeError, RecursionError):
        return f"begins with {payload[:4]!r}"


def _invalid(text: str, payload: bytes) -> Refused:
    """What the parser says of a field, told apart into reason, path and sentence."""
    at, missing = _AT.search(text), _MISSING.search(text)
    path = at["path"] if at else ""
    if missing:
        name = missing[1]
        return Refused("missing", f"{path or '$'}.{name}", f"`{name}` is required, but is absent")
    if not at and text.startswith("Expected `object`"):
        return Refused("not_a_map", "", text)
    if not at:
        return Refused("invalid", path, text)
    said = text[: at.start()]
    if at["key"]:
        return Refused("invalid", path, f"{said} as a key")
    return Refused("invalid", path, in_words(said, path, payload, packed=is_packed(payload)))


def _check_texts(message: Message) -> None:
    if _CONTROL.search(message.user_id):
        raise Refused(
            "invalid",
            "$.user_id",
            f"must hold no control characters, but {message.user_id[:_SHOWN]!r} came",
        )
    if message.value is not None and not math.isfinite(message.value):
        raise Refused("invalid", "$.value", f"must be finite, but {message.value} came")


def _check_type(message: Message, rules: EventRules) -> None:
    name = message.type
    if name in RESERVED:
        raise Refused("unsupported", "$.type", f"{name!r} is reserved and not supported yet")
    if name not in rules.types:
        raise Refused(
            "unknown_type",
            "$.type",
            f"must be one of {', '.join(sorted(rules.types))}, but {name[:_SHOWN]!r} came",
        )
    if name in _CART and not message.item_id:
        raise Refused("missing", "$.item_id", f"`item_id` is required by {name}, but is absent")
    if name in _MONEY and message.amount is None:
        raise Refused("missing", "$.amount", f"`amount` is required by {name}, but is absent")


def _check_money(message: Message, rules: EventRules) -> None:
    if message.currency not in (None, "", rules.currency):
        raise Refused(
            "currency",
            "$.currency",
            f"must be {rules.currency}, but {message.currency[:_SHOWN]!r} came",
        )
    if message.amount is None:
        return
    if amounts_minor([message.amount], rules.minor_digits)[0] < 0:
        raise Refused(
            "invalid",
            "$.amount",
            f"must be a decimal from 0 to {MAX_AMOUNT:.0f}, but {message.amount!r:.{_SHOWN}} came",
        )


def _check_time(message: Message, record_ts_ms: int, rules: EventRules) -> None:
    ts_ms = int(times_ms([message.ts])[0])
    if not 0 <= ts_ms <= MAX_TS_MS:
        raise Refused(
            "invalid",
            "$.ts",
            "must be epoch milliseconds or RFC 3339 text with an offset, but "
            f"{message.ts!r:.{_SHOWN}} came",
        )
    if record_ts_ms < 0:
        return
    ahead_ms = ts_ms - record_ts_ms
    if ahead_ms > rules.max_ahead_ms:
        raise Refused(
            "future",
            "$.ts",
            f"at most {rules.max_ahead_ms} ms ahead of the log, but {ahead_ms} ms came",
        )
    if rules.max_age_ms is not None and -ahead_ms > rules.max_age_ms:
        raise Refused(
            "too_old",
            "$.ts",
            f"at most {rules.max_age_ms} ms behind the log, but {-ahead_ms} ms came",
        )
