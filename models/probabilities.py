"""What everything that looks at probabilities shares: which are refused, and what one costs.

The cost of a probability is its **log-loss**, minus the logarithm of what was given to what
happened. It is infinite for a model that was sure and wrong; so probabilities are taken to be a
little away from 0 and 1, and how far is said where it is used.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

CLOSEST: Final = 1e-15
"""How near to 0 and 1 a metric takes probabilities to be at most."""


def log_losses(p: F64, y: Bools, closest: float = CLOSEST) -> F64:
    """The log-loss of each probability, float64[n].

    Args:
        p: the probability that had been given, float64[n], 0 to 1.
        y: what happened, bool[n].
        closest: probabilities are taken to be at least so far from 0 and 1.

    >>> log_losses(np.array([0.5, 1.0, 1.0]), np.array([True, True, False]), 1e-3).round(2).tolist()
    [0.69, 0.0, 6.91]
    """
    given = np.clip(np.where(y, p, 1.0 - p), closest, 1.0 - closest)
    out: F64 = -np.log(given)
    return out


def are_probabilities(p: F64) -> bool:
    """Whether all of ``p`` float64[n] lie between 0 and 1; NaN does not."""
    return not p.size or bool(p.min() >= 0.0 and p.max() <= 1.0)


def refuse_improbable(p: F64) -> None:
    """Raise ``ValueError`` unless ``p`` is float64[n] between 0 and 1.

    >>> refuse_improbable(np.array([0.1, 1.2]))
    Traceback (most recent call last):
    ValueError: probabilities must be float64[n] between 0 and 1, but row 1 is 1.2: score such \
rows again or drop them
    """
    if p.ndim == 1 and p.dtype == np.float64 and are_probabilities(p):
        return
    what = f"{p.dtype} of shape {p.shape}"
    if p.ndim == 1 and p.dtype == np.float64:
        row = int(np.flatnonzero(~((p >= 0.0) & (p <= 1.0)))[0])
        what = f"row {row} is {p[row]}"
    raise ValueError(
        f"probabilities must be float64[n] between 0 and 1, but {what}: score such rows again "
        "or drop them"
    )


def refuse_unlabelled(p: F64, y: Bools) -> None:
    """Raise ``ValueError`` unless ``p`` are probabilities, each with a label of type bool."""
    refuse_improbable(p)
    if p.shape != y.shape or y.dtype != np.bool_:
        raise ValueError(
            f"each of the {len(p)} probabilities needs a label of type bool, but {y.dtype} of "
            f"shape {y.shape} came"
        )
