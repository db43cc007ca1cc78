"""Tasks that are foretold by linear models, all of them in one compiled pass.

A task's probability is that of a champion (``models.linear``), put right for how its examples were
drawn, and calibrated (``models.calibration``). All three speak of log-odds: the champion adds them
up, a share of the negatives moves them by its logarithm, and a calibration is a line through them.
So they are made a probability only once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.calibration import Calibration, within
from models.contract import F64
from models.linear import sigmoid

I64 = NDArray[np.int64]
Told = Mapping[str, Any]


class Lines:
    """Linear tasks.

    Args:
        tasks: of each the column that it fills, where its inputs stand among all (int64[j]), and
            what ``models.predictor.Predictor.scoring`` tells of it.

    >>> told = {"means": [1.0], "factors": [2.0], "intercept": 0.5, "kept": 1.0}
    >>> lines = Lines([(1, np.array([2]), told | {"calibration": Calibration().to_state()})])
    >>> out = np.full((1, 2), np.nan)
    >>> lines.foretell(np.array([[9.0, 9.0, 0.75]]), out)
    >>> out.tolist()
    [[nan, 0.5]]
    """

    def __init__(self, tasks: Sequence[tuple[int, I64, Told]] = ()) -> None:
        self._columns = np.array([column for column, _, _ in tasks], dtype=np.int64)
        self._stops = np.cumsum([len(places) for _, places, _ in tasks], dtype=np.int64)
        self._places = np.concatenate([_NO_PLACES, *(places for _, places, _ in tasks)])
        weights = [np.array([told["means"], told["factors"]]) for _, _, told in tasks]
        self._means, self._factors = np.concatenate([np.empty((2, 0)), *weights], axis=1)
        held = [_line(told) for _, _, told in tasks]
        self._lines = np.array(held, dtype=np.float64).reshape(-1, 5)

    def foretell(self, X: F64, out: F64) -> None:
        """Fill the tasks' columns of ``out`` float64[n, tasks] for all inputs float64[n, k].

        NaN where a model says nonsense: it says nothing until its guard puts it back.
        """
        held = self._columns, self._stops, self._places, self._means, self._factors, self._lines
        _foretell(X, *held, out)


_NO_PLACES: Final = np.empty(0, dtype=np.int64)


def _line(told: Told) -> list[float]:
    """What is held of a task beside its weights."""
    layer = Calibration.from_state(told["calibration"])
    further = math.log(told["kept"])
    return [told["intercept"], further, layer.slope, layer.shift, float(layer.helps)]


@compiled
def _foretell(
    X: F64, columns: I64, stops: I64, places: I64, means: F64, factors: F64, lines: F64, out: F64
) -> None:
    first = 0
    for task in range(len(stops)):
        column, stop = columns[task], stops[task]
        at, mean, factor = places[first:stop], means[first:stop], factors[first:stop]
        intercept, further, slope, shift, helps = lines[task]
        for i in range(len(X)):
            odds = intercept
            for j in range(len(at)):
                odds += (X[i, at[j]] - mean[j]) * factor[j]
            odds += further
            if helps > 0.0:
                odds = slope * within(odds) + shift
            out[i, column] = sigmoid(odds)
        first = stop
