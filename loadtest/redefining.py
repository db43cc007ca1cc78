"""How long a lane is busy when definitions of segments change under all of its users.

    python -m loadtest.redefining --users 1000000

Users are made first (one event each), then two segments come in and one goes, with a guard. What is
told is the longest step in which the lane does nothing else.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dataflows import plans
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.batch import Span
from events.decode import Decoder
from loadtest.inside import EVERYTHING, open_lane
from loadtest.silence import START_MS, empty, reads
from loadtest.stream import SHOP, Load
from state.checkpoint import Checkpoint
from state.definition_set import DefinitionSet
from state.definitions import Guard, SegmentSpec
from state.foreseeing import Weighing
from state.lane import Lane
from state.store import Store

_AT_ONCE: Final = 4_000
_TICK_MS: Final = 100


@dataclass(slots=True)
class Taken:
    """Seconds that each step of each part took.

    Attributes:
        weigh: what would be moved, some users at a step.
        adopt: all columns moved to their new places, at once.
        sweep: users redefined, some at a step.
        commit: what came of each such step, written.
    """

    weigh: list[float]
    adopt: float
    sweep: list[float]
    commit: list[float]


def edited(held: DefinitionSet) -> DefinitionSet:
    """Two more segments, one with a guard, and the first one gone."""
    guard = Guard(share=1.0, within_ms=600_000, least=10**9)
    new = [
        SegmentSpec("anybody", "lifetime.events >= 1", guard=guard),
        SegmentSpec("warm", "intent >= 1", max_flips=4),
    ]
    return replace(held, segments=[*list(held.segments)[1:], *new])


def redefine(lane: Lane, checkpoint: Checkpoint, store: Store, wanted: DefinitionSet) -> Taken:
    """Weigh, adopt, sweep."""
    target, _ = lane.compiled(wanted)
    taken, weighing = Taken([], 0.0, [], []), Weighing(lane, target)
    steps, start_s = weighing.steps(_AT_ONCE), time.perf_counter()
    for _ in steps:
        taken.weigh.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
    start_s = time.perf_counter()
    lane.adopt(wanted)
    taken.adopt = time.perf_counter() - start_s
    decoder = Decoder(plans.event_rules(load(env={})))
    at, wall_ms = lane.positions.of(lane.shards[0]).get(0, 0), lane.clock.now_ms + 10_000
    while lane.redefiner.left:
        wall_ms += _TICK_MS
        batch, _letters = decoder(empty(Span(0, at, at, at_end=True)))
        start_s = time.perf_counter()
        lane.apply(batch, wall_ms)
        taken.sweep.append(time.perf_counter() - start_s)
        start_s = time.perf_counter()
        done = checkpoint.commit()
        taken.commit.append(time.perf_counter() - start_s)
        store.outbox.trim([(each.shard, each.seq) for each in done])  # as published
    return taken


def fill(lane: Lane, checkpoint: Checkpoint, store: Store, users: int) -> None:
    """One event for each user."""
    decoder = Decoder(plans.event_rules(load(env={})))
    for read in reads(Load(users=users, zipf=0.0, shares=SHOP).before(START_MS)):
        batch, _letters = decoder(read)
        lane.apply(batch)
        store.outbox.trim([(done.shard, done.seq) for done in checkpoint.commit()])
    checkpoint.commit(heartbeat=True)


def main() -> None:
    """Fill, change the definitions, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with EmbeddedStore() as embedded:
        store, lane = Store(embedded.url), open_lane(EVERYTHING)
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        fill(lane, checkpoint, store, chosen.users)
        wanted = edited(plans.lane_plan(load(env={})).definitions)
        taken = redefine(lane, checkpoint, store, wanted)
    print(f"{lane.table.size:,} users; moving all columns took {taken.adopt * 1000:.0f} ms")
    for name in ("weigh", "sweep", "commit"):
        spent_ms = np.array(getattr(taken, name)) * 1000
        print(
            f"{name}: {len(spent_ms)} steps of {np.median(spent_ms):.1f} ms in the median, "
            f"{spent_ms.max():.1f} ms at most, {spent_ms.sum() / 1000:.1f} s in all"
        )


if __name__ == "__main__":
    main()
