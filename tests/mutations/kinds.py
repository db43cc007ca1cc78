"""Kinds of mutation, each of which says beforehand what may become of its message."""

from __future__ import annotations

import gzip
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from events.schema import REASONS

Event = dict[str, Any]
Make = Callable[[random.Random, Event, int], bytes | Sequence[bytes]]
"""Makes a message, or several that follow each other, of a good event and its time in the log."""

MAX_BYTES = 65_536
AHEAD_MS = 300_000
"""An event may be so far ahead of its log."""

APPLIED, DUPLICATE = "applied", "duplicate"
ANY = frozenset([APPLIED, DUPLICATE, *REASONS])
ODD_TYPES: tuple[Any, ...] = (None, True, [], {}, [1], {"a": 1}, ["text"])


@dataclass(frozen=True)
class Kind:
    """How a message is made, what may become of it, and how often it is among the others."""

    make: Make
    outcomes: frozenset[str]
    share: float = 1.0


KINDS: dict[str, Kind] = {}


def kind(*outcomes: str, share: float = 1.0) -> Callable[[Make], Make]:
    """Enter a function among the kinds under its name."""

    def enter(make: Make) -> Make:
        KINDS[make.__name__] = Kind(make, frozenset(outcomes) or ANY, share)
        return make

    return enter


def written(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def packed(event: Mapping[str, Any]) -> bytes:
    return msgspec.msgpack.encode(event)


def somewhere(chance: random.Random, payload: bytes) -> int:
    """A place within, not at an end."""
    return chance.randrange(1, len(payload))


@kind(share=8)
def flipped(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    out = bytearray(written(event))
    for _ in range(chance.randint(1, 3)):
        out[chance.randrange(len(out))] ^= chance.randrange(1, 256)
    return bytes(out)


@kind("malformed", share=3)
def truncated(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    payload = written(event)
    return payload[: somewhere(chance, payload)]


@kind("malformed", "not_a_map")
def beheaded(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    payload = written(event)
    return payload[somewhere(chance, payload.partition(b',"ts"')[0]) :]


@kind("missing", share=2)
def without_a_required_field(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    del event[chance.choice(["event_id", "user_id", "type", "ts"])]
    return written(event)


@kind("missing")
def without_what_its_type_needs(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["add_to_cart", "remove_from_cart", "purchase", "refund"])
    value = "item_id" if "cart" in name else "amount"
    event.pop(value, None)
    return written(event | {"type": name} | chance.choice([{}, {value: None}]))


@kind("missing")
def with_another_case(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["event_id", "user_id", "type", "ts"])
    return written({(key.upper() if key == name else key): v for key, v in event.items()})


@kind(APPLIED)
def with_a_field_twice(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["user_id", "event_id", "ts", "type", "device"])
    earlier: Event = {"user_id": "mutated-twice", "event_id": "twice", "ts": 5, "type": "click"}
    first = written({name: earlier.get(name, "watch")})
    return first[:-1] + b"," + written(event)[1:]


@kind("invalid", share=2)
def with_a_wrong_type(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["event_id", "user_id", "type", "ts"])
    return chance.choice([written, packed])(event | {name: chance.choice(ODD_TYPES)})


@kind("invalid")
def with_a_wrong_type_where_none_is_needed(
    chance: random.Random, event: Event, _log_ms: int
) -> bytes:
    names = ["source", "item_id", "category", "order_id", "device", "country", "currency"]
    return written(event | {chance.choice(names): chance.choice([1, 0.5, True, [], {}])})


@kind("malformed", share=2)
def with_not_a_number(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["amount", "value", "ts", "quantity"])
    return written(event | {name: chance.choice([math.nan, math.inf, -math.inf])})


@kind("invalid")
def with_not_a_number_packed(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["amount", "value", "ts", "quantity"])
    return packed(event | {name: chance.choice([math.nan, math.inf, -math.inf])})


@kind("invalid", share=2)
def with_a_huge_number(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["amount", "ts", "quantity"])
    huge = chance.choice([2**53, 2**63, 2**64, 2**64 + 1, 10**30, 10**300, -(2**63), 1e300, -1e300])
    return written(event | {name: huge})


@kind("invalid", "malformed")
def with_a_number_beyond_floats(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    digits = chance.choice([b"1e400", b"-1e999", b"9" * 400, b"1e99999999"])
    name = chance.choice([b"amount", b"value", b"ts"])
    return written(event)[:-1] + b',"' + name + b'":' + digits + b"}"


@kind("malformed", share=2)
def with_bytes_that_are_no_text(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    bad = chance.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
    name = chance.choice(["user_id", "event_id", "item_id", "note"])
    return written(event | {name: "HERE"}).replace(b"HERE", b"mutated-" + bad)


@kind("malformed")
def with_a_lone_surrogate(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["user_id", "event_id", "item_id", "type"])
    return written(event | {name: "mutated-" + chance.choice(["\ud800", "\udfff", "\udc00\ud800"])})


@kind("invalid", share=2)
def with_a_control_character(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    control = chance.choice(["\x00", "\n", "\x1f", "\x7f", "\x85", "\x9f"])
    return chance.choice([written, packed])(event | {"user_id": f"mutated-{control}x"})


@kind("malformed")
def with_a_raw_control_character(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    name = chance.choice(["user_id", "device", "note"])
    control = bytes([chance.randrange(0x20)])
    return written(event | {name: "HERE"}).replace(b"HERE", b"mutated-" + control)


@kind("too_large", share=0.02)
def too_large(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    size = chance.choice([MAX_BYTES + 1, MAX_BYTES + 2, 100_000, 400_000])
    return padded(written(event), size)


@kind(APPLIED, share=0.02)
def as_large_as_allowed(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    return padded(written(event), chance.choice([MAX_BYTES, MAX_BYTES - 1]))


def padded(payload: bytes, size: int) -> bytes:
    """The same event in so many bytes."""
    start = payload[:-1] + b',"note":"'
    return start + b"x" * (size - len(start) - 2) + b'"}'


@kind("malformed", share=0.3)
def nested_too_deep(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    deep = chance.choice([5_000, 10_000])
    opens, closes = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
    value = opens * deep + b"1" + closes * deep
    name = chance.choice([b"context", b"note"])
    return written(event)[:-1] + b',"' + name + b'":{"a":' + value + b"}}"


@kind(APPLIED)
def nested(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    deep: Any = chance.choice([1, "text", None, [], {}])
    for _ in range(chance.randint(1, 60)):
        deep = chance.choice([[deep], {"a": deep}])
    return chance.choice([written, packed])(event | {"context": {"deep": deep}, "note": deep})


@kind("not_a_map", share=2)
def nothing_like_it(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    payload = written(event)
    others = [
        b"",
        b"null",
        b"0",
        b'"text"',
        b"[]",
        b"[" + payload + b"]",
        gzip.compress(payload, mtime=0),
    ]
    others += [payload.decode().encode("utf-16"), b"\xef\xbb\xbf" + payload, b"\x00" * 40, b"\x93"]
    return chance.choice(others)


@kind("malformed")
def only_space(chance: random.Random, _event: Event, _log_ms: int) -> bytes:
    return chance.choice([b" ", b"\n", b"\r\n\t", b"  \n  "])


@kind(APPLIED)
def in_space(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    space = chance.choice([b" ", b"\n", b"\r\n", b"\t \n"])
    return space + written(event) + chance.choice([b"", space])


@kind("future", share=2)
def of_the_future(chance: random.Random, event: Event, log_ms: int) -> bytes:
    ts = chance.choice([log_ms + AHEAD_MS + 1, log_ms + 86_400_000, 9_999_999_999_999])
    return chance.choice([written, packed])(event | {"ts": ts})


@kind(APPLIED, share=0.5)
def slightly_ahead(chance: random.Random, event: Event, log_ms: int) -> bytes:
    return written(event | {"ts": log_ms + chance.choice([1, 20_000, AHEAD_MS])})


@kind(APPLIED)
def of_long_ago(chance: random.Random, event: Event, log_ms: int) -> bytes:
    return written(event | {"ts": chance.choice([0, 1, 86_400_000, log_ms // 2, log_ms - 10**9])})


@kind("invalid")
def of_no_time(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    odd = [-1, -(10**12), 10**13, 0.5, "", "yesterday", "2026-02-30T00:00:00Z", "2026-01-01"]
    odd += ["2026-01-01T00:00:00", "1790000000000", "2026-13-01T00:00:00Z", "12026-01-01T00:00:00Z"]
    return written(event | {"ts": chance.choice(odd)})


@kind(APPLIED)
def timed_in_words(chance: random.Random, event: Event, log_ms: int) -> bytes:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(log_ms // 1000))
    return written(event | {"ts": at + chance.choice(["Z", ".5Z", "+00:00", ".123+00:00"])})


@kind(APPLIED, share=2)
def in_messagepack(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    return packed(dict(chance.sample(list(event.items()), len(event))))


@kind("malformed", "invalid", "missing")
def in_messagepack_cut(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    payload = packed(event)
    return payload[: somewhere(chance, payload)]


@kind(share=3)
def in_messagepack_flipped(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    out = bytearray(packed(event))
    out[chance.randrange(len(out))] ^= chance.randrange(1, 256)
    return bytes(out)


@kind("malformed", share=2)
def several_in_one(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    one, between = written(event), chance.choice([b"\n", b"", b",", b" "])
    if chance.random() < 0.3:
        one, between = packed(event), b""
    return between.join([one] * chance.choice([2, 3, 10]))


@kind("malformed", "not_a_map", "missing", share=2)
def one_over_two(chance: random.Random, event: Event, _log_ms: int) -> list[bytes]:
    """Two messages that would be two good events if they were joined."""
    whole = written(event)
    at = whole.index(b",") + chance.choice([0, 1])
    pairs = [[whole[:at], whole[at:]], [whole + b"\n" + whole[:at], whole[at:]]]
    pairs += [[whole[:-1] + b',"a":{}', b'{"b":1}}'], [whole + whole, b" "]]
    return chance.choice(pairs)


@kind("unknown_type")
def of_no_known_type(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    return written(event | {"type": chance.choice(["", "Purchase", "teleport", "x" * 5_000])})


@kind("unsupported")
def of_a_reserved_type(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    return written(event | {"type": chance.choice(["consent", "erase", "identify"])})


@kind("currency")
def in_other_money(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    currency = chance.choice(["eur", "USD", "EUR ", "€", "x" * 999])
    return written(event | {"type": "purchase", "amount": 5, "currency": currency})


@kind("invalid")
def of_no_amount(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    odd = ["", "-1", "1e3", "12,5", "NaN", "9" * 30, -1, -0.01, 1e9 + 1, True, [5], "0x10", "1_000"]
    return written(event | {"type": "purchase", "amount": chance.choice(odd)})


@kind(APPLIED)
def of_an_odd_amount(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    odd = [0, 1e9, 0.001, "0.005", "000.10", "12.5", 1e-320, "999999999.99"]
    return written(event | {"type": "purchase", "amount": chance.choice(odd)})


@kind("invalid")
def with_an_id_too_long_or_empty(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    odd = [("event_id", "e" * 65), ("event_id", ""), ("user_id", ""), ("order_id", "o" * 65)]
    odd += [("user_id", "mutated-" + "u" * 121), ("item_id", "é" * 129)]
    name, value = chance.choice(odd)
    return written(event | {name: value})


@kind(APPLIED)
def with_an_odd_id(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    odd = ["\u202e", "\ufeff", "\U0001f600" * 20, "{07}", "' OR 1=1 --", "../../etc", "é" * 120]
    odd += [" ", "\u2028", "\ufffd", ":", "\u0301" * 60, "%s%n", "u" * 120]
    user_id = "mutated-" + chance.choice(odd)
    return chance.choice([written, packed])(event | {"user_id": user_id})


@kind(APPLIED, share=2)
def with_texts_never_seen_before(chance: random.Random, event: Event, _log_ms: int) -> bytes:
    names = ["device", "country", "category", "source", "session_id", "item_id"]
    return written(event | {name: f"{name}-{chance.getrandbits(60):x}" for name in names})


def as_sent_before(event: Event, log_ms: int) -> Event:
    """An event that came a moment ago."""
    return event | {"ts": log_ms}


@kind(share=2)
def twice(chance: random.Random, event: Event, log_ms: int) -> list[bytes]:
    """The same event again: its bytes, or its ids with all else changed."""
    first = as_sent_before(event, log_ms)
    others = [first, first | {"type": "search"}, first | {"ts": log_ms - 1_000, "device": "watch"}]
    return [written(first), chance.choice([written, packed])(chance.choice(others))]
