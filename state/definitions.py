"""Definitions of segments, checked and compiled in the order in which they can be decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from state.conditions import Condition, compile_condition
from state.expressions import ExpressionError
from state.joins import All, Opposite, atoms_of
from state.memberships import Family, Tag
from state.nodes import Nodes, Predicate
from state.view import Kind

MAX_SEGMENTS: Final = 63
MOST_FLIPS: Final = 255
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(slots=True, frozen=True)
class Guard:
    """How much of a segment may move before it is paused.

    Attributes:
        share: most moves within a time, as a share of the members at its beginning.
        within_ms: that time.
        least: so many moves are always allowed.
    """

    share: float
    within_ms: int
    least: int = 100


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
        max_flips: entries and exits of one user in a UTC day; 0 for any number.
        guard: what pauses it; None for nothing.
    """

    name: str
    enter: str
    exit: str | None = None
    min_dwell_ms: int = 0
    cooldown_ms: int = 0
    version: int = 1
    max_flips: int = 0
    guard: Guard | None = None


@dataclass(slots=True, frozen=True)
class FamilySpec:
    """Labels of which a user has at most one: the first whose condition holds.

    Attributes:
        name: of the family; labels are segments, the family itself is not.
        members: label and condition, in order.
        version: of the definition.
        guard: what pauses it; None for nothing.
    """

    name: str
    members: Sequence[tuple[str, str]]
    version: int = 1
    guard: Guard | None = None


class SegmentError(ValueError):
    """Segments cannot be compiled; the message says which and why."""


@dataclass(slots=True, frozen=True)
class Units:
    """Compiled definitions: each kind in its own order, and all in the order of deciding."""

    tags: tuple[Tag, ...]
    families: tuple[Family, ...]
    order: tuple[Tag | Family, ...]


def compile_units(
    specs: Sequence[SegmentSpec],
    families: Sequence[FamilySpec],
    kinds: Mapping[str, Kind],
    poll_ms: int,
) -> Units:
    """Check and compile definitions; see ``SegmentPlan.compile``."""
    _check_names(specs, families)
    units = _Builder(specs, families, kinds, poll_ms).units()
    return Units(
        tags=tuple(unit for unit in units if isinstance(unit, Tag)),
        families=tuple(unit for unit in units if isinstance(unit, Family)),
        order=_ordered(units),
    )


class _Builder:
    """Definitions being compiled, over one set of nodes."""

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
        self._names = [spec.name for spec in specs]
        self._names += [label for family in families for label, _ in family.members]
        self._labels = {f.name: [label for label, _ in f.members] for f in families}

    def units(self) -> list[Tag | Family]:
        """Tags, then families."""
        units: list[Tag | Family] = [self._tag(*numbered) for numbered in enumerate(self._specs)]
        base = len(units)
        for index, family in enumerate(self._families):
            units.append(self._family(index, base, family))
            base += len(family.members)
        return units

    def _tag(self, index: int, spec: SegmentSpec) -> Tag:
        enter = self._condition(f"segment {spec.name!r}, enter", spec.enter)
        leave = None
        joins, leaves = enter.test, self._opposite(enter.test)
        if spec.exit is not None:
            leave = self._condition(f"segment {spec.name!r}, exit", spec.exit)
            joins = self._nodes(All, (enter.test, self._opposite(leave.test)))
            leaves = leave.test
        return Tag(
            index=index,
            name=spec.name,
            version=spec.version,
            enter=enter,
            exit=leave,
            joins=joins,
            leaves=leaves,
            min_dwell_ms=spec.min_dwell_ms,
            cooldown_ms=spec.cooldown_ms,
            max_flips=spec.max_flips,
            limit=[s.name for s in self._specs if s.max_flips].index(spec.name)
            if spec.max_flips
            else -1,
        )

    def _family(self, index: int, base: int, spec: FamilySpec) -> Family:
        conditions = tuple(
            self._condition(f"family {spec.name!r}, segment {label!r}", text)
            for label, text in spec.members
        )
        return Family(
            index=index,
            base=base,
            column=len(self._specs) + index,
            name=spec.name,
            version=spec.version,
            labels=tuple(label for label, _ in spec.members),
            conditions=conditions,
            watched=atoms_of([condition.test for condition in conditions]),
        )

    def _opposite(self, test: Predicate) -> Predicate:
        return self._nodes(Opposite, test)

    def _condition(self, where: str, text: str) -> Condition:
        try:
            return compile_condition(
                text,
                self._kinds,
                self._names,
                poll_ms=self._poll_ms,
                nodes=self._nodes,
                families=self._labels,
            )
        except ExpressionError as error:
            raise SegmentError(f"{where}: {error}") from None


def _check_names(specs: Sequence[SegmentSpec], families: Sequence[FamilySpec]) -> None:
    names = [spec.name for spec in specs]
    names += [label for family in families for label, _ in family.members]
    if len(names) > MAX_SEGMENTS:
        raise SegmentError(f"there are at most {MAX_SEGMENTS} segments, these are {len(names)}")
    for name in (*names, *(family.name for family in families)):
        if not _NAME.fullmatch(name):
            raise SegmentError(
                "the name of a segment or family is a lower-case letter and up to 62 lower-case "
                f"letters, digits and underscores, but {name!r} came"
            )
    both = sorted({spec.name for spec in specs} & {family.name for family in families})
    if both:
        raise SegmentError(f"a segment and a family cannot share a name, but {both} do")
    for kind, group in (("segment", names), ("family", [family.name for family in families])):
        doubled = sorted({name for name in group if group.count(name) > 1})
        if doubled:
            raise SegmentError(f"each {kind} has a name of its own, but {doubled} came twice")
    for spec in specs:
        if spec.min_dwell_ms < 0 or spec.cooldown_ms < 0:
            raise SegmentError(f"segment {spec.name!r}: dwell and cool-down are 0 ms or more")
        if not 0 <= spec.max_flips <= MOST_FLIPS:
            raise SegmentError(
                f"segment {spec.name!r}: flips in a day are at most {MOST_FLIPS}, or 0 for any "
                f"number, but {spec.max_flips} came"
            )


def _ordered(units: Sequence[Tag | Family]) -> tuple[Tag | Family, ...]:
    """Units such that each comes after those whose membership it asks for."""
    of_name = {name: unit for unit in units for name in unit.names}
    order: dict[str, Tag | Family] = {}

    def visit(unit: Tag | Family, path: tuple[str, ...]) -> None:
        key = unit.names[0]
        if key in order:
            return
        if key in path:
            circle = (*path[path.index(key) :], key)
            raise SegmentError(
                "no segment can depend on its own membership, but these do: " + " → ".join(circle)
            )
        for asked in unit.asks:
            visit(of_name[asked], (*path, key))
        order[key] = unit

    for unit in units:
        visit(unit, ())
    return tuple(order.values())
