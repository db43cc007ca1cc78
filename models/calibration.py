"""Probabilities that mean what they say: a recalibration that is learned online and earns its use.

A score that ranks well may still be wrong as a number: the model is old, its world has moved, or it
learned from a sample. ``Calibration`` corrects it by a line in log-odds,
``p' = sigmoid(slope * logit(p) + shift)`` (Platt, "Probabilistic outputs for support vector
machines", 1999), fitted to scores whose label has matured. Two numbers are learned from few labels
and, the slope being positive, the order of scores given at one time stays as it was.

Each label is one Newton step on the log-loss with a curvature that forgets: that of a label which
is ``memory`` labels old has weight 1/e. Steps are bounded however surprising a label is, because
the curvature is never taken to be less than the squared gradient (as in the online Newton step:
Hazan, Agarwal and Kale, Machine Learning 69, 2007).

A line fitted to a model that was right can only follow noise. So before a label is learned, model
and line are compared on it: the line is used once its mean gain in log-loss, over a memory that
forgets too, is 3.5 standard errors above zero, and no longer when that has fallen to one. Until
then ``apply`` changes nothing. Held by the tests: on a calibrated model what is given costs less
than 0.0005 per label over 4,000 labels; a model whose log-odds are three times too large is
corrected within 400 labels. One that costs only 0.005 per label took 700 to 4,300.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, inlined
from models.contract import refuse_mismatch
from models.probabilities import refuse_improbable, refuse_unlabelled

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

FORMAT: Final = 1
"""Version of the saved form."""

CLOSEST: Final = 1e-6
"""Scores are taken to be at least so far from 0 and 1, which have no log-odds."""

_PRIOR: Final = 10.0
"""Curvature at the start: what some 50 labels weigh, and the reason why no label moves it far."""

_FLATTEST, _STEEPEST, _FARTHEST = 0.05, 20.0, 20.0
"""The slope stays between the first two, the shift within the third of 0."""

_SURE, _UNSURE = 3.5, 1.0
"""Standard errors of the gain at which the line is used, and below which it is so no longer."""

_FEWEST: Final = 200.0
"""Labels before which nothing has been shown."""

# places in what is learned
_SLOPE, _SHIFT, _XX, _X1, _11, _WEIGHT, _SQUARES, _GAIN, _GAIN_2, _HELPS = range(10)
_NAMES: Final = (
    *("slope", "shift", "xx", "x1", "11"),
    *("weight", "weight_squares", "gain", "gain_squares", "helps"),
)


class Calibration:
    """A line in log-odds between a model and its reader; it starts as the identity.

    Args:
        memory: labels after which a label's curvature has weight 1/e; more is steadier and slower.
        evidence: the same for the comparison that decides whether the line is used.

    Raises:
        ValueError: a memory below 1.

    >>> from models.reliability import expected_calibration_error
    >>> rng = np.random.default_rng(1)
    >>> truth = rng.uniform(0.05, 0.95, 4_000)
    >>> y = rng.random(4_000) < truth
    >>> boastful = truth**3 / (truth**3 + (1 - truth) ** 3)
    >>> layer = Calibration()
    >>> layer.helps, layer.apply(boastful[:2]).tolist() == boastful[:2].tolist()
    (False, True)
    >>> given = layer.learn_matured(boastful, y)
    >>> round(expected_calibration_error(boastful, y), 2)
    0.16
    >>> layer.helps, expected_calibration_error(layer.apply(boastful), y) < 0.02
    (True, True)
    """

    def __init__(self, memory: float = 5_000.0, evidence: float = 2_000.0) -> None:
        if not (memory >= 1.0 and evidence >= 1.0):
            raise ValueError(
                f"both memories must be at least 1 label, but {memory!r} and {evidence!r} came"
            )
        self.memory = float(memory)
        self.evidence = float(evidence)
        self.count = 0
        self._learned = np.zeros(len(_NAMES))
        self._learned[_SLOPE] = 1.0

    @property
    def slope(self) -> float:
        """What log-odds are multiplied by, above 0; below 1 for a model that is too sure."""
        return float(self._learned[_SLOPE])

    @property
    def shift(self) -> float:
        """What is added to log-odds; below 0 for a model that says too much."""
        return float(self._learned[_SHIFT])

    @property
    def helps(self) -> bool:
        """Whether the line has shown on matured labels that it is better than the model alone."""
        return bool(self._learned[_HELPS])

    @property
    def gain(self) -> float:
        """Mean log-loss of the model less that of the line, of late; 0 before the first label."""
        weight = float(self._learned[_WEIGHT])
        return float(self._learned[_GAIN]) / weight if weight else 0.0

    def apply(self, p: F64) -> F64:
        """The probability to give for each score, float64[n]: the score until the line helps.

        Args:
            p: scores of the model, float64[n], 0 to 1.

        Raises:
            ValueError: a score that is no probability.
        """
        if self.helps:
            return self.corrected(p)
        refuse_improbable(p)
        return p.copy()

    def corrected(self, p: F64) -> F64:
        """What the line says of each score, whether it has been shown to help or not, float64[n].

        Raises:
            ValueError: a score that is no probability.
        """
        refuse_improbable(p)
        said = np.empty(len(p))
        _say(np.ascontiguousarray(p), self.slope, self.shift, said)
        return said

    def learn_matured(self, p: F64, y: Bools) -> F64:
        """Learn scores whose label is final; what ``apply`` said of each just before, float64[n].

        How they are batched makes no difference.

        Args:
            p: what the model, not this layer, had said, float64[n], in order of time.
            y: what happened, bool[n].

        Raises:
            ValueError: a score that is no probability, or not one label each; nothing has been
                learned then.
        """
        refuse_unlabelled(p, y)
        said = np.empty(len(p))
        kept, kept_evidence = 1.0 - 1.0 / self.memory, 1.0 - 1.0 / self.evidence
        scores, labels = np.ascontiguousarray(p), np.ascontiguousarray(y)
        _learn(scores, labels, kept, kept_evidence, self._learned, said)
        self.count += len(p)
        return said

    def to_state(self) -> dict[str, Any]:
        """Everything it knows as plain data."""
        return {
            "format": FORMAT,
            "memory": self.memory,
            "evidence": self.evidence,
            "count": self.count,
            "learned": dict(zip(_NAMES, self._learned.tolist(), strict=True)),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Calibration:
        """What ``to_state`` wrote, bit for bit, also after JSON or MessagePack.

        Raises:
            ModelMismatch: another format.
        """
        refuse_mismatch("format of calibration", state.get("format"), FORMAT)
        layer = cls(state["memory"], state["evidence"])
        layer.count = state["count"]
        layer._learned[:] = [state["learned"][name] for name in _NAMES]
        return layer


def prior_corrected(p: F64, kept: float) -> F64:
    """Probabilities of a model that saw only a share of the negatives, put right, float64[n].

    Where all positives are learned and negatives at random with probability ``kept``, the odds come
    out ``1 / kept`` times too high: King and Zeng, "Logistic regression in rare events data",
    Political Analysis 9 (2001). A calibration that learns from such a sample stays in its world;
    correct what it gives.

    Args:
        p: probabilities in the world of the sample, float64[n].
        kept: share of negatives that was learned from, above 0, at most 1.

    Raises:
        ValueError: a value that is no probability, or no such share.

    >>> prior_corrected(np.array([0.0, 0.5, 1.0]), kept=0.25).tolist()
    [0.0, 0.2, 1.0]
    """
    refuse_improbable(p)
    if not 0.0 < kept <= 1.0:
        raise ValueError(
            f"the share of negatives kept must be above 0 and at most 1, {kept!r} came"
        )
    out: F64 = kept * p / (kept * p + (1.0 - p))
    return out


@inlined
def _inner(p: float) -> float:
    return min(max(p, CLOSEST), 1.0 - CLOSEST)


@inlined
def _logs(p: float) -> tuple[float, float]:
    """The logarithms of a probability and of its opposite; their difference is its log-odds."""
    inner = _inner(p)
    return math.log(inner), math.log1p(-inner)


@inlined
def _sigmoid(x: float) -> float:
    # the line's bounds keep x within 300, far from overflow
    return 1.0 / (1.0 + math.exp(-x))


_FAR: Final = math.log(1.0 - CLOSEST) - math.log(CLOSEST)


@inlined
def within(odds: float) -> float:
    """Log-odds as a line takes them in a compiled loop: not beyond those of ``CLOSEST``."""
    if odds > _FAR:
        return _FAR
    if odds < -_FAR:
        return -_FAR
    return odds  # also NaN


@compiled
def _say(p: F64, slope: float, shift: float, said: F64) -> None:
    """Fill ``said`` with what the line says of each score."""
    for i in range(len(p)):
        log_p, log_not = _logs(p[i])
        said[i] = _sigmoid(slope * (log_p - log_not) + shift)


@compiled
def _learn(p: F64, y: Bools, kept: float, kept_evidence: float, learned: F64, said: F64) -> None:
    """Compare, decide and learn label by label; ``said`` gets what was given before each."""
    for i in range(len(p)):
        hit = y[i]
        log_p, log_not = _logs(p[i])
        x = log_p - log_not
        q = _sigmoid(learned[_SLOPE] * x + learned[_SHIFT])
        said[i] = q if learned[_HELPS] else p[i]
        gain = math.log(_inner(q)) - log_p if hit else math.log1p(-_inner(q)) - log_not
        _weigh(gain, kept_evidence, learned)
        _step(x, q, hit, kept, learned)


@inlined
def _weigh(gain: float, kept: float, learned: F64) -> None:
    """Add what the line gained on one label to the evidence, and decide whether it helps."""
    learned[_WEIGHT] = kept * learned[_WEIGHT] + 1.0
    learned[_SQUARES] = kept * kept * learned[_SQUARES] + 1.0
    learned[_GAIN] = kept * learned[_GAIN] + gain
    learned[_GAIN_2] = kept * learned[_GAIN_2] + gain * gain
    weight, mean = learned[_WEIGHT], learned[_GAIN] / learned[_WEIGHT]
    spread = max(learned[_GAIN_2] / weight - mean * mean, 0.0)
    error = math.sqrt(spread * learned[_SQUARES]) / weight
    if mean <= _UNSURE * error:
        learned[_HELPS] = 0.0
    elif weight >= _FEWEST and mean > _SURE * error:
        learned[_HELPS] = 1.0


@inlined
def _step(x: float, q: float, hit: bool, kept: float, learned: F64) -> None:
    """One Newton step from a label of which the line had said ``q`` at log-odds ``x``."""
    gradient = q - hit
    h = max(q * (1.0 - q), gradient * gradient)
    learned[_XX] = kept * learned[_XX] + h * x * x
    learned[_X1] = kept * learned[_X1] + h * x
    learned[_11] = kept * learned[_11] + h
    xx, x1, one = learned[_XX] + _PRIOR, learned[_X1], learned[_11] + _PRIOR
    scale = gradient / (xx * one - x1 * x1)
    slope = learned[_SLOPE] - scale * (one * x - x1)
    shift = learned[_SHIFT] - scale * (xx - x1 * x)
    learned[_SLOPE] = min(max(slope, _FLATTEST), _STEEPEST)
    learned[_SHIFT] = min(max(shift, -_FARTHEST), _FARTHEST)
