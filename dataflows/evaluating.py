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
from events.batch import Batch, Read
from events.decode import Decoder
from models.examples import Examples
from models.online import OnlineModels
from models.plan import Task
from operators.file_source import FileReader
from state.lane import Lane
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
        events, dead: applied, and refused.
        lane, learner: as they are at the end.
    """

    tasks: Sequence[Foretold]
    events: int
    dead: int
    lane: Lane
    learner: OnlineModels


def evaluate(
    settings: Settings,
    name: str,
    payloads: Iterator[bytes],
    step_ms: int,
    rows: int = 5_000,
    tick: Callable[[int], None] = lambda _events: None,
) -> Run:
    """Run a log, in the order of its times, through a lane that learns.

    Args:
        settings: in force.
        name: of the log, for messages.
        payloads: its events.
        step_ms: labels are learned at the latest so much event time after they are known.
        rows: most events in a batch.
        tick: told how many events were taken in, now and then.

    Raises:
        SettingsError: models are switched off.
    """
    found: list[Examples] = []
    learner = plans.learner(settings, trains=True, at_once=True, listen=found.append)
    if learner is None:
        raise SettingsError("models.enabled: must be true to evaluate models, but false came")
    plan = replace(plans.lane_plan(settings), order_keep_ms=FAR_MS // 4)
    lane = Lane(plan, range(settings.redis.shards), learner)
    decode, reader = Decoder(plans.event_rules(settings)), FileReader(name, payloads, 1, rows)
    events = dead = newest_ms = 0
    for read in _reads(reader):
        batch, letters = decode(read)
        dead += len(letters)
        events += len(batch)
        for part in stepped(batch, step_ms):
            lane.apply(part)
            newest_ms = max(newest_ms, int(part.ts_ms.max(initial=0)))
        lane.settle([])
        tick(events)
    lane.finish(newest_ms + step_ms)
    examples = Examples.joined(found, len(learner.plan.inputs))
    return Run(_by_task(learner, examples), events, dead, lane, learner)


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


def _reads(reader: FileReader) -> Iterator[Read]:
    while True:
        try:
            yield from reader.next_batch()
        except StopIteration:
            return


def _by_task(learner: OnlineModels, examples: Examples) -> list[Foretold]:
    out = []
    for place, task in enumerate(learner.plan.tasks):
        own = examples.take(examples.task == place)
        columns = own.X[:, learner.plan.places(task.inputs)]
        out.append(Foretold(task, Examples(own.task, own.ts_ms, own.y, own.p, columns)))
    return out
