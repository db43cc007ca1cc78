"""How well a classifier does on labels as they mature: AUC, log-loss and base rate, lately.

Each score was given before its label was learned, so these are honest out-of-sample numbers
(prequential evaluation). They look at a window of the latest labels: a model that was bad in its
first hour should not carry that for a year.

The window is a ring of two arrays. To note a batch is to copy it in; the numbers are made when
somebody asks, from the whole window at once, and kept until the next label. AUC is the share of
(buyer, other) pairs that are ranked rightly, a tie counting half, exactly (Brzezinski and
Stefanowski, "Prequential AUC", KAIS 2017). It is the number of River's ``RollingROCAUC`` where no
buyer ties with another; where some do, that one divides by two in whole numbers and comes out a
little lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.probabilities import log_losses, refuse_unlabelled
from models.reliability import expected_calibration_error

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
        calibration_error: mean distance between probability and rate over ten groups of equal
            count, see ``models.reliability``; None without labels.
    """

    count: int
    positives: int
    window: int
    auc: float | None
    log_loss: float | None
    base_rate: float | None
    base_loss: float | None
    calibration_error: float | None


class Progress:
    """Notes scores against labels.

    Args:
        window: how many of the latest labels are looked at.

    Raises:
        ValueError: a window without labels.

    >>> progress = Progress(window=100)
    >>> progress.note_many(
    ...     np.array([True, False, True, False]), np.array([0.9, 0.2, 0.6, 0.7])
    ... )
    >>> report = progress.report()
    >>> report.auc, report.base_rate, round(report.log_loss, 4)
    (0.75, 0.5, 0.5108)
    """

    def __init__(self, window: int = 2_000) -> None:
        if window < 1:
            raise ValueError(f"the window of the metrics must be at least 1 label, {window} came")
        self._labels = np.zeros(window, dtype=np.bool_)
        self._scores = np.zeros(window)
        # the label with the number n, from 0, lies at n modulo the window
        self._count = 0
        self._positives = 0
        self._report: Report | None = None

    def note_many(self, y: Bools, p: F64) -> None:
        """What happened, and the probabilities that had been given before it was known.

        How labels are batched makes no difference.

        Args:
            y: what happened, bool[n], in order of time.
            p: the probability of True that had been given, float64[n], 0 to 1.

        Raises:
            ValueError: a value that is no probability, or not one label each; nothing has been
                noted then.
        """
        refuse_unlabelled(p, y)
        self._put(self._count, y, p)
        self._count += len(y)
        self._positives += int(np.count_nonzero(y))
        self._report = None

    def note(self, label: bool, p: float) -> None:
        """One label and its probability, as for ``note_many``."""
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"a probability must lie between 0 and 1, but {p} came: drop it")
        at = self._count % len(self._labels)
        self._labels[at], self._scores[at] = label, p
        self._count += 1
        self._positives += bool(label)
        self._report = None

    def report(self) -> Report:
        """The metrics of the window as it stands."""
        if self._report is None:
            self._report = _measured(self._count, self._positives, *self._latest())
        return self._report

    def to_state(self) -> dict[str, Any]:
        """Plain data; the scores of the window make most of it, 9 bytes each in MessagePack."""
        y, p = self._latest()
        return {
            "window": len(self._labels),
            "count": self._count,
            "positives": self._positives,
            "labels": (y + np.uint8(ord("0"))).tobytes().decode(),
            "scores": p.tolist(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """What ``to_state`` wrote, bit for bit, also after JSON or MessagePack."""
        progress = cls(state["window"])
        progress._count, progress._positives = state["count"], state["positives"]
        y = np.frombuffer(state["labels"].encode(), dtype=np.uint8) == ord("1")
        p = np.array(state["scores"], dtype=np.float64)
        refuse_unlabelled(p, y)
        progress._put(progress._count - len(y), y, p)
        return progress

    def _put(self, first: int, y: Bools, p: F64) -> None:
        """Write labels into the ring, the first of which has the number ``first``."""
        window = len(self._labels)
        skipped = max(len(y) - window, 0)
        places = np.arange(first + skipped, first + len(y)) % window
        self._labels[places] = y[skipped:]
        self._scores[places] = p[skipped:]

    def _latest(self) -> tuple[Bools, F64]:
        """Labels and scores of the window, oldest first."""
        window = len(self._labels)
        places = np.arange(max(self._count - window, 0), self._count) % window
        return self._labels[places], self._scores[places]


def area_under_curve(y: Bools, p: F64) -> float | None:
    """Share of (True, False) pairs whose True has the higher score, a tie counting half, or None.

    Args:
        y: what happened, bool[n]; without both kinds there is no pair.
        p: scores, float64[n].

    >>> area_under_curve(np.array([True, False, True]), np.array([0.9, 0.9, 0.8]))
    0.25
    """
    hits, others = np.sort(p[y]), np.sort(p[~y])
    if not len(hits) or not len(others):
        return None
    below = np.searchsorted(others, hits, side="left").sum()
    not_above = np.searchsorted(others, hits, side="right").sum()
    return float(below + not_above) / (2.0 * len(hits) * len(others))


def _measured(count: int, positives: int, y: Bools, p: F64) -> Report:
    if not len(y):
        return Report(count, positives, 0, None, None, None, None, None)
    rate = float(y.mean())
    return Report(
        count=count,
        positives=positives,
        window=len(y),
        auc=area_under_curve(y, p),
        log_loss=float(log_losses(p, y).mean()),
        base_rate=rate,
        base_loss=float(log_losses(np.full(len(y), rate), y).mean()),
        calibration_error=expected_calibration_error(p, y),
    )
