"""A replay: the same dataflow over a file, with the events' own time as its clock.

Values are taken at one time, ``until``: events at or after it are not applied, and every user is
brought to it at the end. The store is an embedded one, so the exported profiles are what an edge
would have read. Orders are kept for the whole file, because it may be in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
from bytewax.run import cli_main

from dataflows import plans
from dataflows.profiles import build
from dataflows.settings import Settings
from events.batch import Batch, DeadLetter, Read, Span
from events.decode import Decoder
from operators.dead_letters import DeadLetterFile
from operators.decode_step import DecodeStep
from operators.file_source import FileSource
from operators.lane_step import LaneLogic
from operators.metrics import Metrics
from operators.publish import CollectingPublisher
from operators.routing import lane_names
from operators.stop import Stop
from state.changes import decode_entry, is_gone
from state.checkpoint import Checkpoint
from state.experiment_plan import leave
from state.lane import Lane
from state.rfm import Cuts
from state.store import Store
from state.times import FAR_MS


@dataclass(slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        until_ms: when the values were taken.
        events, duplicates, skipped: applied; known already; at or after ``until``.
        unchecked: of the applied, those too old to tell whether they were known already.
        oldest_ms, newest_ms: of the good events, those at or after ``until`` too; None without any.
        dead: dead letters by reason.
        first_dead: the first one of each reason.
        changes: changes by cause.
        users: profiles.
        cuts: in force at the end.
    """

    until_ms: int = 0
    events: int = 0
    duplicates: int = 0
    skipped: int = 0
    unchecked: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None
    dead: Counter[str] = field(default_factory=Counter)
    first_dead: dict[str, DeadLetter] = field(default_factory=dict)
    changes: Counter[str] = field(default_factory=Counter)
    users: int = 0
    cuts: Cuts = field(default_factory=Cuts)

    def cuts_json(self) -> bytes:
        """The cuts as JSON; a cut at minus infinity is null."""
        return msgspec.json.encode(self.cuts)


class Interrupted(Exception):
    """A replay was asked to stop before the end of its file.

    Attributes:
        events: how many were applied.
    """

    def __init__(self, events: int) -> None:
        super().__init__(f"interrupted after {events:,} events")
        self.events = events


class UntilStep:
    """Decoding that lets nothing pass at or after a time.

    Args:
        step: decodes.
        until_ms: the time.

    Attributes:
        skipped: how many did not pass.
        newest_ms: of those that passed; 0 before any.
        range_ms: the oldest and the newest of all; None before any.
    """

    def __init__(self, step: DecodeStep, until_ms: int) -> None:
        self._step, self._until_ms = step, until_ms
        self.skipped = 0
        self.newest_ms = 0
        self.range_ms: tuple[int, int] | None = None

    def __call__(self, reads: list[Read]) -> Iterator[tuple[str, Batch]]:
        """Batches of what lies before."""
        for lane, batch in self._step(reads):
            kept = batch
            if len(batch):
                self._widen(int(batch.ts_ms.min()), int(batch.ts_ms.max()))
            late = batch.ts_ms >= self._until_ms
            if late.any():
                self.skipped += int(np.count_nonzero(late))
                kept = batch.where(~late)
                kept.spans = [_capped(span, self._until_ms) for span in batch.spans]
            if len(kept):
                self.newest_ms = max(self.newest_ms, int(kept.ts_ms.max()))
            yield lane, kept

    def _widen(self, oldest_ms: int, newest_ms: int) -> None:
        first_ms, last_ms = self.range_ms or (oldest_ms, newest_ms)
        self.range_ms = min(first_ms, oldest_ms), max(last_ms, newest_ms)


def _capped(span: Span, until_ms: int) -> Span:
    """A span whose events at or after a time do not count."""
    return replace(span, max_ts_ms=min(span.max_ts_ms, until_ms - 1))


def replay(
    settings: Settings,
    store: Store,
    name: str,
    payloads: Callable[[], Iterator[bytes]],
    *,
    until_ms: int | None = None,
    partitions: int = 1,
    dead_letters: Path | None = None,
    take_changes: Callable[[bytes, bytes], None] = lambda _key, _value: None,
    stop: Stop | None = None,
) -> Replayed:
    """Replay a log into an empty store.

    Args:
        settings: in force.
        store: to be filled.
        name: of the log, for messages.
        payloads: opens the log.
        until_ms: when values are taken; the last event's time if None.
        partitions: how many partitions events are dealt to.
        dead_letters: a file for them.
        take_changes: gets each change as (user id, JSON).
        stop: ends it before the next read when it is raised.

    Raises:
        Interrupted: it was raised.
        RowError: the log cannot be read to its end.
    """
    stop = stop or Stop()
    plan = plans.lane_plan(settings)
    # what is ruled about experiments depends on when it is, and a replay reads no wall clock
    tried = replace(plan.experiments, judge=leave)
    plan = replace(plan, order_keep_ms=FAR_MS // 4, experiments=tried)
    learner = plans.learner(settings, trains=True, at_once=True)
    recommender = plans.recommender(settings, keeps=True, shares=False)
    lane = Lane(plan, range(settings.redis.shards), learner, recommender)
    checkpoint = Checkpoint(lane, store)
    checkpoint.open()
    metrics, letters = Metrics(), DeadLetterFile(dead_letters)
    policy = plans.commit_policy(settings)
    rules = plans.event_rules(settings)
    decode = DecodeStep(Decoder(rules), letters, lane_names(1), settings.redis.shards, metrics)
    step = UntilStep(decode, FAR_MS if until_ms is None else until_ms)

    def take(records: Sequence[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            if not is_gone(value):
                take_changes(key, value)

    source = FileSource(name, payloads, partitions=partitions, stop=stop)
    flow = build(
        source,
        step,
        lambda _resume: LaneLogic(lane, checkpoint, policy, None, metrics),
        CollectingPublisher(take, store.outbox.trim),
    )
    cli_main(flow)
    if source.error is not None:
        raise source.error
    if stop.requested:
        raise Interrupted(lane.counters.events)
    at_ms = max(step.newest_ms, 0) if until_ms is None else until_ms
    lane.finish(at_ms)
    for committed in checkpoint.commit(heartbeat=True):
        take(decode_entry(committed.changes))
        store.outbox.trim([(committed.shard, committed.seq)])
    checkpoint.keep_models()
    oldest_ms, newest_ms = step.range_ms or (None, None)
    return Replayed(
        until_ms=at_ms,
        events=lane.counters.events,
        duplicates=lane.counters.duplicates,
        skipped=step.skipped,
        unchecked=lane.counters.unchecked,
        oldest_ms=oldest_ms,
        newest_ms=newest_ms,
        dead=letters.reasons,
        first_dead=letters.firsts,
        changes=lane.counters.changes,
        users=len(lane.users),
        cuts=lane.population.cuts,
    )
