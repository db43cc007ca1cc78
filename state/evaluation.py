"""Evaluations: what conditions make of the rows of a view, each at a time of its own.

A ``Program`` knows what it is asked: some tests or values, or to decide segments. It is traced at
its first run, because only a view says which of its numbers are floats, and then runs over any
number of rows, in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from state import machine
from state.nodes import I64, Bools, Operand, Predicate
from state.trace import Question, Register, Sort, Trace
from state.view import View

I8 = NDArray[np.int8]
U64 = NDArray[np.uint64]

NOBODY: Final[Mapping[str, Bools]] = MappingProxyType({})


@dataclass(slots=True, frozen=True)
class Draft:
    """Memberships being decided, of n rows, S tags and F families in u units.

    Attributes:
        members, since_ms, family, family_since_ms, flips: as ``SegmentState`` has them, changed.
        paused: the units that leave everybody where they are, bool[u].
        valid_to_ms: when silence may first end each membership, int64[n, S + F].
        due_ms: when silence may next change anything, int64[n].
        suppressed: flips that were held back, by unit and by what did it, int64[u, 4].
        flipped: room for the flips, packed.
    """

    members: U64
    since_ms: I64
    family: I8
    family_since_ms: I64
    flips: I64
    paused: Bools
    valid_to_ms: I64
    due_ms: I64
    suppressed: I64
    flipped: I64


def _undecided() -> Draft:
    """Of nothing."""
    none, table = np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.int64)
    return Draft(
        members=np.empty(0, dtype=np.uint64),
        since_ms=table,
        family=np.empty((0, 0), dtype=np.int8),
        family_since_ms=table,
        flips=table,
        paused=np.empty(0, dtype=np.bool_),
        valid_to_ms=table,
        due_ms=none,
        suppressed=table,
        flipped=none,
    )


_UNDECIDED: Final = _undecided()


class Program:
    """Questions about rows, answered in one call for all of them.

    Args:
        ask: asks a trace what is to be known; gives a register of what is ``asked`` for, if any is.
    """

    def __init__(self, ask: Callable[[Trace], Register | None]) -> None:
        self._ask = ask
        self._traced: _Traced | None = None

    def run(
        self,
        view: View,
        members: Mapping[str, Bools] = NOBODY,
        draft: Draft = _UNDECIDED,
    ) -> Evaluation:
        """Evaluate all rows of a view.

        Args:
            view: the rows.
            members: bool[n] of each segment that is asked for and not decided here.
            draft: what is to be decided, if anything is; changed.
        """
        traced, n = self._traced, len(view.now_ms)
        if traced is None:
            traced = self._traced = _Traced.of(self._ask, view)
        registers = np.empty((len(traced.trace.sorts), n), dtype=np.int64)
        floats = registers.view(np.float64)
        for each in traced.trace.inputs:
            values = each.ask(view, members)
            if each.is_number and (values.dtype.kind == "f") is not each.is_float:
                self._traced = None  # numbers of another sort
                return self.run(view, members, draft)
            (floats if each.is_float else registers)[each.register] = values
        flips = machine.run(
            traced.code,
            traced.constants,
            registers,
            traced.units,
            traced.conditions,
            draft.paused,
            draft.members,
            draft.since_ms,
            draft.family,
            draft.family_since_ms,
            draft.flips,
            draft.valid_to_ms,
            draft.due_ms,
            draft.suppressed,
            draft.flipped,
        )
        return Evaluation(view, traced.trace, registers, traced.asked, flips)


class Evaluation:
    """One view and what was computed of it; n rows.

    Attributes:
        view: the rows.
        flips: how many memberships flipped.
    """

    def __init__(
        self, view: View, trace: Trace, registers: I64, asked: Register | None, flips: int
    ) -> None:
        self.view, self.flips = view, flips
        self._trace, self._registers, self._asked = trace, registers, asked

    @property
    def asked(self) -> NDArray[Any]:
        """What the program's question comes to, [n]; do not write to it."""
        assert self._asked is not None
        return self._held(self._asked)

    def value(self, operand: Operand) -> NDArray[Any]:
        """The operand's value, [n]; do not write to it."""
        return self._certain("value", operand)

    def truth(self, test: Predicate) -> Bools:
        """Whether the test holds, bool[n]; do not write to it."""
        return self._certain("truth", test)

    def rise(self, test: Predicate) -> I64 | None:
        """When the test may begin to hold where it does not, int64[n]; None: never in silence."""
        return self._found("rise", test)

    def _held(self, register: Register) -> NDArray[Any]:
        """What a register holds, as what it is."""
        values: NDArray[Any] = self._registers[register]
        match self._trace.sorts[register]:
            case Sort.FLOAT:
                return values.view(np.float64)
            case Sort.TRUTH:
                return values.astype(np.bool_)
        return values

    def _certain(self, question: Question, node: Operand | Predicate) -> NDArray[Any]:
        found = self._found(question, node)
        assert found is not None
        return found

    def _found(self, question: Question, node: Operand | Predicate) -> NDArray[Any] | None:
        register = self._trace.answer(question, node)
        return None if register is None else self._held(register)


@dataclass(slots=True, frozen=True)
class _Traced:
    """A trace as the machine takes it."""

    trace: Trace
    asked: Register | None
    code: I64
    constants: I64
    units: I64
    conditions: I64

    @classmethod
    def of(cls, ask: Callable[[Trace], Register | None], view: View) -> _Traced:
        """What is asked, of views whose numbers are as this one's."""
        trace = Trace(view)
        asked = ask(trace)
        trace.end()
        return cls(
            trace=trace,
            asked=asked,
            code=np.array(trace.code, dtype=np.int64).reshape(-1, 5),
            constants=np.array(trace.constants, dtype=np.int64),
            units=np.array(trace.units, dtype=np.int64).reshape(-1, machine.UNIT_PARAMETERS),
            conditions=np.array(trace.conditions, dtype=np.int64),
        )
