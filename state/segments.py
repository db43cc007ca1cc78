"""Segments are data: named, versioned conditions, compiled once to a plan for all users.

The plan shares every common part of its conditions, orders segments so that ``member`` always
finds a decided answer, and evaluates many users at once, each at a time of its own. The same
evaluation serves events, timers, previews and backfills; it reads no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from events.compiled import compiled
from state.conditions import POLL_MS, Condition
from state.definitions import (
    FamilySpec,
    Guard,
    SegmentError,
    SegmentSpec,
    Units,
    compile_units,
)
from state.evaluation import Draft, Evaluation, Program
from state.memberships import I8, REASONS, U64, Family, Flips, SegmentState, Tag
from state.naming import Naming
from state.nodes import I64, Predicate
from state.table import Column, Table
from state.times import FAR_MS, NEVER_MS
from state.trace import Trace
from state.view import Kind, View

__all__ = [
    "Family",
    "FamilySpec",
    "Flips",
    "Held",
    "Outcome",
    "SegmentError",
    "SegmentPlan",
    "SegmentSpec",
    "SegmentState",
    "Tag",
]


@dataclass(slots=True, frozen=True)
class Outcome:
    """What an evaluation decided for n rows, S tags and F families.

    Attributes:
        state: the new memory.
        due_ms: when silence may next flip anything of the row, int64[n]; ``FAR_MS`` for never.
        valid_to_ms: for members of each tag and each family's label, when silence may first end
            it, int64[n, S + F]; ``FAR_MS`` for never, and for those who are not in it.
        flips: entries and exits, each at its row's ``now_ms``.
        on: what was computed; causes read it.
        suppressed: flips that were held back, by tag or family and by what did it.
    """

    state: SegmentState
    due_ms: I64
    valid_to_ms: I64
    flips: Flips
    on: Evaluation
    suppressed: Mapping[tuple[str, str], int]


@dataclass(slots=True, frozen=True)
class Held:
    """Memberships of some rows, k of them, by row and within a row by place.

    Attributes:
        index: positions among the rows, int64[k].
        segment: places in ``SegmentPlan.names``, int64[k].
        since_ms: int64[k].
        valid_to_ms: when silence may first end it, int64[k]; ``FAR_MS`` for never.
    """

    index: I64
    segment: I64
    since_ms: I64
    valid_to_ms: I64


class SegmentPlan:
    """All segments of one settings file, compiled; made by ``SegmentPlan.compile``.

    Attributes:
        names: every segment: tags in their order, then each family's labels in theirs.
        versions: of each, in the same order.
        tags: the compiled tags.
        families: the compiled families.
        naming: what the places of memberships stand for.
        paused: names of tags and families that leave everybody where they are.
        guards: of those that have one.

    >>> kinds = {"intent": Kind.DECAYED, "orders": Kind.NUMBER}
    >>> plan = SegmentPlan.compile(
    ...     [SegmentSpec("keen", enter="intent >= 4", exit="intent < 2")],
    ...     [FamilySpec("size", [("big", "orders > 9"), ("small", "orders > 0")])],
    ...     kinds)
    >>> plan.names
    ('keen', 'big', 'small')
    """

    def __init__(
        self,
        units: Units,
        paused: Collection[str] = (),
        guards: Mapping[str, Guard] = MappingProxyType({}),
    ) -> None:
        self.paused, self.guards = set(paused), dict(guards)
        self.tags = units.tags
        self.families = units.families
        every: tuple[Tag | Family, ...] = (*units.tags, *units.families)
        self.names = tuple(name for unit in every for name in unit.names)
        self.versions = tuple(unit.version for unit in every for _ in unit.names)
        self.naming = Naming(
            [tag.name for tag in units.tags],
            {family.name: family.labels for family in units.families},
            self.versions,
            [tag.name for tag in units.tags if tag.max_flips],
        )
        self._order = units.order
        self._programs: dict[tuple[Predicate, ...], Program] = {}
        self._columns = self._kept()
        self._bases = np.array([family.base for family in self.families], dtype=np.int64)

    @staticmethod
    def compile(
        specs: Sequence[SegmentSpec],
        families: Sequence[FamilySpec],
        kinds: Mapping[str, Kind],
        *,
        poll_ms: int = POLL_MS,
        paused: Collection[str] = (),
    ) -> SegmentPlan:
        """Check and compile all definitions.

        Args:
            specs: the tags.
            families: the families.
            kinds: every feature that conditions may name.
            poll_ms: how often conditions without closed form are looked at in silence.
            paused: names of tags and families that leave everybody where they are.

        Raises:
            SegmentError: for a bad or doubled name, a bad condition, or a circle of ``member``.
        """
        every: list[SegmentSpec | FamilySpec] = [*specs, *families]
        guards = {spec.name: spec.guard for spec in every if spec.guard is not None}
        return SegmentPlan(compile_units(specs, families, kinds, poll_ms), paused, guards)

    def columns(self) -> list[Column]:
        """The columns of ``SegmentState`` in a table of users."""
        return list(self._columns)

    def _kept(self) -> tuple[Column, ...]:
        tags, families = (len(self.tags),), (len(self.families),)
        return (
            Column("segments.members", "u8"),
            Column("segments.since", "i8", NEVER_MS, tags),
            Column("segments.family", "i1", -1, families),
            Column("segments.family_since", "i8", NEVER_MS, families),
            Column("segments.flips", "i8", 0, (len(self.naming.limited),)),
        )

    def read(self, table: Table, rows: I64) -> SegmentState:
        """The state of some rows of a table that has ``columns``, copied."""
        return SegmentState(*(table[column.name][rows] for column in self._columns))

    def write(self, table: Table, rows: I64, state: SegmentState) -> None:
        """Put the state of some rows back."""
        for column, value in zip(self._columns, state.parts(), strict=True):
            table[column.name][rows] = value

    def newcomers(self, n: int) -> SegmentState:
        """The state of n users who were never in any segment."""
        return SegmentState(
            *(
                np.full((n, *column.shape), column.initial, dtype=column.dtype)
                for column in self._columns
            )
        )

    def evaluate(
        self, view: View, state: SegmentState, tests: tuple[Predicate, ...] = ()
    ) -> Outcome:
        """Decide every segment of every row at its time; ``state`` is left as it is.

        Args:
            view: n rows.
            state: what is remembered of them.
            tests: that the outcome's evaluation is to answer too, after the segments.
        """
        n, units = len(view.now_ms), self._order
        after = SegmentState(*(part.copy() for part in state.parts()))
        kept = len(self.tags) + len(self.families)
        draft = Draft(
            members=after.members,
            since_ms=after.since_ms,
            family=after.family,
            family_since_ms=after.family_since_ms,
            flips=after.flips,
            paused=np.array([unit.name in self.paused for unit in units], dtype=np.bool_),
            valid_to_ms=np.full((n, kept), FAR_MS, dtype=np.int64),
            due_ms=np.full(n, FAR_MS, dtype=np.int64),
            suppressed=np.zeros((len(units), len(REASONS)), dtype=np.int64),
            flipped=np.empty(n * (len(self.tags) + 2 * len(self.families)), dtype=np.int64),
        )
        if tests not in self._programs:
            self._programs[tests] = Program(partial(self._ask, tests))
        on = self._programs[tests].run(view, draft=draft)
        packed = np.sort(draft.flipped[: on.flips])
        return Outcome(
            state=after,
            due_ms=np.maximum(draft.due_ms, view.now_ms + 1),
            valid_to_ms=draft.valid_to_ms,
            flips=Flips(packed >> 7, packed & 63, (packed & 64) != 0),
            on=on,
            suppressed=self._suppressed(draft.suppressed),
        )

    def _ask(self, tests: tuple[Predicate, ...], on: Trace) -> None:
        for unit in self._order:
            unit.decide(on)
        for test in tests:
            on.truth(test)
            on.rise(test)

    def _suppressed(self, counts: I64) -> dict[tuple[str, str], int]:
        """What was held back, by unit and reason, of counts in their orders."""
        return {
            (self._order[unit].name, REASONS[reason]): int(counts[unit, reason])
            for unit, reason in zip(*map(np.ndarray.tolist, np.nonzero(counts)), strict=True)
        }

    def only(self, segment: str) -> SegmentPlan:
        """The same plan, but deciding only one segment and those whose membership it asks for."""
        wanted = {segment}
        order: list[Tag | Family] = []
        for unit in reversed(self._order):
            if wanted.intersection(unit.names):
                wanted.update(unit.asks)
                order.insert(0, unit)
        return SegmentPlan(Units(self.tags, self.families, tuple(order)), self.paused)

    def polled(self) -> Iterator[tuple[str, str]]:
        """Tests without closed form in silence, worth a warning: segment or family, and test."""
        for unit in self._order:
            for condition in unit.conditions:
                yield from ((unit.name, test) for test in condition.polled)

    def causes(self, outcome: Outcome) -> tuple[list[bytes], list[bytes]]:
        """Values and thresholds of the condition behind each flip, as JSON, in the flips' order."""
        flips = outcome.flips
        values, thresholds = [b"{}"] * len(flips), [b"{}"] * len(flips)
        kinds = flips.segment * 2 + flips.entered
        for kind in np.unique(kinds).tolist():
            index = np.flatnonzero(kinds == kind)
            condition = self.condition(kind // 2, entered=bool(kind % 2))
            found = condition.causes.fill(outcome.on, flips.row[index])
            for place, value, limit in zip(index.tolist(), *found, strict=True):
                values[place], thresholds[place] = value, limit
        return values, thresholds

    def condition(self, segment: int, *, entered: bool) -> Condition:
        """The condition that decides entry into, or exit from, a place in ``names``."""
        if segment < len(self.tags):
            tag = self.tags[segment]
            return tag.enter if entered or tag.exit is None else tag.exit
        family = self.family_of(segment)
        return family.conditions[segment - family.base]

    def family_of(self, segment: int) -> Family:
        """The family of a label, by its place in ``names``."""
        return next(f for f in reversed(self.families) if f.base <= segment)

    def masks(self, state: SegmentState) -> U64:
        """The memberships of each row as bits, by place in ``names``, uint64[n]."""
        return self.naming.masks(state)

    def held(self, state: SegmentState, valid_to_ms: I64) -> Held:
        """All memberships of n rows.

        Args:
            state: of the rows.
            valid_to_ms: theirs, as an ``Outcome`` gives it, int64[n, S + F].
        """
        most = len(state.members) * (len(self.tags) + len(self.families))
        index, segment, since_ms, ends_ms = np.empty((4, most), dtype=np.int64)
        found = _hold(
            state.members,
            state.since_ms,
            state.family,
            state.family_since_ms,
            valid_to_ms,
            self._bases,
            index,
            segment,
            since_ms,
            ends_ms,
        )
        return Held(index[:found], segment[:found], since_ms[:found], ends_ms[:found])


@compiled
def _hold(
    members: U64,
    since_ms: I64,
    family: I8,
    family_since_ms: I64,
    valid_to_ms: I64,
    bases: I64,
    index: I64,
    segment: I64,
    held_since_ms: I64,
    ends_ms: I64,
) -> int:
    """List the memberships of each row, tags first; how many they are."""
    tags = since_ms.shape[1]
    n = 0
    for i in range(len(members)):
        for tag in range(tags):
            if members[i] >> np.uint64(tag) & np.uint64(1):
                index[n], segment[n] = i, tag
                held_since_ms[n], ends_ms[n] = since_ms[i, tag], valid_to_ms[i, tag]
                n += 1
        for f in range(len(bases)):
            if family[i, f] >= 0:
                index[n], segment[n] = i, bases[f] + family[i, f]
                held_since_ms[n], ends_ms[n] = family_since_ms[i, f], valid_to_ms[i, tags + f]
                n += 1
    return n
