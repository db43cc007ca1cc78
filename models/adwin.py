"""Has the mean of a stream changed? River's ADWIN in one compiled pass.

ADWIN (Bifet and Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007)
keeps a window of all values since the last change. It has changed when the window can be cut into
an older and a newer part whose means are further apart than chance allows at confidence ``delta``.
Then the oldest values are dropped until no such cut is left.

The window is an **exponential histogram**. Row r holds up to five buckets, each the total and the
squared deviations of 2^r values that came one after the other; when a sixth comes, the two oldest
become one of the next row. So n values take some 5 log2(n / 5) buckets, fine where the window is
new and coarse where it is old. Cuts are tried between buckets.

Detections, window and its numbers are those of ``river.drift.ADWIN`` 0.26 with its own settings, to
the last bit, and the tests hold the two together: cuts are tried at each 32nd value, both parts
have at least five values, and after a change the next value begins a new window. River's grace
period of ten values is over before the first try.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from models.contract import LARGEST, refuse_mismatch

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
State = dict[str, Any]

FORMAT: Final = 1
"""Version of the saved form."""

CLOCK: Final = 32
"""Cuts are tried whenever so many values have come."""

LEAST: Final = 5
"""The fewest values in a part of the window that is compared."""

MOST: Final = 5
"""The most buckets in a row."""

ROWS: Final = 48
"""Enough for 2^50 values, which never come."""


class Adwin:
    """A window that shrinks when the mean of its values changes.

    Takes constant memory and well under 0.1 µs a value. Its bound is for values from 0 to 1: scale
    others to that, for of a wider range it tells too much and of a much narrower one too late.

    Args:
        delta: confidence, between 0 and 1; smaller gives fewer false alarms, later.

    Attributes:
        means: of the values before and after the change, if the latest value showed one, else
            None. They belong to the cut between buckets, before anything was dropped, that leaves
            the least squares: what is left of the window may still hold much from before.

    Raises:
        ValueError: ``delta`` out of range.

    >>> adwin = Adwin(delta=0.002)
    >>> values = np.repeat([0.2, 0.8], 500)
    >>> taken = adwin.see(values)
    >>> taken, adwin.changed, np.round(adwin.means, 2).tolist()
    (544, True, [0.2, 0.75])
    >>> taken += adwin.see(values[taken:])
    >>> taken, adwin.changed, adwin.width, round(adwin.mean, 2)
    (1000, False, 456, 0.8)
    """

    def __init__(self, delta: float = 0.002) -> None:
        if not 0.0 < delta < 1.0:
            raise ValueError(f"delta must lie between 0 and 1, but {delta!r} came")
        self.delta = delta
        self.means: tuple[float, float] | None = None
        self._window = np.zeros(3)
        self._counts = np.zeros(ROWS, dtype=np.int64)  # of the buckets in each row
        self._buckets = np.zeros((ROWS, MOST + 1, 2))  # in each row the oldest first

    @property
    def changed(self) -> bool:
        """Whether the latest value showed a change; the next one begins a new window."""
        return self.means is not None

    @property
    def width(self) -> int:
        """How many values the window holds."""
        return int(self._window[_WIDTH])

    @property
    def total(self) -> float:
        """Their sum."""
        return float(self._window[_TOTAL])

    @property
    def squares(self) -> float:
        """Their squared deviations from the mean, added up: what River calls ``variance``."""
        return float(self._window[_SQUARES])

    @property
    def mean(self) -> float | None:
        """Their mean; None before the first."""
        return self.total / self.width if self.width else None

    def see(self, values: F64) -> int:
        """Take in values until one shows a change; how they are batched makes no difference.

        Args:
            values: float64[n].

        Returns:
            How many were taken in, the one that shows a change included: n when none does.

        Raises:
            ValueError: a value that is not finite, or another shape; nothing has been taken in
                then.
        """
        _refuse(values)
        if not len(values):
            return 0
        if self.changed:
            self.means, self._window[:], self._counts[:] = None, 0.0, 0
        taken, changed, before, after = _see(
            np.ascontiguousarray(values), self.delta, self._window, self._counts, self._buckets
        )
        if changed:
            self.means = before, after
        return int(taken)

    def to_state(self) -> State:
        """Everything it knows as plain data, some 100 bytes for each doubling of the window."""
        rows = np.count_nonzero(self._counts)
        return {
            "format": FORMAT,
            "delta": self.delta,
            "means": self.means and list(self.means),
            "window": self._window.tolist(),
            "counts": self._counts[:rows].tolist(),
            "buckets": self._buckets[_filled(self._counts)].tolist(),
        }

    @classmethod
    def from_state(cls, state: State) -> Adwin:
        """What ``to_state`` wrote, bit for bit.

        Raises:
            ModelMismatch: another format.
        """
        refuse_mismatch("format of ADWIN", state.get("format"), FORMAT)
        self = cls(state["delta"])
        if state["means"]:
            before, after = state["means"]
            self.means = before, after
        self._window[:] = state["window"]
        self._counts[: len(state["counts"])] = state["counts"]
        self._buckets[_filled(self._counts)] = np.array(state["buckets"]).reshape(-1, 2)
        return self


_WIDTH, _TOTAL, _SQUARES = range(3)
"""What ``_window`` float64[3] holds."""

_SUM, _SPREAD = range(2)
"""What a bucket holds: the total of its values and their squared deviations."""


def _refuse(values: F64) -> None:
    if values.ndim != 1 or values.dtype != np.float64:
        raise ValueError(
            f"values must be float64[n], but {values.dtype} of shape {values.shape} came"
        )
    if values.size and not float(np.abs(values).max()) <= LARGEST:  # NaN is not
        at = int(np.flatnonzero(~(np.abs(values) <= LARGEST))[0])
        raise ValueError(
            f"values must be finite and within ±{LARGEST:g}, but value {at} is {values[at]}: "
            "drop such values before"
        )


def _filled(counts: I64) -> NDArray[np.bool_]:
    """Which places of the rows hold a bucket, bool[ROWS, MOST + 1]."""
    held: NDArray[np.bool_] = np.arange(MOST + 1) < counts[:, None]
    return held


@compiled
def _see(
    values: F64, delta: float, window: F64, counts: I64, buckets: F64
) -> tuple[int, bool, float, float]:
    """How many values until a change, whether there is one, and the means before and after it."""
    for i in range(len(values)):
        _add(values[i], window, counts, buckets)
        if int(window[_WIDTH]) % CLOCK == 0 and _differs(delta, window, counts, buckets):
            before, after = _means(window, counts, buckets)
            _drop_oldest(window, counts, buckets)
            while _differs(delta, window, counts, buckets):
                _drop_oldest(window, counts, buckets)
            return i + 1, True, before, after
    return len(values), False, 0.0, 0.0


@step
def _add(value: float, window: F64, counts: I64, buckets: F64) -> None:
    """One more value, and buckets joined where a row has too many."""
    width = window[_WIDTH]
    if width > 0.0:
        apart = value - window[_TOTAL] / width
        window[_SQUARES] += width * apart * apart / (width + 1.0)
    window[_WIDTH] = width + 1.0
    window[_TOTAL] += value
    _append(0, value, 0.0, counts, buckets)
    row = 0
    while counts[row] > MOST:
        first, second = buckets[row, 0], buckets[row, 1]
        apart = first[_SUM] - second[_SUM]
        spread = first[_SPREAD] + second[_SPREAD] + apart * apart / (2 << row)
        total = first[_SUM] + second[_SUM]
        _drop(2, row, counts, buckets)
        row += 1
        _append(row, total, spread, counts, buckets)


@step
def _append(row: int, total: float, spread: float, counts: I64, buckets: F64) -> None:
    place = counts[row]
    buckets[row, place, _SUM] = total
    buckets[row, place, _SPREAD] = spread
    counts[row] = place + 1


@step
def _drop(n: int, row: int, counts: I64, buckets: F64) -> None:
    """The n oldest buckets leave their row."""
    counts[row] -= n
    for place in range(MOST + 1 - n):  # also the empty ones: a loop of known length is fast
        buckets[row, place, _SUM] = buckets[row, place + n, _SUM]
        buckets[row, place, _SPREAD] = buckets[row, place + n, _SPREAD]


@step
def _drop_oldest(window: F64, counts: I64, buckets: F64) -> None:
    """The oldest bucket leaves the window."""
    row = ROWS - 1
    while counts[row] == 0:
        row -= 1
    size = float(1 << row)
    total, spread = buckets[row, 0, _SUM], buckets[row, 0, _SPREAD]
    _drop(1, row, counts, buckets)
    window[_WIDTH] -= size
    window[_TOTAL] -= total
    width = window[_WIDTH]
    apart = total / size - window[_TOTAL] / width
    window[_SQUARES] -= spread + size * width * apart * apart / (size + width)


@step
def _differs(delta: float, window: F64, counts: I64, buckets: F64) -> bool:
    """Whether there is a cut between buckets whose parts' means are too far apart for chance."""
    width = window[_WIDTH]
    doubt = math.log(2.0 * math.log(width) / delta)
    noise, margin = 2.0 * window[_SQUARES] / width * doubt, 2.0 / 3.0 * doubt
    near = 0.999 * noise * width  # few is at least width / (older * newer): spares most the root
    older, newer = 0.0, width
    older_total, newer_total = 0.0, window[_TOTAL]
    for row in range(ROWS - 1, -1, -1):
        for place in range(counts[row]):
            older += 1 << row
            newer -= 1 << row
            older_total += buckets[row, place, _SUM]
            newer_total -= buckets[row, place, _SUM]
            if older < LEAST:
                continue
            if newer < LEAST:
                return False
            apart = abs(older_total / older - newer_total / newer)
            if apart * apart * older * newer <= near:
                continue
            few = 1.0 / (older - LEAST + 1) + 1.0 / (newer - LEAST + 1)
            if apart > math.sqrt(noise * few) + margin * few:
                return True
    return False


@step
def _means(window: F64, counts: I64, buckets: F64) -> tuple[float, float]:
    """Means before and after the cut between buckets that leaves the least squares."""
    width, total = window[_WIDTH], window[_TOTAL]
    best, best_older, best_total = -1.0, 1.0, 0.0
    older, older_total = 0.0, 0.0
    for row in range(ROWS - 1, -1, -1):
        for place in range(counts[row]):
            older += 1 << row
            older_total += buckets[row, place, _SUM]
            if older == width:
                break
            apart = older_total - total * older / width
            gain = apart * apart / (older * (width - older))
            if gain > best:
                best, best_older, best_total = gain, older, older_total
    return best_total / best_older, (total - best_total) / (width - best_older)
