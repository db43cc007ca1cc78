"""What a lane asks of a model: the lane hands it views and keeps its memory, and never learns."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from state.features import RowView
from state.groups import Groups
from state.keyed import KeyedTable

F64 = NDArray[np.float64]


class Learner(Protocol):
    """A model that learns from the stream and scores users."""

    name: str
    """Of the score: ``scores.<name>``."""

    parked: KeyedTable
    """Snapshots that wait for their label; stored with the shards of their users."""

    def observe(self, view: RowView, groups: Groups, batch: Batch) -> None:
        """A batch has been applied; the view shows its users after it."""

    def mature(self, clock_ms: int) -> None:
        """Learn what the clock has passed."""

    def score(self, view: RowView) -> F64:
        """The score of each row, float64[n]."""

    def changed(self) -> bytes | None:
        """The model's own memory if it has learned since this was last asked."""

    def quality(self) -> dict[str, float | None]:
        """How well it does on labels that have matured; None for what is not known yet."""

    def restore(self, saved: bytes | None) -> None:
        """Take over the memory of an earlier run; the parked snapshots are loaded by then."""
