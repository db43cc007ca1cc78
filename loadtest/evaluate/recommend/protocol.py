"""What a recommender must do to be measured beside the others."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class NextItem(Protocol):
    """Recommends what comes next, and learns from what came.

    Users and items are numbers from 0 on, without gaps. In a log of sessions each session is a user
    of its own.

    Attributes:
        name: under which it stands in tables.
    """

    name: str

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """The best items for a user given all that was observed, int64[at most count].

        The best comes first and no item twice; the order of the list is the order that is measured,
        so equals must be put in an order that is always the same. Items that the user has had may
        be in it: the walk leaves out what a convention does not want, and asks for as many more.

        Args:
            user: who is asked for; possibly one of whom nothing was observed.
            ts_ms: now, no earlier than anything that was observed.
            count: how many are wanted; fewer may come.
        """
        ...

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:
        """Learn one event, and make it the latest of its user's history."""
        ...
