"""The forms of state records: how they are written now, and how those were that are still there.

A record begins with the mark of the layout it was written in, so records of several layouts may lie
in one shard while users go over from one set of definitions to the next. The commit record of the
shard describes them all. Rows that were written under other definitions come back in the places of
the present ones, and are known to be stale (see ``state.redefining``).

The commit record also says what guards have paused. A pause that is a revision has a mark of its
own, but a guard stops a segment before there is one. Rows decided in between have no timers for it
and are not stale, so a lane that starts with such rows goes on with the pause until it is known to
be written down.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state import decay
from state.deciding import VALID_TO, Decider
from state.keyed import record_bytes
from state.memberships import SegmentState
from state.naming import Naming
from state.record import Layout, RecordFormat, stored_rows
from state.redefining import BEFORE, MARK, Redefiner
from state.remap import Remap
from state.table import Column, Table

I64 = NDArray[np.int64]
Layouts = dict[str, Layout]

WRITTEN: Final = Column("written", "u4")
"""First column of a lane's table: the mark of the layout that a row was written in last."""
_OLD: Final = 0
"""Stands for the layout and definitions of records from before there were marks."""


class Described(msgspec.Struct, frozen=True):
    """A layout of state records.

    Attributes:
        layout: of the records.
        naming: what memberships in them stand for, as ``Naming`` encodes it.
        mark: of the definitions in force when they were written.
    """

    layout: Layout
    naming: msgspec.Raw
    mark: int


class About(msgspec.Struct, frozen=True):
    """What a shard's commit record says of its state records.

    Attributes:
        written: mark of the layout in force.
        mark: of the definitions in force.
        earlier: other layouts that records may have, by mark.
        namings: of other definitions that users may have been decided by, by mark.
        stopped: names of what guards have paused, without that being said by the marks of all rows.
    """

    written: int
    mark: int
    earlier: dict[int, Described]
    namings: dict[int, msgspec.Raw]
    stopped: list[str] = []


class Forms:
    """Packs and unpacks the state records of one lane.

    Args:
        table: the lane's table, with ``WRITTEN`` as its first column.
        decider: keeps the memberships.
        redefiner: knows what is stale.
        skip: columns that are not stored.
        tables: layouts of the side tables.
        measures: mark of what is measured.
    """

    def __init__(
        self,
        table: Table,
        decider: Decider,
        redefiner: Redefiner,
        skip: Iterable[str],
        tables: Layouts,
        measures: int,
    ) -> None:
        self._table, self._decider, self._redefiner = table, decider, redefiner
        self._skip, self._tables = tuple(skip), tables
        self._measures = b"%d" % measures
        self._known: dict[int, Described] = {}
        self._stopped: set[str] = set()
        self._record: dict[str, bytes] = {}
        self.renew()

    def renew(self) -> None:
        """The table's columns, or the definitions, have changed."""
        self._records = RecordFormat(self._table, skip=self._skip)
        self._layouts = {"state": self._records.layout(), **self._tables}
        self.layout = msgspec.json.encode(self._layouts)
        naming = self._decider.plan.naming.encode()
        mark = self._redefiner.mark
        described = Described(self._layouts["state"], msgspec.Raw(naming), mark)
        self._written = zlib.crc32(msgspec.json.encode(described)) or 1
        self._known[self._written] = described
        self._describe()

    def forget(self) -> None:
        """Nobody is stale, so whatever the next commits leave is written as it is written now."""
        self._known = {self._written: self._known[self._written]}
        self._redefiner.forget()
        self._stopped.clear()
        self._describe()

    def record(self) -> dict[str, bytes]:
        """What a commit record says of the forms of its shard's records."""
        if not self._stopped >= self._decider.guarding.stopped:  # a guard has tripped
            self._describe()
        return self._record

    def _describe(self) -> None:
        namings = self._redefiner.namings
        self._stopped |= self._decider.guarding.stopped
        about = About(
            self._written,
            self._redefiner.mark,
            {mark: known for mark, known in self._known.items() if mark != self._written},
            {
                mark: msgspec.Raw(naming.encode())
                for mark, naming in namings.items()
                if mark != self._redefiner.mark
            },
            sorted(self._stopped),
        )
        self._record = {
            "layout": self.layout,
            "segments": self._decider.plan.naming.encode(),
            "definitions": msgspec.json.encode(about),
            "measures": self._measures,
        }

    def pack(self, rows: I64, texts: Texts) -> Texts:
        """The records of some rows, each followed by a text."""
        self._table["written"][rows] = self._written
        return self._records.pack(self._table, rows, texts)

    def unpack(self, rows: I64, states: Texts, record: Mapping[str, bytes]) -> Texts:
        """Write a shard's stored records to some rows; the texts that follow each.

        Args:
            rows: int64[n].
            states: records with their texts, n.
            record: of the shard's last commit.
        """
        written, known = self._written_in(states, record)
        start, length = states.start.copy(), states.length.copy()
        for mark in np.unique(written).tolist():
            index = np.flatnonzero(written == mark)
            self._unpack(rows[index], states.take(index), mark, known[mark])
            size = record_bytes(known[mark].layout)
            start[index] += size
            length[index] -= size
        self._uphold(rows, record)
        self._describe()
        return states.at(start, length)

    def fits(self, record: Mapping[str, bytes]) -> bool:
        """Whether a stored shard differs in nothing but its segments, which users outlive."""
        layouts = msgspec.json.decode(record["layout"], type=Layouts)
        return _without_segments(layouts) == _without_segments(self._layouts)

    def measured_alike(self, record: Mapping[str, bytes]) -> bool:
        """Whether a stored shard's values were measured as they are now."""
        return record.get("measures") == self._measures

    def _uphold(self, rows: I64, record: Mapping[str, bytes]) -> None:
        """Go on with what guards have paused, if some rows were decided under it and do not say so.

        Rows that are stale are decided anew in any case.
        """
        if "definitions" not in record:
            return
        stopped = msgspec.json.decode(record["definitions"], type=About).stopped
        self._stopped.update(stopped)
        if (self._table[MARK][rows] == self._redefiner.mark).any():
            self._decider.guarding.uphold(stopped)

    def _written_in(
        self, states: Texts, record: Mapping[str, bytes]
    ) -> tuple[NDArray[np.uint32], dict[int, Described]]:
        """The mark of each record's layout, and what the marks stand for."""
        layout = msgspec.json.decode(record["layout"], type=Layouts)["state"]
        naming = record.get("segments") or self._decider.plan.naming.encode()
        if "definitions" not in record:
            self._redefiner.namings[_OLD] = Naming.decode(naming)
            known = {_OLD: Described(layout, msgspec.Raw(naming), _OLD)}
            return np.full(len(states), _OLD, dtype=np.uint32), known
        about = msgspec.json.decode(record["definitions"], type=About)
        for mark, raw in [*about.namings.items(), (about.mark, naming)]:
            self._redefiner.namings.setdefault(mark, Naming.decode(raw))
        current = Described(layout, msgspec.Raw(naming), about.mark)
        written = states.words[states.start].astype(np.uint32)  # their first four bytes
        return written, about.earlier | {about.written: current}

    def _unpack(self, rows: I64, records: Texts, mark: int, known: Described) -> None:
        table, decider = self._table, self._decider
        self._records.unpack(table, rows, records, known.layout, followed=True)
        self._convert_sums(rows, records, known.layout)
        if mark == _OLD:
            table[MARK][rows] = _OLD
        else:
            self._known.setdefault(mark, known)
        if known.mark == self._redefiner.mark:
            return
        naming = Naming.decode(known.naming)
        stored = stored_rows(records, known.layout)
        state = _state(decider.plan.columns(), stored)
        remap = Remap(naming, decider.plan.naming)
        decider.plan.write(table, rows, remap.state(state))
        table[VALID_TO][rows] = remap.ends(stored[VALID_TO])
        # a row that was stale already when it was written has what it was in before that with it
        fresh = np.flatnonzero(table[MARK][rows] == known.mark)
        table[BEFORE][rows[fresh]] = naming.masks(state.take(fresh))

    def _convert_sums(self, rows: I64, records: Texts, layout: Layout) -> None:
        """Decayed sums that were kept with another half-life go over at their last evaluation."""
        table, units = self._table, dict(name.split("@") for name, *_ in layout if "@" in name)
        stored: NDArray[Any] | None = None
        for name, half_life_ms in decay.half_lives(table).items():
            m, e, unit = f"{name}.m", f"{name}.e", units.get(f"{name}.m")
            if unit is None or int(unit) == half_life_ms:
                continue
            stored = stored_rows(records, layout) if stored is None else stored
            sums = stored[f"{m}@{unit}"], stored[f"{e}@{unit}"]
            at_ms = np.maximum(stored["as_of"], stored["last_seen"])
            found = decay.converted(*sums, at_ms, int(unit), half_life_ms)
            table[m][rows], table[e][rows] = found


def _state(columns: Sequence[Column], stored: NDArray[Any]) -> SegmentState:
    """What stored rows remember; a column from after they were written has nothing in it."""
    names = stored.dtype.names or ()
    parts: list[NDArray[Any]] = [
        stored[column.name] if column.name in names else np.zeros((len(stored), 0), column.dtype)
        for column in columns
    ]
    return SegmentState(*parts)


def _without_segments(layouts: Layouts) -> Layouts:
    return {
        name: [(column, kind, tuple(shape)) for column, kind, shape in layout if not _moves(column)]
        for name, layout in layouts.items()
    }


def _moves(column: str) -> bool:
    return column.startswith("segments.") and column != BEFORE
