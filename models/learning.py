"""The purchase model in the flow: park, flag, mature, learn, score.

Which moments are parked is a hash of user and time bucket (``models.parked``), so a replay parks
the same ones. A snapshot is learned once: the model's memory says up to which time it has learned,
it is stored before the shards forget what was learned, and snapshots before that time that are
found after a crash are dropped unlearned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.schema import PURCHASE
from models.parked import bucket_of, flag_outcomes, should_park
from models.purchase import Learning, PurchaseModel
from state.features import RowView, matrix
from state.groups import Groups
from state.keyed import KeyedTable
from state.queue import TimeQueue
from state.table import Column
from state.times import DAY_MS, NEVER_MS

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class PurchaseSpec:
    """A purchase model as declared in the settings.

    Attributes:
        name: of its score.
        features: its inputs, see ``state.features.matrix``.
        horizon_ms: how far ahead the label looks.
        every_ms: a user is parked at most once in so long.
        rate: share of users parked in each such time, 0 to 1.
        learning: rates of the optimiser.
        window: matured labels that the metrics look at.
    """

    name: str = "purchase_7d"
    features: Sequence[str] = ()
    horizon_ms: int = 7 * DAY_MS
    every_ms: int = DAY_MS
    rate: float = 0.05
    learning: Learning = field(default_factory=Learning)
    window: int = 2_000


class PurchaseLearner:
    """One purchase model of one lane; see ``state.learner.Learner``."""

    def __init__(self, spec: PurchaseSpec) -> None:
        self.name = spec.name
        self.model = PurchaseModel(spec.features, spec.learning, spec.window)
        self.parked = KeyedTable(
            [
                Column("ts_ms", "i8"),
                Column("bought", "?"),
                Column("x", "f8", 0, (len(spec.features),)),
            ]
        )
        self._spec = spec
        self._alarms = TimeQueue()
        self._learned_until_ms = NEVER_MS
        self._has_learned = False
        self._quality: dict[str, float | None] | None = None

    def observe(self, view: RowView, groups: Groups, batch: Batch) -> None:
        """Flag what the batch's purchases decide, then park the moments that are sampled."""
        self._flag(groups.where(batch.type[groups.index] == PURCHASE), batch)
        spec, users = self._spec, view.ids.texts(view.rows)
        chosen = should_park(users.hashes(), view.now_ms, spec.every_ms, spec.rate)
        if chosen.any():
            self._park(view, np.flatnonzero(chosen))

    def mature(self, clock_ms: int) -> None:
        """Learn the snapshots whose horizon the clock has passed, in order of time."""
        due, slots = self._alarms.pop_until(clock_ms)
        if not len(slots):
            return
        new = due > self._learned_until_ms
        learn = slots[new]
        self.model.learn_matured(self.parked["x"][learn], self.parked["bought"][learn])
        self.parked.delete(slots)
        self._learned_until_ms = clock_ms
        self._quality = None
        self._has_learned = True

    def score(self, view: RowView) -> F64:
        """Probability of a purchase within the horizon, float64[n]."""
        return self.model.predict_many(matrix(view, self._spec.features))

    def changed(self) -> bytes | None:
        """The model and how far it has learned, if that has moved."""
        if not self._has_learned:
            return None
        self._has_learned = False
        state = {"learned_until_ms": self._learned_until_ms, "model": self.model.to_state()}
        return msgspec.msgpack.encode(state)

    def quality(self) -> dict[str, float | None]:
        """AUC, log-loss and base rate of the latest matured labels, and how many there were."""
        if self._quality is None:
            report = self.model.progress.report()
            self._quality = {
                "auc": report.auc,
                "log_loss": report.log_loss,
                "base_rate": report.base_rate,
                "labels": float(report.count),
            }
        return self._quality

    def restore(self, saved: bytes | None) -> None:
        """Take over a saved model, and set the alarms of the snapshots that were loaded."""
        if saved:
            state = msgspec.msgpack.decode(saved)
            self._learned_until_ms = state["learned_until_ms"]
            self.model = PurchaseModel.from_state(state["model"], self._spec.features)
            self._quality = None
        slots = self.parked.live()
        self._alarms.push(self.parked["ts_ms"][slots] + self._spec.horizon_ms, slots)

    def _flag(self, purchases: Groups, batch: Batch) -> None:
        if not len(purchases) or not len(self.parked):
            return
        slots, _ = self.parked.of(purchases.rows)
        bought = flag_outcomes(
            self.parked["owner"][slots].astype(np.int64),
            self.parked["ts_ms"][slots],
            purchases.row_of,
            batch.ts_ms[purchases.index],
            self._spec.horizon_ms,
        )
        flipped = slots[bought & ~self.parked["bought"][slots]]
        self.parked["bought"][flipped] = True
        self.parked.mark(flipped)

    def _park(self, view: RowView, index: I64) -> None:
        rows, now_ms = view.rows[index], view.now_ms[index]
        keys = bucket_of(now_ms, self._spec.every_ms).astype(np.uint64)
        new = self.parked.find(rows, keys) < 0
        if not new.any():
            return
        rows, keys, index, now_ms = rows[new], keys[new], index[new], now_ms[new]
        slots, _ = self.parked.find_or_add(rows, keys)
        self.parked["ts_ms"][slots] = now_ms
        self.parked["x"][slots] = matrix(view, self._spec.features)[index]
        self._alarms.push(now_ms + self._spec.horizon_ms, slots)
