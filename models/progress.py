"""How well a classifier does on labels as they mature: AUC, log-loss and base rate, lately.

Each score was given before its label was learned, so these are honest out-of-sample numbers
(prequential evaluation). They look at a window of the latest labels: a model that was bad in its
first hour should not carry that for a year. AUC is River's exact rolling one (Brzezinski and
Stefanowski, KAIS 2017); it has no saved form of its own, so the window is what is saved.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from river import metrics

_CLAMP: Final = 1e-15


@dataclass(slots=True, frozen=True)
class Report:
    """What is known of a model's quality.

    Attributes:
        count, positives: labels learned in all.
        window: labels looked at for the rest.
        auc: share of (buyer, other) pairs that are ranked rightly; None without both classes.
        log_loss: mean of -log of the probability given to what happened; None without labels.
        base_rate: share of buyers; None without labels.
        base_loss: the log-loss of always saying ``base_rate``: a useful model stays below it.
    """

    count: int
    positives: int
    window: int
    auc: float | None
    log_loss: float | None
    base_rate: float | None
    base_loss: float | None


class Progress:
    """Notes scores against labels.

    Args:
        window: how many of the latest labels are looked at.

    >>> progress = Progress(window=100)
    >>> for label, p in [(True, 0.9), (False, 0.2), (True, 0.6), (False, 0.7)]:
    ...     progress.note(label, p)
    >>> report = progress.report()
    >>> report.auc, report.base_rate, round(report.log_loss, 4)
    (0.75, 0.5, 0.5108)
    """

    def __init__(self, window: int = 2_000) -> None:
        if window < 1:
            raise ValueError(f"the window of the metrics must be at least 1 label, {window} came")
        self._latest: deque[tuple[bool, float]] = deque(maxlen=window)
        self._auc = metrics.RollingROCAUC(window_size=window)
        self._count = 0
        self._positives = 0

    def note(self, label: bool, p: float) -> None:
        """What happened, and the probability of True that had been given before it was known."""
        self._latest.append((label, p))
        self._auc.update(label, p)
        self._count += 1
        self._positives += label

    def report(self) -> Report:
        """The metrics of the window as it stands."""
        n = len(self._latest)
        labels = np.array([label for label, _ in self._latest], dtype=np.bool_)
        p = np.array([score for _, score in self._latest], dtype=np.float64)
        rate = float(labels.mean()) if n else None
        both = rate is not None and 0.0 < rate < 1.0
        return Report(
            count=self._count,
            positives=self._positives,
            window=n,
            auc=float(self._auc.get()) if both else None,
            log_loss=_log_loss(labels, p) if n else None,
            base_rate=rate,
            base_loss=None if rate is None else _log_loss(labels, np.full(n, rate)),
        )

    def to_state(self) -> dict[str, Any]:
        """Plain data; the scores of the window make most of it, 9 bytes each in MessagePack."""
        return {
            "window": self._latest.maxlen,
            "count": self._count,
            "positives": self._positives,
            "labels": "".join("1" if label else "0" for label, _ in self._latest),
            "scores": [p for _, p in self._latest],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """What ``to_state`` wrote."""
        progress = cls(state["window"])
        for label, p in zip(state["labels"], state["scores"], strict=True):
            progress.note(label == "1", p)
        progress._count, progress._positives = state["count"], state["positives"]
        return progress


def _log_loss(labels: NDArray[np.bool_], p: NDArray[np.float64]) -> float:
    given = np.clip(np.where(labels, p, 1.0 - p), _CLAMP, 1.0)
    return float(-np.log(given).mean())
