"""What the lane measures of each user, and how each measure behaves in silence.

A **feature** is a name with a value at any time. Segments, scores and profiles see nothing else.
Each states how it changes while its user is silent, because that is what timers rest on: not at
all, by falling in closed form (decayed sums), or at a known next step (windows, sessions, days).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from state import decay
from state.rfm import Cuts
from state.table import Table
from state.text_index import TextIndex
from state.view import Kind

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

Measure = Callable[["RowView"], NDArray[Any]]


@dataclass(slots=True, frozen=True)
class Feature:
    """One named measure of a user.

    Attributes:
        kind: what sort of value it is.
        value: computes it for the rows of a view.
        next_step: when it may next change in silence, int64[n]; None where it never does.
        falls_below: for decayed kinds, when it falls below a threshold, int64[n].
        code, text: for texts, the code of a text and the text of a code.
        pair: for decayed kinds, the sum as mantissa and exponent.
    """

    kind: Kind
    value: Measure
    next_step: Callable[[RowView], I64] | None = None
    falls_below: Callable[[RowView, float], I64] | None = None
    code: Callable[[str], int] | None = None
    text: Callable[[int], str] | None = None
    pair: Callable[[RowView], tuple[F64, I32]] | None = None


class RowView:
    """Some rows of the table, each at a time of its own; values are computed once and kept.

    Args:
        features: by name.
        table: the lane's table.
        rows: int64[n].
        now_ms: the time of each row, int64[n].
        cuts: the RFM cuts in force.
        ids: all user ids, by row.

    It is the ``View`` that segment conditions are evaluated on.
    """

    def __init__(
        self,
        features: Mapping[str, Feature],
        table: Table,
        rows: I64,
        now_ms: I64,
        cuts: Cuts,
        ids: TextIndex,
    ) -> None:
        self.rows = rows
        self.now_ms = now_ms
        self.cuts = cuts
        self.ids = ids
        self._features = features
        self._table = table
        self._columns: dict[str, NDArray[Any]] = {}
        self._values: dict[str, NDArray[Any]] = {}
        self._pairs: dict[str, tuple[F64, I32]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, index: I64) -> RowView:
        """Some rows of it, at the same times."""
        rows, now_ms = self.rows[index], self.now_ms[index]
        return RowView(self._features, self._table, rows, now_ms, self.cuts, self.ids)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the table at these rows; do not write to it."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self._table[name][self.rows]
        return column

    def once(self, name: str, measure: Measure) -> NDArray[Any]:
        """A measure under a name, computed when it is first asked for."""
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = measure(self)
        return value

    def value(self, name: str) -> NDArray[Any]:
        """A feature's value, one per row."""
        value = self._values.get(name)
        if value is None:
            value = self._values[name] = self._features[name].value(self)
        return value

    def code(self, name: str, text: str) -> int:
        """The code of a text as this feature's values have it; -2 for one never seen."""
        code = self._features[name].code
        return -2 if code is None else code(text)

    def kind(self, name: str) -> Kind:
        """What sort of value a feature has."""
        return self._features[name].kind

    def text(self, name: str, code: int) -> str | None:
        """The text behind a code of a text feature; None for -1."""
        text = self._features[name].text
        return None if text is None or code < 0 else text(code)

    def pair(self, name: str) -> tuple[F64, I32]:
        """A decayed feature as mantissa and exponent, see ``state.decay``."""
        pair = self._features[name].pair
        if pair is None:
            raise TypeError(f"{name} is not a decayed feature")
        held = self._pairs.get(name)
        if held is None:
            held = self._pairs[name] = pair(self)
        return held

    def falls_below_ms(self, name: str, threshold: float) -> I64:
        """When a decayed feature, in silence, is first below a threshold."""
        falls_below = self._features[name].falls_below
        if falls_below is None:
            raise TypeError(f"{name} does not fall in closed form; ask for its next step")
        return falls_below(self, threshold)

    def next_step_ms(self, name: str) -> I64 | None:
        """When a feature's value may next change in silence; None: never."""
        next_step = self._features[name].next_step
        return None if next_step is None else self.once("step " + name, next_step)


def column_feature(kind: Kind, column: str) -> Feature:
    """A feature that is a column, constant in silence."""
    return Feature(kind, lambda view: view.column(column))


def decayed_feature(pair: Callable[[RowView], tuple[F64, I32]], half_life_ms: int) -> Feature:
    """A decayed sum, given as mantissa and exponent: it falls in closed form."""

    def value(view: RowView) -> F64:
        return decay.at(*pair(view), view.now_ms, half_life_ms)

    def falls_below(view: RowView, threshold: float) -> I64:
        return decay.falls_below_ms(*pair(view), view.now_ms, half_life_ms, threshold)

    return Feature(Kind.DECAYED, value, falls_below=falls_below, pair=pair)


def buyers(view: RowView) -> NDArray[np.bool_]:
    """Which rows have an order, bool[n]."""
    return view.once("is_buyer", lambda v: v.value("lifetime.orders") > 0)
