"""Deciding memberships: who enters and leaves which segment, and when to look again.

A **tag** is a segment of its own. It is entered when its enter condition holds and its exit
condition does not, so that nobody enters only to leave at once; it is left when the exit condition
holds (without one: when the enter condition does not), never before the minimum dwell has passed,
and not entered again before the cool-down has. A **family** is a row of labels of which a user
has at most one: the first whose condition holds.

Deciding is pure: the machine works on a copy of the state. A row changes each tag at most once per
evaluation. For each row it also gives the earliest time at which anything may change in silence: a
member waits for the exit to rise and the dwell to pass, everybody else for the entry to rise and
the cool-down to pass. Here stands what is decided; ``state.machine`` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from state import machine
from state.conditions import Condition
from state.joins import next_flip_ms
from state.nodes import I64, Bools, Predicate
from state.trace import Register, Sort, Trace

I8 = NDArray[np.int8]
U64 = NDArray[np.uint64]
Reason = Literal["dwell", "cooldown", "max_flips", "paused"]
"""What holds a flip back, in the machine's order."""
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(slots=True, frozen=True)
class SegmentState:
    """What is remembered of n rows, S tags and F families.

    Attributes:
        members: bit i is set in members of tag i, uint64[n].
        since_ms: when the row last entered or left each tag, int64[n, S]; ``NEVER_MS`` for never.
        family: place of the label within each family, int8[n, F]; -1 for none.
        family_since_ms: when that last changed, int64[n, F]; ``NEVER_MS`` for never.
        flips: of each tag with a limit of flips, the UTC day of the last one times 256 plus how
            many there were in it, int64[n, L].
    """

    members: U64
    since_ms: I64
    family: I8
    family_since_ms: I64
    flips: I64

    def parts(self) -> tuple[NDArray[Any], ...]:
        """Its arrays, in the order of the columns that hold them."""
        return self.members, self.since_ms, self.family, self.family_since_ms, self.flips

    def take(self, rows: I64) -> SegmentState:
        """A copy of some rows."""
        return SegmentState(
            self.members[rows],
            self.since_ms[rows],
            self.family[rows],
            self.family_since_ms[rows],
            self.flips[rows],
        )


@dataclass(slots=True, frozen=True)
class Flips:
    """Entries and exits, k of them, by row and within a row exits first.

    Attributes:
        row: position in the view, int64[k].
        segment: place in ``SegmentPlan.names``, int64[k].
        entered: entry, or else exit, bool[k].
    """

    row: I64
    segment: I64
    entered: Bools

    def __len__(self) -> int:
        return len(self.row)


@dataclass(slots=True, frozen=True)
class Tag:
    """One tag, compiled.

    Attributes:
        index: its bit, its column and its place in the plan's names.
        name, version: as declared.
        enter, exit: its conditions as declared.
        joins, leaves: the tests that move a row in and out, derived from them.
        min_dwell_ms, cooldown_ms, max_flips: as declared.
        limit: its column of ``SegmentState.flips``; -1 without a limit.
    """

    index: int
    name: str
    version: int
    enter: Condition
    exit: Condition | None
    joins: Predicate
    leaves: Predicate
    min_dwell_ms: int = 0
    cooldown_ms: int = 0
    max_flips: int = 0
    limit: int = -1

    @property
    def names(self) -> tuple[str, ...]:
        """Its one name."""
        return (self.name,)

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What decides it."""
        return (self.enter,) if self.exit is None else (self.enter, self.exit)

    @property
    def asks(self) -> tuple[str, ...]:
        """Segments whose membership it depends on."""
        return tuple(name for condition in self.conditions for name in condition.members)

    def decide(self, on: Trace) -> None:
        """Let rows in and out, and note when to look again."""
        joins, leaves = on.truth(self.joins), on.truth(self.leaves)
        entry, lapse = on.rise(self.joins), on.rise(self.leaves)
        held, flips_ms = on.new(Sort.TRUTH), on.new(Sort.WHOLE)
        on.decide(
            machine.TAG,
            *(self.index, self.index, joins, leaves, _or_none(entry), _or_none(lapse)),
            *(held, flips_ms, self.min_dwell_ms, self.cooldown_ms, self.max_flips, self.limit),
        )
        waits = self.min_dwell_ms or self.cooldown_ms or self.max_flips
        never = entry is None and lapse is None and not waits
        on.decided(self.name, lambda: held, None if never else flips_ms)


@dataclass(slots=True, frozen=True)
class Family:
    """One exclusive family, compiled.

    Attributes:
        index: its place among the families, the column of ``SegmentState.family``.
        base: its first label's place in the plan's names.
        column: its place in ``Outcome.valid_to_ms``.
        name, version: as declared.
        labels, conditions: its members, in order.
        watched: the distinct single tests of all conditions.
    """

    index: int
    base: int
    column: int
    name: str
    version: int
    labels: tuple[str, ...]
    conditions: tuple[Condition, ...]
    watched: tuple[Predicate, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Its labels."""
        return self.labels

    @property
    def asks(self) -> tuple[str, ...]:
        """Segments whose membership it depends on."""
        return tuple(name for condition in self.conditions for name in condition.members)

    def decide(self, on: Trace) -> None:
        """Give each row the first label that holds, and note when to look again.

        That is with the first flip of any single test: early at worst, and cheap.
        """
        held = [on.truth(condition.test) for condition in self.conditions]
        turn = on.earliest([next_flip_ms(on, test) for test in self.watched])
        label, flips_ms = on.new(Sort.WHOLE), on.new(Sort.WHOLE)
        first = len(on.conditions)
        on.conditions += held
        on.decide(
            machine.FAMILY,
            *(self.index, self.column, self.base, first, len(held), _or_none(turn)),
            *(label, flips_ms),
        )
        for place, name in enumerate(self.labels):
            has = partial(_has, on, label, place)
            on.decided(name, has, None if turn is None else flips_ms)


def _has(on: Trace, label: Register, place: int) -> Register:
    """Where a family's label is the one at a place."""
    return on.compare("==", label, on.constant(place))


def _or_none(register: Register | None) -> int:
    """A register as the machine takes it."""
    return -1 if register is None else register
