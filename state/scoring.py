"""RFM as features of a user, and the measuring of the population that gives the cuts.

Scores are computed from a row's values and the cuts in force whenever they are asked for; they are
kept as columns only so that a new set of cuts can tell whom it moves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state import decay
from state.features import Feature, RowView, buyers
from state.rfm import Cuts, RfmSpec, next_recency_step_ms, quintiles, recency_days, score
from state.text_index import TextIndex
from state.times import DAY_MS, FAR_MS
from state.view import Kind

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I64 = NDArray[np.int64]


class RfmFeatures:
    """``rfm.recency_days``, ``rfm.r``, ``rfm.f`` and ``rfm.m`` on one basis."""

    def __init__(self, spec: RfmSpec) -> None:
        self.spec = spec

    def features(self) -> dict[str, Feature]:
        """The features by name; NaN for users without an order, and before there are cuts."""
        steps = _window_step if self.spec.basis == "window" else None
        return {
            "rfm.recency_days": Feature(Kind.NUMBER, _days_if_known, next_step=_next_midnight),
            "rfm.r": Feature(Kind.NUMBER, lambda v: self._known(v)[0], next_step=_next_r),
            "rfm.f": Feature(Kind.NUMBER, lambda v: self._known(v)[1], next_step=steps),
            "rfm.m": Feature(Kind.NUMBER, lambda v: self._known(v)[2], next_step=steps),
        }

    def scores(self, view: RowView) -> I8:
        """R, F and M of each row, int8[n, 3]; 0 where there is none."""
        return view.once("rfm.scores", self._scores)

    def _known(self, view: RowView) -> F64:
        """R, F and M of each row as conditions see them, float64[3, n]: NaN where there is none."""

        def known(view: RowView) -> F64:
            out = np.empty((3, len(view)))
            _know(self.scores(view), out)
            return out

        return view.once("rfm.known", known)

    def measure(self, views: Iterable[RowView], version: int, as_of_ms: int) -> Cuts:
        """The cuts at the quintiles of the buyers among all rows of some views, at least one."""
        rows, measures, ids = [], [], TextIndex()
        for view in views:
            ids = view.ids
            index = np.flatnonzero(buyers(view))
            rows.append(view.rows[index])
            measures.append([each[index] for each in (days_since_order(view), *self._basis(view))])
        days, frequency, monetary = (np.concatenate(parts) for parts in zip(*measures, strict=True))
        return quintiles(
            self.spec,
            days,
            frequency,
            monetary,
            _Names(ids, np.concatenate(rows)),
            version=version,
            as_of_ms=as_of_ms,
        )

    def _scores(self, view: RowView) -> I8:
        frequency, monetary = self._basis(view)
        names, days = _Names(view.ids, view.rows), days_since_order(view)
        return score(view.cuts, buyers(view), days, frequency, monetary, names)

    def _basis(self, view: RowView) -> tuple[F64, F64]:
        """What F and M compare, float64[n] each."""
        if self.spec.basis == "decayed":
            frequency = decay.log2(*view.pair("decayed.orders"))
            return frequency, decay.log2(*view.pair("decayed.spend"))
        kind = self.spec.basis
        return (
            view.value(f"{kind}.orders").astype(np.float64),
            view.value(f"{kind}.spend").astype(np.float64),
        )


@compiled
def _know(scores: I8, out: F64) -> None:
    for i in range(len(scores)):
        for k in range(3):
            out[k, i] = scores[i, k] if scores[i, k] > 0 else np.nan


class _Names:
    """The user ids of some rows, looked up only where asked."""

    def __init__(self, ids: TextIndex, rows: I64) -> None:
        self._ids, self._rows = ids, rows

    def __getitem__(self, i: int) -> str:
        return self._ids[int(self._rows[i])]


def days_since_order(view: RowView) -> I64:
    """Whole UTC days since the last order, int64[n]; 0 for users without one."""

    def days(view: RowView) -> I64:
        return recency_days(buyers(view), view.value("last_order"), view.now_ms)

    return view.once("rfm.days", days)


def _days_if_known(view: RowView) -> F64:
    return np.where(buyers(view), days_since_order(view), np.nan)


def _next_r(view: RowView) -> I64:
    return next_recency_step_ms(view.cuts, buyers(view), view.value("last_order"), view.now_ms)


def _next_midnight(view: RowView) -> I64:
    return np.where(buyers(view), (view.now_ms // DAY_MS + 1) * DAY_MS, FAR_MS)


def _window_step(view: RowView) -> I64:
    step_ms = view.next_step_ms("window.orders")
    assert step_ms is not None
    return step_ms
