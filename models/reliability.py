"""Do probabilities mean what they say? Of those told 30 %, three in ten should buy.

A table sets what was promised beside what happened, by groups of similar probability; its mean
distance is one number, the expected calibration error. A model can rank well and be far off here,
or be right here and rank nobody (always say the base rate): look at both.

Groups of equal **count** are equally sure of their rate and follow the scores wherever they lie:
the choice for one number. Groups of equal **width** (``[0, .1), [.1, .2) ...``) stay comparable
between models and over time, but most may be empty; these are left out. Equal probabilities share
a group, so the order of rows does not matter, and there may be fewer groups than asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.probabilities import refuse_unlabelled
from state.groups import begins

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(slots=True, frozen=True)
class Group:
    """One row of a reliability table.

    Attributes:
        low, high: lowest and highest probability in it.
        count: how many.
        mean: their mean probability.
        rate: share of them that came true.
    """

    low: float
    high: float
    count: int
    mean: float
    rate: float


def reliability(
    p: F64, y: Bools, bins: int = 10, equal: Literal["count", "width"] = "count"
) -> list[Group]:
    """What was promised and what happened, by groups of similar probability, lowest first.

    Args:
        p: probabilities, float64[n].
        y: what happened, bool[n].
        bins: how many groups, at least 1.
        equal: what the groups have in common, see above.

    Raises:
        ValueError: a value that is no probability, not one label each, or no groups.

    >>> for group in reliability(np.array([0.1, 0.3, 0.8]), np.array([False, True, True]), 2):
    ...     print(group)
    Group(low=0.1, high=0.3, count=2, mean=0.2, rate=0.5)
    Group(low=0.8, high=0.8, count=1, mean=0.8, rate=1.0)
    """
    refuse_unlabelled(p, y)
    if bins < 1:
        raise ValueError(f"a table needs at least 1 group, but {bins} came")
    if not len(p):
        return []
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    if equal == "count":
        group = np.searchsorted(p, p, side="left") * bins // len(p)
    else:
        group = np.minimum((p * bins).astype(np.int64), bins - 1)
    starts = begins(group)
    stops = np.append(starts[1:], len(p))
    count = stops - starts
    mean, rate = np.add.reduceat(p, starts) / count, np.add.reduceat(y, starts, dtype="i8") / count
    columns = (p[starts], p[stops - 1], count, mean, rate)
    return [Group(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def expected_calibration_error(
    p: F64, y: Bools, bins: int = 10, equal: Literal["count", "width"] = "count"
) -> float:
    """Mean distance between what was promised and what happened over the groups of a table.

    It is never 0 for finite samples, and grows with the number of groups: compare only values of
    equal ``bins`` and similar ``n``. Naeini, Cooper and Hauskrecht, AAAI 2015.

    Args:
        p: probabilities, float64[n].
        y: what happened, bool[n].
        bins: how many groups, at least 1.
        equal: what the groups have in common, ``"count"`` or ``"width"``.

    Raises:
        ValueError: as for ``reliability``, or no rows.

    >>> y = np.array([False, True, True])
    >>> round(expected_calibration_error(np.array([0.1, 0.3, 0.8]), y, bins=2), 3)
    0.267
    """
    table = reliability(p, y, bins, equal)
    if not table:
        raise ValueError("a calibration error needs at least 1 label, but none came")
    return sum(group.count * abs(group.mean - group.rate) for group in table) / len(p)
