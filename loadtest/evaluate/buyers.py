"""BG/NBD and Gamma-Gamma on the CDNOW sample: published parameters, and the 39 weeks after."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import alive, spend
from models.alive import BgNbd
from models.spend import GammaGamma

F64 = NDArray[np.float64]

PUBLISHED: Final = BgNbd(0.2426, 4.4136, 0.7929, 2.4259)
"""Fader, Hardie and Lee, Marketing Science 24 (2005)."""

_WEEK_MS: Final = 7 * 86_400_000
_CALIBRATED_MS: Final = int(datetime(1997, 9, 30, tzinfo=UTC).timestamp()) * 1000
_AHEAD_WEEKS: Final = 39


@dataclass(slots=True, frozen=True)
class Buyers:
    """The sample of 2,357 customers: calibrated to 1997-09-30, same-day orders merged, in weeks.

    Attributes:
        x, t_x, T: repeat purchases, week of the last one since the first, age.
        paid: mean spend of the repeat purchases; 0 without one.
        ahead: purchases in the 39 weeks after.
    """

    x: F64
    t_x: F64
    T: F64
    paid: F64
    ahead: F64


@dataclass(slots=True, frozen=True)
class Holdout:
    """How well purchases of the 39 weeks are foretold: correlation, mean absolute error, total."""

    way: str
    correlation: float
    error: float
    total: float


def read(path: Path) -> Buyers:
    """The sample out of ``cdnow.csv.gz``."""
    spent: dict[str, dict[int, float]] = {}
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["sample_id"]:
                days = spent.setdefault(row["user_id"], {})
                day = int(row["ts"])
                days[day] = days.get(day, 0.0) + float(row["amount"])
    rows = [_buyer(days) for days in spent.values()]
    return Buyers(*np.array(rows, dtype=np.float64).T)


def fitted(buyers: Buyers) -> tuple[BgNbd, float, GammaGamma]:
    """The parameters, the log-likelihood of BG/NBD, and Gamma-Gamma on those who came again."""
    fit = alive.fit(buyers.x, buyers.t_x, buyers.T)
    again = (buyers.x > 0) & (buyers.paid > 0)
    return fit.model, fit.log_likelihood, spend.fit(buyers.x[again], buyers.paid[again]).model


def foretold(buyers: Buyers, model: BgNbd) -> list[Holdout]:
    """BG/NBD, and "they go on as before", against what came."""
    past = buyers.x, buyers.t_x, buyers.T
    as_before = buyers.x / buyers.T * _AHEAD_WEEKS
    said = {
        "BG/NBD": model.expected_purchases(*past, float(_AHEAD_WEEKS)),
        "as before": as_before,
        "what came": buyers.ahead,
    }
    return [
        Holdout(
            way,
            float(np.corrcoef(p, buyers.ahead)[0, 1]),
            float(np.abs(p - buyers.ahead).mean()),
            float(p.sum()),
        )
        for way, p in said.items()
    ]


def _buyer(days: dict[int, float]) -> tuple[float, ...]:
    first = min(days)
    known = sorted(day for day in days if day <= _CALIBRATED_MS)
    again = known[1:]
    paid = sum(days[day] for day in again) / len(again) if again else 0.0
    t_x = (known[-1] - first) / _WEEK_MS
    return len(again), t_x, (_CALIBRATED_MS - first) / _WEEK_MS, paid, len(days) - len(known)
