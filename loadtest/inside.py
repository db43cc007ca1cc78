"""The engine's steps in this process, one after another: a file, the decoder, a lane, a store.

No broker and no Bytewax, so that each step's CPU can be told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

from dataflows import plans
from dataflows.engine import settle_memory
from dataflows.settings import load
from events.batch import Read
from events.decode import Decoder
from loadtest.split import Split
from operators.file_source import FileReader
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store

STEPS = ("read", "decode", "deduplicate", "update", "decide", "model", "clock", "encode", "commit")
"""In the order of the work; ``clock`` is the timers and the population's cuts."""

_STEP_OF: Final = {
    "_admit": "deduplicate",
    "_take": "update",
    "decide": "decide",
    "tick": "clock",
    "collect": "encode",
    "settle": "encode",
}
"""Where the work of a lane's methods belongs."""

_COMMIT_EVENTS: Final = 20_000


@dataclass(slots=True, frozen=True)
class Case:
    """What is on.

    Attributes:
        name: for the table.
        segments: features, segments and families as shipped, or RFM alone.
        model: the purchase model.
        store: commits of all changed users to a store.
        target: most CPU seconds per million events.
    """

    name: str
    segments: bool = False
    model: bool = False
    store: bool = False
    target: float | None = None


PLAIN_RFM = Case("plain RFM from a file", target=1.6)
SEGMENTED = Case("decode + deduplicate + update + segment", segments=True, target=2.6)
EVERYTHING = Case("everything on, without a broker", segments=True, model=True, store=True)


def open_lane(case: Case, split: Split | None = None) -> Lane:
    """An empty lane of all shards, its work booked to steps."""
    settings = load(env={})
    plan = plans.lane_plan(settings)
    if not case.segments:
        plan = replace(plan, decayed=(), panes=(), segments=(), families=(), offers=())
    learner = plans.learner(settings, trains=True) if case.model else None
    if split is not None and learner is not None:  # before the lane takes its methods
        for method in (
            "observe",
            "mature",
            "learn",
            "learn_population",
            "_score",
            "outgoing",
            "memory",
        ):
            split.watch(learner, method, "model")
    lane = Lane(plan, range(plan.shards), learner)
    if split is not None:
        for method, step in _STEP_OF.items():
            split.watch(lane, method, step)
    return lane


def run(
    case: Case, warm: Path, file: Path, parts: Sequence[tuple[int, int]], store: Store | None
) -> Iterator[tuple[int, dict[str, float], int]]:
    """Measure one lane on successive parts of a file.

    Args:
        case: what is on.
        warm: taken in first and not counted, so that all users are known.
        file: the events, a line each.
        parts: of the file: the size of a batch, and how many events.
        store: an empty one, where the case needs it.

    Yields:
        The batch, CPU seconds by step, and the events, of each part.
    """
    split = Split()
    lane = open_lane(case, split)
    checkpoint = None
    if store is not None:
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        split.watch(store, "commit", "commit")
        split.watch(store, "share", "commit")
    settle_memory()
    pipe = _Pipe(Decoder(plans.event_rules(load(env={}))), lane, checkpoint, store, split)
    with warm.open("rb") as first, file.open("rb") as then:
        pipe.run(first, parts[0][0], partition=0)
        for partition, (batch, count) in enumerate(parts, 1):
            split.reset()
            pipe.run(islice(then, count), batch, partition)
            yield batch, dict(split.seconds), pipe.events


class _Pipe:
    def __init__(
        self,
        decoder: Decoder,
        lane: Lane,
        checkpoint: Checkpoint | None,
        store: Store | None,
        split: Split,
    ) -> None:
        self._decoder, self._lane, self._split = decoder, lane, split
        self._checkpoint, self._store = checkpoint, store
        self.events = 0

    def run(self, lines: Iterable[bytes], batch: int, partition: int) -> None:
        """Take in a file as a partition of its own; commit as often as an engine that is behind."""
        reader = FileReader("file", map(bytes.rstrip, lines), 1, batch)
        self.events = waiting = 0
        while reads := self._read(reader):
            for read in reads:
                read.partition[:] = partition
                read.spans = [replace(span, partition=partition) for span in read.spans]
                with self._split("decode"):
                    decoded, _letters = self._decoder(read)
                with self._split("clock"):
                    self._lane.apply(decoded)
                self.events += len(read.payloads)
                waiting += len(read.payloads)
            if waiting >= _COMMIT_EVENTS:
                self._commit()
                waiting = 0
        self._commit()

    def _read(self, reader: FileReader) -> list[Read]:
        with self._split("read"):
            try:
                return list(reader.next_batch())
            except StopIteration:
                return []

    def _commit(self) -> None:
        if self._checkpoint is None or self._store is None:
            self._lane.decider.waiting.clear()  # nobody will ask for the changes
            return
        with self._split("commit"):
            committed = self._checkpoint.commit()
            self._store.outbox.trim([(done.shard, done.seq) for done in committed])
