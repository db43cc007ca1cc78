"""Snapshots of users that wait to learn what becomes of them.

A snapshot is taken of a user at a time (``models.parked`` says of whom and when), with all inputs
and with what every task foretells of it. An event that decides a task flags the snapshots whose
horizon it falls in. When the clock has passed a task's horizon, the snapshot is an example of that
task, for both outcomes alike, and when it has passed the last one the snapshot ends.

They are entries of their users and stored with them: flagged, sent and ended in the very commits
that hold the events, so a restart loses none, and an example leaves exactly once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.compiled import allocating, compiled
from events.schema import TYPES
from models.examples import SEEN, Examples
from models.parked import bucket_of
from models.plan import ModelPlan
from state.groups import Groups
from state.keyed import KeyedTable
from state.queue import TimeQueue
from state.runs import in_order
from state.table import Column, Table
from state.times import NEVER_MS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
Bools = NDArray[np.bool_]


_TAKEN: Final = Column("taken", "i8", NEVER_MS)
"""By user, the bucket of time that they were taken in last."""


class Snapshots:
    """The snapshots of one lane.

    Args:
        plan: what is foretold.

    Attributes:
        entries: by user: ``ts`` of the snapshot, ``x`` and ``p``, and per task a bit of ``came``
            (what decides it has happened) and of ``sent`` (its example has left).
        refused: snapshots that were not taken because too many wait.
    """

    def __init__(self, plan: ModelPlan) -> None:
        self.entries = KeyedTable(
            [
                Column("ts", "i8"),
                Column("made", "u4"),
                Column("came", "u4"),
                Column("sent", "u4"),
                Column("x", "f4", 0, (len(plan.inputs),)),
                Column("p", "f4", 0, (len(plan.tasks),)),
            ],
            found=False,
        )
        self._users = Table([_TAKEN])
        self.refused = 0
        self._plan = plan
        self._fingerprint = plan.fingerprint
        self._horizons = np.array([task.horizon_ms for task in plan.tasks], dtype=np.int64)
        self._absent = np.array([task.absent for task in plan.tasks], dtype=np.bool_)
        self._decides = np.zeros((len(plan.tasks), len(TYPES)), dtype=np.bool_)
        for place, task in enumerate(plan.tasks):
            self._decides[place, list(task.outcome) or slice(None)] = True
        self._alarms = TimeQueue()

    def __len__(self) -> int:
        return len(self.entries)

    def vacant(self, rows: I64, now_ms: I64) -> Bools:
        """Which users may be taken now: none twice in one bucket of time, bool[n].

        Args:
            rows: int64[n].
            now_ms: int64[n], of no user before what it was when they were taken last.
        """
        self._users.reach(rows)
        free: Bools = self._users["taken"][rows] < bucket_of(now_ms, self._plan.every_ms)
        room = self._plan.parked_max - len(self.entries)
        if np.count_nonzero(free) > room:
            beyond = np.flatnonzero(free)[max(room, 0) :]
            self.refused += len(beyond)
            free[beyond] = False
        return free

    def take(self, rows: I64, now_ms: I64, X: F64, P: F64) -> Examples:
        """Take snapshots of distinct, vacant rows.

        Args:
            rows: int64[n].
            now_ms: int64[n].
            X: inputs, float64[n, k].
            P: what each task foretells, float64[n, tasks].

        Returns:
            The same as examples without outcome.
        """
        n = len(rows)
        seen = Examples(
            np.full(n, SEEN, np.uint8),
            now_ms,
            np.zeros(n, np.bool_),
            np.full(n, np.nan, np.float32),
            X.astype(np.float32),
        )
        bucket = bucket_of(now_ms, self._plan.every_ms)
        self._users["taken"][rows] = bucket
        given = {"ts": now_ms, "made": self._fingerprint, "x": seen.X, "p": P}
        self._alarm(self.entries.add(rows, bucket.astype(np.uint64), **given))
        return seen

    def flag(self, groups: Groups, batch: Batch) -> None:
        """Note what the events of a batch decide."""
        if not len(self.entries):
            return
        slots, place = self.entries.of(groups.rows)
        if not len(slots):
            return
        stops = np.append(groups.starts[1:], len(groups))
        came = self.entries["came"]
        changed = _flag(
            slots,
            groups.starts[place],
            stops[place],
            groups.index,
            batch.type,
            batch.ts_ms,
            self.entries["ts"],
            came,
            self._horizons,
            self._decides,
        )
        self.entries.mark(slots[changed])

    def mature(self, clock_ms: int) -> tuple[Examples, I64]:
        """The examples whose time the clock has passed, and the rows they are of, int64[n].

        Only what lies strictly before the clock: an event at the very end of a horizon counts.
        """
        alarms = self._rung(*self._alarms.pop_until(clock_ms - 1))
        if not self._plan.tasks:
            self.entries.delete(alarms)
            alarms = alarms[:0]
        if not len(alarms):
            return Examples.empty(len(self._plan.inputs)), alarms
        examples, slots, ended = self._ripe(alarms)
        owners = self.entries["owner"][slots].astype(np.int64)
        self.entries.mark(slots)
        self.entries.delete(np.sort(slots[ended]))
        return examples, owners

    def forget(self, rows: I64) -> None:
        """End the snapshots of users who leave; their alarms will find nothing."""
        if len(self.entries):
            self.entries.delete(self.entries.of(rows)[0])
        self._users.reach(rows)
        self._users["taken"][rows] = NEVER_MS

    def restore(self) -> None:
        """The entries were loaded: those of another plan go, the others wait again."""
        slots = self.entries.live()
        ours = self.entries["made"][slots] == self._fingerprint
        self.entries.delete(slots[~ours])
        slots = slots[ours]
        owners = self.entries["owner"][slots].astype(np.int64)
        self._users.reach(owners)
        bucket = bucket_of(self.entries["ts"][slots], self._plan.every_ms)
        np.maximum.at(self._users["taken"], owners, bucket)
        self._alarms = TimeQueue()
        self._alarm(slots)

    # -- inside -----------------------------------------------------------------------------------

    def _alarm(self, slots: I64) -> None:
        """Wake up at each horizon whose example has not left."""
        tasks = len(self._plan.tasks)
        ts, sent = self.entries["ts"][slots], self.entries["sent"][slots]
        if not tasks:  # nobody is taken twice in a bucket, and nothing else is asked of them
            self._alarms.push(ts + self._plan.every_ms, slots)
        order = in_order(ts)  # once for all tasks: each is due so much later
        ts, sent, slots = ts[order], sent[order], slots[order]
        for task in range(tasks):
            waits = (sent >> np.uint32(task)) & 1 == 0
            due = ts[waits] + self._horizons[task]
            self._alarms.push(due, slots[waits] * tasks + task)

    def _rung(self, times_ms: I64, alarms: I64) -> I64:
        """Those of some alarms, of the times they rang at, that stand for what still waits."""
        slots, task = np.divmod(alarms, max(len(self._plan.tasks), 1))
        lasts = self._horizons if self._plan.tasks else np.array([self._plan.every_ms])
        waits: Bools = self.entries["ts"][slots] + lasts[task] == times_ms
        waits &= self.entries.in_use(slots)
        waits &= self.entries["sent"][slots] >> task.astype(np.uint32) & 1 == 0
        # who left and came back may have the same slot at the same time: equal alarms lie together
        waits[1:] &= (times_ms[1:] != times_ms[:-1]) | (alarms[1:] != alarms[:-1])
        kept: I64 = alarms[waits]
        return kept

    def _ripe(self, alarms: I64) -> tuple[Examples, I64, Bools]:
        """What rang as examples; the slot of each, and whether its snapshot has sent all it has."""
        n, entries = len(alarms), self.entries
        task, ts_ms, y = np.empty(n, np.uint8), np.empty(n, np.int64), np.empty(n, np.bool_)
        p, X = np.empty(n, np.float32), np.empty((n, len(self._plan.inputs)), np.float32)
        slots, ended = np.empty(n, np.int64), np.empty(n, np.bool_)
        held = entries["ts"], entries["came"], entries["p"], entries["x"]
        _send(alarms, self._absent, entries["sent"], *held, slots, ended, task, ts_ms, y, p, X)
        return Examples(task, ts_ms, y, p, X), slots, ended


@compiled
def _send(
    alarms: I64,
    absent: Bools,
    sent: U32,
    held_ms: I64,
    came: U32,
    held_p: F32,
    held_x: F32,
    slots: I64,
    ended: Bools,
    task: U8,
    ts_ms: I64,
    y: Bools,
    p: F32,
    X: F32,
) -> None:
    """Fill in the example of each alarm, and note that it has left its snapshot."""
    tasks = len(absent)
    for i in range(len(alarms)):
        slot = alarms[i] // tasks
        which = alarms[i] - slot * tasks
        bit = np.uint32(1 << which)
        sent[slot] |= bit
        slots[i], ended[i] = slot, sent[slot] == (1 << tasks) - 1
        task[i], ts_ms[i], p[i] = which, held_ms[slot], held_p[slot, which]
        y[i] = (came[slot] & bit != 0) != absent[which]
        for j in range(X.shape[1]):
            X[i, j] = held_x[slot, j]


@allocating
def _flag(
    slots: I64,
    starts: I64,
    stops: I64,
    index: I64,
    kind: I8,
    ts_ms: I64,
    taken_ms: I64,
    came: U32,
    horizons: I64,
    decides: Bools,
) -> Bools:
    """Which slots changed: each is held against the events of its user."""
    changed = np.zeros(len(slots), dtype=np.bool_)
    tasks = len(horizons)
    all_came = np.uint32((1 << tasks) - 1)
    for i in range(len(slots)):
        slot = slots[i]
        for k in range(starts[i], stops[i]):
            if came[slot] == all_came:
                break
            after = ts_ms[index[k]] - taken_ms[slot]
            if after <= 0:
                continue
            for task in range(tasks):
                bit = np.uint32(1 << task)
                if (
                    after <= horizons[task]
                    and decides[task, kind[index[k]]]
                    and came[slot] & bit == 0
                ):
                    came[slot] |= bit
                    changed[i] = True
    return changed
