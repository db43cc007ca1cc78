"""The prequential run: what the models would have said of a log, held against what came of it.

The log goes through the lane as it would in a replay, in steps of event time, so that nothing is
learned later than an engine would have. Every sampled moment is foretold when it happens and
learned when its horizon has passed; both are written down here, and nothing else is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dataflows import plans
from dataflows.settings import Settings, SettingsError
from events.batch import Batch
from events.decode import Decoder
from events.hashing import shard_of
from models.examples import Examples
from models.online import OnlineModels
from models.plan import Task
from operators.dead_letters import DeadLetterFile
from operators.file_source import FileReader
from operators.routing import lane_shards
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store
from state.times import FAR_MS


@dataclass(slots=True, frozen=True)
class Foretold:
    """One task's run.

    Attributes:
        task: what was foretold.
        examples: every moment whose outcome is known, in the order they were learned; ``p`` is what
            was said at that moment and ``X`` holds the task's inputs only.
    """

    task: Task
    examples: Examples


@dataclass(slots=True, frozen=True)
class Run:
    """What a run leaves behind.

    Attributes:
        tasks: in the order of the settings.
        events: how many were applied.
        letters: what was refused.
        learner: of the lane that learned, as it is at the end.
    """

    tasks: Sequence[Foretold]
    events: int
    letters: DeadLetterFile
    learner: OnlineModels


def evaluate(
    settings: Settings,
    name: str,
    payloads: Iterator[bytes],
    step_ms: int,
    rows: int = 5_000,
    tick: Callable[[int], None] = lambda _events: None,
    lanes: int = 1,
    store: Callable[[], Store] | None = None,
) -> Run:
    """Run a log, in the order of its times, through lanes of which one learns.

    Args:
        settings: in force.
        name: of the log, for messages.
        payloads: its events.
        step_ms: labels are learned at the latest so much event time after they are known; with a
            store, after twice as much.
        rows: most events in a batch.
        tick: told how many events were taken in, now and then.
        lanes: how many share the users; several need a store.
        store: opens an empty one for each lane, through which examples and models go from lane to
            lane; None keeps them in memory.

    Raises:
        SettingsError: models are switched off.
    """
    found: list[Examples] = []
    crew = _Crew(settings, lanes, store, found.append)
    decode, reader = Decoder(plans.event_rules(settings)), FileReader(name, payloads, 1, rows)
    letters = DeadLetterFile()
    events = newest_ms = 0
    for read in reader.reads():
        batch, refused = decode(read)
        letters.write(refused)
        events += len(batch)
        for part in stepped(batch, step_ms):
            crew.apply(part)
            newest_ms = max(newest_ms, int(part.ts_ms.max(initial=0)))
        tick(events)
    crew.finish(newest_ms + step_ms)
    examples = Examples.joined(found, len(crew.learner.plan.inputs))
    return Run(_by_task(crew.learner, examples), events, letters, crew.learner)


class _Crew:
    """Some lanes that learn together, in memory or through a store."""

    def __init__(
        self,
        settings: Settings,
        lanes: int,
        store: Callable[[], Store] | None,
        listen: Callable[[Examples], None],
    ) -> None:
        if lanes > 1 and store is None:
            raise ValueError(f"several lanes learn through a store, but {lanes} came without one")
        plan = replace(  # models do not look at segments
            plans.lane_plan(settings),
            order_keep_ms=FAR_MS // 4,
            segments=(),
            families=(),
            offers=(),
        )
        self._shards = settings.redis.shards
        self._lanes, self._checkpoints = [], []
        for place in range(lanes):
            learner = plans.learner(
                settings, trains=place == 0, at_once=store is None, listen=listen
            )
            if learner is None:
                raise SettingsError(
                    "models.enabled: must be true to evaluate models, but false came"
                )
            if place == 0:
                self.learner = learner
            lane = Lane(plan, lane_shards(place, lanes, settings.redis.shards), learner)
            self._lanes.append(lane)
            if store is not None:
                self._checkpoints.append(Checkpoint(lane, store()))
                self._checkpoints[-1].open()

    def apply(self, batch: Batch) -> None:
        """Every lane takes its part of a batch."""
        if len(self._lanes) == 1:
            self._lanes[0].apply(batch)
        else:
            owner = shard_of(batch.users, self._shards) % len(self._lanes)
            for place, lane in enumerate(self._lanes):
                lane.apply(batch.where(owner == place))
        self._exchange()

    def finish(self, at_ms: int) -> None:
        """Bring all lanes to a time, and learn what is known then."""
        for lane in self._lanes:
            lane.finish(at_ms)
        self._exchange()
        self._exchange()  # what was stored is read a round later

    def _exchange(self) -> None:
        for checkpoint in self._checkpoints:
            checkpoint.commit(heartbeat=True)
        if not self._checkpoints:
            for lane in self._lanes:
                lane.settle([])


def stepped(batch: Batch, step_ms: int) -> Iterator[Batch]:
    """A batch in parts, each of which lies in one step of time as far as time had come by then."""
    if not len(batch):
        yield batch
        return
    steps = np.maximum.accumulate(batch.ts_ms) // step_ms
    cuts = np.flatnonzero(np.diff(steps)) + 1
    bounds = [0, *cuts.tolist(), len(batch)]
    (span,) = batch.spans
    start = span.start
    for first, last in pairwise(bounds):
        part = batch.take(np.arange(first, last))
        is_last = last == len(batch)
        stop = span.stop if is_last else int(batch.offset[last])
        top = int(part.ts_ms.max())
        part.spans = [
            replace(span, start=start, stop=stop, max_ts_ms=top, at_end=span.at_end and is_last)
        ]
        start = stop
        yield part


def _by_task(learner: OnlineModels, examples: Examples) -> list[Foretold]:
    out = []
    for place, task in enumerate(learner.plan.tasks):
        own = examples.take(examples.of_task(place))
        columns = own.X[:, learner.plan.places(task.inputs)]
        out.append(Foretold(task, Examples(own.task, own.ts_ms, own.y, own.p, columns)))
    return out
