"""Tracing: what nodes mean, written down as operations on registers.

A register holds one number per row: a time or whole number, a float, or a truth. A node asks for
the registers of its parts and gets one for what it makes of them; whatever was asked for before is
not made again. The instructions that gather here are what ``state.machine`` runs, over any view
whose numbers are of the same sort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any, Final, Literal

import numpy as np

from state import machine
from state.nodes import Bools, Operand, Predicate
from state.times import FAR_MS, NEVER_MS
from state.view import Kind, View

Register = int
Question = Literal["value", "truth", "rise", "fall"]
Ask = Callable[[View, Mapping[str, Bools]], Any]


class Sort(Enum):
    """What a register holds."""

    WHOLE = "whole"
    FLOAT = "float"
    TRUTH = "truth"


@dataclass(slots=True, frozen=True)
class Input:
    """A register that the view fills.

    Attributes:
        register: which.
        is_float: whether it holds floats.
        is_number: whether that was the view's choice, so that another view may choose otherwise.
        ask: gives what it is filled with, an array [n] or one number.
    """

    register: Register
    is_float: bool
    is_number: bool
    ask: Ask


_COMPARE: Final = {
    Sort.WHOLE: {"<": machine.LESS, "<=": machine.LESS_EQUAL, "==": machine.EQUAL},
    Sort.FLOAT: {"<": machine.LESS_F, "<=": machine.LESS_EQUAL_F, "==": machine.EQUAL_F},
}
_ARITHMETIC: Final = {
    "+": machine.ADD_F,
    "-": machine.SUBTRACT_F,
    "*": machine.MULTIPLY_F,
    "/": machine.DIVIDE_F,
}


class Trace:
    """Instructions that gather; registers are numbered from zero.

    Args:
        view: one of those to come: it says which numbers are floats and what never steps.

    Attributes:
        sorts: what each register holds.
        inputs: those that the view fills.
        code: instructions, each an operation, the register it fills and up to three others.
        constants: what ``CONSTANT`` fills registers with, as the bits of an int64.
        units: the parameters of each segment or family, see ``state.machine``.
        conditions: the registers of families' conditions.
    """

    def __init__(self, view: View) -> None:
        self.sorts: list[Sort] = []
        self.inputs: list[Input] = []
        self.code: list[tuple[int, int, int, int, int]] = []
        self.constants: list[int] = []
        self.units: list[list[int]] = []
        self.conditions: list[Register] = []
        self._view = view
        self._made: dict[tuple[object, ...], Register] = {}
        self._answers: dict[tuple[Question, Operand | Predicate], Register | None] = {}
        self._members: dict[str, tuple[Callable[[], Register], Register | None]] = {}
        self.now_ms = self._input(("now",), Sort.WHOLE, lambda view, _: view.now_ms)

    # -- what nodes are asked -----------------------------------------------------------------

    def value(self, operand: Operand) -> Register:
        """An operand's value."""
        return self._certain("value", operand, operand.value)

    def truth(self, test: Predicate) -> Register:
        """Whether a test holds."""
        return self._certain("truth", test, test.truth)

    def rise(self, test: Predicate) -> Register | None:
        """When a test may begin to hold; None: never."""
        return self._answer("rise", test, test.rise)

    def fall(self, test: Predicate) -> Register | None:
        """When a test may cease to hold; None: never."""
        return self._answer("fall", test, test.fall)

    def answer(self, question: Question, node: Operand | Predicate) -> Register | None:
        """What was answered before.

        Raises:
            KeyError: that was not asked.
        """
        return self._answers[question, node]

    # -- what nodes ask for -------------------------------------------------------------------

    def feature(self, name: str, kind: Kind) -> Register:
        """A feature's value."""
        sort = Sort.WHOLE
        if kind is Kind.FLAG:
            sort = Sort.TRUTH
        elif kind is Kind.DECAYED or (
            kind is Kind.NUMBER and self._view.value(name).dtype.kind == "f"
        ):
            sort = Sort.FLOAT
        key = "feature", name
        return self._input(key, sort, lambda view, _: view.value(name), kind is Kind.NUMBER)

    def code_of(self, name: str, text: str) -> Register:
        """The code of a text among a feature's values."""
        return self._input(("code", name, text), Sort.WHOLE, lambda view, _: view.code(name, text))

    def step_ms(self, names: Iterable[str]) -> Register | None:
        """When any of some features may next step in silence; None: never."""
        return self.earliest([self._step_ms(name) for name in names])

    def falls_below_ms(self, name: str, threshold: float) -> Register:
        """When a decayed feature is first below a threshold in silence."""

        def ask(view: View, _: object) -> Any:
            return view.falls_below_ms(name, threshold)

        return self._input(("falls", name, threshold), Sort.WHOLE, ask)

    def member(self, segment: str) -> Register:
        """Whether the row is in a segment: as decided before, or else as given."""
        if segment in self._members:
            return self._members[segment][0]()
        return self._input(("member", segment), Sort.TRUTH, lambda _, members: members[segment])

    def member_flips_ms(self, segment: str) -> Register | None:
        """When silence may next change that; None: never."""
        return self._members[segment][1] if segment in self._members else None

    def decided(
        self, segment: str, held: Callable[[], Register], flips_ms: Register | None
    ) -> None:
        """A membership is decided: who is in it, and when silence may next change it."""
        self._members[segment] = held, flips_ms

    # -- operations ---------------------------------------------------------------------------

    def constant(self, number: float) -> Register:
        """A number: whole if it is an int."""
        if isinstance(number, int):
            return self._fill(Sort.WHOLE, number)
        return self._fill(Sort.FLOAT, int(np.float64(number).view(np.int64)))

    def always(self, held: bool) -> Register:
        """True or false."""
        return self._fill(Sort.TRUTH, int(held))

    def compare(self, operator: str, left: Register, right: Register) -> Register:
        """Two numbers compared, as floats if one is; false where a float is NaN, also for !=."""
        if operator in (">", ">="):
            return self.compare("<" + operator[1:], right, left)
        if operator == "!=":  # of two numbers of which one is missing, neither is smaller
            return self.any([self.compare("<", left, right), self.compare("<", right, left)])
        sort = Sort.WHOLE
        if Sort.FLOAT in (self.sorts[left], self.sorts[right]):
            left, right, sort = self.as_float(left), self.as_float(right), Sort.FLOAT
        return self._emit(_COMPARE[sort][operator], Sort.TRUTH, left, right)

    def happened(self, time: Register) -> Register:
        """Whether a time is one."""
        return self.opposite(self.compare("==", time, self.constant(NEVER_MS)))

    def known(self, code: Register) -> Register:
        """Whether the code of a text is one."""
        return self.compare("<=", self.constant(0), code)

    def opposite(self, held: Register) -> Register:
        """Where something does not hold."""
        return self._emit(machine.NOT, Sort.TRUTH, held)

    def all(self, held: Sequence[Register]) -> Register:
        """Where everything holds."""
        return reduce(lambda a, b: self._emit(machine.AND, Sort.TRUTH, a, b), held)

    def any(self, held: Sequence[Register]) -> Register:
        """Where something holds."""
        return reduce(lambda a, b: self._emit(machine.OR, Sort.TRUTH, a, b), held)

    def earliest(self, times: Sequence[Register | None]) -> Register | None:
        """The least of some times; None stands for never."""
        distinct = list(dict.fromkeys(time for time in times if time is not None))
        if not distinct:
            return None
        return reduce(lambda a, b: self._emit(machine.LEAST, Sort.WHOLE, a, b), distinct)

    def latest(self, times: Sequence[Register]) -> Register:
        """The greatest of some times."""
        return reduce(lambda a, b: self._emit(machine.GREATEST, Sort.WHOLE, a, b), times)

    def later(self, time: Register, by_ms: int) -> Register:
        """A time and a duration."""
        return self._emit(machine.ADD, Sort.WHOLE, time, self.constant(by_ms))

    def since(self, time: Register) -> Register:
        """How long ago a time is; about 2**62 for ``NEVER_MS``."""
        return self._emit(machine.SUBTRACT, Sort.WHOLE, self.now_ms, time)

    def choose(self, held: Register, then: Register, otherwise: Register) -> Register:
        """One of two registers of a sort, row by row."""
        return self._emit(machine.CHOOSE, self.sorts[then], held, then, otherwise)

    def or_never(self, time: Register | None) -> Register:
        """A time that may be None as a register."""
        return self.constant(FAR_MS) if time is None else time

    def unless(self, held: Register, time: Register | None) -> Register:
        """The time where something does not hold; no wait at all where it does."""
        return self.choose(held, self.constant(NEVER_MS), self.or_never(time))

    def as_float(self, number: Register) -> Register:
        """A number as a float."""
        if self.sorts[number] is Sort.FLOAT:
            return number
        return self._emit(machine.AS_FLOAT, Sort.FLOAT, number)

    def calculate(self, operator: str, left: Register, right: Register) -> Register:
        """Two floats added, subtracted, multiplied or divided; NaN for a division by zero."""
        return self._emit(_ARITHMETIC[operator], Sort.FLOAT, left, right)

    def new(self, sort: Sort) -> Register:
        """A register that some unit fills."""
        self.sorts.append(sort)
        return len(self.sorts) - 1

    def end(self) -> None:
        """Nothing more is asked; the view is not needed any more."""
        del self._view

    def decide(self, operation: int, *parameters: int) -> None:
        """Decide a segment or family, see ``state.machine``."""
        place = len(self.units)
        self.units.append([*parameters, *[0] * (machine.UNIT_PARAMETERS - len(parameters))])
        self.code.append((operation, place, 0, 0, 0))

    # -- inside -------------------------------------------------------------------------------

    def _certain(
        self,
        question: Literal["value", "truth"],
        node: Operand | Predicate,
        ask: Callable[[Trace], Register],
    ) -> Register:
        found = self._answer(question, node, ask)
        assert found is not None
        return found

    def _answer(
        self,
        question: Question,
        node: Operand | Predicate,
        ask: Callable[[Trace], Register | None],
    ) -> Register | None:
        key = question, node
        if key not in self._answers:
            self._answers[key] = ask(self)
        return self._answers[key]

    def _step_ms(self, name: str) -> Register | None:
        if self._view.next_step_ms(name) is None:
            return None
        return self._input(("step", name), Sort.WHOLE, lambda view, _: view.next_step_ms(name))

    def _input(
        self, key: tuple[object, ...], sort: Sort, ask: Ask, is_number: bool = False
    ) -> Register:
        if key not in self._made:
            self._made[key] = self.new(sort)
            self.inputs.append(Input(self._made[key], sort is Sort.FLOAT, is_number, ask))
        return self._made[key]

    def _fill(self, sort: Sort, bits: int) -> Register:
        if bits not in self.constants:
            self.constants.append(bits)
        return self._emit(machine.CONSTANT, sort, self.constants.index(bits))

    def _emit(self, operation: int, sort: Sort, a: int, b: int = 0, c: int = 0) -> Register:
        key = operation, sort, a, b, c
        if key not in self._made:
            self._made[key] = self.new(sort)
            self.code.append((operation, self._made[key], a, b, c))
        return self._made[key]
