"""Conditions: expressions compiled to tests, ready to be held against a view.

``member("x")`` is answered by the evaluation that decides x; a condition held against a view alone
takes memberships as given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from state.atoms import Compared, Member
from state.cause_form import CauseForm
from state.compiling import Compiler
from state.evaluation import NOBODY, Evaluation, Program
from state.expressions import parse
from state.joins import atoms_of, next_flip_ms
from state.nodes import I64, Atom, Bools, Nodes, Predicate
from state.times import MINUTE_MS
from state.view import Kind, View

POLL_MS: Final = MINUTE_MS
"""How often silence is checked on what has no closed form, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition.

    Attributes:
        text: as it was written.
        test: the graph that answers for it.
        atoms: its distinct single tests, in the order written.
        polled: those without closed form in silence, looked at again every so often.
        members: the segments it asks for with ``member``.
        causes: writes what it measured and what it compared that with.
    """

    text: str
    test: Predicate
    atoms: tuple[Atom, ...]
    polled: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    causes: CauseForm = field(init=False, repr=False, compare=False)
    _holds: Program = field(init=False, repr=False, compare=False)
    _flips: Program = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Know what is asked."""
        test = self.test
        object.__setattr__(self, "causes", CauseForm(self.atoms))
        object.__setattr__(self, "_holds", Program(lambda on: on.truth(test)))
        flips = Program(lambda on: on.or_never(next_flip_ms(on, test)))
        object.__setattr__(self, "_flips", flips)

    def evaluate(self, view: View, members: Mapping[str, Bools] = NOBODY) -> Evaluation:
        """Whether it holds for each row of the view, with all that it rests on."""
        return self._holds.run(view, members)

    def truth(self, view: View, members: Mapping[str, Bools] = NOBODY) -> Bools:
        """Whether it holds for each row of the view, bool[n]; do not write to it."""
        return self.evaluate(view, members).truth(self.test)

    def next_flip_ms(self, view: View, members: Mapping[str, Bools] = NOBODY) -> I64:
        """The earliest ms after ``now_ms`` at which silence may change it, int64[n].

        ``FAR_MS`` where it never does. Looking again then either finds it changed or gives a
        later time.
        """
        return self._flips.run(view, members).asked


def compile_condition(
    text: str,
    kinds: Mapping[str, Kind],
    segments: Collection[str] = (),
    *,
    poll_ms: int = POLL_MS,
    nodes: Nodes | None = None,
    families: Mapping[str, Sequence[str]] | None = None,
) -> Condition:
    """Compile a condition.

    Args:
        text: the expression, see ``docs/segments.md``.
        kinds: every feature it may name.
        segments: every segment that ``member`` may name.
        poll_ms: how often silence is checked on what has no closed form.
        nodes: the nodes of other conditions, to be shared with this one.
        families: the labels of every family that may be compared with one of them.

    Raises:
        ExpressionError: where it cannot mean anything.

    >>> condition = compile_condition("orders >= 2 and intent > 4", {
    ...     "orders": Kind.NUMBER, "intent": Kind.DECAYED})
    >>> [(atom.measure, atom.operator, atom.limit) for atom in condition.atoms]
    [('orders', '>=', '2'), ('intent', '>', '4')]
    >>> compile_condition("ordres >= 2", {"orders": Kind.NUMBER})
    Traceback (most recent call last):
    state.expressions.ExpressionError: there is no feature 'ordres'; did you mean 'orders'?
      ordres >= 2
      ^
    """
    shared = Nodes() if nodes is None else nodes
    compiler = Compiler(text, kinds, segments, poll_ms, shared, families)
    test = compiler.test(parse(text))
    atoms = atoms_of([test])
    return Condition(
        text=text,
        test=test,
        atoms=atoms,
        polled=tuple(
            f"{atom.measure} {atom.operator} {atom.limit}"
            for atom in atoms
            if isinstance(atom, Compared) and atom.poll_ms is not None
        ),
        members=tuple(atom.segment for atom in atoms if isinstance(atom, Member)),
    )
