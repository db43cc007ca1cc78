"""Conditions: tests joined by and, or and not, ready to be held against a view.

A joined test knows when silence will change it from when silence will change its parts. ``and``
that does not hold waits for every part that is missing, so its rise is the *latest* of theirs:
that keeps timers away from users whom another part rules out. ``or`` is its mirror image.

``member("x")`` has no times of its own: whatever moves a user in or out of x evaluates all of that
user's segments again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from state.evaluation import I64, Atom, Bools, Evaluation, Shown, Test, earliest
from state.times import FAR_MS, NEVER_MS
from state.view import View

Measures = dict[str, Shown]


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition.

    Attributes:
        text: as it was written.
        test: the graph that answers for it.
        atoms: its distinct single tests, in the order written.
        polled: those without closed form in silence, looked at again every so often.
        members: the segments it asks for with ``member``.
    """

    text: str
    test: Test
    atoms: tuple[Atom, ...]
    polled: tuple[str, ...] = ()
    members: tuple[str, ...] = ()

    def truth(self, view: View, members: Mapping[str, Bools] | None = None) -> Bools:
        """Whether it holds for each row of the view, bool[n]; do not write to it."""
        return Evaluation(view, members).truth(self.test)

    def next_flip_ms(self, view: View, members: Mapping[str, Bools] | None = None) -> I64:
        """The earliest ms after ``now_ms`` at which silence may change it, int64[n].

        ``FAR_MS`` where it never does. Looking again then either finds it changed or gives a
        later time.
        """
        flip = next_flip_ms(Evaluation(view, members), self.test)
        return np.full(len(view.now_ms), FAR_MS) if flip is None else flip

    def measures(self, on: Evaluation, index: I64) -> list[tuple[Measures, Measures]]:
        """What it measured and what it compared that with, for some rows: one pair per row.

        Both are keyed by what was measured; where one thing is compared twice, the thresholds'
        keys carry the comparison too, such as ``age(last_order) <``.
        """
        values = [atom.measured(on, index) for atom in self.atoms]
        limits = [atom.limits(on, index) for atom in self.atoms]
        names = [atom.measure for atom in self.atoms]
        keys = [
            name if names.count(name) == 1 else f"{name} {atom.operator}"
            for name, atom in zip(names, self.atoms, strict=True)
        ]
        if not names:
            return [({}, {}) for _ in range(len(index))]
        rows = zip(zip(*values, strict=True), zip(*limits, strict=True), strict=True)
        return [
            (dict(zip(names, value, strict=True)), dict(zip(keys, limit, strict=True)))
            for value, limit in rows
        ]


def next_flip_ms(on: Evaluation, test: Test) -> I64 | None:
    """When silence may first change the test, int64[n]; None: never."""
    rise, fall = on.rise(test), on.fall(test)
    if rise is fall:
        return rise
    return np.where(
        on.truth(test), FAR_MS if fall is None else fall, FAR_MS if rise is None else rise
    )


def atoms_of(tests: Sequence[Test]) -> tuple[Atom, ...]:
    """The distinct atoms below some tests, in order."""
    found: dict[Atom, None] = {}
    for test in tests:
        if isinstance(test, Opposite):
            found.update(dict.fromkeys(atoms_of([test.part])))
        elif isinstance(test, All | Either):
            found.update(dict.fromkeys(atoms_of(test.parts)))
        elif not isinstance(test, Always):
            found[test] = None  # type: ignore[index]
    return tuple(found)


def _unless(held: Bools, time: I64 | None) -> I64:
    """The time where a part stands in the way; no wait at all where it does not."""
    return np.where(held, NEVER_MS, FAR_MS if time is None else time)


@dataclass(frozen=True, slots=True, eq=False)
class Always:
    """True, or false, for everybody."""

    value: bool

    def truth(self, on: Evaluation) -> Bools:
        """The constant."""
        return np.full(len(on.view.now_ms), self.value)

    def rise(self, on: Evaluation) -> None:
        """Never."""

    def fall(self, on: Evaluation) -> None:
        """Never."""


@dataclass(frozen=True, slots=True, eq=False)
class Opposite:
    """A test that holds where another does not."""

    part: Test

    def truth(self, on: Evaluation) -> Bools:
        """The other's opposite."""
        return ~on.truth(self.part)

    def rise(self, on: Evaluation) -> I64 | None:
        """The other's fall."""
        return on.fall(self.part)

    def fall(self, on: Evaluation) -> I64 | None:
        """The other's rise."""
        return on.rise(self.part)


@dataclass(frozen=True, slots=True, eq=False)
class All:
    """A test that holds where all its parts do."""

    parts: tuple[Test, ...]

    def truth(self, on: Evaluation) -> Bools:
        """All of them."""
        return reduce(np.logical_and, map(on.truth, self.parts))

    def rise(self, on: Evaluation) -> I64 | None:
        """Not before the last of the parts that are missing."""
        rises = [on.rise(part) for part in self.parts]
        if all(rise is None for rise in rises):
            return None
        waits = zip(self.parts, rises, strict=True)
        return reduce(np.maximum, (_unless(on.truth(part), rise) for part, rise in waits))

    def fall(self, on: Evaluation) -> I64 | None:
        """With the first part that ceases to hold."""
        return earliest([on.fall(part) for part in self.parts])


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A test that holds where at least one of its parts does."""

    parts: tuple[Test, ...]

    def truth(self, on: Evaluation) -> Bools:
        """Any of them."""
        return reduce(np.logical_or, map(on.truth, self.parts))

    def rise(self, on: Evaluation) -> I64 | None:
        """With the first part that begins to hold."""
        return earliest([on.rise(part) for part in self.parts])

    def fall(self, on: Evaluation) -> I64 | None:
        """Not before the last of the parts that hold."""
        falls = [on.fall(part) for part in self.parts]
        if all(fall is None for fall in falls):
            return None
        waits = zip(self.parts, falls, strict=True)
        return reduce(np.maximum, (_unless(~on.truth(part), fall) for part, fall in waits))
