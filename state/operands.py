"""Operands: constants, features, ages, and arithmetic over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from state.expressions import UNIT_MS
from state.nodes import I64, Operand, Shown
from state.times import FAR_MS, NEVER_MS
from state.trace import Register, Trace
from state.view import Kind

if TYPE_CHECKING:
    from state.evaluation import Evaluation


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A number."""

    number: int | float
    duration: bool = False

    kind = Kind.NUMBER
    moving = False
    names = ()

    @property
    def text(self) -> str:
        """As a person would write it."""
        return show_duration(self.number) if self.duration else f"{self.number:.15g}"

    def value(self, on: Trace) -> Register:
        """The number itself."""
        return on.constant(self.number)


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """A feature of the view."""

    name: str
    kind: Kind

    duration = False

    @property
    def text(self) -> str:
        """Its name."""
        return self.name

    @property
    def moving(self) -> bool:
        """Decayed features never stand still."""
        return self.kind is Kind.DECAYED

    @property
    def names(self) -> tuple[str, ...]:
        """Itself, unless it moves without steps."""
        return () if self.moving else (self.name,)

    def value(self, on: Trace) -> Register:
        """As the view has it."""
        return on.feature(self.name, self.kind)


@dataclass(frozen=True, slots=True, eq=False)
class Age:
    """Milliseconds since a time; beyond every duration where it never happened."""

    time: Feature

    kind = Kind.NUMBER
    moving = True
    duration = True

    @property
    def text(self) -> str:
        """As it is written."""
        return f"age({self.time.name})"

    @property
    def names(self) -> tuple[str, ...]:
        """The time's steps."""
        return self.time.names

    def value(self, on: Trace) -> Register:
        """Now less the time; about 2**62 for ``NEVER_MS``."""
        return on.since(on.value(self.time))


@dataclass(frozen=True, slots=True, eq=False)
class Arithmetic:
    """Two numbers added, subtracted, multiplied or divided; or the time between two times.

    What has no answer (a division by zero, the time since what never happened) is NaN.
    """

    operator: str
    left: Operand
    right: Operand

    kind = Kind.NUMBER

    @property
    def text(self) -> str:
        """With parentheses around inner operations."""
        return f"{_inner(self.left)} {self.operator} {_inner(self.right)}"

    @property
    def moving(self) -> bool:
        """Whether a part moves."""
        return self.left.moving or self.right.moving

    @property
    def duration(self) -> bool:
        """Whether it comes out in milliseconds."""
        if self.left.kind is Kind.TIME:
            return True
        if self.operator in "+-":
            return self.left.duration and self.right.duration
        return self.left.duration and not self.right.duration

    @property
    def names(self) -> tuple[str, ...]:
        """The steps of both parts."""
        return tuple(sorted({*self.left.names, *self.right.names}))

    def value(self, on: Trace) -> Register:
        """The result as a float."""
        return on.calculate(self.operator, _number(on, self.left), _number(on, self.right))


def _inner(operand: Operand) -> str:
    return f"({operand.text})" if isinstance(operand, Arithmetic) else operand.text


def _number(on: Trace, operand: Operand) -> Register:
    """The operand as a float, infinite ages as inf and missing times as NaN."""
    value = on.as_float(on.value(operand))
    if isinstance(operand, Age):
        return on.choose(on.happened(on.value(operand.time)), value, on.constant(math.inf))
    if operand.kind is Kind.TIME:
        return on.choose(on.happened(on.value(operand)), value, on.constant(math.nan))
    return value


def shown(on: Evaluation, operand: Operand, index: I64) -> list[Shown]:
    """The operand's values at some rows as plain Python values."""
    if isinstance(operand, Constant):
        return [operand.number] * len(index)
    values = on.value(operand)[index].tolist()
    if isinstance(operand, Age):
        return [age if age < FAR_MS // 2 else None for age in values]
    if operand.kind is Kind.TIME:
        return [time if time != NEVER_MS else None for time in values]
    if isinstance(operand, Feature) and operand.kind is Kind.TEXT:
        return [on.view.text(operand.name, code) for code in values]
    return [v if isinstance(v, int) or math.isfinite(v) else None for v in values]


def show_duration(ms: float) -> str:
    """A duration as the language writes it.

    >>> show_duration(5_400_000), show_duration(-1_500), show_duration(0)
    ('1h30m', '-1s500ms', '0s')
    """
    rest = abs(round(ms))
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNIT_MS[unit])
        text += f"{count}{unit}" if count else ""
    return ("-" if ms < 0 and text else "") + (text or "0s")
