"""Joined tests: and, or and not, and when silence will change them.

That follows from when silence will change their parts. ``and`` that does not hold waits for every
part that is missing, so its rise is the *latest* of theirs: that keeps timers away from users whom
another part rules out. ``or`` is its mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from state.evaluation import I64, Atom, Bools, Evaluation, Predicate, earliest
from state.times import FAR_MS, NEVER_MS


def next_flip_ms(on: Evaluation, test: Predicate) -> I64 | None:
    """When silence may first change the test, int64[n]; None: never."""
    rise, fall = on.rise(test), on.fall(test)
    if rise is fall:
        return rise
    return np.where(
        on.truth(test), FAR_MS if fall is None else fall, FAR_MS if rise is None else rise
    )


def atoms_of(tests: Sequence[Predicate]) -> tuple[Atom, ...]:
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

    part: Predicate

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

    parts: tuple[Predicate, ...]

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

    parts: tuple[Predicate, ...]

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


def _unless(held: Bools, time: I64 | None) -> I64:
    """The time where a part stands in the way; no wait at all where it does not."""
    return np.where(held, NEVER_MS, FAR_MS if time is None else time)
