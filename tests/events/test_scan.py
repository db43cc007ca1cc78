"""The scanner takes what is clean, and only that; what it takes is what the thorough one makes."""

import json

import msgspec
import numpy as np
import pytest

from events.batch import Read, Span
from events.scan import Scanner
from events.schema import TYPES, EventRules
from events.shop import Habits, Shop
from events.thorough import ThoroughDecoder

NOW_MS = 1_790_000_000_000
RULES = EventRules(max_age_ms=10**10)
COLUMNS = ("type", "ts_ms", "amount_minor", "quantity", "event_hash", "order_hash", "offset")
TEXTS = ("users", "event_ids", "item", "category", "device", "country", "source")


def read_of(payloads, record_ts_ms=-1):
    n = len(payloads)
    return Read(
        topic="events",
        payloads=list(payloads),
        record_ts_ms=np.full(n, record_ts_ms, dtype=np.int64),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(n, dtype=np.int64),
        spans=[Span(0, 0, n)],
    )


def rows(batch):
    value = [None if np.isnan(v) else v for v in batch.value.tolist()]
    columns = [getattr(batch, name).tolist() for name in (*COLUMNS, *TEXTS)]
    return list(zip(value, *columns, strict=True))


def as_json(fields, **more):
    return json.dumps(fields, ensure_ascii=False, **more).encode()


def event(**fields):
    base = {"event_id": "e1", "user_id": "ann", "type": "product_view", "ts": NOW_MS}
    return {k: v for k, v in (base | fields).items() if v is not ...}


def taken(payload, record_ts_ms=-1):
    """Whether the scanner takes a message; then it must say what the thorough decoder says."""
    raw = (
        payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    )
    read = read_of([b"{}", raw, b'{"a":1}'], record_ts_ms)
    batch, clean = Scanner(RULES)(read)
    assert not clean[0]
    assert not clean[2]
    if clean[1]:
        found = ThoroughDecoder(RULES)(read, np.array([1]))
        assert rows(batch.take(np.array([1]))) == rows(found.batch)
    return bool(clean[1])


def test_a_shop_is_taken_whole():
    read = read_of(
        Shop(3, NOW_MS, Habits(users=100, items=50), broken_share=0).block(3_000).payloads
    )
    batch, clean = Scanner(RULES)(read)
    packed = np.array([payload[0] != ord("{") for payload in read.payloads])
    assert (clean == ~packed).all()
    mine = np.flatnonzero(clean)
    assert rows(batch.take(mine)) == rows(ThoroughDecoder(RULES)(read, mine).batch)
    assert set(batch.type[mine].tolist()) >= {TYPES.index("purchase"), TYPES.index("add_to_cart")}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ts": "2026-09-20T12:34:56Z"},
        {"ts": "2026-02-28T23:59:59.999999+14:00"},
        {"ts": "2028-02-29T00:00:00.1-00:30"},
        {"type": "purchase", "amount": 12.345},
        {"type": "purchase", "amount": 0.125, "order_id": "o1"},
        {"type": "purchase", "amount": "19.99", "currency": "EUR"},
        {"type": "refund", "amount": 1_000_000_000},
        {"type": "refund", "amount": 999_999_999.999},
        {"value": -2.5, "quantity": 3},
        {"value": 123456789012345},
        {"category": "Bücher", "source": "日本", "device": "🙂", "country": ""},
        {"item_id": None, "currency": None, "value": None, "context": None},
        {"context": {"a": [1, -2.5e10, "x\\ny", {"b": None}, True, False, [], {}]}},
        {"extra": {"deep": [[[[]]]]}, "other": 1},
        {"user_id": "x" * 128, "event_id": "e" * 64},
    ],
)
def test_what_is_usual_is_taken(fields):
    assert taken(event(**fields))
    assert taken(as_json(event(**fields), indent=1))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        msgspec.msgpack.encode(event()),
        event(ts=...),
        event(user_id=...),
        event(user_id=""),
        event(event_id=None),
        event(type="consent"),
        event(type="nonsense" * 9),
        event(user_id="bör"),
        event(user_id="a\x7f"),
        event(user_id="x" * 129),
        event(device="x" * 65),
        event(device=5),
        event(ts=NOW_MS + 0.5),
        event(ts=-1),
        event(ts=10**17),
        event(ts="2026-02-29T00:00:00Z"),
        event(ts="2026-01-01T24:00:00Z"),
        event(ts="2026-01-01T00:00:00"),
        event(ts="2026-01-01 00:00:00Z"),
        event(type="purchase"),
        event(type="purchase", amount=-1),
        event(type="purchase", amount=1e9 + 1),
        event(type="purchase", amount=1_000_000_000.004),
        event(type="purchase", amount="1000000000.001"),
        event(type="purchase", amount="1e3"),
        event(type="purchase", amount=1, currency="USD"),
        event(type="add_to_cart"),
        event(quantity=1.5),
        event(quantity=1_000_001),
        event(value="1"),
        event(value=1e300),
        event(context=[]),
        event(category='a"b'),
        json.dumps(event(category="ü")).encode(),
        json.dumps(event()).encode() + b" ",
        json.dumps(event()).encode() + b"}",
        json.dumps(event()).encode().replace(b"ann", b"a\nn"),
        json.dumps(event()).encode().replace(b"ann", b"\xff"),
        json.dumps(event(source="xy")).encode().replace(b"xy", b"\xed\xa0\x80"),
        json.dumps(event(source="xy")).encode().replace(b"xy", b"\xc0\xaf"),
        json.dumps(event(context={"n": 7})).encode().replace(b"7", b"07"),
        json.dumps(event(context={"n": 7})).encode().replace(b"7", b"7,"),
        json.dumps(event(context={"n": 7})).encode().replace(b"7}", b"7]"),
        json.dumps(event(context={"n": 7})).encode().replace(b"7", b"nul"),
        b'{"event_id":"1","event_id":"2","user_id":"ann","type":"search","ts":5}',
        b'{"event_id":"1","user_id":"ann","type":"search","ts":05}',
        b'{"event_id":"1","user_id":"ann","type":"search","ts":5,}',
        b'{"event_id":"1" "user_id":"ann","type":"search","ts":5}',
        b'{"event_id":"1","user_id":"ann","type":"search","ts":5' + b',"x":' + b"[" * 200,
    ],
)
def test_what_is_not_sure_is_left(payload):
    assert not taken(payload)


@pytest.mark.parametrize("ahead_ms", [-(10**10) - 1, -(10**10), 0, 300_000, 300_001])
def test_time_is_held_against_the_log(ahead_ms):
    assert taken(event(ts=NOW_MS + ahead_ms), NOW_MS) is (-(10**10) <= ahead_ms <= 300_000)


def test_messages_cut_anywhere_are_left_and_hurt_nobody():
    fields = event(context={"a": [1, {"b": "c"}]}, value=1.5, category="ü")
    whole = as_json(fields)
    parts = [whole[:at] for at in range(len(whole))] + [whole[at:] for at in range(1, len(whole))]
    read = read_of([part for piece in parts for part in (piece, whole)])
    _, clean = Scanner(RULES)(read)
    assert not clean[::2].any()
    assert clean[1::2].all()


def test_too_many_bytes_are_left():
    large = event(context={"x": "y" * 70_000})
    assert not taken(large)
    assert taken(event(context={"x": "y" * 60_000}))
