"""The evaluation of conditions: a graph of shared nodes, each computed once for all rows.

Operands (what has a value) and tests (what is true or false) are nodes. Equal parts are one node,
however many conditions hold them (``Nodes``), and an ``Evaluation`` computes each node at most
once, so twenty conditions over four features cost little more than their distinct comparisons.

A test answers three questions: does it hold (``truth``), when might it begin to hold where it does
not (``rise``), and when might it cease to where it does (``fall``). Both times are after the view's
own, hold as long as the user is silent, and may be too early but never too late; None says "never"
for all rows, which most tests can say in one direction without looking at any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from state.view import Kind, View

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Shown = float | int | str | bool | None
"""A measured value as a cause shows it; None for what is missing or infinite."""

T = TypeVar("T")


class Operand(Protocol):
    """A node that has a value."""

    @property
    def text(self) -> str:
        """How it is written."""
        ...

    @property
    def kind(self) -> Kind:
        """NUMBER, DECAYED, TIME, FLAG or TEXT."""
        ...

    @property
    def moving(self) -> bool:
        """Whether it changes in silence between steps."""
        ...

    @property
    def duration(self) -> bool:
        """Whether it is a number of milliseconds to be shown as a duration."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The features at whose steps it may change."""
        ...

    def compute(self, on: Evaluation) -> Any:
        """The value, an array [n] or one number."""
        ...


class Predicate(Protocol):
    """A node that is true or false, as the evaluation needs it; see ``state.conditions``."""

    def truth(self, on: Evaluation) -> Bools:
        """Whether it holds, bool[n]."""
        ...

    def rise(self, on: Evaluation) -> I64 | None:
        """When it may first hold, for rows where it does not; None: never in silence."""
        ...

    def fall(self, on: Evaluation) -> I64 | None:
        """When it may first not hold, for rows where it does; None: never in silence."""
        ...


class Atom(Predicate, Protocol):
    """A test that is not made of others: what a cause and an explanation speak of."""

    @property
    def measure(self) -> str:
        """What is measured, as it is written."""
        ...

    @property
    def operator(self) -> str:
        """How it is compared; ``is`` for what is true by itself."""
        ...

    @property
    def limit(self) -> str:
        """What it is compared with, as it is written."""
        ...

    @property
    def duration(self) -> bool:
        """Whether both are numbers of milliseconds to be shown as durations."""
        ...

    def measured(self, on: Evaluation, index: I64) -> list[Shown]:
        """What was measured at some rows."""
        ...

    def limits(self, on: Evaluation, index: I64) -> list[Shown]:
        """What that was compared with at these rows."""
        ...


class Nodes:
    """Makes nodes, and gives the one it has for parts that are equal.

    >>> nodes = Nodes()
    >>> nodes(complex, 1, 2) is nodes(complex, 1, 2)
    True
    """

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Any] = {}

    def __call__(self, node: Callable[..., T], *parts: object) -> T:
        """The node of this class with these parts."""
        key = (node, *parts)
        if key not in self._made:
            self._made[key] = node(*parts)
        made: T = self._made[key]
        return made


class Evaluation:
    """One view and what has been computed of it; n rows.

    Args:
        view: the rows.
        members: bool[n] for each segment that a condition asks for with ``member``.

    Attributes:
        member_flips_ms: when silence may next change those memberships, int64[n]; None: never.
    """

    def __init__(self, view: View, members: Mapping[str, Bools] | None = None) -> None:
        self.view = view
        self.members: dict[str, Bools] = dict(members or {})
        self.member_flips_ms: dict[str, I64 | None] = {}
        self._values: dict[Operand, Any] = {}
        self._truths: dict[Predicate, Bools] = {}
        self._rises: dict[Predicate, I64 | None] = {}
        self._falls: dict[Predicate, I64 | None] = {}
        self._steps: dict[tuple[str, ...], I64 | None] = {}

    def value(self, operand: Operand) -> Any:
        """The operand's value: an array [n], or one number for all rows."""
        if operand not in self._values:
            self._values[operand] = operand.compute(self)
        return self._values[operand]

    def truth(self, test: Predicate) -> Bools:
        """Whether the test holds, bool[n]."""
        if test not in self._truths:
            self._truths[test] = test.truth(self)
        return self._truths[test]

    def rise(self, test: Predicate) -> I64 | None:
        """``test.rise``, once."""
        if test not in self._rises:
            self._rises[test] = test.rise(self)
        return self._rises[test]

    def fall(self, test: Predicate) -> I64 | None:
        """``test.fall``, once."""
        if test not in self._falls:
            self._falls[test] = test.fall(self)
        return self._falls[test]

    def steps(self, names: tuple[str, ...]) -> I64 | None:
        """When any of some features may next step in silence, int64[n]; None: never."""
        if names not in self._steps:
            self._steps[names] = earliest([self.view.next_step_ms(name) for name in names])
        return self._steps[names]


def earliest(times: Sequence[I64 | None]) -> I64 | None:
    """The elementwise minimum; None stands for never."""
    # tests of one feature share their times, and one minimum is enough for all of them
    distinct = {id(time): time for time in times if time is not None}
    return reduce(np.minimum, distinct.values()) if distinct else None
