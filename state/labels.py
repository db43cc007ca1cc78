"""Which labels of exclusive families users have, for who tells users apart by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from state.deciding import Decider
from state.table import Table

I8 = NDArray[np.int8]
I64 = NDArray[np.int64]


class Labels:
    """The labels of a lane's users, by the definitions in force.

    Args:
        decider: keeps the memberships.
        table: the lane's users.
    """

    def __init__(self, decider: Decider, table: Table) -> None:
        self._decider, self._table = decider, table

    def of(self, family: str, rows: I64) -> tuple[I8, tuple[str, ...]]:
        """The label of some users in a family: places int8[n], -1 for none, and the names.

        Nobody has one where there is no such family.
        """
        for found in self._decider.plan.families:
            if found.name == family:
                held: I8 = self._table["segments.family"][rows, found.index]
                return held, tuple(found.labels)
        return np.full(len(rows), -1, dtype=np.int8), ()
