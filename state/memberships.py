"""Deciding memberships: who enters and leaves which segment, and when to look again.

A **tag** is a segment of its own. It is entered when its enter condition holds and its exit
condition does not, so that nobody enters only to leave at once; it is left when the exit condition
holds (without one: when the enter condition does not), never before the minimum dwell has passed,
and not entered again before the cool-down has. A **family** is a row of labels of which a user
has at most one: the first whose condition holds.

Deciding is pure: a draft starts as a copy of the state and becomes the outcome. A row changes each
tag at most once per evaluation. For each row it also gives the earliest time at which anything may
change in silence: a member waits for the exit to rise and the dwell to pass, everybody else for
the entry to rise and the cool-down to pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from state.conditions import Condition
from state.evaluation import I64, Bools, Evaluation, Predicate, earliest
from state.joins import next_flip_ms
from state.times import DAY_MS, FAR_MS, NEVER_MS

I8 = NDArray[np.int8]
U64 = NDArray[np.uint64]
Reason = Literal["dwell", "cooldown", "max_flips", "paused"]
"""What holds a flip back."""


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


class Draft:
    """The state being decided; ``on`` is the evaluation, ``due_ms`` int64[n] only comes nearer."""

    def __init__(self, on: Evaluation, state: SegmentState) -> None:
        n, tags = state.since_ms.shape
        self.on = on
        self.state = SegmentState(
            members=state.members.copy(),
            since_ms=state.since_ms.copy(),
            family=state.family.copy(),
            family_since_ms=state.family_since_ms.copy(),
            flips=state.flips.copy(),
        )
        self.suppressed: dict[tuple[str, str], int] = {}
        self.due_ms: I64 = np.full(n, FAR_MS, dtype=np.int64)
        self.valid_to_ms: I64 = np.full((n, tags + state.family.shape[1]), FAR_MS, dtype=np.int64)
        self._flips: list[I64] = []

    def suppress(self, unit: str, reason: Reason, held_back: Bools) -> None:
        """Count flips that conditions asked for and something held back, by what it was."""
        if count := int(np.count_nonzero(held_back)):
            key = unit, reason
            self.suppressed[key] = self.suppressed.get(key, 0) + count

    def record(self, rows: I64, segment: I64 | int, entered: bool) -> None:
        """Note flips, packed so that plain sorting orders them."""
        self._flips.append((rows << 7) | (int(entered) << 6) | segment)

    def flips(self) -> Flips:
        """All flips in order."""
        packed = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *self._flips]))
        return Flips(packed >> 7, packed & 63, (packed & 64) != 0)


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

    def decide(self, draft: Draft) -> None:
        """Let rows in and out, and note when to look again."""
        on, now_ms = draft.on, draft.on.view.now_ms
        bit = np.uint64(1 << self.index)
        since = draft.state.since_ms[:, self.index]
        was = (draft.state.members & bit) != 0
        leave = was & on.truth(self.leaves)
        join = on.truth(self.joins) & ~was
        if self.min_dwell_ms:
            draft.suppress(self.name, "dwell", leave & (now_ms < since + self.min_dwell_ms))
            leave &= now_ms >= since + self.min_dwell_ms
        if self.cooldown_ms:
            draft.suppress(self.name, "cooldown", join & (now_ms < since + self.cooldown_ms))
            join &= now_ms >= since + self.cooldown_ms
        if self.max_flips:
            spent = self._flips_today(draft) >= self.max_flips
            draft.suppress(self.name, "max_flips", (leave | join) & spent)
            leave &= ~spent
            join &= ~spent
        flip = leave | join
        rows = np.flatnonzero(flip)
        if len(rows):
            draft.state.members[rows] ^= bit
            since[rows] = now_ms[rows]
            if self.max_flips:
                today = self._flips_today(draft)[rows] + 1
                draft.state.flips[rows, self.limit] = now_ms[rows] // DAY_MS * 256 + today
            draft.record(rows[leave[rows]], self.index, entered=False)
            draft.record(rows[join[rows]], self.index, entered=True)
        held = on.members[self.name] = was ^ flip
        self._look_again(draft, held)

    def hold(self, draft: Draft) -> None:
        """Leave everybody where they are, and count who would have moved."""
        on = draft.on
        was = (draft.state.members & np.uint64(1 << self.index)) != 0
        moved = np.where(was, on.truth(self.leaves), on.truth(self.joins))
        draft.suppress(self.name, "paused", moved)
        on.members[self.name] = was
        on.member_flips_ms[self.name] = None

    def _flips_today(self, draft: Draft) -> I64:
        last = draft.state.flips[:, self.limit]
        count: I64 = np.where(last // 256 == draft.on.view.now_ms // DAY_MS, last % 256, 0)
        return count

    def _look_again(self, draft: Draft, held: Bools) -> None:
        since = draft.state.since_ms[:, self.index]
        free_ms = None
        if self.max_flips:
            tomorrow_ms = (draft.on.view.now_ms // DAY_MS + 1) * DAY_MS
            spent = self._flips_today(draft) >= self.max_flips
            free_ms = np.where(spent, tomorrow_ms, NEVER_MS)
        lapse = _next(draft.on, self.leaves, since, self.min_dwell_ms, free_ms)
        entry = _next(draft.on, self.joins, since, self.cooldown_ms, free_ms)
        if lapse is None and entry is None:
            draft.on.member_flips_ms[self.name] = None
            return
        ends = np.where(held, FAR_MS if lapse is None else lapse, FAR_MS)
        draft.valid_to_ms[:, self.index] = ends
        next_ms = ends if entry is None else np.where(held, ends, entry)
        draft.on.member_flips_ms[self.name] = next_ms
        np.minimum(draft.due_ms, next_ms, out=draft.due_ms)


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

    def decide(self, draft: Draft) -> None:
        """Give each row the first label that holds, and note when to look again."""
        on = draft.on
        old = draft.state.family[:, self.index].copy()
        code = np.full(len(old), -1, dtype=np.int8)
        for place in reversed(range(len(self.labels))):
            np.copyto(code, np.int8(place), where=on.truth(self.conditions[place].test))
        rows = np.flatnonzero(code != old)
        if len(rows):
            draft.state.family[rows, self.index] = code[rows]
            draft.state.family_since_ms[rows, self.index] = on.view.now_ms[rows]
            self._record(draft, rows, old[rows], entered=False)
            self._record(draft, rows, code[rows], entered=True)
        for place, label in enumerate(self.labels):
            on.members[label] = code == place
        self._look_again(draft, code)

    def hold(self, draft: Draft) -> None:
        """Leave everybody where they are, and count who would have moved."""
        on, code = draft.on, draft.state.family[:, self.index]
        first = np.full(len(code), -1, dtype=np.int8)
        for place in reversed(range(len(self.labels))):
            np.copyto(first, np.int8(place), where=on.truth(self.conditions[place].test))
        draft.suppress(self.name, "paused", first != code)
        for place, label in enumerate(self.labels):
            on.members[label] = code == place
            on.member_flips_ms[label] = None

    def _record(self, draft: Draft, rows: I64, code: I8, *, entered: bool) -> None:
        some = code >= 0
        draft.record(rows[some], self.base + code[some].astype(np.int64), entered)

    def _look_again(self, draft: Draft, code: I8) -> None:
        """With the first flip of any single test: early at worst, and cheap."""
        next_ms = earliest([next_flip_ms(draft.on, test) for test in self.watched])
        draft.on.member_flips_ms.update(dict.fromkeys(self.labels, next_ms))
        if next_ms is not None:
            draft.valid_to_ms[:, self.column] = np.where(code >= 0, next_ms, FAR_MS)
            np.minimum(draft.due_ms, next_ms, out=draft.due_ms)


def _next(
    on: Evaluation, test: Predicate, since: I64, hold_ms: int, from_ms: I64 | None
) -> I64 | None:
    """When a test may next make a row flip.

    It must hold, ``hold_ms`` must have passed, and it must be ``from_ms``, if any.
    """
    rise = on.rise(test)
    if not hold_ms and from_ms is None:
        return rise
    free_ms = since + hold_ms
    if from_ms is not None:
        free_ms = np.maximum(free_ms, from_ms)
    return np.where(on.truth(test), free_ms, FAR_MS if rise is None else np.maximum(rise, free_ms))
