"""The decoder: fast and careful agree, nothing is lost, nothing bad gets through."""

import json
import math
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.batch import Read, Span
from events.careful import Refused, decode_one
from events.decode import Decoder, headers
from events.schema import REASONS, TYPES, EventRules
from events.shop import Habits, Shop

RULES = EventRules(max_age_ms=10**10)
NOW_MS = 1_790_000_000_000


def read_of(payloads, record_ts_ms=-1):
    n = len(payloads)
    return Read(
        topic="events",
        payloads=list(payloads),
        record_ts_ms=np.full(n, record_ts_ms, dtype=np.int64),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(n, dtype=np.int64),
        spans=[Span(0, 0, n)],
        keys=[b"k%d" % i for i in range(n)],
    )


def event(**fields):
    base = {"event_id": "e1", "user_id": "ann", "type": "product_view", "ts": NOW_MS}
    return {k: v for k, v in (base | fields).items() if v is not ...}


def one(payload, record_ts_ms=-1):
    """The batch and the letters of a single message."""
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Decoder(RULES)(read_of([raw], record_ts_ms))


texts = st.text(max_size=70)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    texts,
    st.lists(st.integers(), max_size=2),
    st.sampled_from(["2026-01-01T00:00:00Z", "12.345", "EUR", "USD", "purchase", "consent", ""]),
)
_NAMES = (
    "event_id user_id type ts source item_id category amount currency quantity order_id "
    "session_id device country value context extra"
)
fields = st.sampled_from(_NAMES.split())
good = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=64).filter(lambda t: t.isascii()),
        "user_id": st.text("abcäøü0123456789", min_size=1, max_size=20),
        "type": st.sampled_from([*TYPES, "consent", "nonsense"]),
        "ts": st.integers(NOW_MS - 10**6, NOW_MS),
    },
    optional={
        "item_id": st.text("i0123", min_size=0, max_size=9),
        "amount": st.one_of(st.floats(0, 1e9), st.integers(0, 1000), st.just("10.005")),
        "quantity": st.integers(0, 5),
        "device": st.sampled_from(["mobile", "desktop", ""]),
        "value": st.floats(allow_nan=False, allow_infinity=False),
        "order_id": st.text("o01", max_size=3),
        "context": st.dictionaries(st.text(max_size=3), st.integers(-5, 5), max_size=2),
    },
)
damaged = st.tuples(good, fields, scalars).map(lambda t: {**t[0], t[1]: t[2]})


def as_json(value):
    return json.dumps(value).encode(errors="surrogatepass")


def as_packed(value):
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return b"\xc1"


messages = st.one_of(
    good.map(as_json),
    damaged.map(as_json),
    good.map(as_packed),
    damaged.map(as_packed),
    st.binary(max_size=40),
    good.map(as_json).flatmap(
        lambda raw: st.integers(0, len(raw) - 1).map(lambda at: raw[:at] + b"\n" + raw[at + 1 :])
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=12), st.sampled_from([-1, NOW_MS, NOW_MS - 10**11]))
def test_batch_and_letters_are_what_the_careful_decoder_says_of_each(payloads, record_ts_ms):
    batch, letters = Decoder(RULES)(read_of(payloads, record_ts_ms))
    taken, refused = {}, {}
    for i, payload in enumerate(payloads):
        try:
            taken[i] = decode_one(payload, record_ts_ms, RULES)
        except Refused as why:
            refused[i] = (why.reason, why.path, why.detail)
    assert batch.offset.tolist() == list(taken)
    found = {letter.offset: (letter.reason, letter.path, letter.detail) for letter in letters}
    assert found == refused
    for letter in letters:
        assert letter.payload == payloads[letter.offset]
        assert letter.key == b"k%d" % letter.offset
        assert letter.reason in REASONS
    for place, message in enumerate(taken.values()):
        single, _ = Decoder(RULES)(read_of([payloads[list(taken)[place]]], record_ts_ms))
        for name in ("type", "ts_ms", "amount_minor", "quantity", "event_hash", "order_hash"):
            assert getattr(batch, name)[place] == getattr(single, name)[0], name
        assert batch.users[place] == message.user_id
        code = batch.device.codes[place]
        assert (batch.device.values[code] if code >= 0 else None) == (message.device or None)


def test_the_shop_is_taken_whole_and_its_damage_refused():
    shop = Shop(5, NOW_MS, Habits(users=300, items=50), broken_share=0.05, duplicate_share=0)
    block = shop.block(4000)
    batch, letters = Decoder(RULES)(read_of(block.payloads, int(block.log_ms.max())))
    broken = {i for i, kind in enumerate(block.kind) if kind == 2}
    assert len(batch) + len(letters) == 4000
    assert {letter.offset for letter in letters} == broken


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"user_id": ...}, "missing", "$.user_id"),
        ({"user_id": "a\u0007b"}, "invalid", "$.user_id"),
        ({"user_id": "x" * 129}, "invalid", "$.user_id"),
        ({"event_id": ""}, "invalid", "$.event_id"),
        ({"type": "buy"}, "unknown_type", "$.type"),
        ({"type": "erase"}, "unsupported", "$.type"),
        ({"ts": True}, "invalid", "$.ts"),
        ({"ts": -1}, "invalid", "$.ts"),
        ({"ts": "yesterday"}, "invalid", "$.ts"),
        ({"ts": "2026-01-01T00:00:00"}, "invalid", "$.ts"),
        ({"type": "purchase"}, "missing", "$.amount"),
        ({"type": "purchase", "amount": -1}, "invalid", "$.amount"),
        ({"type": "purchase", "amount": 1e400}, "malformed", ""),
        ({"type": "purchase", "amount": "1e3"}, "invalid", "$.amount"),
        ({"type": "purchase", "amount": 5, "currency": "USD"}, "currency", "$.currency"),
        ({"type": "add_to_cart"}, "missing", "$.item_id"),
        ({"context": 5}, "invalid", "$.context"),
        ({"quantity": 1.5}, "invalid", "$.quantity"),
        ({"value": "high"}, "invalid", "$.value"),
    ],
)
def test_refusals_name_reason_and_place(fields, reason, path):
    batch, letters = one(event(**fields))
    assert len(batch) == 0
    assert (letters[0].reason, letters[0].path) == (reason, path)
    assert letters[0].detail
    assert dict(headers(letters[0]))["reason"] == reason.encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not_a_map"),
        (b"[1]", "not_a_map"),
        (b"\x93\x01\x02\x03", "not_a_map"),
        (b"{", "malformed"),
        (b'{"event_id":"\xff"}', "malformed"),
        (b"\xef\xbb\xbf{}", "not_a_map"),
        (b'{"event_id":"\\ud800","user_id":"a","type":"search","ts":1}', "malformed"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "malformed"),
        (b'{"event_id":"1","x":"' + b"y" * 70_000 + b'"}', "too_large"),
        (b'{"event_id":"1","user_id":"a","type":"search","ts":NaN}', "malformed"),
    ],
)
def test_hostile_bytes(payload, reason):
    batch, letters = one(payload)
    assert (len(batch), letters[0].reason) == (0, reason)


def test_time_is_judged_against_the_log():
    assert one(event(), NOW_MS - 300_001)[1][0].reason == "future"
    assert len(one(event(), NOW_MS - 300_000)[0]) == 1
    assert one(event(), NOW_MS + 10**10 + 1)[1][0].reason == "too_old"


def test_non_finite_packed_numbers_are_refused():
    for name in ("value", "amount"):
        for bad in (math.nan, math.inf, -math.inf):
            _, letters = one(msgspec.msgpack.encode(event(**{name: bad})))
            assert letters[0].path == f"$.{name}"


def test_amounts_round_as_their_text_says():
    for text, minor in [("0.125", 12), ("0.135", 14), ("1.005", 100), ("8.575", 858)]:
        for amount in (text, float(text)):
            batch, _ = one(event(type="purchase", amount=amount))
            assert batch.amount_minor.tolist() == [minor], amount
    random.seed(1)
    cents = [random.randrange(10**11) for _ in range(2000)]
    payloads = [json.dumps(event(type="purchase", amount=c / 100)).encode() for c in cents]
    assert Decoder(RULES)(read_of(payloads))[0].amount_minor.tolist() == cents


@pytest.mark.parametrize(
    ("text", "beyond_ms"),
    [
        ("1970-01-02T00:00:00Z", 0),
        ("1970-01-02T02:00:00+02:00", 0),
        ("1970-01-02T00:00:00.999999Z", 999),
        ("1970-01-01T18:30:00.5-05:30", 500),
    ],
)
def test_rfc3339_times(text, beyond_ms):
    assert one(event(ts=text))[0].ts_ms.tolist() == [86_400_000 + beyond_ms]


def test_two_bad_messages_cannot_join_into_good_ones():
    whole = json.dumps(event()).encode()
    first, second = whole[:20], whole[20:]
    _, letters = Decoder(RULES)(read_of([first, second]))
    assert len(letters) == 2
    _, letters = Decoder(RULES)(read_of([whole + b"\n" + whole, b" "]))
    assert len(letters) == 2
