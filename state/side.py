"""A side table as the store sees it: entries, and how they are packed and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.keyed import KeyedTable
from state.record import Layout

I64 = NDArray[np.int64]


class Form(Protocol):
    """Entries as fields and values, and back; a ``KeyedTable`` is a form of itself."""

    def pack(self, slots: I64, serials: NDArray[np.uint32]) -> tuple[Texts, Texts]:
        """Fields and values of entries."""

    def load(
        self,
        fields: Sequence[bytes],
        values: Sequence[bytes],
        row_of_serial: I64,
        layout: Layout,
        seq: int = 0,
    ) -> I64:
        """Add stored entries; their slots."""


@dataclass(slots=True, frozen=True)
class SideTable:
    """Entries and the form they are stored in."""

    entries: KeyedTable
    form: Form

    @classmethod
    def plain(cls, entries: KeyedTable) -> SideTable:
        """A table whose records say everything."""
        return cls(entries, entries)
