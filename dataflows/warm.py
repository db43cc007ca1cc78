"""``python -m dataflows.warm``: compile the loops once, where starting an engine would wait for it.

A made-up shop goes through decoder, lane and commit, so every compiled loop is called and the
result kept (``events.compiled_place``). Installing does this. What was compiled from other sources
goes.
"""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Final

import numpy as np

from dataflows import plans
from dataflows.settings import load
from events.batch import Batch, Read, Span
from events.catalog import Facts, read_facts
from events.compiled_place import outdated
from events.decode import Decoder
from events.schema import EventRules
from events.shop import Habits, Shop
from events.shop_messages import item_id
from events.thorough import ThoroughDecoder
from models.adwin import Adwin
from models.alive import BgNbd
from models.arranging import arranged
from models.challengers import Challenger
from models.clusters import Clusters
from models.rules import Pin, Rule, RuleSet, encode_rules
from models.stability import FeatureDrift
from state.commit_command import CommitCommands
from state.idset import LEAST_HASH, IdSet
from state.lane import Lane
from state.runs import in_order, merged

_EVENTS: Final = 2_000
_START_MS: Final = 1_790_000_000_000
_ALL_AT_ONCE: Final = (
    "models.rate=1.0",
    "models.least=10",
    "models.value.enabled=false",
    "models.challengers.kinds=[]",
    "experiments.warm.arms={control=1, variant=1}",
)


def decoder() -> None:
    """Compile what decoding calls."""
    Decoder(EventRules())(_read())


def lane() -> None:
    """Compile what a lane calls that neither learns nor makes lists."""
    _run_lane((*_ALL_AT_ONCE, "models.enabled=false", "recommend.enabled=false"))


def whole_lane() -> None:
    """Compile what is left of a lane."""
    engine = _run_lane(_ALL_AT_ONCE)
    recommender = engine.recommender
    if recommender is not None:
        recommender.take_facts(_facts())
        engine.steer(_START_MS)
        recommender.think()
        recommender.take_rules(_rules())
        engine.steer(_START_MS)
        engine.lists(np.arange(min(engine.table.size, 10)))
        recommender.take(recommender.outgoing())


def _run_lane(sets: Sequence[str]) -> Lane:
    read = _read()
    # without the scanner, which is compiled beside it
    found = ThoroughDecoder(EventRules())(read, np.arange(len(read.payloads)))
    batch: Batch = pickle.loads(pickle.dumps(found.batch))
    batch.spans = read.spans
    settings = load(env={}, sets=sets)
    learner = plans.learner(settings, trains=True, at_once=True)
    recommender = plans.recommender(settings, keeps=True)
    engine = Lane(plans.lane_plan(settings), range(settings.redis.shards), learner, recommender)
    engine.apply(Batch.chained([batch, batch]), _START_MS + 10**7)
    engine.finish(_START_MS + 10**10)  # beyond every window, so that things leave them
    commits = engine.collect(heartbeat=True)
    none = [b""] * len(commits)
    CommitCommands(lambda kind, *_: kind, "").of(commits, none, [()] * len(commits))
    engine.settle(commits)
    engine.reread(engine.users.everybody())
    engine.restored(None, None if learner is None else learner.memory())
    experiments, rows = engine.measures.experiments, np.arange(1)
    experiments.expose(engine.table, "warm", rows, rows + _START_MS)
    experiments.restore(engine.table)
    _grow()
    return engine


def _grow() -> None:
    """Compile what runs and sets of ids call as they grow."""
    keys, rows = np.arange(10_000)[::-1], np.arange(10_000, dtype=np.int32)
    for kind in (np.int64, np.complex128):
        run = in_order(keys.astype(kind)).astype(kind), rows
        merged(run, run)
    ids = IdSet()
    for some in np.split(keys.astype(np.uint64) + LEAST_HASH, 10):
        ids.add(some, np.ones(len(some), np.uint16))


def lists() -> None:
    """Compile what makes lists of items, and what a catalogue calls."""
    recommender = plans.recommender(load(env={}), keeps=True)
    if recommender is None:
        return
    recommender.take_facts(_facts())
    recommender.take_rules(_rules())
    recommender.steering.look(_START_MS)
    recommender.think()
    rows = np.array([[0, 1]])
    found = recommender.gatherer.gather(rows, rows, 2)
    arranged(found, recommender.items, rows, rows, recommender.steering.pins, 1, 1)


def _facts() -> Facts:
    mug, cup = b'{"title": "A mug", "tags": ["a"]}', b'{"title": "A mug", "available": false}'
    facts, _ = read_facts([(item_id(1).encode(), mug), (item_id(2).encode(), cup)], EventRules())
    return facts


def _rules() -> bytes:
    return encode_rules(RuleSet(_START_MS, {"pin": Rule(pin=Pin((item_id(1),)))}))


def models() -> None:
    """Compile what models call that a short stream does not come to."""
    X, y = np.random.default_rng(1).random((200, 2)), np.arange(200) % 3 == 0
    clusters = Clusters(["a", "b"], 2, first=50)
    clusters.learn_many(X)
    clusters.predict_many(X)
    challenger = Challenger("tree", ["a", "b"], seed=1)
    challenger.learn_many(X, y)
    challenger.predict_proba_many(X)
    Adwin().see(X[:, 0])
    watch = FeatureDrift(["a", "b"], rows=len(X) // 2)
    watch.note(X)
    watch.psi()
    BgNbd(1.0, 1.0, 1.0, 1.0).expected_purchases(X[:, 0], X[:, 0], X[:, 0] + 1.0, 1.0)


def _read() -> Read:
    payloads = Shop(1, _START_MS, Habits(users=200, items=50)).block(_EVENTS).payloads
    return Read(
        topic="events",
        payloads=payloads,
        record_ts_ms=np.full(len(payloads), -1),
        partition=np.zeros(len(payloads), dtype=np.int32),
        offset=np.arange(len(payloads)),
        spans=[Span(0, 0, len(payloads), at_end=True)],
    )


def main() -> None:
    """Compile everything, on as many cores as there are parts."""
    begun_s = time.monotonic()
    for folder in outdated():
        shutil.rmtree(folder, ignore_errors=True)
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4), get_context("spawn")) as pool:
        longest, others = [lane, lists], [models, decoder]
        running = [pool.submit(part) for part in (*longest, *others)]
        wait(running[: len(longest)])
        for done in (*running, pool.submit(whole_lane)):
            done.result()
    print(f"compiled in {time.monotonic() - begun_s:.0f} s")


if __name__ == "__main__":
    main()
