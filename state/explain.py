"""Explaining one user's membership of one segment: why, why not, and how far off.

What silence brings is not guessed: the plan is evaluated again at each time at which something may
change, with the user's features as they will be then, until the membership flips or nothing is
left to change. So what an explanation foretells is what the engine will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from state.conditions import Condition
from state.definitions import SegmentError
from state.evaluation import Evaluation
from state.joins import All, Always, Either, Opposite
from state.memberships import SegmentState
from state.nodes import Atom, Predicate, Shown
from state.segments import Outcome, SegmentPlan
from state.times import DAY_MS, FAR_MS, HOUR_MS, MINUTE_MS, NEVER_MS, SECOND_MS
from state.view import View

MAX_LOOKS: Final = 200
HORIZON_MS: Final = 400 * DAY_MS
_UNITS: Final = (
    ("d", DAY_MS),
    ("h", HOUR_MS),
    ("min", MINUTE_MS),
    ("s", SECOND_MS),
    ("ms", 1),
)
_COUNTED: Final = ("carts", "events", "items", "orders", "sessions", "views")
Part = Literal["enter", "exit", "when"]
_ONE: Final = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Reading:
    """One test of a condition, as it stands.

    Attributes:
        part: of the definition it belongs to.
        text: as it is written.
        value: what was measured; None where it is missing or infinite.
        threshold: what it was compared with.
        holds: whether it is true.
        distance: how far off it is, or what it measures, in words.
        opposite: whether the part holds rather where this is not true, as under ``not``.
    """

    part: Part
    text: str
    value: Shown
    threshold: Shown
    holds: bool
    distance: str
    opposite: bool = False

    @property
    def helps(self) -> bool:
        """Whether it is as the part of the definition asks."""
        return self.holds is not self.opposite

    def to_text(self) -> str:
        """As a line for people, marked by whether it helps the part to hold."""
        mark, asked = ("✓", "as is asked") if self.helps else ("✗", "but the opposite is asked")
        told = f"{self.distance}, {asked}" if self.opposite else self.distance
        return f"  {mark} {self.text}: {told}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a user is, or is not, in a segment.

    Attributes:
        segment, version: which definition.
        now_ms: the time of the explanation.
        member: whether the user is in it.
        since_ms: when that last changed; None for never.
        enter, exit: the conditions as written; ``exit`` is None without one.
        readings: each of their tests.
        flips_ms: when silence ends, or begins, the membership; None if it does not.
        looked_until_ms: where the search for ``flips_ms`` was given up; None where it was not.
        held_until_ms: end of the dwell or cool-down that runs now; None without one.
    """

    segment: str
    version: int
    now_ms: int
    member: bool
    since_ms: int | None
    enter: str
    exit: str | None
    readings: tuple[Reading, ...]
    flips_ms: int | None
    looked_until_ms: int | None
    held_until_ms: int | None

    def to_text(self) -> str:
        """As lines for people."""
        state = "is in" if self.member else "is not in"
        lines = [f"{state} {self.segment} (version {self.version}){self._since()}"]
        for part, text in (("enter", self.enter), ("exit", self.exit)):
            if text is not None:
                lines.append(f"{part}: {text}")
                lines += [r.to_text() for r in self.readings if r.part == part]
        if self.held_until_ms is not None:
            rule = "dwell: cannot leave" if self.member else "cool-down: cannot enter"
            lines.append(f"{rule} before {self._ahead(self.held_until_ms)}")
        lines.append(self._outlook())
        return "\n".join(lines)

    def _since(self) -> str:
        if self.since_ms is None:
            return ""
        return f" for {duration(self.now_ms - self.since_ms)}"

    def _ahead(self, time_ms: int) -> str:
        return f"{duration(time_ms - self.now_ms)} from now"

    def _outlook(self) -> str:
        verb = "leaves" if self.member else "enters"
        if self.flips_ms is not None:
            return f"{verb} in {duration(self.flips_ms - self.now_ms)} if silent"
        if self.looked_until_ms is not None:
            ahead = duration(self.looked_until_ms - self.now_ms)
            return f"nothing changes for {ahead} if silent; further was not looked"
        return "stays if silent" if self.member else "does not enter by silence alone"


def explain(
    plan: SegmentPlan,
    view_at: Callable[[int], View],
    now_ms: int,
    state: SegmentState,
    segment: str,
) -> Explanation:
    """Explain one user's membership.

    Args:
        plan: the compiled segments.
        view_at: gives the view of this one user, a single row, at a time in epoch ms.
        now_ms: the time to explain.
        state: the user's memberships, one row, as last decided.
        segment: the name of a segment.

    Raises:
        SegmentError: for a name that is not in the plan.
    """
    if segment not in plan.names:
        raise SegmentError(f"there is no segment {segment!r}; there are {', '.join(plan.names)}")
    plan, place = plan.only(segment), plan.names.index(segment)
    outcome = plan.evaluate(view_at(now_ms), state)
    member, since_ms = _stands(plan, outcome, place)
    flips_ms, looked_until_ms = _foresee(plan, view_at, outcome, place)
    enter = plan.condition(place, entered=True)
    leave = plan.condition(place, entered=False)
    told = readings(outcome.on, "enter", enter)
    if leave is not enter:
        told += readings(outcome.on, "exit", leave)
    return Explanation(
        segment=segment,
        version=plan.versions[place],
        now_ms=now_ms,
        member=member,
        since_ms=since_ms,
        enter=enter.text,
        exit=None if leave is enter else leave.text,
        readings=tuple(told),
        flips_ms=flips_ms,
        looked_until_ms=looked_until_ms,
        held_until_ms=_held_until_ms(plan, place, now_ms, member, since_ms),
    )


def _stands(plan: SegmentPlan, outcome: Outcome, place: int) -> tuple[bool, int | None]:
    """Whether the one row is in a segment, and since when that is so."""
    state = outcome.state
    if place < len(plan.tags):
        member = bool(state.members[0] & np.uint64(1 << place))
        since_ms = int(state.since_ms[0, place])
    else:
        family = plan.family_of(place)
        member = int(state.family[0, family.index]) == place - family.base
        since_ms = int(state.family_since_ms[0, family.index]) if member else NEVER_MS
    return member, None if since_ms == NEVER_MS else since_ms


def _foresee(
    plan: SegmentPlan, view_at: Callable[[int], View], outcome: Outcome, place: int
) -> tuple[int | None, int | None]:
    """When silence flips the membership, and where the search was given up."""
    member, _ = _stands(plan, outcome, place)
    end_ms = int(outcome.on.view.now_ms[0]) + HORIZON_MS
    for _ in range(MAX_LOOKS):
        due_ms = int(outcome.due_ms[0])
        if due_ms == FAR_MS:
            return None, None
        if due_ms > end_ms:
            return None, end_ms
        outcome = plan.evaluate(view_at(due_ms), outcome.state)
        if _stands(plan, outcome, place)[0] != member:
            return due_ms, None
    return None, due_ms


def _held_until_ms(
    plan: SegmentPlan, place: int, now_ms: int, member: bool, since_ms: int | None
) -> int | None:
    if place >= len(plan.tags) or since_ms is None:
        return None
    tag = plan.tags[place]
    until_ms = since_ms + (tag.min_dwell_ms if member else tag.cooldown_ms)
    return until_ms if until_ms > now_ms else None


def readings(on: Evaluation, part: Part, condition: Condition) -> list[Reading]:
    """What each test of a condition reads for the one row that was evaluated."""
    found = dict.fromkeys(_sides(condition.test, opposite=False))
    return [_reading(on, part, *side) for side in found]


def _sides(test: Predicate, *, opposite: bool) -> Iterator[tuple[Atom, bool]]:
    """The atoms below a test, in order, and whether the whole holds rather where they do not."""
    if isinstance(test, Opposite):
        yield from _sides(test.part, opposite=not opposite)
    elif isinstance(test, All | Either):
        for part in test.parts:
            yield from _sides(part, opposite=opposite)
    elif not isinstance(test, Always):
        yield cast("Atom", test), opposite


def _reading(on: Evaluation, part: Part, atom: Atom, opposite: bool) -> Reading:
    (value,), (threshold,) = atom.measured(on, _ONE), atom.limits(on, _ONE)
    holds = bool(on.truth(atom)[0])
    plain = atom.operator == "is"
    return Reading(
        part=part,
        text=atom.measure if plain else f"{atom.measure} {atom.operator} {atom.limit}",
        value=value,
        threshold=threshold,
        holds=holds,
        distance=_distance(atom, value, threshold, holds),
        opposite=opposite,
    )


def _distance(atom: Atom, value: Shown, threshold: Shown, holds: bool) -> str:
    """How far a value is from its threshold, in words."""
    name, operator = atom.measure, atom.operator
    if operator == "is":
        return "yes" if holds else "no"
    if value is None or threshold is None:
        return "never happened" if name.startswith("age(") else "not known"
    if isinstance(value, str | bool) or isinstance(threshold, str | bool):
        return f"is {value}"
    show = duration if atom.duration else _amount
    if holds or operator in ("==", "!="):
        return f"is {show(value)}"
    gap = abs(threshold - value)
    if isinstance(value, int) and isinstance(threshold, int):
        gap += operator in ("<", ">")
    side = "short of" if operator[0] == ">" else "over"
    unit = "" if atom.duration else _unit(name, gap)
    if unit:
        return f"{gap:g} {unit} {side.split()[0]} (is {show(value)})"
    return f"{show(gap)} {side} {show(threshold)} (is {show(value)})"


def _unit(name: str, count: float) -> str:
    """What a feature such as ``lifetime.orders`` counts; empty where its name does not say."""
    counted = name.rsplit(".", 1)[-1]
    if counted not in _COUNTED or not float(count).is_integer():
        return ""
    return counted[:-1] if count == 1 else counted


def _amount(number: float) -> str:
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.2f}"


def duration(ms: float) -> str:
    """The two largest units, which is enough for people.

    >>> duration(187_623_000), duration(3_540_000), duration(-5)
    ('2 d 4 h', '59 min', '-5 ms')
    """
    rest = abs(round(ms))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return ("-" if ms < 0 else "") + (" ".join(filter(None, parts)) or "0 s")
