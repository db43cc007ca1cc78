"""Predict, then learn: the engine's own run of a log beside batch learners trained again and again.

Both look at the same moments with the same inputs. What the engine said of a moment it said when
the moment came; a batch learner is fitted every 30 days to all moments whose outcome was known by
then, and asked about those of the next 30 days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dataflows.evaluating import Foretold
from loadtest.evaluate.logs import DAY_MS
from models.probabilities import log_losses
from models.progress import area_under_curve
from models.reliability import expected_calibration_error

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

RETRAIN_DAYS: Final = 30


class Classifier(Protocol):
    """A batch classifier as scikit-learn has them."""

    def fit(self, X: F64, y: Bools) -> Any:
        """Forget everything and learn these."""

    def predict_proba(self, X: F64) -> F64:
        """Probability of False and of True, float64[n, 2]."""


@dataclass(slots=True, frozen=True)
class Quality:
    """How good the probabilities of one learner are.

    Attributes:
        learner: its name.
        count: moments.
        rate: share of them that came true.
        auc: share of pairs of different outcome that are ranked rightly, ties half.
        log_loss: mean of -log of the probability given to what happened.
        calibration_error: mean distance between what was promised and what happened, over ten
            groups of equal size.
    """

    learner: str
    count: int
    rate: float
    auc: float
    log_loss: float
    calibration_error: float


def scored(foretold: Foretold, first_day: int) -> Bools:
    """Which moments count: those from a day of the log on of which anything was said, bool[n]."""
    examples = foretold.examples
    return (_days(foretold) >= first_day) & ~np.isnan(examples.p)


def quality(learner: str, p: F64, y: Bools) -> Quality:
    """The quality of probabilities float64[n] for outcomes bool[n] of both kinds.

    >>> quality("x", np.array([0.9, 0.2, 0.6, 0.7]), np.array([True, False, True, False])).auc
    0.75
    """
    auc = area_under_curve(y, p)
    if auc is None:
        raise ValueError("outcomes of both kinds are needed, but all that came are alike")
    loss = float(log_losses(p, y).mean())
    return Quality(learner, len(p), float(y.mean()), auc, loss, expected_calibration_error(p, y))


def compared(
    foretold: Foretold, first_day: int, batch: Mapping[str, Callable[[], Classifier]] | None = None
) -> Iterable[Quality]:
    """The engine, and batch learners beside it; all of ``BATCH`` if none are named."""
    examples, asked = foretold.examples, scored(foretold, first_day)
    y = examples.y[asked]
    yield quality("this engine, online", examples.p[asked].astype(np.float64), y)
    for name, make in (BATCH if batch is None else batch).items():
        yield quality(name, retrained(foretold, asked, make)[asked], y)


def retrained(foretold: Foretold, asked: Bools, make: Callable[[], Classifier]) -> F64:
    """What a batch learner says that is fitted every 30 days, float64[n]; NaN where not asked."""
    examples, day = foretold.examples, _days(foretold)
    horizon = -(-foretold.task.horizon_ms // DAY_MS)
    X, p = examples.X.astype(np.float64), np.full(len(day), np.nan)
    for start in range(int(day[asked].min()), int(day[asked].max()) + 1, RETRAIN_DAYS):
        known = day + horizon < start
        now = asked & (day >= start) & (day < start + RETRAIN_DAYS)
        if now.any():
            learner = make()
            learner.fit(X[known], examples.y[known])
            p[now] = learner.predict_proba(X[now])[:, 1]
    return p


def logistic() -> Classifier:
    """Batch logistic regression on scaled inputs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chosen: Classifier = make_pipeline(StandardScaler(), LogisticRegression())
    return chosen


def boosting() -> Classifier:
    """Gradient boosting with scikit-learn's own settings."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    chosen: Classifier = HistGradientBoostingClassifier(random_state=0)
    return chosen


BATCH: Final[dict[str, Callable[[], Classifier]]] = {
    "logistic regression, fitted every 30 days": logistic,
    "gradient boosting, fitted every 30 days": boosting,
}


def _days(foretold: Foretold) -> NDArray[np.int64]:
    ts_ms = foretold.examples.ts_ms
    days: NDArray[np.int64] = (ts_ms - ts_ms.min()) // DAY_MS
    return days
