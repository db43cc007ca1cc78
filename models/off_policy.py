"""What a policy would have earned, from the log of another one.

A log holds for each decision what was chosen, how likely that was (the **propensity**) and what
came of it. Another policy would have chosen the same with another likelihood; weighting by the
ratio makes its log of this one's. Without propensities nothing of this can be done, so whoever
serves must log them.

- **IPS**: the mean of the weighted rewards; without bias, of large variance where ratios are large.
- **SNIPS**: divided by the mean weight; a small bias, less variance.
- **direct method**: the mean of what a model expects; as good as the model, and its interval says
  nothing of the model's error.
- **doubly robust**: the model, corrected by what it missed, weighted; without bias if either the
  propensities or the model are right. The model must not have learned from the same rows.

Intervals are normal, which needs many rewards and no ratio that outweighs all others: look at
``effective``, and clip weights where it is small.

Dudík, Langford and Li, "Doubly robust policy evaluation and learning", ICML 2011; Swaminathan and
Joachims, "The self-normalized estimator for counterfactual learning", NIPS 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Estimate:
    """A policy's mean reward per decision.

    Attributes:
        value: the estimate.
        low, high: its confidence interval.
        effective: rows of the policy's own log that would say as much.
    """

    value: float
    low: float
    high: float
    effective: float


def mean(rewards: F64, level: float = 0.95) -> Estimate:
    """The mean of a policy's own log, float64[n].

    >>> mean(np.array([1.0, 0.0, 1.0, 0.0])).value
    0.5
    """
    return _estimate(rewards, float(len(rewards)), level)


def ips(rewards: F64, weight: F64, level: float = 0.95) -> Estimate:
    """Inverse propensity scores.

    Args:
        rewards: of the log, float64[n].
        weight: likelihood of each choice under the policy over that under the log's, float64[n].
        level: of the interval.

    >>> reward, weight = np.array([1.0, 0.0, 1.0, 0.0]), np.array([2.0, 0.0, 1.0, 1.0])
    >>> ips(reward, weight).value, snips(reward, weight).value
    (0.75, 0.75)
    """
    return _estimate(weight * rewards, effective_size(weight), level)


def snips(rewards: F64, weight: F64, level: float = 0.95) -> Estimate:
    """Self-normalised inverse propensity scores; arguments as of ``ips``."""
    scale = float(weight.mean())
    value = float((weight * rewards).mean()) / scale
    around = weight * (rewards - value) / scale  # the first order of the ratio's error
    return _estimate(value + around, effective_size(weight), level, value)


def direct(expected: F64, level: float = 0.95) -> Estimate:
    """The direct method.

    Args:
        expected: what a model expects of the policy at each row, float64[n].
        level: of the interval.
    """
    return _estimate(expected, float(len(expected)), level)


def doubly_robust(
    rewards: F64, weight: F64, predicted: F64, expected: F64, level: float = 0.95
) -> Estimate:
    """The direct method, corrected by the weighted errors of its model.

    Args:
        rewards: of the log, float64[n].
        weight: as of ``ips``, float64[n].
        predicted: what the model expects of what was chosen, float64[n].
        expected: what it expects of the policy, float64[n].
        level: of the interval.

    >>> perfect = np.array([1.0, 0.0])
    >>> doubly_robust(perfect, np.array([9.0, 1.0]), perfect, np.array([0.5, 0.5])).value
    0.5
    """
    values = expected + weight * (rewards - predicted)
    return _estimate(values, effective_size(weight), level)


def clipped(weight: F64, most: float) -> F64:
    """Weights of which none is above ``most``: a bias for less variance, float64[n].

    What it leaves out is the reward of what the log's policy hardly ever chose.

    >>> clipped(np.array([0.5, 900.0]), 50.0).tolist()
    [0.5, 50.0]
    """
    return np.minimum(weight, most)


def effective_size(weight: F64) -> float:
    """How many rows of equal weight say as much (Kish).

    >>> effective_size(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    squares = float((weight * weight).sum())
    return float(weight.sum()) ** 2 / squares if squares else 0.0


def _estimate(values: F64, effective: float, level: float, value: float | None = None) -> Estimate:
    middle = float(values.mean()) if value is None else value
    error = float(values.std(ddof=1)) / np.sqrt(len(values)) if len(values) > 1 else np.inf
    half = float(NormalDist().inv_cdf(0.5 + level / 2.0) * error)
    return Estimate(middle, middle - half, middle + half, effective)
