"""Nodes: the shared parts of which conditions and quantities are made.

Operands (what has a value) and tests (what is true or false) are nodes. Equal parts are one node,
however many conditions hold them (``Nodes``). A node says what it means once, as operations on the
registers of a ``Trace``; what comes of it is computed for all rows by ``state.machine``, so twenty
conditions over four features cost little more than their distinct comparisons.

A test answers three questions: does it hold (``truth``), when might it begin to hold where it does
not (``rise``), and when might it cease to where it does (``fall``). Both times are after the view's
own, hold as long as the user is silent, and may be too early but never too late; None says "never"
for all rows, which most tests can say in one direction without looking at any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from state.view import Kind

if TYPE_CHECKING:
    from state.evaluation import Evaluation
    from state.trace import Register, Trace

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

    def value(self, on: Trace) -> Register:
        """Its value."""
        ...


class Predicate(Protocol):
    """A node that is true or false; see ``state.conditions``."""

    def truth(self, on: Trace) -> Register:
        """Whether it holds."""
        ...

    def rise(self, on: Trace) -> Register | None:
        """When it may first hold, for rows where it does not; None: never in silence."""
        ...

    def fall(self, on: Trace) -> Register | None:
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
    def fixed(self) -> Shown:
        """What it is compared with where that is the same for everybody; None where it is not."""
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
