"""Experiments without and with a difference, and policies judged from another one's log.

Users come one after another, are assigned as the engine assigns them, and are looked at again and
again: by the sequential test, and by the test of fixed size that must not be looked at so.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dataflows.plans import lane_plan
from dataflows.settings import load
from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.hashing import shares
from events.schema import TYPES, EventRules
from events.texts import Texts
from models.sample_ratio import BROKEN, sample_ratio_p
from models.sequential import LEAST, Sample, compare
from models.verdicts import report
from state.experiment_plan import MOST_EXPERIMENTS, Ruling
from state.groups import group
from state.lane import Lane
from state.plan import LanePlan

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ALPHA: Final = 0.05
RATE: Final = 0.05
USERS: Final = 20_000
"""Exposed users of both arms."""
_BLOCK: Final = 2_000
_BEGIN_MS: Final = 1_790_000_000_000
_KINDS: Final = ("impression", "product_view", "click", "add_to_cart", "purchase", "search")
_BARE: Final = ("models.enabled=false",)
_Z: Final = statistics.NormalDist().inv_cdf(1 - ALPHA / 2)
_POWER_Z: Final = statistics.NormalDist().inv_cdf(0.8)


@dataclass(slots=True, frozen=True)
class FalseFindings:
    """Of so many runs without a difference, how many found one at some look.

    Attributes:
        runs: seeded ones.
        looks: at each.
        sequential, fixed: runs in which the test found a difference at some look.
        at_end: runs in which the fixed one finds one at its end only, as it is meant to be used.
        ratio: runs in which the arms' sizes were held for a fault.
    """

    runs: int
    looks: int
    sequential: int
    fixed: int
    at_end: int
    ratio: int


def without_difference(runs: int = 1_000, every: int = 20, users: int = USERS) -> FalseFindings:
    """A/A: the arms differ in nothing."""
    ids = Texts.of([f"user-{n}" for n in range(users)])
    sequential = fixed = at_end = ratio = looks = 0
    for run in range(runs):
        counts, won = _looks(run, ids, (RATE, RATE), every)
        looks = len(counts)
        sequential += _first_found(counts, won) is not None
        z = [_z(n, w) for n, w in zip(counts, won, strict=True)]
        fixed += max(z) > _Z
        at_end += z[-1] > _Z
        ratio += any(sample_ratio_p(n, (0.5, 0.5)) < BROKEN for n in counts[:: max(looks // 50, 1)])
    return FalseFindings(runs, looks, sequential, fixed, at_end, ratio)


@dataclass(slots=True, frozen=True)
class Found:
    """How soon a difference was found.

    Attributes:
        lift: the true one.
        runs, found: seeded ones, and those that found it.
        median, most: exposed users of both arms that took, among those.
        fixed: users that a test of fixed size needs to find it in four of five runs.
    """

    lift: float
    runs: int
    found: int
    median: float
    most: int
    fixed: int


def with_difference(
    lifts: Sequence[float] = (0.1, 0.2, 0.3, 0.5), runs: int = 50, users: int = 200_000
) -> Iterator[Found]:
    """A/B: the variant converts better."""
    ids = Texts.of([f"user-{n}" for n in range(users)])
    for lift in lifts:
        other = RATE * (1 + lift)
        took = []
        for run in range(runs):
            counts, won = _looks(run, ids, (RATE, other), 200)
            place = _first_found(counts, won)
            if place is not None:
                took.append(sum(counts[place]))
        spread = RATE * (1 - RATE) + other * (1 - other)
        fixed = 2 * math.ceil((_Z + _POWER_Z) ** 2 * spread / (other - RATE) ** 2)
        yield Found(lift, runs, len(took), statistics.median(took), max(took), fixed)


@dataclass(slots=True, frozen=True)
class Lived:
    """An experiment on a made-up shop, through decoder and lane.

    Attributes:
        users: exposed ones when the variant was first called better; None if never.
        exposed: users in the end.
        events: that were taken.
    """

    users: int | None
    exposed: int
    events: int


def through_the_engine(lift: float = 0.2, seed: int = 1, users: int = 200_000) -> Lived:
    """Every user sees a list once and buys or not; the log goes through the engine's own steps."""
    settings = load(env={}, sets=["experiments.layout.arms={control=1, variant=1}", *_BARE])
    plan = lane_plan(settings)
    (experiment,) = plan.experiments.experiments
    lane, decode = Lane(plan, range(settings.redis.shards)), Decoder(EventRules())
    rng, offset, found = np.random.default_rng(seed), 0, None
    totals: I64 = np.zeros(0, dtype=np.int64)
    for start in range(0, users, _BLOCK):
        ids = [f"user-{n}" for n in range(start, min(start + _BLOCK, users))]
        variant = shares(Texts.of(ids), experiment.salt) >= 0.5
        bought = rng.random(len(ids)) < RATE * np.where(variant, 1 + lift, 1.0)
        read = _read(_messages(ids, bought, start), offset)
        offset += len(read.payloads)
        lane.apply(decode(read)[0])
        (_, totals), *_ = lane.measures.experiments.totals()
        said = report(experiment, totals, Ruling()).arms[1].verdict
        if found is None and said == "converts better than control":
            found = int(totals[:, 0].sum())
    return Lived(found, int(totals[:, 0].sum()), offset)


def costs(users: int = 100_000, events: int = 5_000, batches: int = 200) -> dict[str, float]:
    """What assignment costs for a new user, and counting for an event; microseconds of CPU."""
    ids, out = Texts.of([f"user-{n}" for n in range(users)]), {}
    begun_s = time.process_time()
    shares(ids, "layout")
    out["assigning a new user to one experiment"] = (time.process_time() - begun_s) * 1e6 / users
    names = [f"experiments.e{n}.arms={{control=1, variant=1}}" for n in range(MOST_EXPERIMENTS)]
    for count in (1, MOST_EXPERIMENTS):
        settings = load(env={}, sets=[*names[:count], *_BARE])
        took_s = _counting_s(lane_plan(settings), users, events, batches)
        out[f"counting an event in {count} experiments"] = took_s * 1e6 / events / batches
    return out


def _counting_s(plan: LanePlan, users: int, events: int, batches: int) -> float:
    """CPU seconds of batches of a shop, once everybody is assigned and exposed."""
    lane, rng = Lane(plan, range(plan.shards)), np.random.default_rng(1)
    experiments, took_s = lane.measures.experiments, 0.0
    everybody = Texts.of([f"user-{n}" for n in range(users)])
    kinds = np.array([TYPES.index(kind) for kind in _KINDS], dtype=np.int8)
    first = _batch(everybody, np.full(users, kinds[0]))
    experiments.update(lane.table, group(lane.users.rows(everybody)), first)
    for _ in range(batches):
        rows = np.minimum(rng.zipf(1.2, events) - 1, users - 1)
        types = kinds[rng.integers(0, len(kinds), events)]
        groups, batch = group(rows), _batch(everybody.take(rows), types)
        begun_s = time.process_time()
        experiments.update(lane.table, groups, batch)
        took_s += time.process_time() - begun_s
    return took_s


def _batch(users: Texts, types: NDArray[np.int8]) -> Batch:
    """Events of one moment."""
    n = len(users)
    none, zero = Texts.absent(n), np.zeros(n, dtype=np.int64)
    return Batch(
        users=users,
        event_ids=users,
        type=types,
        ts_ms=np.full(n, _BEGIN_MS),
        amount_minor=zero,
        quantity=zero,
        value=zero.astype(np.float64),
        event_hash=zero.astype(np.uint64),
        order_hash=zero.astype(np.uint64),
        item=none,
        category=none,
        device=none,
        country=none,
        source=none,
        partition=zero.astype(np.int32),
        offset=zero,
    )


def _messages(ids: Sequence[str], bought: NDArray[np.bool_], start: int) -> list[bytes]:
    out = []
    for n, (user, buys) in enumerate(zip(ids, bought.tolist(), strict=True)):
        event = {
            "event_id": "1",
            "user_id": user,
            "type": "impression",
            "ts": _BEGIN_MS + start + n,
        }
        out.append(msgspec.json.encode(event))
        if buys:
            event |= {"event_id": "2", "type": "purchase", "amount": 20}
            out.append(msgspec.json.encode(event))
    return out


def _read(payloads: list[bytes], offset: int) -> Read:
    n = len(payloads)
    return Read(
        topic="events",
        payloads=payloads,
        record_ts_ms=np.full(n, -1),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(offset, offset + n),
        spans=[Span(0, offset, offset + n)],
    )


def _looks(
    run: int, ids: Texts, rates: tuple[float, float], every: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Users of each arm, and those who converted, at each look."""
    rng = np.random.default_rng(run)
    variant = shares(ids, f"run {run}") >= 0.5
    converted = rng.random(len(ids)) < np.where(variant, rates[1], rates[0])
    arms = np.stack([~variant, variant], axis=1)
    counts = arms.cumsum(axis=0)[every - 1 :: every]
    won = (arms & converted[:, None]).cumsum(axis=0)[every - 1 :: every]
    return counts.tolist(), won.tolist()


def _first_found(counts: Sequence[Sequence[int]], won: Sequence[Sequence[int]]) -> int | None:
    for place, (n, w) in enumerate(zip(counts, won, strict=True)):
        control, variant = (Sample.of_proportion(n[arm], w[arm]) for arm in (0, 1))
        if compare(control, variant, ALPHA, USERS).p < ALPHA:
            return place
    return None


def _z(n: Sequence[int], won: Sequence[int]) -> float:
    """The two-sided z of two proportions; from the same look on as the sequential test."""
    if min(n) < LEAST:
        return 0.0
    rate = sum(won) / sum(n)
    error = math.sqrt(rate * (1 - rate) * (1 / n[0] + 1 / n[1]))
    return abs(won[1] / n[1] - won[0] / n[0]) / error if error else 0.0
