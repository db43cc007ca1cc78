"""Joined tests: and, or and not, and when silence will change them.

That follows from when silence will change their parts. ``and`` that does not hold waits for every
part that is missing, so its rise is the *latest* of theirs: that keeps timers away from users whom
another part rules out. ``or`` is its mirror image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from state.nodes import Atom, Predicate
from state.trace import Register, Trace


def next_flip_ms(on: Trace, test: Predicate) -> Register | None:
    """When silence may first change the test; None: never."""
    rise, fall = on.rise(test), on.fall(test)
    if rise == fall:
        return rise
    return on.choose(on.truth(test), on.or_never(fall), on.or_never(rise))


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

    def truth(self, on: Trace) -> Register:
        """The constant."""
        return on.always(self.value)

    def rise(self, on: Trace) -> None:
        """Never."""

    def fall(self, on: Trace) -> None:
        """Never."""


@dataclass(frozen=True, slots=True, eq=False)
class Opposite:
    """A test that holds where another does not."""

    part: Predicate

    def truth(self, on: Trace) -> Register:
        """The other's opposite."""
        return on.opposite(on.truth(self.part))

    def rise(self, on: Trace) -> Register | None:
        """The other's fall."""
        return on.fall(self.part)

    def fall(self, on: Trace) -> Register | None:
        """The other's rise."""
        return on.rise(self.part)


@dataclass(frozen=True, slots=True, eq=False)
class All:
    """A test that holds where all its parts do."""

    parts: tuple[Predicate, ...]

    def truth(self, on: Trace) -> Register:
        """All of them."""
        return on.all([on.truth(part) for part in self.parts])

    def rise(self, on: Trace) -> Register | None:
        """Not before the last of the parts that are missing."""
        rises = [on.rise(part) for part in self.parts]
        if all(rise is None for rise in rises):
            return None
        waits = zip(self.parts, rises, strict=True)
        return on.latest([on.unless(on.truth(part), rise) for part, rise in waits])

    def fall(self, on: Trace) -> Register | None:
        """With the first part that ceases to hold."""
        return on.earliest([on.fall(part) for part in self.parts])


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """A test that holds where at least one of its parts does."""

    parts: tuple[Predicate, ...]

    def truth(self, on: Trace) -> Register:
        """Any of them."""
        return on.any([on.truth(part) for part in self.parts])

    def rise(self, on: Trace) -> Register | None:
        """With the first part that begins to hold."""
        return on.earliest([on.rise(part) for part in self.parts])

    def fall(self, on: Trace) -> Register | None:
        """Not before the last of the parts that hold."""
        falls = [on.fall(part) for part in self.parts]
        if all(fall is None for fall in falls):
            return None
        waits = zip(self.parts, falls, strict=True)
        return on.latest([on.unless(on.opposite(on.truth(part)), fall) for part, fall in waits])
