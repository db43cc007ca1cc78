"""Offering: a lane's users are given offers, which are kept in its table and shown in profiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.evaluation import Evaluation
from state.nodes import I64
from state.offers import HAD, OfferPlan
from state.packing import map_head, pack
from state.table import Table


@dataclass(slots=True, frozen=True)
class Standing:
    """Offers that stand of some rows, k of them, by row and within a row by priority.

    Attributes:
        index: positions among the rows, int64[k].
        offer: places in the plan, int64[k].
        since_ms: when each was given, int64[k].
        valid_to_ms: when it ends, int64[k].
        given: how often the user has had it, with this one, int64[k].
    """

    index: I64
    offer: I64
    since_ms: I64
    valid_to_ms: I64
    given: I64


class Offering:
    """Keeps the offers of one lane's users.

    Args:
        plan: the compiled offers.
        table: the lane's table, with ``as_of``; gets the columns.

    Attributes:
        given: how often each of the plan's offers was given since the lane was made, int64[k].
        sizes: how many users each stands for, int64[k].
        heads: what profiles show of each whoever has it, as MessagePack without the rest.
        transient: columns that ``restored`` works out, so that they are not stored.
    """

    def __init__(self, plan: OfferPlan, table: Table) -> None:
        self.plan = plan
        self.given: NDArray[np.int64] = np.zeros(len(plan), dtype=np.int64)
        self.sizes: NDArray[np.int64] = np.zeros(len(plan), dtype=np.int64)
        self.heads = Texts.of_bytes(
            [_head(spec.name, spec.priority, spec.value) for spec in plan.specs]
        )
        self.transient = [HAD]
        self._table = table
        table.add_columns("", plan.columns())

    def decide(self, on: Evaluation, rows: I64, due_ms: I64) -> None:
        """Decide the offers of rows whose segments were decided.

        Args:
            on: the evaluation of the segments; the rows' ``as_of`` is still that of the last one.
            rows: int64[n], distinct.
            due_ms: when to look at each again, int64[n]; only comes nearer.
        """
        before_ms = self._table["as_of"][rows]
        tally = self.plan.decide(on, self._table, rows, before_ms, due_ms)
        self.given += tally[:, 0]
        self.sizes += tally[:, 1]

    def restored(self) -> None:
        """All rows are loaded: count for how many each stands."""
        self.plan.restore(self._table)
        standing = self.standing(np.arange(self._table.size))
        self.sizes[:] = np.bincount(standing.offer, minlength=len(self.sizes))

    def forget(self, rows: I64) -> None:
        """These users leave: what stands of them stands for nobody."""
        self.sizes -= np.bincount(self.standing(rows).offer, minlength=len(self.sizes))

    def standing(self, rows: I64) -> Standing:
        """The offers that stand of some rows, as of when each was decided last."""
        as_of = self._table["as_of"][rows]
        bits = 1 << np.arange(len(self.plan))
        index, offer = np.nonzero(self._table[HAD][rows][:, None] & bits)
        held = np.empty((len(index), 3), dtype=np.int64)
        for place, spec in enumerate(self.plan.specs):
            mine = np.flatnonzero(offer == place)
            held[mine] = self._table[spec.column][rows[index[mine]]]
        stands = held[:, 1] > as_of[index]
        return Standing(index[stands], offer[stands], *held[stands].T)

    def copied(self, row: int) -> Table:
        """What is remembered of the offers of a row, as the only row of a table of its own."""
        columns = self.plan.columns()
        copy = Table(columns, capacity=1)
        copy.grow(1)
        for column in columns:
            copy[column.name][0] = self._table[column.name][row]
        return copy


def _head(name: str, priority: int, value: object) -> bytes:
    """The key of an offer and the constant entries of its map, of which three more follow."""
    fixed = {"priority": priority, "value": value}
    return pack(name) + map_head(len(fixed) + 3) + pack(fixed)[1:]
