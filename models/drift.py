"""Has the model's world moved? Alarms on its loss.

ADWIN (Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007)
watches the squared error of each matured label, which lies between 0 and 1 as ADWIN's bound asks.
It alarms when an older and a newer part of what it has seen differ; then it starts anew. What ADWIN
keeps at an alarm still holds much from before the change, so the two means come from the split of
the latest losses that separates them best. Nobody resets the model: an alarm is something to be
told, and it may also say that the model got better, as it does while a new one learns.

At the default ``delta`` a mean loss that goes from 0.16 to 0.25 is seen within 1,000 labels if at
least 5,000 calm ones came before: in each of 200 tries, the slowest after 824, half of them before
473. After 2,000 calm ones 4 of 200 took longer, at most 1,200. In 150 streams of 100,000 calm
labels there was no false alarm. A smaller change takes longer: the wait grows with the inverse
square. ``tests/models/test_drift.py`` holds a part of this.

Everything is of fixed size, and the saved form is plain data. ADWIN's own window is not plain, so
the latest losses are saved and ADWIN is fed them again. Until so many losses have come since the
last alarm this is exact. After that a restart makes ADWIN forget the older ones, so it is as slow
again as after so many calm labels; the means of alarms are kept exactly.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.contract import refuse_mismatch
from models.probabilities import refuse_unlabelled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
State = dict[str, Any]

FORMAT: Final = 1
"""Version of the saved form."""


@dataclass(slots=True, frozen=True)
class Alarm:
    """The loss has changed.

    Attributes:
        ts_ms: time of the label that gave the alarm.
        label: its number, from 1.
        before, after: mean squared error before and after the change.
    """

    ts_ms: int
    label: int
    before: float
    after: float

    @property
    def worse(self) -> bool:
        """Whether the model is worse than it was."""
        return self.after > self.before


class LossDrift:
    """ADWIN on the squared error of each label.

    Args:
        delta: ADWIN's confidence; smaller gives fewer false alarms, later.
        remember: how many of the latest losses are kept and saved, at least 100.

    Raises:
        ValueError: a setting out of range.

    >>> rng = np.random.default_rng(0)
    >>> watch = LossDrift()
    >>> p = np.full(4_000, 0.2)
    >>> y = rng.random(4_000) < np.where(np.arange(4_000) < 3_000, 0.2, 0.5)
    >>> [alarm] = watch.note(p, y, np.arange(4_000))
    >>> 3_000 < alarm.ts_ms < 3_300, alarm.before < 0.17, alarm.after > 0.3, alarm.worse
    (True, True, True, True)
    """

    def __init__(self, delta: float = 1e-5, remember: int = 2_000) -> None:
        if not 0.0 < delta < 1.0 or remember < 100:
            raise ValueError(
                "delta must lie between 0 and 1 and at least 100 losses be remembered, but "
                f"delta {delta!r} and remember {remember!r} came"
            )
        self.delta = delta
        self.labels = 0
        self._latest: deque[float] = deque(maxlen=remember)
        self._restart()

    @property
    def mean(self) -> float | None:
        """Mean squared error since the last alarm; None without a label."""
        return self._total / self._count if self._count else None

    def note(self, p: F64, y: Bools, ts_ms: I64) -> list[Alarm]:
        """Take in labels as they mature; how they are batched makes no difference.

        Args:
            p: the probability that had been given, float64[n], 0 to 1.
            y: what happened, bool[n].
            ts_ms: time of each label, int64[n].

        Returns:
            The alarms they give, earliest first.

        Raises:
            ValueError: a value that is no probability, or lengths that differ; nothing has been
                taken in then.
        """
        refuse_unlabelled(p, y)
        if ts_ms.shape != p.shape:
            raise ValueError(f"each of {len(p)} labels needs a time, but {len(ts_ms)} came")
        losses, alarms, fed = np.square(p - y).tolist(), [], 0
        while fed < len(losses):
            taken, means = self._feed(losses[fed:])
            fed += taken
            self.labels += taken
            if means is not None:
                alarms.append(Alarm(int(ts_ms[fed - 1]), self.labels, *means))
        return alarms

    def to_state(self) -> State:
        """Plain data; the remembered losses make most of it, 9 bytes each in MessagePack."""
        return {
            "format": FORMAT,
            "delta": self.delta,
            "remember": self._latest.maxlen,
            "labels": self.labels,
            "count": self._count,
            "total": self._total,
            "losses": list(self._latest),
        }

    @classmethod
    def from_state(cls, state: State) -> LossDrift:
        """What ``to_state`` wrote, as far as it was remembered.

        Raises:
            ModelMismatch: another format.
        """
        refuse_mismatch("format of loss drift", state.get("format"), FORMAT)
        watch = cls(state["delta"], state["remember"])
        for loss in state["losses"]:
            watch._latest.append(loss)
            watch._adwin.update(loss)
            watch._overdue |= watch._adwin.drift_detected
        watch.labels, watch._count, watch._total = state["labels"], state["count"], state["total"]
        return watch

    def _feed(self, losses: list[float]) -> tuple[int, tuple[float, float] | None]:
        """Losses up to the first that shows a change: how many, and the means before and after."""
        taken = self._see(losses)
        self._latest.extend(losses[:taken])
        for loss in losses[:taken]:
            self._total += loss
        self._count += taken
        if not (self._adwin.drift_detected or self._overdue):
            return taken, None
        newer = _after_change(np.array(self._latest))
        total = float(newer.sum())
        means = (self._total - total) / (self._count - len(newer)), total / len(newer)
        self._restart()
        return taken, means

    def _see(self, losses: list[float]) -> int:
        """Show losses to ADWIN until it sees a change; how many it was shown."""
        adwin = self._adwin
        for taken, loss in enumerate(losses, 1):
            adwin.update(loss)
            if adwin.drift_detected or self._overdue:
                return taken
        return len(losses)

    def _restart(self) -> None:
        # importing it takes a second, which whoever does not watch should not wait
        from river import drift

        self._adwin = drift.ADWIN(delta=self.delta)
        self._overdue = False  # whether ADWIN saw a change while it was fed again
        self._latest.clear()
        self._total = 0.0
        self._count = 0


def _after_change(losses: F64) -> F64:
    """The end of the series from its likeliest change of mean on: the best least-squares split."""
    n, total = len(losses), losses.sum()
    older = np.arange(1, n)
    apart = np.cumsum(losses)[:-1] - total * older / n
    return losses[int(np.argmax(apart**2 / (older * (n - older)))) + 1 :]
