"""Comparing an arm with control at any time, as often as one likes.

A test of fixed size that is looked at again and again finds a difference that is none in a third
of all cases. This one is a **mixture sequential probability ratio test**: the likelihood of the
difference under a normal mixture of effects, over that under none. The chance that it ever exceeds
1/α without a difference is at most α, so ``p`` (its inverse) may be looked at continuously, and the
intervals that go with it (a **confidence sequence**) cover the truth at all times at once.

Means and variances come from sums, so a proportion is the mean of zeros and ones. Both are held
to be normal, which they are for many users; with fewer than ``LEAST`` users in an arm, or without
any difference between users, nothing is said.

Johari et al., "Always valid inference", Operations Research 70 (2022); Waudby-Smith et al.,
"Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics 52
(2024), from which the choice of the mixture is taken.

Not for allocations that follow the outcomes (``models.bandit``) while rates drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LEAST: Final = 100
"""Users in each arm before anything is said."""
LEAST_EVENTS: Final = 10
"""Conversions in both arms together before anything is said of a proportion."""


@dataclass(slots=True, frozen=True)
class Sample:
    """A measure of the users of an arm, as sums.

    Attributes:
        count: users.
        total: the sum of the measure.
        squares: the sum of its squares.

    >>> Sample.of_proportion(200, 50)
    Sample(count=200, total=50, squares=50)
    """

    count: int
    total: float
    squares: float

    @staticmethod
    def of_proportion(count: int, successes: int) -> Sample:
        """How many of so many."""
        return Sample(count, successes, successes)

    @property
    def mean(self) -> float:
        """Per user; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Between users."""
        if self.count < 2:
            return 0.0
        # of integers this is exact, however large they are
        spread = self.count * self.squares - self.total * self.total
        return max(float(spread), 0.0) / self.count / (self.count - 1)


@dataclass(slots=True, frozen=True)
class Comparison:
    """An arm against control.

    Attributes:
        difference: of the means.
        low, high: the confidence sequence of it; infinite before anything can be said.
        p: always valid.
        base: the mean of control.
    """

    difference: float
    low: float
    high: float
    p: float
    base: float

    @property
    def lift(self) -> float:
        """The difference as a share of control; NaN where control has nothing."""
        return self.difference / self.base if self.base else math.nan


def compare(control: Sample, arm: Sample, alpha: float, planned_users: int) -> Comparison:
    """Hold an arm against control.

    Args:
        control: a measure of the control's users.
        arm: the same of another arm's.
        alpha: the share of tests that may ever find a difference that is none.
        planned_users: of both arms together, at which the test sees best.

    >>> one, other = Sample.of_proportion(10_000, 500), Sample.of_proportion(10_000, 640)
    >>> found = compare(one, other, 0.05, 20_000)
    >>> f"{found.lift:.2f} {found.p:.4f} {found.low:.4f} {found.high:.4f}"
    '0.28 0.0009 0.0041 0.0239'
    """
    difference = arm.mean - control.mean
    error_squared = _error_squared(control, arm)
    if error_squared is None:
        return Comparison(difference, -math.inf, math.inf, 1.0, control.mean)
    size = control.count * arm.count / (control.count + arm.count)
    mixed = size * _mixture(alpha, planned_users / 4)
    share = mixed / (1.0 + mixed)
    log_p = 0.5 * (math.log1p(mixed) - difference * difference / error_squared * share)
    reach = (math.log1p(mixed) - 2.0 * math.log(alpha)) / share
    half = math.sqrt(error_squared * reach)
    p = math.exp(min(log_p, 0.0))
    return Comparison(difference, difference - half, difference + half, p, control.mean)


def _error_squared(control: Sample, arm: Sample) -> float | None:
    """The square of the difference's standard error; None while it is not to be trusted."""
    if min(control.count, arm.count) < LEAST:
        return None
    binary = control.squares == control.total and arm.squares == arm.total
    if binary and control.total + arm.total < LEAST_EVENTS:
        return None
    error_squared = control.variance / control.count + arm.variance / arm.count
    return error_squared if error_squared > 0.0 else None


def _mixture(alpha: float, size: float) -> float:
    """The variance of the mixture, in standard deviations squared, that sees best at a size."""
    spent = -2.0 * math.log(alpha)
    return (spent + math.log1p(spent)) / size
