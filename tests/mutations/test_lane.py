"""A hundred thousand mutated events, each of a kind whose outcome is told beforehand.

Every message is applied, a duplicate or a dead letter, as its kind says and as a plain account of
event ids says; the profiles of everybody else are byte for byte those of a run without them.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from dataflows.plans import event_rules
from dataflows.settings import load
from events.batch import Batch
from events.decode import Decoder
from events.schema import REASONS
from tests.mutations.kinds import AHEAD_MS, ANY, APPLIED, DUPLICATE, KINDS
from tests.mutations.running import Run, read_of, run
from tests.mutations.streams import (
    HABITS,
    START_MS,
    Sent,
    cut_into_reads,
    last_log_ms,
    mixed,
    mutants,
    of_others,
    others,
)

MUTANTS, OTHERS = 100_000, 40_000


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
