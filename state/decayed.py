"""Declared decayed sums: each event adds its type's weight, and the sum halves every half-life."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from events.batch import Batch
from events.schema import TYPES
from state import decay
from state.features import Feature, RowView
from state.groups import Groups
from state.table import Column, Table
from state.view import Kind


@dataclass(slots=True, frozen=True)
class DecayedSpec:
    """A decayed sum as declared in the settings.

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


class DecayedSum:
    """The columns of one decayed sum and its value at any time."""

    def __init__(self, spec: DecayedSpec) -> None:
        self.spec = spec
        self._weight = np.zeros(len(TYPES))
        for name, weight in spec.weights.items():
            self._weight[TYPES.index(name)] = weight

    def columns(self) -> list[Column]:
        """Mantissa and exponent."""
        return decay.columns(self.spec.name)

    def update(
        self, table: Table, groups: Groups, batch: Batch, keep: np.ndarray | None = None
    ) -> None:
        """Add a batch; ``keep`` bool[n of the batch] is the declared filter's answer."""
        weight = self._weight[batch.type]
        if keep is not None:
            weight = np.where(keep, weight, 0.0)
        weight = weight[groups.index]
        part = groups.where(weight != 0)
        if len(part):
            terms = decay.terms(
                weight[weight != 0], batch.ts_ms[part.index], self.spec.half_life_ms
            )
            add_terms(table, self.spec.name, part, *terms)

    def feature(self) -> Feature:
        """Its value, falling in closed form."""
        return decayed_feature(self.spec.name, self.spec.half_life_ms)


def add_terms(
    table: Table, name: str, groups: Groups, mantissa: decay.F64, exponent: decay.I32
) -> None:
    """Add one term per grouped event to the decayed sum ``name`` of its row."""
    m, e = table[f"{name}.m"], table[f"{name}.e"]
    added = decay.reduce(mantissa, exponent, groups.starts)
    m[groups.rows], e[groups.rows] = decay.add(m[groups.rows], e[groups.rows], *added)


def decayed_feature(name: str, half_life_ms: int) -> Feature:
    """The feature over the two columns of a decayed sum."""

    def value(view: RowView) -> decay.F64:
        return decay.at(
            view.column(f"{name}.m"), view.column(f"{name}.e"), view.now_ms, half_life_ms
        )

    def falls_below(view: RowView, threshold: float) -> decay.I64:
        m, e = view.column(f"{name}.m"), view.column(f"{name}.e")
        return decay.falls_below_ms(m, e, view.now_ms, half_life_ms, threshold)

    return Feature(Kind.DECAYED, value, falls_below=falls_below)
