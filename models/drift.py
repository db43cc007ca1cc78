"""Has the model's world moved? Alarms on its loss.

ADWIN (``models.adwin``) watches the squared error of each matured label, which lies between 0 and 1
as ADWIN's bound asks. It alarms when an older and a newer part of what it has seen differ; then it
starts anew. Nobody resets the model: an alarm is something to be told, and it may also say that the
model got better, as it does while a new one learns.

At the default ``delta`` a mean loss that goes from 0.16 to 0.25 is seen within 1,000 labels if at
least 5,000 calm ones came before: in each of 200 tries, the slowest after 824, half of them before
473. After 2,000 calm ones 4 of 200 took longer, at most 1,200. In 150 streams of 100,000 calm
labels there was no false alarm. A smaller change takes longer: the wait grows with the inverse
square. ``tests/models/test_drift.py`` holds a part of this.

Everything is of fixed size, and what is saved is all there is: a restart changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.adwin import Adwin
from models.contract import refuse_mismatch
from models.probabilities import refuse_unlabelled

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
State = dict[str, Any]

FORMAT: Final = 2
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

    Raises:
        ValueError: ``delta`` out of range.

    >>> rng = np.random.default_rng(0)
    >>> watch = LossDrift()
    >>> p = np.full(4_000, 0.2)
    >>> y = rng.random(4_000) < np.where(np.arange(4_000) < 3_000, 0.2, 0.5)
    >>> [alarm] = watch.note(p, y, np.arange(4_000))
    >>> 3_000 < alarm.ts_ms < 3_300, alarm.before < 0.17, alarm.after > 0.3, alarm.worse
    (True, True, True, True)
    """

    def __init__(self, delta: float = 1e-5) -> None:
        self.labels = 0
        self._adwin = Adwin(delta)

    @property
    def mean(self) -> float | None:
        """Mean squared error since the last alarm; None without a label."""
        return None if self._adwin.changed else self._adwin.mean

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
        losses, alarms, seen = np.square(p - y), [], 0
        while seen < len(losses):
            seen += self._adwin.see(losses[seen:])
            if self._adwin.means is not None:
                label = self.labels + seen
                alarms.append(Alarm(int(ts_ms[seen - 1]), label, *self._adwin.means))
        self.labels += len(losses)
        return alarms

    def to_state(self) -> State:
        """Plain data, about a kilobyte."""
        return {"format": FORMAT, "labels": self.labels, "adwin": self._adwin.to_state()}

    @classmethod
    def from_state(cls, state: State) -> LossDrift:
        """What ``to_state`` wrote, bit for bit.

        Raises:
            ModelMismatch: another format.
        """
        refuse_mismatch("format of loss drift", state.get("format"), FORMAT)
        watch = cls()
        watch.labels, watch._adwin = state["labels"], Adwin.from_state(state["adwin"])
        return watch
