"""What other definitions would make of the profiles in the store: read, never owned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dataflows.engine import open_lane
from dataflows.settings import Settings
from state.commit import StoredShard
from state.definition_set import DefinitionSet
from state.foreseeing import Foreseen, foresee
from state.lane import Lane
from state.revisions import Revision
from state.store import Store

_AT_ONCE = 50_000
_SHARED: Final = ("cuts", "trainer", "models", "experiments")
"""What is kept beside the shards."""


@dataclass(slots=True)
class Line:
    """What would become of one segment.

    Attributes:
        before, after: members now, and under the other definitions.
        entered, left: how many come in and go out.
        enters, leaves: some of them, by user id.
        overlap: how many of the members after it are in each other segment too.
    """

    before: int = 0
    after: int = 0
    entered: int = 0
    left: int = 0
    enters: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    overlap: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Preview:
    """What other definitions would make of all users now.

    Attributes:
        as_of_ms: the clock of the stored shards.
        users: how many there are.
        segments: by name, in the order of the new definitions, then those that end.
    """

    as_of_ms: int
    users: int
    segments: dict[str, Line]


def stored_lane(settings: Settings, store: Store, revision: Revision) -> Lane:
    """A copy of everything in the store, with everybody under one revision."""
    lane = open_lane(settings, definitions=revision.definitions)
    return _filled(lane, _shards(store, lane.side_tables), store.shared)


def stored_lanes(settings: Settings, store: Store, revision: Revision) -> Callable[[], Lane]:
    """Gives such copies, all the same: the store is read once, however it goes on changing."""
    tables = open_lane(settings, definitions=revision.definitions).side_tables
    shards = list(_shards(store, tables))
    shared = {name: store.shared(name) for name in _SHARED}

    def copy() -> Lane:
        lane = open_lane(settings, definitions=revision.definitions)
        return _filled(lane, shards, shared.__getitem__)

    return copy


def _shards(store: Store, tables: Sequence[str]) -> Iterator[StoredShard]:
    return (store.look(shard, tables) for shard in range(store.shards))


def _filled(
    lane: Lane, shards: Iterable[StoredShard], shared: Callable[[str], bytes | None]
) -> Lane:
    """An empty lane with what was read, in which nobody is stale."""
    for stored in shards:
        lane.restore(stored)
    cuts, trainer, models, experiments = map(shared, _SHARED)
    lane.restored(cuts, trainer, models)
    lane.measures.experiments.adopt(experiments)
    lane.catch_up()
    return lane


def preview(lane: Lane, definitions: DefinitionSet, sample: int = 5) -> Preview:
    """Hold other definitions against all users of a lane.

    Args:
        lane: nobody is stale in it.
        definitions: all of them.
        sample: how many users to name on each side of each segment.

    Raises:
        SegmentError, OfferError: they mean nothing over the features of the lane.
    """
    target, _ = lane.compiled(definitions)
    names = list(dict.fromkeys([*target.names, *lane.decider.plan.names]))
    out = Preview(lane.clock.now_ms, lane.table.size, {name: Line() for name in names})
    for first in range(0, lane.table.size, _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, lane.table.size))
        _add(out, lane, foresee(lane, target, rows), sample)
    return out


def _add(out: Preview, lane: Lane, found: Foreseen, sample: int) -> None:
    sides = {name: found.sides(name) for name in out.segments}
    for name, line in out.segments.items():
        was, will = sides[name]
        line.before += int(np.count_nonzero(was))
        line.after += int(np.count_nonzero(will))
        for chosen, some, count in (
            (will & ~was, line.enters, "entered"),
            (was & ~will, line.leaves, "left"),
        ):
            index = np.flatnonzero(chosen)
            setattr(line, count, getattr(line, count) + len(index))
            few = found.rows[index[: sample - len(some)]]
            some += [lane.users.ids[row] for row in few.tolist()]
        for other in found.new.names:
            both = int(np.count_nonzero(will & sides[other][1]))
            if other != name and both:
                line.overlap[other] = line.overlap.get(other, 0) + both


def moving(found: Preview) -> Iterator[tuple[str, Line]]:
    """The segments that somebody would enter or leave."""
    return ((name, line) for name, line in found.segments.items() if line.entered or line.left)
