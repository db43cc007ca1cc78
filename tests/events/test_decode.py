"""The decoder: fast and careful agree, nothing is lost, nothing bad gets through."""

import json
import math
import random
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.batch import Read, Span
from events.careful import Refused, decode_one
from events.decode import Decoder, headers
from events.hashing import combine, hash_texts
from events.schema import REASONS, TYPES, EventRules
from events.shop import Habits, Shop
from events.thorough import CHUNK

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


@st.composite
def moments(draw):
    """RFC 3339 texts near ``NOW_MS`` with any offset and number of decimals."""
    zone = timezone(timedelta(minutes=draw(st.integers(-23 * 60, 23 * 60))))
    second = draw(st.integers(NOW_MS // 1000 - 1000, NOW_MS // 1000 - 1))
    decimals = draw(st.text("0123456789", max_size=9))
    text = datetime.fromtimestamp(second, zone).isoformat()
    return text[:19] + (f".{decimals}" if decimals else "") + text[19:]


good = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=64).filter(lambda t: t.isascii()),
        "user_id": st.text("abcäøü0123456789", min_size=1, max_size=20),
        "type": st.sampled_from([*TYPES, "consent", "nonsense"]),
        "ts": st.integers(NOW_MS - 10**6, NOW_MS) | moments(),
    },
    optional={
        "item_id": st.text("i0123", min_size=0, max_size=9),
        "amount": st.one_of(
            st.floats(0, 1e9),
            st.integers(0, 1000),
            st.decimals(0, 10**6, places=4).map(str),
            st.decimals(0, 10**6, places=3).map(float),
        ),
        "quantity": st.integers(0, 5),
        "device": st.sampled_from(["mobile", "desktop", ""]),
        "category": st.sampled_from(["bücher", "music"]),
        "country": st.sampled_from(["DE", None]),
        "source": st.just("app"),
        "value": st.floats(allow_nan=False, allow_infinity=False),
        "order_id": st.text("o01", max_size=3),
        "context": st.dictionaries(st.text(max_size=3), st.integers(-5, 5), max_size=2),
    },
)
damaged = st.tuples(good, fields, scalars).map(lambda t: {**t[0], t[1]: t[2]})
bounds = st.one_of(
    st.decimals("-0.01", "0.01", places=3), st.decimals("999999999.99", "1000000000.01", places=3)
)
at_bounds = st.tuples(good, bounds.map(float) | bounds.map(str)).map(
    lambda t: {**t[0], "amount": t[1]}
)


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
    at_bounds.map(as_json),
    at_bounds.map(as_packed),
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
        assert row_of(batch, place) == expected_row(message)
    ts_ms = [expected_row(message)["ts_ms"] for message in taken.values()]
    assert batch.spans[0].max_ts_ms == max(ts_ms, default=-1)


def row_of(batch, place):
    """One event of a batch, as plain values."""
    names = ("item", "category", "device", "country", "source")
    texts = {name: getattr(batch, name)[place] for name in names}
    value = float(batch.value[place])
    return texts | {
        "user": batch.users[place],
        "event_id": batch.event_ids[place],
        "type": TYPES[batch.type[place]],
        "ts_ms": int(batch.ts_ms[place]),
        "amount_minor": int(batch.amount_minor[place]),
        "quantity": int(batch.quantity[place]),
        "value": None if math.isnan(value) else value,
        "event_hash": int(batch.event_hash[place]),
        "has_order": bool(batch.order_hash[place]),
    }


def expected_row(message):
    """The same from the message itself, slowly and obviously."""
    ts_ms = message.ts
    if isinstance(ts_ms, str):
        head, offset = message.ts[:19], message.ts[19:].lstrip(".0123456789")
        decimals = message.ts[19 : len(message.ts) - len(offset)].lstrip(".")
        moment = datetime.fromisoformat(head + offset.upper().replace("Z", "+00:00"))
        ts_ms = int(moment.timestamp()) * 1000 + int((decimals + "000")[:3])
    cents = Decimal(repr(message.amount).strip("'")) * 100 if message.amount is not None else 0
    user_hash, id_hash = hash_texts([message.user_id]), hash_texts([message.event_id])
    return {
        "item": message.item_id or None,
        "category": message.category or None,
        "device": message.device or None,
        "country": message.country or None,
        "source": message.source or None,
        "user": message.user_id,
        "event_id": message.event_id,
        "type": message.type,
        "ts_ms": ts_ms,
        "amount_minor": int(Decimal(cents).to_integral_value(ROUND_HALF_EVEN)),
        "quantity": message.quantity or 0,
        "value": message.value,
        "event_hash": int(combine(user_hash, id_hash)[0]),
        "has_order": message.type in ("purchase", "refund"),
    }


def test_the_shop_is_taken_whole_and_its_damage_refused():
    shop = Shop(5, NOW_MS, Habits(users=300, items=50), broken_share=0.05, duplicate_share=0)
    block = shop.block(4000)
    batch, letters = Decoder(RULES)(read_of(block.payloads, int(block.log_ms.max())))
    broken = [i for i, kind in enumerate(block.kind) if kind == 2]
    assert len(batch) + len(letters) == 4000
    assert [letter.offset for letter in letters] == broken
    assert np.all(np.diff(batch.offset) > 0)


def test_a_read_is_the_sum_of_its_messages():
    shop = Shop(6, NOW_MS, Habits(users=300, items=50), broken_share=0.001, duplicate_share=0)
    payloads = shop.block(CHUNK * 2 + 300).payloads
    batch, letters = Decoder(RULES)(read_of(payloads))
    refused = {letter.offset: letter for letter in letters}
    decoder, place = Decoder(RULES), 0
    for i, payload in enumerate(payloads):
        single, bad = decoder(read_of([payload]))
        if bad:
            assert (refused[i].reason, refused[i].detail) == (bad[0].reason, bad[0].detail)
            continue
        assert row_of(batch, place) == row_of(single, 0)
        assert batch.order_hash[place] == single.order_hash[0]
        place += 1
    assert place == len(batch)


def test_order_hashes_are_the_orders():
    lines = [
        event(event_id="1", type="purchase", amount=1, order_id="o"),
        event(event_id="2", type="refund", amount=1, order_id="o"),
        event(event_id="3", type="purchase", amount=1, order_id=""),
        event(event_id="4", type="purchase", amount=1),
        event(event_id="5", type="search", order_id="o"),
    ]
    batch, _ = Decoder(RULES)(read_of([as_json(line) for line in lines]))
    first, again, empty, absent, other = batch.order_hash.tolist()
    assert first == again
    assert len({first, empty, absent}) == 3
    assert other == 0


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
        (
            b'{"event_id":"1","user_id":"a","type":"search","ts":1,"context":{"x":"\xff"}}',
            "malformed",
        ),
        (b'{"event_id":"1","user_id":"a","type":"search","ts":1,"\xff":2}', "malformed"),
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
    ("amount", "minor"),
    [
        (1e9, 10**11),
        (999_999_999.999, 10**11),
        (999_999_999.994, 10**11 - 1),
        (1_000_000_000.001, None),
        (1_000_000_000.004, None),
        (1_000_000_001, None),
        (0.004, 0),
        (-0.004, None),
    ],
)
def test_amounts_are_held_against_their_bounds_before_they_are_rounded(amount, minor):
    for fields in (event(type="purchase", amount=a) for a in (amount, str(amount))):
        plain = as_json(fields)
        forms = [plain, plain.replace(b"ann", b"\\u0061nn"), msgspec.msgpack.encode(fields)]
        for form in forms:
            batch, letters = one(form)
            assert batch.amount_minor.tolist() == ([] if minor is None else [minor]), form
            found = [(letter.reason, letter.path) for letter in letters]
            assert found == ([("invalid", "$.amount")] if minor is None else []), form


@pytest.mark.parametrize(
    ("text", "beyond_ms"),
    [
        ("1970-01-02T00:00:00Z", 0),
        ("1970-01-02T02:00:00+02:00", 0),
        ("1970-01-02T00:00:00.999999Z", 999),
        ("1970-01-01T18:30:00.5-05:30", 500),
        ("1970-01-02T00:00:00.9999999Z", 999),
    ],
)
def test_rfc3339_times(text, beyond_ms):
    assert one(event(ts=text))[0].ts_ms.tolist() == [86_400_000 + beyond_ms]


def whole(event_id):
    return as_json(event(event_id=event_id))


@pytest.mark.parametrize(
    "payloads",
    [
        [whole("1")[:20], whole("1")[20:]],
        [whole("1") + b"\n" + whole("2"), b" "],
        [whole("1") + whole("2"), b""],
        [whole("1") + whole("2"), b" "],
        [whole("1")[:-1] + b",", b'"value":1}' + whole("2")],
        [whole("1")[:-1] + b',"x":"}', b'{"}', whole("2") + whole("3")],
        [whole("1")[:-1] + b',"x":[{}', b"{}]}" + whole("2")],
        [whole("1")[:-1] + b',"x":{}', b'{"y":1}}' + whole("2")],
        [whole("1") + b",", whole("2")],
    ],
)
def test_bad_messages_cannot_join_into_good_ones(payloads):
    batch, letters = Decoder(RULES)(read_of(payloads))
    good = [i for i, payload in enumerate(payloads) if payload == whole("2")]
    assert batch.offset.tolist() == good
    assert len(letters) == len(payloads) - len(good)


@settings(max_examples=200, deadline=None)
@given(st.lists(good.map(as_json), min_size=1, max_size=4), st.data())
def test_messages_cut_anywhere_are_judged_alone(parts, data):
    text = data.draw(st.sampled_from([b"", b"\n", b" ", b","])).join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    payloads = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    batch, letters = Decoder(RULES)(read_of(payloads))
    taken = []
    for i, payload in enumerate(payloads):
        try:
            decode_one(payload, -1, RULES)
            taken.append(i)
        except Refused:
            pass
    assert batch.offset.tolist() == taken
    assert sorted([*taken, *(letter.offset for letter in letters)]) == list(range(len(payloads)))


def test_white_space_around_and_inside_a_message_is_fine():
    pretty = json.dumps(event(), indent=2).encode()
    batch, letters = Decoder(RULES)(read_of([b" \r\n\t" + pretty + b"\n", pretty, whole("3")]))
    assert (len(batch), letters) == (3, [])


def test_the_size_allowed_is_exact():
    space = RULES.max_bytes - len(whole("1"))
    assert len(one(whole("1") + b" " * space)[0]) == 1
    assert one(whole("1") + b" " * (space + 1))[1][0].reason == "too_large"


def packed(**fields):
    return msgspec.msgpack.encode(event(**fields))


@pytest.mark.parametrize(
    ("payload", "reason", "path"),
    [
        (packed(context=123), "invalid", "$.context"),
        (packed(context=msgspec.msgpack.Ext(5, b"x")), "invalid", "$.context"),
        (packed(user_id=b"ann"), "invalid", "$.user_id"),
        (packed(ts=datetime(2026, 1, 1, tzinfo=UTC)), "invalid", "$.ts"),
        (msgspec.msgpack.encode({b"event_id": "1"}), "invalid", "$"),
        (packed(user_id="XXX").replace(b"XXX", b"\xed\xa0\x80"), "malformed", ""),
        (packed() + b"\x00", "malformed", ""),
        (packed()[:-1], "malformed", ""),
        (b"\xdf\xff\xff\xff\xff", "malformed", ""),
        (b"\x81\xa1a" + b"\x91" * 5000 + b"\xc0", "malformed", ""),
    ],
)
def test_hostile_packed_bytes(payload, reason, path):
    batch, letters = one(payload)
    assert (len(batch), letters[0].reason, letters[0].path) == (0, reason, path)


def test_packed_and_json_say_the_same():
    fields = {"type": "purchase", "amount": 3.5, "item_id": "i1", "context": {"a": [1, {"b": 2}]}}
    (a, _), (b, _) = one(packed(**fields)), one(event(**fields))
    assert row_of(a, 0) == row_of(b, 0)
    assert a.order_hash == b.order_hash


def test_one_bad_message_does_not_touch_the_others():
    bad = [event(user_id="a\u0085"), event(value="x"), event(currency="USD"), event(amount="x")]
    payloads = [whole("1")] * 2 + [as_json(b) for b in bad] + [packed(value=math.nan), whole("2")]
    batch, letters = Decoder(RULES)(read_of(payloads))
    assert batch.offset.tolist() == [0, 1, 7]
    assert [letter.offset for letter in letters] == [2, 3, 4, 5, 6]


def test_an_unusual_space_is_no_control_character():
    batch, letters = Decoder(RULES)(read_of([as_json(event(user_id="ann\u00a0b")), whole("2")]))
    assert (batch.users.tolist(), letters) == (["ann\u00a0b", "ann"], [])


def test_an_empty_read_is_an_empty_batch():
    batch, letters = Decoder(RULES)(read_of([]))
    assert (len(batch), letters, batch.spans) == (0, [], [Span(0, 0, 0)])


def test_rules_know_their_types():
    with pytest.raises(ValueError, match="'buy'"):
        EventRules(types=frozenset({"purchase", "buy"}))
    batch, letters = Decoder(EventRules(types=frozenset({"search"})))(read_of([whole("1")]))
    assert (len(batch), letters[0].reason) == (0, "unknown_type")
