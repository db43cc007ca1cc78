"""Quantities: an expression of the segments' language as one number per user, for models.

A model's input is named like anything else: a feature (``lifetime.orders``), its age
(``last_order``, a time, counts as the time since), arithmetic over features, or a condition
(``session.device == "mobile"``), which is 1 where it holds. Durations are days. What is missing (a
division by zero, the time between two events of which one never happened) is 0, and what never
happened lies ten years back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state import syntax
from state.compiling import Compiler
from state.evaluation import Program
from state.expressions import ExpressionError, parse
from state.nodes import Nodes, Operand, Predicate
from state.operands import Age, Feature
from state.times import DAY_MS, HOUR_MS
from state.trace import Register, Trace
from state.view import Kind, View

F64 = NDArray[np.float64]

_OLDEST_DAYS: Final = 3650.0
_LARGEST: Final = 1e18
_CONDITIONS: Final = (syntax.Logic, syntax.Not, syntax.Comparison)


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of each user; see ``quantity``.

    Attributes:
        text: as it was written.
        operand: what computes it.
        days: whether it is a duration, shown in days.
    """

    text: str
    operand: Operand
    days: bool


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """A condition as an operand: 1 where it holds, else 0."""

    text: str
    test: Predicate

    kind = Kind.NUMBER
    moving = False
    duration = False
    names = ()

    def value(self, on: Trace) -> Register:
        """Whether it holds, as a number."""
        return on.as_float(on.truth(self.test))


def quantity(text: str, kinds: Mapping[str, Kind], nodes: Nodes | None = None) -> Quantity:
    """Compile a quantity.

    Args:
        text: the expression, see ``docs/segments.md``.
        kinds: every feature it may name.
        nodes: the nodes of other expressions, to be shared with this one.

    Raises:
        ExpressionError: where it cannot mean anything.

    >>> kinds = {"orders": Kind.NUMBER, "last_order": Kind.TIME, "device": Kind.TEXT}
    >>> quantity("last_order", kinds).days, quantity("orders / 2", kinds).days
    (True, False)
    >>> quantity("device", kinds)
    Traceback (most recent call last):
    state.expressions.ExpressionError: device is a text; compare it with one, as in device == "…"
      device
      ^
    """
    compiler = Compiler(text, kinds, (), HOUR_MS, Nodes() if nodes is None else nodes)
    tree = parse(text)
    is_flag = isinstance(tree, syntax.Name) and kinds.get(tree.name) is Kind.FLAG
    is_test = isinstance(tree, syntax.Call) and tree.function != "age"
    if isinstance(tree, _CONDITIONS) or is_flag or is_test:
        return Quantity(text, Truth(text, compiler.test(tree)), days=False)
    operand = compiler.operand(tree)
    if isinstance(operand, Feature) and operand.kind is Kind.TIME:
        return Quantity(text, Age(operand), days=True)
    if operand.kind is Kind.TEXT:
        problem = f'{operand.text} is a text; compare it with one, as in {operand.text} == "…"'
        raise ExpressionError(problem, text, tree.at)
    return Quantity(text, operand, days=operand.duration)


def matrix(view: View, quantities: Sequence[Quantity]) -> F64:
    """Some quantities side by side for a model, float64[n, k], all finite and of like size.

    Each becomes ``log(1 + x)``, so that amounts, counts and ages are of like size; what is missing
    or negative is 0. The one function for learning and for scoring.
    """
    raw = np.empty((len(quantities), len(view.now_ms)))
    on = _program(tuple(each.operand for each in quantities)).run(view)
    for place, each in enumerate(quantities):
        known = np.fmax(on.value(each.operand), 0.0, out=raw[place])  # NaN is no number: 0
        if each.days:
            known /= DAY_MS
        np.minimum(known, _OLDEST_DAYS if each.days else _LARGEST, out=known)
    raw += 1.0
    return np.ascontiguousarray(np.log(raw, out=raw).T)


@lru_cache(maxsize=64)
def _program(operands: tuple[Operand, ...]) -> Program:
    """What gives the values of some operands."""

    def ask(on: Trace) -> None:
        for operand in operands:
            on.value(operand)

    return Program(ask)
