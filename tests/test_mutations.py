"""A hundred thousand mutated events, each of a kind whose outcome is told beforehand.

Every message is applied, a duplicate or a dead letter, as its kind says and as a plain account of
event ids says; the profiles of everybody else are byte for byte those of a run without them.
"""

from __future__ import annotations

import gzip
import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Record

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.ledger import Ledger
from dataflows.plans import event_rules, lane_plan
from dataflows.settings import load
from events.batch import Batch, DeadLetter, Read, Span
from events.decode import Decoder
from events.schema import REASONS
from events.shop import Shop
from events.shop_habits import Habits
from state.lane import Lane
from state.plan import LanePlan
from state.store import Store
from tests.brokers import new_broker
from tests.operators.logs import consume

Event = dict[str, Any]
Make = Callable[[random.Random, Event, int], bytes | Sequence[bytes]]
"""Makes a message, or several that follow each other, of a good event and its time in the log."""

START_MS = 1_790_000_000_000
HABITS = Habits(users=300, rate_per_s=100)
MUTANTS, OTHERS = 100_000, 40_000
MAX_BYTES = 65_536
AHEAD_MS = 300_000
DEDUP_MS = 600_000 + AHEAD_MS
"""The window that is set, and as much again as an event may be ahead of its log."""
CUTS = "rfm.cuts={recency_days=[1,7,30,90],frequency=[1,2,3,4],monetary=[9,10,11,12]}"
"""Cuts that do not move: those of a population would rightly follow whoever is in it."""

# -- kinds of mutation ------------------------------------------------------------------------

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


# -- streams ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """A message, when the log takes it, whose it is meant to be, and its kind if it is mutated."""

    payload: bytes
    log_ms: int
    user: str
    mutation: str = ""


LETTERS = str.maketrans("0123456789", "abcdefghij")


def set_apart(event: Event) -> Event:
    """The event of a user without digits, so that no accident makes one of the others of it."""
    return event | {"user_id": "mutated-" + str(event["user_id"]).translate(LETTERS)}


def mutants(seed: int) -> Iterator[Callable[[int], list[Sent]]]:
    """Mutated messages without end, one or two at a time, for a time in the log."""
    chance = random.Random(seed)
    names, shares = list(KINDS), [k.share for k in KINDS.values()]
    shop = Shop(seed, START_MS, HABITS, duplicate_share=0, broken_share=0)
    while True:
        chosen = chance.choices(names, shares, k=1_000)
        for payload, name in zip(shop.payloads(1_000), chosen, strict=True):
            event = set_apart(json.loads(payload))

            def make(log_ms: int, name: str = name, event: Event = event) -> list[Sent]:
                late_ms = chance.choice([0] * 5 + [5, 700, 60_000, chance.randrange(10**7)])
                made = KINDS[name].make(chance, event | {"ts": log_ms - late_ms}, log_ms)
                payloads = [made] if isinstance(made, bytes) else made
                return [Sent(each, log_ms, event["user_id"], name) for each in payloads]

            yield make


def others(count: int, seed: int, start_ms: int, *, clean: bool = False) -> list[Sent]:
    """A shop's messages, its own duplicates and broken ones among them unless it is clean."""
    twice, broken = (0.0, 0.0) if clean else (0.01, 0.005)
    shop = Shop(seed, start_ms, HABITS, duplicate_share=twice, broken_share=broken)
    block = shop.block(count)
    sent = zip(block.payloads, block.log_ms.tolist(), block.users, strict=True)
    return [Sent(payload, log_ms, user) for payload, log_ms, user in sent]


def mixed(good: Sequence[Sent], bad: int, seed: int) -> list[Sent]:
    """Good messages in their order, and exactly so many mutated ones in between."""
    chance, coming = random.Random(seed), mutants(seed)
    places = Counter(chance.choices(range(len(good)), k=bad))
    out, made = [], 0
    for n, sent in enumerate(good):
        out.append(sent)
        while places[n] > 0 and made < bad:
            more = next(coming)(sent.log_ms)[: bad - made]
            places[n] -= 1
            made += len(more)
            out += more
    return out


def cut_into_reads(sent: Sequence[Sent], seed: int) -> list[list[Sent]]:
    """Reads of random sizes."""
    chance, out, at = random.Random(seed), [], 0
    while at < len(sent):
        size = chance.choice([1, 2, 50, 999, 1_000, 1_001, 3_000])
        out.append(list(sent[at : at + size]))
        at += size
    return out


# -- one lane ---------------------------------------------------------------------------------


class Account:
    """Which events have been seen, by their ids, as the contract has it.

    Ids are remembered for so long behind the newest event; what is older is applied unchecked.
    """

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._newest_ms = 0

    def enter(self, user: str, event_id: str, ts_ms: int) -> str:
        """What becomes of the next good event."""
        self._newest_ms = max(self._newest_ms, ts_ms)
        if ts_ms < self._newest_ms - DEDUP_MS:
            return APPLIED
        known = (user, event_id) in self._seen
        self._seen.add((user, event_id))
        return DUPLICATE if known else APPLIED


@dataclass
class Run:
    """One lane over some reads.

    Attributes:
        outcomes: of each message, in order: applied, duplicate, or the reason of its letter.
        users: of each message that became an event, by its place.
        letters: all dead letters.
    """

    lane: Lane
    outcomes: list[str] = field(default_factory=list)
    users: dict[int, str] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)

    def documents(self) -> dict[str, bytes]:
        """Every profile, as it would be stored."""
        ids = self.lane.users.ids
        raw = self.lane.portraits.encode(np.arange(self.lane.table.size)).bytes_list()
        return dict(zip(ids, raw, strict=True))


def fixed_plan() -> LanePlan:
    return lane_plan(load(sets=[CUTS], env={}))


def read_of(sent: Sequence[Sent], first: int, *, at_end: bool = True) -> Read:
    n = len(sent)
    return Read(
        topic="events",
        payloads=[each.payload for each in sent],
        record_ts_ms=np.array([each.log_ms for each in sent], dtype=np.int64),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(first, first + n, dtype=np.int64),
        spans=[Span(0, first, first + n, at_end=at_end)],
    )


def run(reads: Iterable[Sequence[Sent]], wall_ms: Iterable[int | None]) -> Run:
    """Decode and apply; the wall clock stands at a time of its own at each read.

    Where it is None the log is still behind, and events alone move time.
    """
    decode, account = Decoder(event_rules(load(env={}))), Account()
    out = Run(Lane(fixed_plan(), range(64)))
    for sent, now_ms in zip(reads, wall_ms, strict=True):
        first = len(out.outcomes)
        batch, letters = decode(read_of(sent, first, at_end=now_ms is not None))
        out.outcomes += [""] * len(sent)
        take_note(out, batch, letters, account)
        out.lane.apply(batch, now_ms)
        counters = out.lane.counters
        assert counters.events == out.outcomes.count(APPLIED), "applied"
        assert counters.duplicates == out.outcomes.count(DUPLICATE), "duplicates"
    return out


def take_note(out: Run, batch: Batch, letters: Sequence[DeadLetter], account: Account) -> None:
    """Each message of a read must be met once, as an event or as a letter."""
    for letter in letters:
        assert out.outcomes[letter.offset] == ""
        out.outcomes[letter.offset] = letter.reason
    ids = zip(batch.users.strings(), batch.event_ids.strings(), batch.ts_ms.tolist(), strict=True)
    for offset, (user, event_id, ts_ms) in zip(batch.offset.tolist(), ids, strict=True):
        assert out.outcomes[offset] == ""
        out.outcomes[offset] = account.enter(user, event_id, ts_ms)
        out.users[offset] = user
    out.letters += letters


def last_log_ms(reads: Iterable[Sequence[Sent]]) -> list[int]:
    """When each read's last message reached the log."""
    return [max(sent.log_ms for sent in each) for each in reads]


def of_others(reads: Iterable[Sequence[Sent]]) -> list[list[Sent]]:
    """The same reads without mutated messages."""
    return [[sent for sent in each if not sent.mutation] for each in reads]


@dataclass(frozen=True)
class Mixture:
    """A run with mutated messages and what went into it."""

    sent: list[Sent]
    reads: list[list[Sent]]
    wall_ms: list[int]
    run: Run


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    sent = mixed(others(OTHERS, 1, START_MS), MUTANTS, seed=2)
    reads = cut_into_reads(sent, seed=3)
    wall_ms = last_log_ms(reads)
    return Mixture(sent, reads, wall_ms, run(reads, wall_ms))


@pytest.mark.slow
def test_each_is_applied_a_duplicate_or_a_dead_letter(mixture: Mixture) -> None:
    sent, done = mixture.sent, mixture.run
    assert sum(bool(each.mutation) for each in sent) == MUTANTS
    assert len(done.outcomes) == len(sent) == MUTANTS + OTHERS
    assert set(done.outcomes) <= ANY
    counters = done.lane.counters
    assert counters.events + counters.duplicates + len(done.letters) == len(sent)
    assert {each.mutation for each in sent} == {"", *KINDS}


@pytest.mark.slow
def test_each_kind_ends_as_it_must(mixture: Mixture) -> None:
    found: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    wrong: dict[tuple[str, str], bytes] = {}
    for sent, outcome in zip(mixture.sent, mixture.run.outcomes, strict=True):
        if sent.mutation:
            found[sent.mutation][outcome] += 1
            if outcome not in KINDS[sent.mutation].outcomes:
                wrong.setdefault((sent.mutation, outcome), sent.payload[:400])
    assert not wrong, wrong
    assert all(found.values())
    assert {reason for each in found.values() for reason in each} >= ANY - {"too_old"}


@pytest.mark.slow
def test_each_dead_letter_says_why_and_keeps_its_bytes(mixture: Mixture) -> None:
    for letter in mixture.run.letters:
        sent = mixture.sent[letter.offset]
        assert letter.reason in REASONS
        assert letter.detail.strip()
        assert (letter.payload, letter.at_ms) == (sent.payload, sent.log_ms)
        assert (letter.topic, letter.partition) == ("events", 0)


@pytest.mark.slow
def test_nobody_else_is_touched(mixture: Mixture) -> None:
    touched = {mixture.run.users[n] for n in mixture.run.users if mixture.sent[n].mutation}
    without = run(of_others(mixture.reads), mixture.wall_ms)
    mixture.run.lane.finish(mixture.wall_ms[-1] + AHEAD_MS)
    without.lane.finish(mixture.wall_ms[-1] + AHEAD_MS)
    found, truth = mixture.run.documents(), without.documents()
    assert len(truth) > HABITS.users / 2
    assert not touched & truth.keys()
    assert found.keys() == truth.keys() | touched
    assert {user: found[user] for user in truth} == truth


def same(one: Any, other: Any) -> bool:
    """Equal, floats but for their last digits."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


OF_THE_CUT = ("segments", "changes", "rfm", "offers")
"""What depends on when a user was looked at: an event late for one clock is on time for another."""


def values(raw: bytes) -> dict[str, Any]:
    """What depends on nothing but the events and the time of the profile."""
    document: dict[str, Any] = msgspec.msgpack.decode(raw)
    return {name: value for name, value in document.items() if name not in OF_THE_CUT}


@pytest.mark.slow
@pytest.mark.parametrize("behind", [False, True], ids=["at_the_end", "behind"])
def test_nobody_else_is_touched_however_reads_are_cut(mixture: Mixture, behind: bool) -> None:
    """While the log is behind, mutated events that are ahead of it carry the clock along."""
    reads = cut_into_reads(mixture.sent, seed=4)
    with_them = run(reads, [None] * len(reads) if behind else last_log_ms(reads))
    alone = cut_into_reads(others(OTHERS, 1, START_MS), seed=5)
    without = run(alone, last_log_ms(alone))
    at_ms = mixture.wall_ms[-1] + 2 * AHEAD_MS
    with_them.lane.finish(at_ms)
    without.lane.finish(at_ms)
    found, truth = with_them.documents(), without.documents()
    for user, raw in truth.items():
        assert same(values(found[user]), values(raw)), user


def test_one_mutated_message_among_good_ones_is_the_only_one_to_suffer() -> None:
    """Reads that are clean but for one message, so that all of it is parsed at once."""
    decode, chance, coming = Decoder(event_rules(load(env={}))), random.Random(6), mutants(7)
    good = others(60_000, 8, START_MS, clean=True)
    for at in range(0, len(good), 8):
        some = good[at : at + chance.randint(1, 8)]
        strange = next(coming)(some[0].log_ms)
        place = chance.randint(0, len(some))
        batch, letters = decode(read_of([*some[:place], *strange, *some[place:]], 0))
        alone, none = decode(read_of(some, 0))
        assert none == []
        places = range(place, place + len(strange))
        kept = batch.where(~np.isin(batch.offset, places))
        assert rows(kept) == rows(alone), strange
        assert {letter.offset for letter in letters} <= set(places), strange
        assert len(batch) + len(letters) == len(some) + len(strange)
        allowed = KINDS[strange[0].mutation].outcomes
        assert {letter.reason for letter in letters} <= allowed, strange
        assert len(letters) == len(strange) or allowed & {APPLIED, DUPLICATE}, strange


def rows(batch: Batch) -> list[tuple[Any, ...]]:
    """What a batch says of each event."""
    names = ("type", "ts_ms", "amount_minor", "quantity", "event_hash", "order_hash")
    columns = [getattr(batch, name).tolist() for name in names]
    texts = (batch.users, batch.event_ids, batch.item, batch.category, batch.device)
    more = (batch.country, batch.source)
    return list(zip(*columns, *(column.tolist() for column in (*texts, *more)), strict=True))


# -- what one user may do to others by events that are good -----------------------------------


def event_of(user: str, event_id: str, ts_ms: int, **fields: str) -> Sent:
    event = {"event_id": event_id, "user_id": user, "type": "product_view", "ts": ts_ms, **fields}
    return Sent(written(event), ts_ms, user)


def document_of(done: Run, user: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.msgpack.decode(done.documents()[user])
    return document


def test_devices_that_nobody_has_do_not_hide_those_of_others() -> None:
    """More of them than are kept in mind, before anybody else came."""
    flood = [
        event_of("mutated-x", f"{n}", START_MS + n, device=f"d{n}", country=f"c{n}")
        for n in range(12_000)
    ]
    mine = event_of("ann", "1", START_MS + 20_000, device="mobile", country="DE")
    without = run([[mine]], [mine.log_ms])
    with_them = run([flood, [mine]], last_log_ms([flood, [mine]]))
    assert document_of(with_them, "ann") == document_of(without, "ann")


def test_an_event_ahead_of_the_log_lets_no_duplicate_of_others_pass() -> None:
    """A copy that comes within the window of duplicates, while another clock is fast."""
    mine, later_ms = event_of("ann", "1", START_MS), START_MS + 360_000
    fast = replace(event_of("mutated-x", "1", later_ms + AHEAD_MS), log_ms=later_ms)
    again = replace(mine, log_ms=later_ms)
    without = run([[mine], [again]], [START_MS, later_ms])
    with_it = run([[mine], [fast, again]], [START_MS, later_ms])
    assert without.outcomes == [APPLIED, DUPLICATE]
    assert document_of(with_it, "ann") == document_of(without, "ann")


# -- a running engine -------------------------------------------------------------------------

Place = tuple[int, int]
"""Partition and offset."""


def publish(bootstrap: str, sent: Sequence[Sent]) -> dict[Place, Sent]:
    """Send everything under its user and time; where each message stands in the log."""
    placed: dict[Place, Sent] = {}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})

    def deliver(each: Sent) -> Callable[[KafkaError | None, Record], None]:
        def delivered(error: KafkaError | None, record: Record) -> None:
            partition, offset = record.partition(), record.offset()
            assert error is None
            assert partition is not None
            assert offset is not None
            placed[partition, offset] = each

        return delivered

    for each in sent:
        key, told = each.user.encode(), deliver(each)
        producer.produce("events", each.payload, key, timestamp=each.log_ms, on_delivery=told)
        producer.poll(0)
    assert producer.flush(20) == 0
    assert len(placed) == len(sent)
    return placed


def wait_for_commits(store: Store, count: int, log: Path) -> None:
    """Until every shard's positions cover so many messages."""
    deadline_s = time.monotonic() + 40
    while sum(store.positions().values()) < count:
        assert time.monotonic() < deadline_s, log.read_text()
        time.sleep(0.05)
    assert sum(store.positions().values()) == count


def headers(letter: Record) -> dict[str, str]:
    """What a dead letter says of itself."""
    said = dict(letter.headers() or [])
    return {name: value.decode() for name, value in said.items() if isinstance(value, bytes)}


def assert_lettered(letters: Sequence[Record], placed: Mapping[Place, Sent]) -> set[Place]:
    """Each letter is the message of its place, with why, whose, whence and when; the places."""
    decode, places = Decoder(event_rules(load(env={}))), set()
    for letter in letters:
        said = headers(letter)
        place = int(said["partition"]), int(said["offset"])
        sent = placed[place]
        assert (letter.value() or b"") == sent.payload
        assert letter.key() == sent.user.encode()
        assert (said["topic"], int(said["at"])) == ("events", sent.log_ms)
        _, (truth,) = decode(read_of([sent], 0))
        assert (said["reason"], said["path"]) == (truth.reason, truth.path)
        assert said["detail"] == truth.detail != ""
        places.add(place)
    assert len(places) == len(letters)
    return places


@pytest.mark.servers
@pytest.mark.slow
def test_a_running_engine_accounts_for_each_and_keeps_the_books_of_others(tmp_path: Path) -> None:
    good = others(2_000, 11, time.time_ns() // 1_000_000 - 60_000)
    sent, log = mixed(good, 5_000, seed=12), tmp_path / "engine.log"
    with EmbeddedStore() as server, new_broker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        placed = publish(broker.bootstrap, sent)
        sets = ["metrics.address=", "lane.heartbeat=500ms", CUTS]
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": server.url}
        engine = Engine([part for text in sets for part in ("--set", text)], env, log)
        store = Store(server.url)
        engine.start()
        try:
            wait_for_commits(store, len(sent), log)
            assert engine.stop() == 0, log.read_text()
        finally:
            engine.kill()
        expected = run([sent], [sent[-1].log_ms])
        letters = consume(broker.bootstrap, "events.dead", len(expected.letters))
        ledger = Ledger()
        for each, outcome in zip(sent, expected.outcomes, strict=True):
            if outcome == APPLIED and not each.mutation:
                ledger.enter(each.payload)
        events, wrong = ledger.compare(store)
        store.close()
    dead = assert_lettered(letters, placed)
    duplicates = expected.outcomes.count(DUPLICATE)
    assert events + duplicates + len(dead) == len(sent)
    assert len(dead) == len(expected.letters)
    assert len(ledger.accounts) > 20
    assert not ledger.accounts.keys() & set(wrong)
