"""Segments are data: named, versioned conditions, compiled once to a plan for all users.

The plan shares every common part of its conditions, orders segments so that ``member`` always
finds a decided answer, and evaluates many users at once, each at a time of its own. The same
evaluation serves events, timers, previews and backfills; it reads no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from state.compiling import POLL_MS, compile_condition
from state.conditions import All, Condition, Measures, Opposite, atoms_of
from state.evaluation import I64, Evaluation, Nodes
from state.expressions import ExpressionError
from state.memberships import Draft, Family, Flips, SegmentState, Tag
from state.table import Column, Table
from state.times import NEVER_MS
from state.view import Kind, View

MAX_SEGMENTS: Final = 63
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(slots=True, frozen=True)
class SegmentSpec:
    """A segment as declared.

    Attributes:
        name: lower-case letters, digits and underscores.
        enter: condition under which users enter.
        exit: condition under which they leave; None: when ``enter`` no longer holds.
        min_dwell_ms: how long a member stays at least.
        cooldown_ms: how long one who left stays out at least.
        version: of the definition, shown in every change.
    """

    name: str
    enter: str
    exit: str | None = None
    min_dwell_ms: int = 0
    cooldown_ms: int = 0
    version: int = 1


@dataclass(slots=True, frozen=True)
class FamilySpec:
    """Labels of which a user has at most one: the first whose condition holds.

    Attributes:
        name: of the family; labels are segments, the family itself is not.
        members: label and condition, in order.
        version: of the definition.
    """

    name: str
    members: Sequence[tuple[str, str]]
    version: int = 1


class SegmentError(ValueError):
    """Segments cannot be compiled; the message says which and why."""


@dataclass(slots=True, frozen=True)
class Outcome:
    """What an evaluation decided for n rows, S tags and F families.

    Attributes:
        state: the new memory.
        flips: entries and exits, at the row's ``now_ms``.
        due_ms: when silence may next flip anything of the row, int64[n]; ``FAR_MS`` for never.
        valid_to_ms: for members of each tag and each family's label, when silence may first end
            it, int64[n, S + F]; ``FAR_MS`` for never, and for those who are not in it.
        on: what was computed; causes and explanations read it.
    """

    state: SegmentState
    flips: Flips
    due_ms: I64
    valid_to_ms: I64
    on: Evaluation


class SegmentPlan:
    """All segments of one settings file, compiled; made by ``SegmentPlan.compile``.

    Attributes:
        names: every segment: tags in their order, then each family's labels in theirs.
        versions: of each, in the same order.
        tags, families: the compiled definitions.

    >>> kinds = {"intent": Kind.DECAYED, "orders": Kind.NUMBER}
    >>> plan = SegmentPlan.compile(
    ...     [SegmentSpec("keen", enter="intent >= 4", exit="intent < 2")],
    ...     [FamilySpec("size", [("big", "orders > 9"), ("small", "orders > 0")])],
    ...     kinds)
    >>> plan.names
    ('keen', 'big', 'small')
    """

    def __init__(self, tags: Sequence[Tag], families: Sequence[Family], order: Sequence[str]):
        self.tags = tuple(tags)
        self.families = tuple(families)
        self.names = (
            *(tag.name for tag in tags),
            *(label for family in families for label in family.labels),
        )
        self.versions = (
            *(tag.version for tag in tags),
            *(family.version for family in families for _ in family.labels),
        )
        units: dict[str, Tag | Family] = {tag.name: tag for tag in tags}
        units |= {family.name: family for family in families}
        self._order = tuple(units[name] for name in order)

    @staticmethod
    def compile(
        specs: Sequence[SegmentSpec],
        families: Sequence[FamilySpec],
        kinds: Mapping[str, Kind],
        *,
        poll_ms: int = POLL_MS,
    ) -> SegmentPlan:
        """Check and compile all definitions.

        Args:
            specs: the tags.
            families: the families.
            kinds: every feature that conditions may name.
            poll_ms: how often conditions without closed form are looked at in silence.

        Raises:
            SegmentError: for a bad or doubled name, a bad condition, or a circle of ``member``.
        """
        return _Builder(specs, families, kinds, poll_ms).plan()

    def columns(self) -> list[Column]:
        """The columns of ``SegmentState`` in a table of users."""
        tags, families = (len(self.tags),), (len(self.families),)
        return [
            Column("segments.members", "u8"),
            Column("segments.since", "i8", NEVER_MS, tags),
            Column("segments.code", "i1", -1, families),
            Column("segments.family_since", "i8", NEVER_MS, families),
        ]

    def read(self, table: Table, rows: I64) -> SegmentState:
        """The state of some rows of a table that has ``columns``, copied."""
        return SegmentState(*(table[column.name][rows] for column in self.columns()))

    def write(self, table: Table, rows: I64, state: SegmentState) -> None:
        """Put the state of some rows back."""
        values = (state.members, state.since, state.code, state.family_since)
        for column, value in zip(self.columns(), values, strict=True):
            table[column.name][rows] = value

    def newcomers(self, n: int) -> SegmentState:
        """The state of n users who were never in any segment."""
        cells = ((column, (n, *column.shape)) for column in self.columns())
        return SegmentState(
            *(np.full(shape, column.initial, dtype=column.dtype) for column, shape in cells)
        )

    def evaluate(self, view: View, state: SegmentState) -> Outcome:
        """Decide every segment of every row at its time; ``state`` is left as it is."""
        on = Evaluation(view)
        draft = Draft(on, state)
        for unit in self._order:
            unit.decide(draft)
        return Outcome(
            state=SegmentState(draft.members, draft.since, draft.code, draft.family_since),
            flips=draft.flips(),
            due_ms=np.maximum(draft.due_ms, view.now_ms + 1),
            valid_to_ms=draft.valid_to_ms,
            on=on,
        )

    def polled(self) -> Iterator[tuple[str, str]]:
        """Segment and test for everything without closed form in silence: worth a warning."""
        for tag in self.tags:
            for condition in filter(None, (tag.enter, tag.exit)):
                yield from ((tag.name, test) for test in condition.polled)
        for family in self.families:
            for label, condition in zip(family.labels, family.conditions, strict=True):
                yield from ((label, test) for test in condition.polled)

    def causes(self, outcome: Outcome) -> list[tuple[Measures, Measures]]:
        """Values and thresholds of the condition behind each flip, in the flips' order."""
        flips = outcome.flips
        causes: list[tuple[Measures, Measures]] = [({}, {})] * len(flips)
        kinds = flips.segment * 2 + flips.entered
        for kind in np.unique(kinds).tolist():
            index = np.flatnonzero(kinds == kind)
            condition = self.condition(kind // 2, entered=bool(kind % 2))
            measures = condition.measures(outcome.on, flips.row[index])
            for place, measure in zip(index.tolist(), measures, strict=True):
                causes[place] = measure
        return causes

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

    def holders(self, outcome: Outcome, segment: int) -> tuple[I64, I64, I64]:
        """Who is in a segment: rows int64[k], since when, and until when in silence, in ms."""
        state = outcome.state
        if segment < len(self.tags):
            rows = np.flatnonzero(state.members & np.uint64(1 << segment))
            return rows, state.since[rows, segment], outcome.valid_to_ms[rows, segment]
        family = self.family_of(segment)
        rows = np.flatnonzero(state.code[:, family.index] == segment - family.base)
        valid_to_ms = outcome.valid_to_ms[rows, family.column]
        return rows, state.family_since[rows, family.index], valid_to_ms


class _Builder:
    """Definitions being compiled to a plan."""

    def __init__(
        self,
        specs: Sequence[SegmentSpec],
        families: Sequence[FamilySpec],
        kinds: Mapping[str, Kind],
        poll_ms: int,
    ) -> None:
        self._specs, self._families = specs, families
        self._kinds, self._poll_ms = kinds, poll_ms
        self._nodes = Nodes()
        self._unit_of = {spec.name: spec.name for spec in specs}
        self._unit_of |= {label: family.name for family in families for label, _ in family.members}
        _check_names(specs, families)

    def plan(self) -> SegmentPlan:
        """The plan."""
        tags = [self._tag(index, spec) for index, spec in enumerate(self._specs)]
        compiled: list[tuple[Condition, ...]] = [
            tuple(
                self._condition(f"segment {label!r} of family {family.name!r}", text)
                for label, text in family.members
            )
            for family in self._families
        ]
        needs = {tag.name: _asked(filter(None, (tag.enter, tag.exit))) for tag in tags}
        for family, conditions in zip(self._families, compiled, strict=True):
            needs[family.name] = _asked(conditions)
        order = _ordered({name: [self._unit_of[m] for m in asked] for name, asked in needs.items()})
        asked = {name for names in needs.values() for name in names}
        return SegmentPlan(tags, self._compiled_families(compiled, asked), order)
