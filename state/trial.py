"""One experiment on a lane's users: columns, the loop that counts, and totals by shard."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import compiled, inlined
from events.hashing import shares
from events.schema import CLICK, IMPRESSION, PURCHASE, TYPES
from events.texts import Texts
from state.experiment_plan import Experiment, Ruling
from state.features import Feature, RowView
from state.groups import Groups
from state.table import Column, Table
from state.times import FAR_MS
from state.totals import (
    CLICKS,
    CLICKS_SQUARED,
    CONVERSIONS,
    HALF_BITS,
    HIGH,
    IMPRESSIONS,
    LOW,
    MIXED,
    PLACES,
    REVENUE,
    USERS,
)
from state.view import Kind

Bools = NDArray[np.bool_]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]

NOT_YET: Final = -2
"""The arm of a user who was not assigned: no event has come since the experiment was declared."""
NO_ARM: Final = -1
_COUNTS: Final = ("exposed", "impressions", "clicks", "conversions", "revenue")
_LOW_BITS: Final = (1 << HALF_BITS) - 1


class Trial:
    """One experiment: its columns, and its totals by shard.

    Args:
        experiment: what is tried.
        key: of it, see ``state.experiment_plan``.
        shards: into how many shards all users are split.

    Attributes:
        field: the field of commit records that holds its totals, and what its columns begin with.
        totals: int64[shards, arms, PLACES].
        counts: the arms that were not stopped, bool[arms].
    """

    def __init__(self, experiment: Experiment, key: str, shards: int) -> None:
        self.experiment, self.key = experiment, key
        self.field = f"experiment.{key}"
        self.totals = np.zeros((shards, len(experiment.arms), PLACES), dtype=np.int64)
        self._converts = np.isin(np.arange(len(TYPES)), experiment.conversion)
        self.adopt(Ruling())

    def column(self, name: str) -> str:
        """A column by its whole name."""
        return f"{self.field}.{name}"

    def columns(self) -> list[Column]:
        """Of the users' table, by whole name."""
        return [
            Column(self.column("arm"), "i1", NOT_YET),
            Column(self.column("exposed"), "i8", FAR_MS),
            Column(self.column("impressions"), "u4"),
            Column(self.column("clicks"), "u4"),
            Column(self.column("conversions"), "u4"),
            Column(self.column("revenue"), "i8"),
        ]

    def adopt(self, ruling: Ruling) -> None:
        """Serve, assign and count by what was ruled."""
        names = self.experiment.names
        self.counts = np.array([name not in ruling.stopped for name in names])
        weights = np.array(ruling.weights or self.experiment.weights) * self.counts
        self._upper = np.cumsum(weights / weights.sum())
        self._instead = np.where(self.counts, np.arange(len(names)), self.experiment.control)

    def assign(self, table: Table, rows: I64, ids: Texts, held: Bools) -> None:
        """Those of the rows who have no arm yet get one, or none for good if they are held out."""
        arm = table[self.column("arm")]
        new = arm[rows] == NOT_YET
        rows, chance = rows[new], shares(ids.take(np.flatnonzero(new)), self.experiment.salt)
        chosen = np.searchsorted(self._upper[:-1], chance, side="right")
        arm[rows] = np.where(held[new], NO_ARM, chosen)

    def update(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Take in exposures, and what came of them."""
        _update(
            groups.index,
            groups.row_of,
            groups.starts,
            groups.ends(),
            batch.ts_ms,
            batch.type,
            batch.amount_minor,
            self._converts,
            table["shard"],
            *self._columns(table),
            self.counts,
            self.experiment.start_ms,
            self.experiment.stop_ms,
            self.experiment.window_ms,
            self.totals,
        )

    def expose(self, table: Table, rows: I64, ts_ms: I64) -> None:
        """Distinct rows were served at a time of their own."""
        runs = (ts_ms >= self.experiment.start_ms) & (ts_ms < self.experiment.stop_ms)
        arm, exposed, *_ = self._columns(table)
        _expose(rows[runs], ts_ms[runs], table["shard"], arm, exposed, self.counts, self.totals)

    def restore(self, table: Table) -> None:
        """All users are loaded: work the totals out."""
        self.totals[:] = 0
        everybody = np.arange(table.size)
        _count(everybody, 1, table["shard"], *self._columns(table), self.totals)

    def forget(self, table: Table, rows: I64) -> None:
        """These users leave: take them out of the totals."""
        _count(rows, -1, table["shard"], *self._columns(table), self.totals)

    def assigned(self, table: Table, rows: I64) -> I8:
        """The place of each row's arm; below 0 for none."""
        out: I8 = table[self.column("arm")][rows]
        return out

    def served(self, table: Table, rows: I64, t_ms: I64) -> I8:
        """The place of the arm to be served at each row's time; -1 for none."""
        arm = self.assigned(table, rows)
        runs = (t_ms >= self.experiment.start_ms) & (t_ms < self.experiment.stop_ms)
        out: I8 = np.where((arm >= 0) & runs, self._instead[arm], NO_ARM).astype(np.int8)
        return out

    def feature(self, table: Table) -> Feature:
        """The arm of each row, as a text."""
        names = self.experiment.names

        def value(view: RowView) -> I8:
            return np.maximum(self.assigned(table, view.rows), np.int8(NO_ARM))

        def code(text: str) -> int:
            return names.index(text) if text in names else -2

        return Feature(Kind.TEXT, value, code=code, text=names.__getitem__)

    def _columns(self, table: Table) -> tuple[I8, I64, Any, Any, Any, I64]:
        arm, exposed, impressions, clicks, conversions, revenue = (
            table[self.column(name)] for name in ("arm", *_COUNTS)
        )
        return arm, exposed, impressions, clicks, conversions, revenue


@inlined
def _note(
    totals: I64, sign: int, impressions: Any, clicks: Any, conversions: Any, revenue: Any
) -> None:
    """Add a user to the totals of an arm, or take one out of them."""
    high, low = revenue >> HALF_BITS, revenue & _LOW_BITS
    totals[USERS] += sign
    totals[IMPRESSIONS] += sign * impressions
    totals[CLICKS] += sign * clicks
    totals[CLICKS_SQUARED] += sign * clicks * clicks
    totals[CONVERSIONS] += sign * (conversions > 0)
    totals[REVENUE] += sign * revenue
    totals[HIGH] += sign * high * high
    totals[MIXED] += sign * high * low
    totals[LOW] += sign * low * low


@compiled
def _update(
    index: I64,
    row_of: I64,
    starts: I64,
    ends: I64,
    ts_ms: I64,
    kind: I8,
    amount_minor: I64,
    converts: Bools,
    shard: NDArray[np.int16],
    arm: I8,
    exposed: I64,
    impressions: NDArray[np.uint32],
    clicks: NDArray[np.uint32],
    conversions: NDArray[np.uint32],
    revenue: I64,
    counts: Bools,
    start_ms: int,
    stop_ms: int,
    window_ms: int,
    totals: I64,
) -> None:
    for u in range(len(starts)):
        first, stop = starts[u], ends[u]
        row = row_of[first]
        a = arm[row]
        if a < 0 or not counts[a]:
            continue
        since = exposed[row]
        seen, clicked = np.int64(impressions[row]), np.int64(clicks[row])
        converted, spent = np.int64(conversions[row]), revenue[row]
        own = totals[shard[row], a]
        if since < FAR_MS:
            _note(own, -1, seen, clicked, converted, spent)
        for k in range(first, stop):
            i = index[k]
            ts, what = ts_ms[i], kind[i]
            if what == IMPRESSION and start_ms <= ts < min(stop_ms, since):
                since = ts
            if ts < since or ts - since >= window_ms:
                continue
            seen += what == IMPRESSION
            clicked += what == CLICK
            converted += converts[what]
            if what == PURCHASE:
                spent += amount_minor[i]
        if since < FAR_MS:
            _note(own, 1, seen, clicked, converted, spent)
            exposed[row], revenue[row] = since, spent
            impressions[row], clicks[row], conversions[row] = seen, clicked, converted


@compiled
def _expose(
    rows: I64,
    ts_ms: I64,
    shard: NDArray[np.int16],
    arm: I8,
    exposed: I64,
    counts: Bools,
    totals: I64,
) -> None:
    for k in range(len(rows)):
        row = rows[k]
        a = arm[row]
        if a >= 0 and counts[a]:
            totals[shard[row], a, USERS] += exposed[row] == FAR_MS
            exposed[row] = min(exposed[row], ts_ms[k])


@compiled
def _count(
    rows: I64,
    sign: int,
    shard: NDArray[np.int16],
    arm: I8,
    exposed: I64,
    impressions: NDArray[np.uint32],
    clicks: NDArray[np.uint32],
    conversions: NDArray[np.uint32],
    revenue: I64,
    totals: I64,
) -> None:
    """Add users to the totals of their arms, or take them out."""
    for k in range(len(rows)):
        row = rows[k]
        if arm[row] >= 0 and exposed[row] < FAR_MS:
            _note(
                totals[shard[row], arm[row]],
                sign,
                np.int64(impressions[row]),
                np.int64(clicks[row]),
                np.int64(conversions[row]),
                revenue[row],
            )
