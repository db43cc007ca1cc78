"""What models cost: CPU of the lane's work for them, per million events, and per user scored.

The log goes through one lane in batches of 5,000 events, with the settings of its evaluation, where
every moment of interest is parked and learned. Scoring is timed on the users of such a batch, with
everything on that the shipped settings have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from dataflows import plans
from dataflows.evaluating import stepped
from dataflows.settings import Settings, load
from events.decode import Decoder
from events.shop import Habits, Shop
from loadtest.evaluate.logs import Log
from loadtest.split import Split
from models.online import OnlineModels
from operators.file_source import FileReader
from state.lane import Lane
from state.quantities import matrix

_ROWS: Final = 5_000
_STEPS: Final = ("observe", "mature", "learn_population", "_score")
_START_MS: Final = 1_790_000_000_000
_AT_ONCE: Final = 1_600
"""Users that a batch of 5,000 events changes, at the load of the other benchmarks."""


@dataclass(slots=True, frozen=True)
class Cost:
    """CPU seconds of models per million events, by step."""

    log: str
    events: int
    learned: int
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """All steps together."""
        return sum(self.seconds.values())


def of_log(log: Log, runs: int = 10) -> tuple[Cost, float]:
    """What learning a log costs: the best of some runs, and the median of their totals."""
    found = [_run(log.load(), log.name, log.messages()) for _ in range(runs)]
    totals = [cost.total for cost in found]
    return min(found, key=lambda cost: cost.total), float(np.median(totals))


def _run(settings: Settings, name: str, messages: Iterator[bytes]) -> Cost:
    learner = plans.learner(settings, trains=True, at_once=True)
    if learner is None or learner.trainer is None:
        raise ValueError("models are switched off")
    split = Split()
    for step in _STEPS:
        split.watch(learner, step, step)
    lane = Lane(plans.lane_plan(settings), range(settings.redis.shards), learner)
    decode, reader = Decoder(plans.event_rules(settings)), FileReader(name, messages, 1, _ROWS)
    events = 0
    while True:
        try:
            reads = reader.next_batch()
        except StopIteration:
            break
        for read in reads:
            batch, _ = decode(read)
            for part in stepped(batch, 10**15):
                lane.apply(part)
                events += len(part)
        lane.settle([])
    learned = sum(predictor.seen for predictor in learner.trainer.predictors)
    seconds = {step: split.seconds.get(step, 0.0) / events * 1e6 for step in _STEPS}
    return Cost(name, events, learned, seconds)


def of_scoring(repeats: int = 50) -> dict[str, float]:
    """CPU µs per user scored with the shipped settings, everything learned: inputs, and scores."""
    settings = load(
        env={},
        sets=[
            "models.rate=1.0",
            "models.every=1h",
            *(f"models.tasks.{name}.horizon=1h" for name in ("purchase_7d", "purchase_30d")),
            "models.tasks.churn_30d.horizon=1h",
            "models.value.refit=1h",
            "models.challengers.kinds=[]",
        ],
    )
    learner = plans.learner(settings, trains=True, at_once=True)
    if learner is None:
        raise ValueError("models are switched off")
    lane = Lane(plans.lane_plan(settings), range(settings.redis.shards), learner)
    shop = Shop(1, _START_MS, Habits(users=20_000, items=500))
    messages = iter(shop.block(100_000).payloads)
    decode, reader = Decoder(plans.event_rules(settings)), FileReader("shop", messages, 1, _ROWS)
    for _ in range(20):
        for read in reader.next_batch():
            lane.apply(decode(read)[0])
    lane.finish(lane.clock.now_ms + 2 * 3_600_000)
    return _timed(lane, learner, repeats)


def _timed(lane: Lane, learner: OnlineModels, repeats: int) -> dict[str, float]:
    rows = np.arange(0, lane.table.size, max(lane.table.size // _AT_ONCE, 1))[:_AT_ONCE]
    now_ms = np.full(len(rows), lane.clock.now_ms)
    learner.scorer.score(
        matrix(lane.view(rows, now_ms), learner.quantities), lane.view(rows, now_ms)
    )
    taken = {"inputs": 0.0, "scores": 0.0}
    for _ in range(repeats):
        view = lane.view(rows, now_ms)
        start_s = time.process_time()
        X = matrix(view, learner.quantities)
        middle_s = time.process_time()
        learner.scorer.score(X, view)
        taken["scores"] += time.process_time() - middle_s
        taken["inputs"] += middle_s - start_s
    return {name: seconds / repeats / len(rows) * 1e6 for name, seconds in taken.items()}
