"""Offers: what a user is given for a while, because a condition holds.

An offer is **given** when its condition holds, its cool-down has passed and its cap is not used
up; from then on it **stands**, whatever becomes of the condition, until its time is over. Who may
have several gets the most important ones: in order of priority (ties as declared) each that stands
or may be given is kept, unless one before it has its exclusive group, or as many before it stand
as a user may have. One that stands and is not kept ends at once, so a group always holds the
highest priority of those that it could.

Givings are decisions: made once, at the times at which segments are decided, and remembered. Each
offer has columns under its own name, so that what was given outlives offers that come, go or
change places. For each row the earliest time is told at which silence may change anything: the end
of an offer that stands; for any other the end of its cool-down or of its cap's window, and not
before its condition may hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.conditions import POLL_MS, Condition, compile_condition
from state.evaluation import Evaluation
from state.expressions import ExpressionError
from state.giving import free_ms, give_and_end
from state.nodes import I64
from state.segments import SegmentPlan
from state.table import Column, Table
from state.times import NEVER_MS
from state.view import Kind

MOST_OFFERS: Final = 16
HAD: Final = "offers.had"
"""The column of which offers a user ever had, a bit each by place in the plan. It can be worked out
from the others and keeps most rows from being looked up there: few users have had most offers."""
MOST_IN_WINDOW: Final = 8
"""So many givings of one offer are remembered, which is the largest cap over a window."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NOTHING: Final = np.empty(0, dtype=np.int64)
_NO_TIMES: Final = np.empty((0, MOST_IN_WINDOW - 1), dtype=np.int64)

Word = str | int | float | bool
Value = Word | Mapping[str, Word]
"""What an edge service makes of an offer: a text or number, or a small table of them."""


class OfferError(ValueError):
    """Offers cannot be compiled; the message says which setting and why."""


@dataclass(slots=True, frozen=True)
class OfferSpec:
    """An offer as declared.

    Attributes:
        name: lower-case letters, digits and underscores.
        when: the condition under which it is given, in the language of segments.
        lasts_ms: how long it stands.
        priority: higher comes first.
        cap: how often one user gets it at most, in all or per window; None for any number.
        cap_window_ms: the time over which the cap counts; None for all.
        cooldown_ms: how long after its end it is not given again.
        exclusive: the group of which a user has one at most; None for none.
        value: what an edge service is told beside it.
    """

    name: str
    when: str
    lasts_ms: int
    priority: int = 0
    cap: int | None = None
    cap_window_ms: int | None = None
    cooldown_ms: int = 0
    exclusive: str | None = None
    value: Value | None = None

    @property
    def column(self) -> str:
        """The column of since, end and number of givings, int64[3] each."""
        return f"offers.{self.name}"

    @property
    def earlier(self) -> str:
        """The column of the givings before the last, newest first; empty if none is needed."""
        windowed = self.cap_window_ms is not None and (self.cap or 0) > 1
        return f"{self.column}.earlier" if windowed else ""


class OfferPlan:
    """All offers of one settings file, compiled; made by ``OfferPlan.compile``.

    Attributes:
        specs: in order of priority.
        conditions: of each.
        tests: theirs, which an evaluation must answer before offers are decided on it.

    >>> segments = SegmentPlan.compile([], [], {"orders": Kind.NUMBER})
    >>> plan = OfferPlan.compile(
    ...     [OfferSpec("thanks", "orders > 0", 1000), OfferSpec("vip", "orders > 9", 1000, 5)],
    ...     2, {"orders": Kind.NUMBER}, segments)
    >>> [spec.name for spec in plan.specs]
    ['vip', 'thanks']
    """

    def __init__(
        self, specs: Sequence[OfferSpec], conditions: Sequence[Condition], most: int
    ) -> None:
        self.specs, self.conditions = tuple(specs), tuple(conditions)
        self.tests = tuple(condition.test for condition in conditions)
        groups = sorted({spec.exclusive for spec in specs if spec.exclusive is not None})
        self._rules = [_rule(spec, groups, most) for spec in specs]

    @staticmethod
    def compile(
        specs: Sequence[OfferSpec],
        most: int,
        kinds: Mapping[str, Kind],
        segments: SegmentPlan,
        *,
        poll_ms: int = POLL_MS,
    ) -> OfferPlan:
        """Check and compile all offers.

        Args:
            specs: as declared.
            most: so many stand at a time for one user.
            kinds: every feature that conditions may name.
            segments: whose memberships they may ask for.
            poll_ms: how often conditions without closed form are looked at in silence.

        Raises:
            OfferError: with the path of what is wrong.
        """
        _check(specs, most)
        ordered = sorted(specs, key=lambda spec: -spec.priority)
        labels = {family.name: family.labels for family in segments.families}
        conditions = []
        for spec in ordered:
            try:
                conditions.append(
                    compile_condition(
                        spec.when, kinds, segments.names, poll_ms=poll_ms, families=labels
                    )
                )
            except ExpressionError as error:
                raise OfferError(f"{spec.column}.when: {error}") from None
        return OfferPlan(ordered, conditions, most)

    def __len__(self) -> int:
        return len(self.specs)

    def columns(self) -> list[Column]:
        """What a table must have for ``decide``."""
        own = [Column(spec.column, "i8", NEVER_MS, (3,)) for spec in self.specs]
        times = (MOST_IN_WINDOW - 1,)
        own += [Column(s.earlier, "i8", NEVER_MS, times) for s in self.specs if s.earlier]
        return [Column(HAD, "u2"), *own]

    def restore(self, table: Table) -> None:
        """Work out ``HAD`` for all rows."""
        had = table[HAD][: table.size]
        had[:] = 0
        for place, spec in enumerate(self.specs):
            had |= np.uint16(1 << place) * (table[spec.column][: table.size, 2] > 0)

    def decide(
        self, on: Evaluation, table: Table, rows: I64, before_ms: I64, due_ms: I64
    ) -> NDArray[np.int64]:
        """Let offers end and give them, in the table, and note when to look again.

        Args:
            on: the evaluation that has decided the segments of the rows, at their times, and has
                answered ``tests``.
            table: has ``columns``.
            rows: int64[n], distinct.
            before_ms: when they were decided last, int64[n].
            due_ms: when to look at each again, int64[n]; only comes nearer.

        Returns:
            Of each offer how many were given, and how many more stand than before, int64[k, 2].
        """
        now_ms = np.ascontiguousarray(on.view.now_ms)
        stand, groups = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
        tally = np.zeros((len(self.specs), 2), dtype=np.int64)
        for place, (spec, condition) in enumerate(zip(self.specs, self.conditions, strict=True)):
            rise = on.rise(condition.test)
            give_and_end(
                self._rules[place],
                np.ascontiguousarray(on.truth(condition.test)),
                _NOTHING if rise is None else np.ascontiguousarray(rise),
                rows,
                now_ms,
                before_ms,
                1 << place,
                table[HAD],
                table[spec.column],
                table[spec.earlier] if spec.earlier else _NO_TIMES,
                stand,
                groups,
                due_ms,
                tally[place],
            )
        return tally

    def free_ms(self, place: int, table: Table, row: int) -> int:
        """When an offer may be given again to somebody whose it is not; ``FAR_MS`` for never."""
        spec = self.specs[place]
        earlier = table[spec.earlier] if spec.earlier else _NO_TIMES
        return int(free_ms(self._rules[place], table[spec.column][row], earlier, row))


def _rule(spec: OfferSpec, groups: Sequence[str], most: int) -> I64:
    """What the loop must know: lasts, cool-down, cap, its window, bit of the group, how many."""
    bit = 0 if spec.exclusive is None else 1 << groups.index(spec.exclusive)
    window = spec.cap_window_ms or 0
    return np.array([spec.lasts_ms, spec.cooldown_ms, spec.cap or 0, window, bit, most])


def _check(specs: Sequence[OfferSpec], most: int) -> None:
    if len(specs) > MOST_OFFERS:
        raise OfferError(f"offers: at most {MOST_OFFERS} may be declared, but {len(specs)} are")
    doubled = [name for name, n in Counter(spec.name for spec in specs).items() if n > 1]
    if doubled:
        raise OfferError(f"offers: each has a name of its own, but {doubled} came twice")
    if most < 0:
        raise OfferError(f"offer_rules.max_offers: must be 0 or more, but {most} came")
    for spec in specs:
        _check_one(spec)


def _check_one(spec: OfferSpec) -> None:
    path = spec.column
    if not _NAME.fullmatch(spec.name):
        raise OfferError(
            f"{path}: the name must be a lower-case letter and up to 62 lower-case letters, digits "
            f"and underscores, but {spec.name!r} came"
        )
    if spec.lasts_ms < 1:
        raise OfferError(f"{path}.for: must be longer than nothing, but {spec.lasts_ms} ms came")
    if spec.cooldown_ms < 0:
        raise OfferError(f"{path}.cooldown: must be 0 ms or more, but {spec.cooldown_ms} ms came")
    if spec.cap is not None and spec.cap < 1:
        raise OfferError(
            f"{path}.cap: must be 1 or more, but {spec.cap} came; leave it out for any"
        )
    if spec.cap_window_ms is None:
        return
    if spec.cap is None:
        raise OfferError(
            f"{path}.cap_window: needs a cap to count over it, such as cap = 1, but there is none"
        )
    if spec.cap > MOST_IN_WINDOW:
        raise OfferError(
            f"{path}.cap: must be 1 to {MOST_IN_WINDOW} with a cap_window, but {spec.cap} came; "
            "leave cap_window out for a cap in all"
        )
