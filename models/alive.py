"""Is this customer still one, and how many purchases are to come? The BG/NBD model.

While a customer lives they buy at their own steady rate, and after each purchase they leave with
their own fixed chance. Rates are gamma distributed over the customers (r, alpha), chances to leave
are beta distributed (a, b). All a customer's past says then lies in three numbers: how often they
bought again (x), when last (t_x) and since when they could (T), the last two counted from their
first purchase. So nothing but counters is kept per user, and the answers are closed forms.

They are computed by logarithms and never overflow: a customer who bought a thousand times and then
stopped gets a probability of 0, not NaN.

The unit of time is the caller's: alpha, t_x, T and horizons must share it. ``models.lifetime``
makes weeks of the engine's columns. The model knows no season, no campaigns and no return of those
who left, and it thinks that nobody leaves before their first repeat purchase (x = 0 is always
alive); where many buy just once, look at ``expected_purchases`` rather than ``p_alive``.

Fader, Hardie and Lee: "Counting your customers the easy way: an alternative to the Pareto/NBD
model", Marketing Science 24(2), 2005.
"""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.contract import State
from models.likelihood import (
    FEWEST_USERS,
    Fitted,
    most_likely,
    refuse_few,
    restored,
    saved,
    summed,
    tallied,
)
from models.upcoming import upcoming

F64 = NDArray[np.float64]

MODEL: Final = "bg/nbd"

FEWEST_REPEATERS: Final = 10
"""Users with x > 0; only they tell of rates and of leaving."""

LARGEST: Final = 1e10
"""Counts and times beyond this are refused."""

_START: Final = (0.5, 0.3, 1.0, 2.5)
"""Where a fit begins, with the mean T as the unit of time."""


@dataclass(slots=True, frozen=True)
class BgNbd:
    """The model with its parameters.

    Attributes:
        r, alpha: shape and inverse scale of the rates of purchase; alpha is a time.
        a, b: of the chances to leave after a purchase.

    Raises:
        ValueError: a parameter that is not positive and finite.

    >>> cdnow = BgNbd(r=0.2426, alpha=4.4136, a=0.7929, b=2.4259)
    >>> x, t_x, T = np.array([2.0]), np.array([30.43]), np.array([38.86])
    >>> cdnow.p_alive(x, t_x, T).round(4).tolist()
    [0.7266]
    >>> cdnow.expected_purchases(x, t_x, T, 39.0).round(3).tolist()
    [1.226]
    """

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0.0 < value < np.inf:
                raise ValueError(f"{name} must be positive and finite, but {value!r} came")

    def p_alive(self, x: F64, t_x: F64, T: F64) -> F64:
        """The probability that each user has not left, float64[n].

        Args:
            x: repeat purchases, so 0 after the first, float64[n].
            t_x: time of the last purchase since the first, float64[n]; not looked at where x = 0.
            T: time since the first purchase, float64[n].

        Raises:
            ValueError: columns of different length, or not 0 <= t_x <= T and x >= 0 within 1e10.
        """
        return self._p_alive(*checked(x, t_x, T))

    def expected_purchases(self, x: F64, t_x: F64, T: F64, t: float) -> F64:
        """How many purchases each user will make in the next ``t``, on the mean, float64[n].

        Those who may have left are counted by their probability to be alive. To about 1e-8.

        Args:
            x: repeat purchases, float64[n].
            t_x: time of the last purchase since the first, float64[n].
            T: time since the first purchase, float64[n].
            t: the horizon, in the same unit; beyond 1e6 * (alpha + T) it counts as that.

        Raises:
            ValueError: as for ``p_alive``, or a horizon that is negative or not finite.
        """
        return self.outlook(x, t_x, T, t)[1]

    def outlook(self, x: F64, t_x: F64, T: F64, t: float) -> tuple[F64, F64]:
        """Both at once: ``p_alive`` and ``expected_purchases``, float64[n] each."""
        if not 0.0 <= t < np.inf:
            raise ValueError(f"the horizon must be finite and at least 0, but {t!r} came")
        x, t_x, T = checked(x, t_x, T)
        alive = self._p_alive(x, t_x, T)
        ahead = upcoming(self.r, self.a, self.b, x, t / (self.alpha + T))
        ahead *= alive
        return alive, ahead

    def log_likelihood(self, x: F64, t_x: F64, T: F64) -> F64:
        """The natural logarithm of the likelihood of each user's past, float64[n].

        Args:
            x: repeat purchases, float64[n].
            t_x: time of the last purchase since the first, float64[n].
            T: time since the first purchase, float64[n].

        Raises:
            ValueError: as for ``p_alive``.
        """
        from scipy import special  # whoever only scores need not wait for it

        x, t_x, T = checked(x, t_x, T)
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        bought = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha)
        stayed = special.betaln(a, b + x) - special.betaln(a, b)
        out: F64 = bought + stayed - (r + x) * np.log(alpha + T)
        out += np.logaddexp(0.0, self._log_odds(x, t_x, T))
        return out

    def to_state(self) -> State:
        """The parameters as plain data, for JSON or MessagePack."""
        return saved(MODEL, asdict(self))

    @classmethod
    def from_state(cls, state: State) -> BgNbd:
        """The model that ``to_state`` wrote, bit for bit.

        Raises:
            ModelMismatch: another format, another model, other parameters or another scipy.
        """
        return cls(**restored(MODEL, [field.name for field in fields(cls)], state))

    # -- inside -------------------------------------------------------------------------------

    def _p_alive(self, x: F64, t_x: F64, T: F64) -> F64:
        out = np.empty(len(x))
        _fill(self.r, self.alpha, self.a, self.b, x, t_x, T, out)
        return out

    def _log_odds(self, x: F64, t_x: F64, T: F64) -> F64:
        """Logarithm of the odds that a user has left; minus infinity where x = 0."""
        silent = np.log1p((T - t_x) / (self.alpha + t_x))
        odds = (self.r + x) * silent - np.log((self.b - 1.0 + np.maximum(x, 1.0)) / self.a)
        odds[x == 0.0] = -np.inf
        out: F64 = odds
        return out


def fit(
    x: F64,
    t_x: F64,
    T: F64,
    weights: F64 | None = None,
    start: BgNbd | None = None,
    pull: float = 0.0,
) -> Fitted[BgNbd]:
    """The parameters under which these users' pasts are likeliest.

    Only users who have bought at least once belong here. Starting from the last fit is quicker,
    and with a ``pull`` of 1 to 10 it also keeps parameters from jumping where users are few.

    Args:
        x: repeat purchases, float64[n].
        t_x: time of the last purchase since the first, float64[n].
        T: time since the first purchase, float64[n].
        weights: how many users each row stands for, float64[n]; None for one each.
        start: where to begin; None for a usual shop.
        pull: how strongly to hold on to the start, see ``models.likelihood``.

    Raises:
        ValueError: fewer than 100 users, fewer than 10 with x > 0, all users alike or just come,
            or as for ``BgNbd.p_alive``.

    >>> rng = np.random.default_rng(1)
    >>> T, rate = rng.uniform(10.0, 50.0, 500), rng.gamma(1.0, 0.1, 500)
    >>> x = rng.poisson(rate * T).astype(np.float64)
    >>> t_x = np.where(x > 0, T * rng.random(500) ** (1 / np.maximum(x, 1)), 0.0)
    >>> found = fit(x, t_x, T)  # nobody leaves here
    >>> 0.8 < found.model.r < 1.2, found.model.a / (found.model.a + found.model.b) < 0.03
    (True, True)
    """
    x, t_x, T = checked(x, t_x, T)
    rows, users = tallied(np.stack([x, np.where(x > 0.0, t_x, 0.0), T], axis=1), weights)
    x, t_x, T = np.ascontiguousarray(rows.T)
    total = float(users.sum())
    refuse_few(total, FEWEST_USERS, "users")
    refuse_few(float(users[x > 0.0].sum()), FEWEST_REPEATERS, "users who bought again")
    if len(rows) == 1:
        raise ValueError(
            f"a fit needs users who differ, but all have x = {x[0]:g}, t_x = {t_x[0]:g} and "
            f"T = {T[0]:g}: look whether the columns are the right ones"
        )
    unit = summed(users, T) / total
    if not unit > 0.0:
        raise ValueError("a fit needs users with T > 0, but all have just come: fit later")
    begin = BgNbd(*_START) if start is None else replace(start, alpha=start.alpha / unit)
    likelihood = _Likelihood(x, t_x / unit, T / unit, users)
    found, converged = most_likely(likelihood, np.array(astuple(begin)), total, pull)
    r, alpha, a, b = found.tolist()
    model = BgNbd(r, alpha * unit, a, b)
    value = summed(users, model.log_likelihood(x, t_x, T))
    return Fitted(model, value, converged, total)


class _Likelihood:
    """The summed log-likelihood of weighted users and its slope by each parameter."""

    def __init__(self, x: F64, t_x: F64, T: F64, users: F64) -> None:
        self._x, self._t_x, self._T, self._users = x, t_x, T, users
        # gamma functions depend on x alone, which has few values
        self._counts, which = np.unique(x, return_inverse=True)
        self._with_count = np.bincount(which, users).astype(np.float64)

    def __call__(self, params: F64) -> tuple[float, F64]:
        r, alpha, a, b = params.tolist()
        x, users = self._x, self._users
        A, since_last, since_first = r + x, alpha + self._t_x, alpha + self._T
        odds = BgNbd(r, alpha, a, b)._log_odds(x, self._t_x, self._T)
        gone = users * _sigmoid(odds)
        log_first, log_ratio = np.log(since_first), np.log(since_first / since_last)
        value = summed(users, np.logaddexp(0.0, odds) - A * log_first)
        by_time = [
            summed(gone, log_ratio) - summed(users, log_first),
            summed(gone - users, A / since_first) - summed(gone, A / since_last),
            float(gone.sum()) / a,
            -summed(gone, 1.0 / (b - 1.0 + np.maximum(x, 1.0))),
        ]
        of_counts, by_count = self._of_counts(r, alpha, a, b)
        return value + of_counts, np.array(by_time) + by_count

    def _of_counts(self, r: float, alpha: float, a: float, b: float) -> tuple[float, F64]:
        from scipy import special  # whoever only scores need not wait for it

        x, users, psi = self._counts, self._with_count, special.digamma
        total = float(users.sum())
        bought = special.gammaln(r + x) - special.gammaln(r) + r * np.log(alpha)
        stayed = special.betaln(a, b + x) - special.betaln(a, b)
        longer = psi(a + b) - psi(a + b + x)
        slope = [
            summed(users, psi(r + x) - psi(r)) + total * np.log(alpha),
            total * r / alpha,
            summed(users, longer),
            summed(users, longer + psi(b + x) - psi(b)),
        ]
        return summed(users, bought + stayed), np.array(slope)


def checked(x: F64, t_x: F64, T: F64) -> tuple[F64, F64, F64]:
    """The three columns as float64[n], if they can be a customer's past.

    >>> checked(np.array([1.0]), np.array([9.0]), np.array([8.0]))
    Traceback (most recent call last):
    ValueError: every user needs x >= 0 and 0 <= t_x <= T, none above 1e+10, but user 0 has \
x = 1, t_x = 9, T = 8: clip or drop such users before
    """
    x, t_x, T = (np.asarray(column, dtype=np.float64) for column in (x, t_x, T))
    if x.ndim != 1 or not x.shape == t_x.shape == T.shape:
        raise ValueError(
            f"x, t_x and T must have one length, but {x.shape}, {t_x.shape} and {T.shape} came"
        )
    i = _first_unfit(x, t_x, T)
    if i < len(x):
        raise ValueError(
            f"every user needs x >= 0 and 0 <= t_x <= T, none above {LARGEST:g}, but user {i} "
            f"has x = {x[i]:g}, t_x = {t_x[i]:g}, T = {T[i]:g}: clip or drop such users before"
        )
    return x, t_x, T


@compiled
def _first_unfit(x: F64, t_x: F64, T: F64) -> int:
    """The first row that cannot be a past, such as one with NaN; n if all can."""
    for i in range(len(x)):
        if not (0.0 <= x[i] <= LARGEST and 0.0 <= t_x[i] <= T[i] <= LARGEST):
            return i
    return len(x)


@compiled
def _fill(r: float, alpha: float, a: float, b: float, x: F64, t_x: F64, T: F64, alive: F64) -> None:
    """The probability to be alive: one over 1 + the odds that ``BgNbd._log_odds`` gives."""
    for i in range(len(x)):
        alive[i] = 1.0
        if x[i] > 0.0:
            silent = math.log1p((T[i] - t_x[i]) / (alpha + t_x[i]))
            odds = (r + x[i]) * silent - math.log((b - 1.0 + max(x[i], 1.0)) / a)
            alive[i] = math.exp(-np.logaddexp(0.0, odds))


def _sigmoid(odds: F64) -> F64:
    """The probability of log-odds, float64[n]."""
    out: F64 = np.exp(-np.logaddexp(0.0, -odds))
    return out
