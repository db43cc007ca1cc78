"""The cuts in force, and whom a new set of them moves.

One lane of several measures, and the others take over what it finds, so that all score by the same
cuts; users come to lanes by a hash, so its own are a fair sample. Cuts are measured again when
enough time has passed and somebody has acted. From a large population a regular sample is taken,
which keeps the pause short; a replay's end measures everybody. New cuts move nobody at once: a
cursor sweeps the table some rows at a time and names the users whose scores differ under them, and
those are evaluated like any others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from state.features import RowView
from state.rfm import Cuts
from state.scoring import RfmFeatures
from state.table import Table
from state.times import NEVER_MS

I64 = NDArray[np.int64]

_PART: Final = 2_048
"""Users that are measured together."""

SAMPLE: Final = 2**18
"""From larger populations a sample of at least half as many users is measured."""


class Population:
    """Keeps the cuts of a lane.

    Args:
        rfm: how users are scored.
        every_ms: least event time between two measurements.
        measures: whether this lane is the one that measures.

    Attributes:
        cuts: in force.
        is_foreign: they were measured otherwise than this lane would, which has not measured yet.
    """

    def __init__(self, rfm: RfmFeatures, every_ms: int, *, measures: bool = True) -> None:
        self.cuts = rfm.spec.fixed or Cuts()
        self.measures = measures
        self._rfm = rfm
        self._every_ms = every_ms
        self._measured_ms = NEVER_MS
        self._measured_events = 0
        self._cursor = self._unchecked = self._size = 0
        self._shared: Cuts | None = None
        self.is_foreign = False

    def restore(self, shared: bytes | None, size: int) -> None:
        """Take over the cuts that were in force; all ``size`` users are checked against them."""
        if shared and self._rfm.spec.fixed is None:
            self.cuts = Cuts.decode(shared)
            self.is_foreign = self.measures and self.cuts.mark != self._rfm.spec.mark
        self._unchecked = self._size = size

    def adopt(self, shared: bytes | None, size: int) -> None:
        """Take over newer cuts of the lane that measures; ``size`` users are to be checked."""
        if shared is None or self._rfm.spec.fixed is not None:
            return
        found = Cuts.decode(shared)
        if found.version > self.cuts.version:
            self.cuts = found
            self._unchecked = self._size = size

    def is_stale(self, now_ms: int, events: int) -> bool:
        """Whether it is time to measure again, after so many events in all."""
        stale = (
            self.measures
            and self._rfm.spec.fixed is None
            and events > self._measured_events
            and now_ms - self._measured_ms >= self._every_ms
        )
        if stale:
            self._measured_ms, self._measured_events = now_ms, events
        return stale

    @staticmethod
    def sample(size: int) -> I64:
        """The rows to measure out of ``size``: all, or every k-th."""
        return np.arange(0, size, 1 + size // SAMPLE, dtype=np.int64)

    def remeasure(
        self, rows: I64, view_of: Callable[[I64], RowView], as_of_ms: int, size: int
    ) -> None:
        """Put the cuts at the quintiles of some users, unless they are fixed.

        A part after another is measured: its cells stay in the processor's caches meanwhile.

        Args:
            rows: the measured users, ascending; only those who buy count.
            view_of: gives a view of some rows.
            as_of_ms: the time of the new cuts.
            size: how many users there are to be checked against them.
        """
        if self._rfm.spec.fixed is not None:
            return
        parts = np.split(rows, range(_PART, len(rows), _PART))
        found = self._rfm.measure(map(view_of, parts), self.cuts.version + 1, as_of_ms)
        self.is_foreign = False
        if replace(found, version=0, as_of_ms=0) != replace(self.cuts, version=0, as_of_ms=0):
            self.cuts = self._shared = found
            self._unchecked = self._size = size

    def new_cuts(self) -> bytes | None:
        """Cuts that were measured since this was last asked, for the store."""
        found, self._shared = self._shared, None
        return found.encode() if found else None

    def moved(self, count: int, view_of: Callable[[I64], RowView], table: Table) -> I64:
        """The next step of the sweep: of ``count`` rows, those whose scores the cuts change.

        The sweep goes round and round and ends when it has passed everybody since the last cuts,
        so that no user waits longer because cuts change often.
        """
        if self._unchecked:  # newcomers lie on the way, and must not take others' steps
            self._unchecked += table.size - self._size
        self._size = table.size
        if self._cursor >= table.size:
            self._cursor = 0
        count = min(count, self._unchecked, table.size - self._cursor)
        rows = np.arange(self._cursor, self._cursor + count, dtype=np.int64)
        self._cursor += count
        self._unchecked -= count
        if not len(rows):
            return rows
        scores = self._rfm.scores(view_of(rows))
        differs: NDArray[np.bool_] = (scores != table["rfm"][rows]).any(axis=1)
        return rows[differs]
