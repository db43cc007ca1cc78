"""Messages with something wrong, or merely odd, about them: made from good ones by a named change.

Bytes are flipped, cut and doubled; fields go, come twice, or hold what nobody expects; whole
messages are replaced by things that are none. Some come out good all the same, which is as well.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

Mutation = Callable[[random.Random, bytes], bytes]

FIELDS: Final = (
    *("event_id", "user_id", "type", "ts", "source", "item_id", "category", "amount", "currency"),
    *("quantity", "order_id", "session_id", "device", "country", "value", "context"),
)
ODD: Final[tuple[Any, ...]] = (
    *(None, "", " ", True, False, [], {}, [1], {"a": 1}, 0, -1, 2**31, 2**63, 2**64, -(2**63)),
    *(0.5, 1e9, 1e10, 1e300, float("nan"), float("inf"), -float("inf"), "NaN", "1e3", "12,5", "-1"),
    *("0.005", "1" * 30, "\x00", "a\nb", "\u202e", "\ufeff", "\U0001f600", "\ud800", "é" * 64),
    *("x" * 64, "x" * 65, "x" * 128, "x" * 129, "x" * 70_000, "consent", "erase", "identify"),
    *("purchase", "PURCHASE", "EUR", "eur", "XXX", "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"),
    *("2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "{07}", "mutant-' OR 1=1", "../../etc"),
)
NOT_EVENTS: Final = (
    *(
        b"",
        b" ",
        b"\n",
        b"null",
        b"true",
        b"0",
        b'"event"',
        b"[]",
        b"{}",
        b"[{}]",
        b"{",
        b"}",
        b"}{",
    ),
    *(
        b"\x80",
        b"\x81\xa1a",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"\x00" * 50,
        b"[" * 5_000,
        b"{}" * 40,
    ),
    *(b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"x" * 70_000, b"event_id,user_id\n1,2"),
)


def flipped(chance: random.Random, payload: bytes) -> bytes:
    """One to three bytes changed."""
    out = bytearray(payload)
    for _ in range(chance.randint(1, 3)):
        out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out)


def cut(chance: random.Random, payload: bytes) -> bytes:
    """A piece missing, at the end or within."""
    a, b = sorted(chance.sample(range(len(payload) + 1), 2))
    return payload[:a] + payload[b:] if chance.random() < 0.5 else payload[:a]


def doubled(chance: random.Random, payload: bytes) -> bytes:
    """A piece twice."""
    a, b = sorted(chance.sample(range(len(payload) + 1), 2))
    return payload[:b] + payload[a:]


def spaced(chance: random.Random, payload: bytes) -> bytes:
    """White space, or what only looks like it, around or within."""
    space = chance.choice([b" ", b"\n", b"\t", b"\r\n", b"\x0b", b"\xc2\xa0", b"\x00"])
    at = chance.choice([0, len(payload), chance.randrange(len(payload))])
    return payload[:at] + space + payload[at:]


def joined(chance: random.Random, payload: bytes) -> bytes:
    """Two values in one message, which together would pass for two good ones."""
    at = payload.index(b',"') + 1
    between = chance.choice([b"", b"\n", b",", b" "])
    return chance.choice([payload + between + payload, payload[:at] + between + payload[at:]])


def without(chance: random.Random, payload: bytes) -> bytes:
    """One to four fields fewer."""
    event = json.loads(payload)
    for name in chance.sample(sorted(event), min(chance.randint(1, 4), len(event))):
        del event[name]
    return json.dumps(event).encode()


def odd(chance: random.Random, payload: bytes) -> bytes:
    """A field, or two, with what nobody expects there."""
    event = json.loads(payload)
    for _ in range(chance.randint(1, 2)):
        event[chance.choice(FIELDS)] = chance.choice(ODD)
    return json.dumps(event, ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")


def twice(chance: random.Random, payload: bytes) -> bytes:
    """A field that comes twice."""
    name, value = chance.choice(FIELDS), chance.choice(ODD)
    return payload[:-1] + b"," + json.dumps({name: value}).encode()[1:]


def strange(chance: random.Random, payload: bytes) -> bytes:
    """Fields that nobody knows, some of them deep."""
    name = chance.choice(["Event_ID", "extra", "__proto__", "", "é"])
    deep: Any = chance.choice(ODD)
    for _ in range(chance.choice([0, 1, 50])):
        deep = {"more": deep}
    return payload[:-1] + b"," + json.dumps({name: deep}).encode()[1:]


def packed(chance: random.Random, payload: bytes) -> bytes:
    """As MessagePack, whole or damaged."""
    out = msgspec.msgpack.encode(json.loads(payload))
    return chance.choice([lambda: out, lambda: flipped(chance, out), lambda: cut(chance, out)])()


def encoded(chance: random.Random, payload: bytes) -> bytes:
    """In an encoding that is not agreed upon."""
    text = payload.decode()
    return chance.choice([text.encode("utf-16"), text.encode("utf-8-sig"), gzip.compress(payload)])


def nothing_of_it(chance: random.Random, _payload: bytes) -> bytes:
    """Something else."""
    return chance.choice(NOT_EVENTS)


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(flipped, cut, doubled, spaced, joined, without, odd, odd, odd, twice, strange, packed),
    *(encoded, nothing_of_it),
)


def mutate(chance: random.Random, payload: bytes) -> bytes:
    """One message, changed in one way."""
    return chance.choice(MUTATIONS)(chance, payload)
