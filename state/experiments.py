"""Who is in which arm of which experiment, since when, and what came of it.

A user is **assigned** to an arm by chance, at the first event after the experiment was declared,
and keeps it. The **exposure** is the user's first impression while the experiment runs;
impressions, clicks, conversions and revenue count from it on until the attribution window ends.
Users of the hold-out are in no arm.

Everything is a sum in a column of the user, so it is stored, restored and written forward as all
columns are, and the totals of a shard are those of its users: they are worked out again when it is
loaded, and stored with each of its commits for others to read.

The exposure is the earliest impression, in any order of arrival. Outcomes are held against the
exposure that is known when they arrive, in the order of the log, so batching does not matter, and
neither does order once the first impression has arrived. What arrives before it is missed, but for
what a later impression has claimed; of that, what lies beyond the earlier window stays. To do
better would mean to keep every event of a user for as long as an impression may be late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.hashing import shares
from events.texts import Texts
from state.experiment_plan import (
    MOST_ARMS,
    Experiment,
    ExperimentsPlan,
    Ruling,
    Rulings,
    decode_rulings,
    encode_rulings,
)
from state.features import Feature
from state.groups import Groups
from state.table import Column, Table
from state.totals import Totals, encode_totals, sum_totals
from state.trial import NOT_YET, Trial

Bools = NDArray[np.bool_]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]


class Experiments:
    """The experiments of one lane.

    Args:
        plan: all that are declared.
        shards: into how many shards all users are split.

    Attributes:
        rulings: what has been ruled, by the key of the experiment.
    """

    def __init__(self, plan: ExperimentsPlan, shards: int) -> None:
        self.plan = plan
        self.rulings: Rulings = {}
        self._trials = [
            Trial(experiment, key, shards)
            for experiment, key in zip(plan.experiments, plan.keys, strict=True)
        ]
        self._held = f"holdout.{plan.holdout_key}"
        arms = [arm for experiment in plan.experiments for arm in experiment.names]
        self._names = Texts.of([experiment.name for experiment in plan.experiments])
        self._arms = Texts.of(arms)
        self._first = np.cumsum([0, *(len(e.arms) for e in plan.experiments)])[:-1]

    def __len__(self) -> int:
        return len(self._trials)

    def columns(self) -> list[Column]:
        """Of the users' table, by whole name; ``shard`` is there already."""
        held = [Column(self._held, "i1", NOT_YET)] if self.plan.holdout else []
        return [*held, *(column for trial in self._trials for column in trial.columns())]

    # -- events -------------------------------------------------------------------------------

    def update(self, table: Table, groups: Groups, batch: Batch) -> None:
        """Assign users that are new, then take in exposures and what came of them.

        Args:
            table: the users.
            groups: the batch's events by row.
            batch: all of it; only events among the groups count.
        """
        if len(groups) and (self._trials or self.plan.holdout):
            self._assign(table, groups, batch.users)
            for trial in self._trials:
                trial.update(table, groups, batch)

    def expose(self, table: Table, name: str, rows: I64, ts_ms: I64) -> None:
        """These rows were served what their arm of an experiment gives.

        Args:
            table: the users.
            name: of the experiment.
            rows: distinct, int64[n]; the caller has them written by the next commit.
            ts_ms: when each was, int64[n].
        """
        self._trial(name).expose(table, rows, ts_ms)

    def forget(self, table: Table, rows: I64) -> None:
        """These users leave: they count no more."""
        for trial in self._trials:
            trial.forget(table, rows)

    def restore(self, table: Table) -> None:
        """All users are loaded: work the totals out."""
        for trial in self._trials:
            trial.restore(table)

    # -- values -------------------------------------------------------------------------------

    def held_out(self, table: Table, rows: I64) -> Bools:
        """Which users belong to the hold-out, bool[n]."""
        if not self.plan.holdout:
            return np.zeros(len(rows), dtype=np.bool_)
        held: Bools = table[self._held][rows] == 1
        return held

    def assigned(self, table: Table, name: str, rows: I64) -> I8:
        """The place of each row's arm, int8[n]; below 0 for none."""
        return self._trial(name).assigned(table, rows)

    def served(self, table: Table, name: str, rows: I64, t_ms: I64) -> I8:
        """The place of the arm to be served at a time of each row, int8[n]; -1 for none.

        None while the experiment does not run. In the place of an arm that was stopped, control.
        """
        return self._trial(name).served(table, rows, t_ms)

    def entries(self, table: Table, rows: I64, t_ms: I64) -> tuple[I64, Texts, Texts]:
        """What is served to each row at a time of its own, experiment by experiment.

        Returns:
            place: position in ``rows`` of each entry, ascending, int64[k].
            names: of its experiment.
            arms: the name of the arm.
        """
        every = [trial.served(table, rows, t_ms) for trial in self._trials]
        served = np.stack(every, axis=1) if every else np.empty((len(rows), 0), dtype=np.int8)
        place, trial = np.nonzero(served >= 0)
        arms: I64 = self._first[trial] + served[place, trial].astype(np.int64)
        return place, self._names.take(trial), self._arms.take(arms)

    def overrides(self, table: Table, rows: I64, t_ms: I64) -> tuple[I64, list[Mapping[str, Any]]]:
        """The settings that the arms served to each row change, at a time of its own.

        Returns:
            which: for each row, a place in the list, int64[n].
            changes: by the path of a setting; where two experiments change one, the later has it.
        """
        code = np.zeros(len(rows), dtype=np.int64)
        for trial in self._trials:
            code *= MOST_ARMS + 1
            if any(arm.settings for arm in trial.experiment.arms):
                code += trial.served(table, rows, t_ms) + 1
        distinct, which = np.unique(code, return_inverse=True)
        return which, [self._changes(each) for each in distinct.tolist()]

    def features(self, table: Table) -> dict[str, Feature]:
        """``experiment.NAME``, the arm a user was assigned to, as a text."""
        return {f"experiment.{t.experiment.name}": t.feature(table) for t in self._trials}

    # -- form in the store --------------------------------------------------------------------

    @property
    def fields(self) -> list[str]:
        """The fields of commit records that hold totals, one per experiment."""
        return [trial.field for trial in self._trials]

    def record(self, shard: int) -> dict[str, bytes]:
        """The totals of a shard as fields of its commit record."""
        return {trial.field: encode_totals(trial.totals[shard]) for trial in self._trials}

    def totals(self) -> list[tuple[Experiment, Totals]]:
        """What the experiments came to in this lane."""
        return [(trial.experiment, trial.totals.sum(axis=0)) for trial in self._trials]

    def ruled(self) -> list[tuple[Experiment, Ruling]]:
        """What was ruled last about each experiment of which anything was."""
        known = self.rulings
        return [(t.experiment, known[t.key]) for t in self._trials if t.key in known]

    def judged(self, stored: Sequence[Sequence[bytes | None]]) -> bytes:
        """Rule about all experiments.

        Args:
            stored: of each shard, its ``fields``.
        """
        out: Rulings = {}
        for place, trial in enumerate(self._trials):
            experiment = trial.experiment
            totals = sum_totals((fields[place] for fields in stored), len(experiment.arms))
            earlier = self.rulings.get(trial.key, Ruling())
            out[trial.key] = self.plan.judge(experiment, totals, earlier)
        return encode_rulings(out)

    def adopt(self, rulings: bytes | None) -> None:
        """Serve, assign and count by what was ruled."""
        self.rulings = decode_rulings(rulings)
        for trial in self._trials:
            trial.adopt(self.rulings.get(trial.key, Ruling()))

    # -- inside -------------------------------------------------------------------------------

    def _trial(self, name: str) -> Trial:
        return next(trial for trial in self._trials if trial.experiment.name == name)

    def _changes(self, code: int) -> dict[str, Any]:
        """What the arms behind a code change together."""
        arms = []
        for trial in reversed(self._trials):
            code, place = divmod(code, MOST_ARMS + 1)
            if place:
                arms.append(trial.experiment.arms[place - 1])
        return {path: value for arm in reversed(arms) for path, value in arm.settings.items()}

    def _assign(self, table: Table, groups: Groups, users: Texts) -> None:
        columns = [trial.column("arm") for trial in self._trials]
        if self.plan.holdout:
            columns.append(self._held)
        new = np.zeros(len(groups.rows), dtype=np.bool_)
        for column in columns:
            new |= table[column][groups.rows] == NOT_YET
        if not new.any():
            return
        rows, ids = groups.rows[new], users.take(groups.index[groups.starts[new]])
        held = np.zeros(len(rows), dtype=np.bool_)
        if self.plan.holdout:
            held = shares(ids, self.plan.holdout_salt) < self.plan.holdout
            table[self._held][rows] = held
        for trial in self._trials:
            trial.assign(table, rows, ids, held)
