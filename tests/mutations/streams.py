"""Streams of messages, mutated ones among those of a shop."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from events.shop import Shop
from events.shop_habits import Habits
from tests.mutations.kinds import KINDS, Event

START_MS = 1_790_000_000_000
HABITS = Habits(users=300, rate_per_s=100)


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


def last_log_ms(reads: Iterable[Sequence[Sent]]) -> list[int]:
    """When each read's last message reached the log."""
    return [max(sent.log_ms for sent in each) for each in reads]


def of_others(reads: Iterable[Sequence[Sent]]) -> list[list[Sent]]:
    """The same reads without mutated messages."""
    return [[sent for sent in each if not sent.mutation] for each in reads]
