"""The form of causes: what a condition measured, and what it compared that with, as JSON.

Names and what is the same for everybody are written once, when the condition is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from state.nodes import I64, Atom, Shown

if TYPE_CHECKING:
    from state.evaluation import Evaluation


class CauseForm:
    """Writes the values and thresholds of a condition's atoms.

    Both are keyed by what was measured; where one thing is compared twice, the thresholds' keys
    carry the comparison too, such as ``age(last_order) <``.

    Args:
        atoms: in the order written.
    """

    def __init__(self, atoms: Sequence[Atom]) -> None:
        names = [atom.measure for atom in atoms]
        keys = [
            name if names.count(name) == 1 else f"{name} {atom.operator}"
            for name, atom in zip(names, atoms, strict=True)
        ]
        measured = dict(zip(names, atoms, strict=True))
        limits = dict(zip(keys, atoms, strict=True))
        self._measured, self._values = tuple(measured.values()), _object_of(measured)
        self._limits, self._thresholds = tuple(limits.values()), _object_of(limits)
        self._fixed: bytes | None = None
        if all(atom.fixed is not None for atom in self._limits):
            cells = (msgspec.json.encode(atom.fixed) for atom in self._limits)
            self._fixed = self._thresholds % tuple(cells)

    def fill(self, on: Evaluation, index: I64) -> tuple[list[bytes], list[bytes]]:
        """Values and thresholds at some rows of an evaluation, one each per row."""
        n = len(index)
        values = _filled(self._values, [a.measured(on, index) for a in self._measured], n)
        if self._fixed is not None:
            return values, [self._fixed] * n
        return values, _filled(self._thresholds, [a.limits(on, index) for a in self._limits], n)


def _object_of(names: Iterable[str]) -> bytes:
    """An object with these keys, to be filled with values."""
    head = b",".join(msgspec.json.encode(name).replace(b"%", b"%%") + b":%b" for name in names)
    return b"{" + head + b"}"


def _filled(form: bytes, columns: Sequence[Sequence[Shown]], n: int) -> list[bytes]:
    """One object per row, of columns of n values."""
    if not columns:
        return [form] * n
    return [form % row for row in zip(*map(_cells, columns), strict=True)]


def _cells(values: Sequence[Shown]) -> list[bytes]:
    """Each value as JSON; all numbers in one go."""
    if values and values.count(values[0]) == len(values):
        return [msgspec.json.encode(values[0])] * len(values)
    if any(isinstance(value, str) for value in values):
        return [msgspec.json.encode(value) for value in values]
    return msgspec.json.encode(values)[1:-1].split(b",")
