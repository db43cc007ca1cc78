"""Features declared in the settings: sums that decay, and counts over a window.

Both take the events of some types, weighted, and may ask a condition of the event's own fields.
A decayed sum halves with every half-life of silence; a windowed count is kept in panes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from events.batch import Batch
from events.schema import TYPES
from state import decay
from state.features import Feature, decayed_feature
from state.filters import EventFilter
from state.groups import Groups
from state.panes import Panes
from state.table import Column, Table
from state.view import Kind


@dataclass(slots=True, frozen=True)
class DecayedSpec:
    """A decayed sum.

    Attributes:
        name: the feature's name.
        half_life_ms: time in which silence halves it.
        weights: what an event of each type adds; other types add nothing.
        where: a condition on the event's fields; empty for every event.
    """

    name: str
    half_life_ms: int
    weights: Mapping[str, float]
    where: str = ""


@dataclass(slots=True, frozen=True)
class PanesSpec:
    """A windowed count, kept as a ring of panes.

    Attributes:
        name: the feature's name.
        window_ms: its length; a whole number of panes.
        panes: how many panes it has.
        types: the types of event that count.
        where: a condition on the event's fields; empty for every event.
    """

    name: str
    window_ms: int
    panes: int
    types: tuple[str, ...]
    where: str = ""


class DecayedSum:
    """The columns of a decayed sum and its value at any time."""

    def __init__(self, spec: DecayedSpec) -> None:
        self.spec = spec
        self._m, self._e = f"{spec.name}.m", f"{spec.name}.e"
        self._weight = _by_type(spec.weights)
        self._passes = EventFilter(spec.where)

    def columns(self) -> list[Column]:
        """Mantissa and exponent."""
        return decay.columns(self.spec.name, self.spec.half_life_ms)

    def update(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Add the events of a batch that have a weight and pass the filter."""
        weight = self._weight[batch.type]
        if self.spec.where:
            weight *= self._passes(batch)
        sums, half_life_ms = (table[self._m], table[self._e]), self.spec.half_life_ms
        decay.add_events(groups.index, groups.row_of, batch.ts_ms, weight, half_life_ms, *sums)

    def feature(self, table: Table) -> Feature:
        """Its value, falling in closed form."""
        del table  # the view reads its own columns
        return decayed_feature(
            lambda view: (view.column(self._m), view.column(self._e)), self.spec.half_life_ms
        )


class PanesCount:
    """The columns of a windowed count and its value at any time."""

    def __init__(self, spec: PanesSpec) -> None:
        self.spec = spec
        self._panes = Panes(spec.name, spec.window_ms // spec.panes, spec.panes)
        self._counts = _by_type(dict.fromkeys(spec.types, 1.0)) > 0
        self._passes = EventFilter(spec.where)

    def columns(self) -> list[Column]:
        """The ring."""
        return self._panes.columns()

    def update(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Count the events of a batch that are of a type and pass the filter."""
        counts = self._counts[batch.type] & self._passes(batch)
        part = groups.where(counts[groups.index])
        self._panes.update(table, part, batch.ts_ms, counts)

    def feature(self, table: Table) -> Feature:
        """Its value, changing when a pane turns."""
        return Feature(
            Kind.NUMBER,
            lambda view: self._panes.value(table, view.rows, view.now_ms),
            lambda view: self._panes.next_step_ms(table, view.rows, view.now_ms),
        )


def _by_type(weights: Mapping[str, float]) -> decay.F64:
    """Weights by type code, zero for types that are not named."""
    out = np.zeros(len(TYPES))
    for name, weight in weights.items():
        out[TYPES.index(name)] = weight
    return out
