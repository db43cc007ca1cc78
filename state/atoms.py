"""Atoms: the single tests of which conditions are made, and what silence does to each.

- A number **steps**: it may change at its feature's next step and not before.
- A decayed number only **falls**, in closed form: ``x > c`` is ``x >= the next float after c``, so
  the answer of ``falls_below_ms`` is exact for both.
- An age only **grows**: ``age(t) >= k`` begins at ``t + k``.
- Anything else is **polled**: looked at again after a fixed time.

A comparison with a missing value (a text that is absent, the time between events of which one never
happened, the result of a division by zero) is false, whichever way it is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from state.nodes import I64, Operand, Shown
from state.operands import Age, Constant, Feature, shown
from state.trace import Register, Trace
from state.view import Kind

if TYPE_CHECKING:
    from state.evaluation import Evaluation

TINY: Final = 1e-300
"""Below this a decayed number counts as zero; smaller floats no longer halve exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """What atoms share that compare a left side with a right one."""

    operator: str
    left: Operand
    right: Operand

    @property
    def measure(self) -> str:
        """The left side."""
        return self.left.text

    @property
    def limit(self) -> str:
        """The right side."""
        return self.right.text

    @property
    def fixed(self) -> Shown:
        """The right side, if it is a constant."""
        return self.right.number if isinstance(self.right, Constant) else None

    @property
    def duration(self) -> bool:
        """Whether a side says that it is one."""
        return self.left.duration or self.right.duration

    def measured(self, on: Evaluation, index: I64) -> list[Shown]:
        """The left side's values."""
        return shown(on, self.left, index)

    def limits(self, on: Evaluation, index: I64) -> list[Shown]:
        """The right side's values."""
        return shown(on, self.right, index)


@dataclass(frozen=True, slots=True, eq=False)
class Compared(_Comparison):
    """Two operands compared; ``poll_ms`` is set where silence changes them without closed form."""

    poll_ms: int | None = None

    def truth(self, on: Trace) -> Register:
        """False wherever a side is missing."""
        left, right = on.value(self.left), on.value(self.right)
        held = on.compare(self.operator, left, right)
        if self.left.kind is Kind.TIME:
            return on.all([held, on.happened(left), on.happened(right)])
        return held

    def rise(self, on: Trace) -> Register | None:
        """The next step of either side, or the next poll."""
        steps = on.step_ms(self.left.names + self.right.names)
        if self.poll_ms is None:
            return steps
        return on.earliest([steps, on.later(on.now_ms, self.poll_ms)])

    def fall(self, on: Trace) -> Register | None:
        """The same as its rise."""
        return on.rise(self)


@dataclass(frozen=True, slots=True, eq=False)
class Decayed(_Comparison):
    """A decayed feature against a number: it holds while the value is at least, or below, a floor.

    ``floor`` is the float that makes ``operator right`` a question of at-least or below.
    """

    left: Feature
    right: Constant

    @property
    def floor(self) -> float:
        """The smallest float that makes ``>`` or ``>=`` true."""
        number = float(self.right.number)
        floor = float(np.nextafter(number, np.inf)) if self.operator in (">", "<=") else number
        return max(floor, TINY) if floor > 0 else floor

    def truth(self, on: Trace) -> Register:
        """At least the floor for ``>`` and ``>=``, below it for ``<`` and ``<=``."""
        operator = ">=" if self.operator[0] == ">" else "<"
        return on.compare(operator, on.value(self.left), on.constant(self.floor))

    def rise(self, on: Trace) -> Register | None:
        """Only being small comes by itself."""
        return self._sinks(on) if self.operator[0] == "<" else None

    def fall(self, on: Trace) -> Register | None:
        """Only being large passes by itself."""
        return self._sinks(on) if self.operator[0] == ">" else None

    def _sinks(self, on: Trace) -> Register | None:
        return on.falls_below_ms(self.left.name, self.floor) if self.floor > 0 else None


@dataclass(frozen=True, slots=True, eq=False)
class Aged(_Comparison):
    """An age against a constant duration; ages are whole milliseconds, so ``> d`` is ``>= d+1``."""

    left: Age
    right: Constant

    @property
    def _from_ms(self) -> int:
        """The age at which ``>`` or ``>=`` becomes true; beyond any real age at most."""
        number = self.right.number
        whole = number // 1 + 1 if self.operator in (">", "<=") else -(-number // 1)
        return int(whole)

    def truth(self, on: Trace) -> Register:
        """Old enough for ``>`` and ``>=``, young enough for ``<`` and ``<=``."""
        operator = ">=" if self.operator[0] == ">" else "<"
        return on.compare(operator, on.value(self.left), on.constant(self._from_ms))

    def rise(self, on: Trace) -> Register | None:
        """Being old comes by itself, being young only when the time steps."""
        steps = on.step_ms(self.left.names)
        return on.earliest([steps, self._comes(on)]) if self.operator[0] == ">" else steps

    def fall(self, on: Trace) -> Register | None:
        """Being young passes by itself, being old only when the time steps."""
        steps = on.step_ms(self.left.names)
        return on.earliest([steps, self._comes(on)]) if self.operator[0] == "<" else steps

    def _comes(self, on: Trace) -> Register:
        return on.later(on.value(self.left.time), self._from_ms)


class _Plain:
    """What atoms share that are true by themselves."""

    __slots__ = ()
    duration = False

    @property
    def operator(self) -> str:
        """None to speak of, unless it says otherwise."""
        return "is"

    @property
    def limit(self) -> str:
        """True, unless it says otherwise."""
        return "true"

    @property
    def fixed(self) -> Shown:
        """True, unless it says otherwise."""
        return True

    def truth(self, on: Trace) -> Register:
        """Each knows its own."""
        raise NotImplementedError

    def measured(self, on: Evaluation, index: I64) -> list[Shown]:
        """Whether it holds."""
        held: list[Shown] = on.truth(self)[index].tolist()
        return held

    def limits(self, on: Evaluation, index: I64) -> list[Shown]:  # noqa: ARG002 - an atom's signature
        """The same for everybody."""
        return [self.fixed] * len(index)

    def rise(self, on: Trace) -> Register | None:
        """Each knows its own."""
        raise NotImplementedError

    def fall(self, on: Trace) -> Register | None:
        """The same as its rise."""
        return on.rise(self)


@dataclass(frozen=True, slots=True, eq=False)
class Member(_Plain):
    """Membership of another segment, as of the same evaluation."""

    segment: str

    @property
    def measure(self) -> str:
        """As it is written."""
        return f'member("{self.segment}")'

    def truth(self, on: Trace) -> Register:
        """What was decided before, or is given."""
        return on.member(self.segment)

    def rise(self, on: Trace) -> Register | None:
        """When that segment will be looked at again."""
        return on.member_flips_ms(self.segment)


@dataclass(frozen=True, slots=True, eq=False)
class Flag(_Plain):
    """A feature that is true or false, and what other tests of one stepping feature share."""

    feature: Feature

    @property
    def measure(self) -> str:
        """The feature."""
        return self.feature.text

    def truth(self, on: Trace) -> Register:
        """Its value."""
        return on.value(self.feature)

    def rise(self, on: Trace) -> Register | None:
        """The feature's next step."""
        return on.step_ms(self.feature.names)


@dataclass(frozen=True, slots=True, eq=False)
class Present(Flag):
    """A time that has happened, or a text that is known."""

    @property
    def measure(self) -> str:
        """As it is written."""
        function = "happened" if self.feature.kind is Kind.TIME else "known"
        return f"{function}({self.feature.text})"

    def truth(self, on: Trace) -> Register:
        """Whether a value is there."""
        value = on.value(self.feature)
        return on.happened(value) if self.feature.kind is Kind.TIME else on.known(value)


@dataclass(frozen=True, slots=True, eq=False)
class TextIs(Flag):
    """A text feature that is, or is known and is not, a given text."""

    text: str
    equal: bool

    @property
    def operator(self) -> str:
        """As it is written."""
        return "==" if self.equal else "!="

    @property
    def limit(self) -> str:
        """The text in quotes."""
        return f'"{self.text}"'

    @property
    def fixed(self) -> str:
        """The text."""
        return self.text

    def truth(self, on: Trace) -> Register:
        """False where the text is missing, for both operators."""
        codes = on.value(self.feature)
        held = on.compare("==", codes, on.code_of(self.feature.name, self.text))
        return held if self.equal else on.all([on.opposite(held), on.known(codes)])

    def measured(self, on: Evaluation, index: I64) -> list[Shown]:
        """The texts."""
        return shown(on, self.feature, index)
