"""What will this customer's next purchase be worth? The Gamma-Gamma model.

Each customer's purchases scatter around a mean of their own, and the means scatter over the
customers. So the mean seen over few purchases says little of the customer, and what to expect lies
between it and the mean over all: nearer to the customer's own, the more purchases it is over.

The model takes it that how much someone spends says nothing of how often they buy. Look at the
correlation of the two before trusting it: at CDNOW it is near zero, elsewhere bulk buyers come less
often. Times ``BgNbd.expected_purchases`` it gives the value of the coming time, see
``models.lifetime``.

Fader, Hardie and Lee: "RFM and CLV: using iso-value curves for customer base analysis", Journal of
Marketing Research 42(4), 2005; Fader and Hardie: "The Gamma-Gamma model of monetary value", 2013.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

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

F64 = NDArray[np.float64]

MODEL: Final = "gamma-gamma"

LARGEST: Final = 1e15
"""Amounts and counts beyond this are refused."""

_START: Final = (2.0, 3.0, 1.0)
"""Where a fit begins, with the mean spend as the unit of money."""


@dataclass(slots=True, frozen=True)
class GammaGamma:
    """The model with its parameters.

    Attributes:
        p: shape of a customer's purchases; the larger, the less they scatter. Means alone tell
            little of it: over a few thousand customers expect it to be found to within a fifth.
        q: shape of the customers' scales; the larger, the more alike customers are. Above 1, or
            there would be no mean over all.
        gamma: an amount, in the unit of the spend.

    Raises:
        ValueError: a parameter that is not positive and finite, or ``q`` not above 1.

    >>> cdnow = GammaGamma(p=6.25, q=3.74, gamma=15.44)
    >>> cdnow.expected_spend(np.array([0.0, 1.0, 10.0]), np.array([0.0, 100.0, 100.0])).round(1)
    array([35.2, 80.3, 97.3])
    """

    p: float
    q: float
    gamma: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = 1.0 if name == "q" else 0.0
            if not least < value < np.inf:
                raise ValueError(f"{name} must be above {least:g} and finite, but {value!r} came")

    def expected_spend(self, x: F64, m: F64) -> F64:
        """What each user's next purchase will be worth, on the mean, float64[n].

        Args:
            x: how many purchases ``m`` is the mean over, float64[n]; where it is 0, the mean over
                all customers is the answer.
            m: mean spend per purchase, float64[n], not looked at where x = 0.

        Raises:
            ValueError: columns of different length, or not x >= 0 and m >= 0 within 1e15.
        """
        x, m = checked(x, m)
        out: F64 = (self.gamma + x * m) * self.p / (self.p * x + (self.q - 1.0))
        return out

    def log_likelihood(self, x: F64, m: F64) -> F64:
        """The natural logarithm of the density of each user's mean spend, float64[n].

        Args:
            x: how many purchases ``m`` is the mean over, float64[n], above 0.
            m: mean spend per purchase, float64[n], above 0.

        Raises:
            ValueError: as for ``expected_spend``, or a user without purchases or with none paid.
        """
        from scipy import special  # whoever only scores need not wait for it

        x, m = _spent(x, m)
        p, q, gamma = self.p, self.q, self.gamma
        share = np.log(x * m / (gamma + x * m))
        rest = q * np.log(gamma / (gamma + x * m))
        out: F64 = p * x * share + rest - np.log(m) - special.betaln(p * x, q)
        return out

    def to_state(self) -> State:
        """The parameters as plain data, for JSON or MessagePack."""
        return saved(MODEL, asdict(self))

    @classmethod
    def from_state(cls, state: State) -> GammaGamma:
        """The model that ``to_state`` wrote, bit for bit.

        Raises:
            ModelMismatch: another format, another model, other parameters or another scipy.
        """
        return cls(**restored(MODEL, [field.name for field in fields(cls)], state))


def fit(
    x: F64,
    m: F64,
    weights: F64 | None = None,
    start: GammaGamma | None = None,
    pull: float = 0.0,
) -> Fitted[GammaGamma]:
    """The parameters under which these users' mean spends are likeliest.

    Args:
        x: how many purchases each mean is over, float64[n], above 0.
        m: mean spend per purchase, float64[n], above 0.
        weights: how many users each row stands for, float64[n]; None for one each.
        start: where to begin; None for a usual shop.
        pull: how strongly to hold on to the start, see ``models.likelihood``.

    Raises:
        ValueError: fewer than 100 users, one spend for all, or as for
            ``GammaGamma.log_likelihood``.

    >>> rng = np.random.default_rng(1)
    >>> x, scale = rng.integers(1, 20, 2_000).astype(np.float64), rng.gamma(4.0, 1 / 30.0, 2_000)
    >>> found = fit(x, rng.gamma(5.0 * x, 1.0 / scale) / x)
    >>> of_all = found.model.expected_spend(np.zeros(1), np.zeros(1)).item()
    >>> 3.5 < found.model.q < 4.5, 48.0 < of_all < 52.0
    (True, True)
    """
    rows, users = tallied(np.stack(_spent(x, m), axis=1), weights)
    x, m = np.ascontiguousarray(rows.T)
    total = float(users.sum())
    refuse_few(total, FEWEST_USERS, "users who spent")
    if m.min() == m.max():
        raise ValueError(
            f"a fit needs spends that differ, but all users have a mean of {m[0]:g}: "
            "look whether the column is the right one"
        )
    unit = summed(users, m) / total
    begin = GammaGamma(*_START) if start is None else replace(start, gamma=start.gamma / unit)
    likelihood = _Likelihood(x, m / unit, users)
    above_one = np.array(astuple(begin)) - [0.0, 1.0, 0.0]
    found, converged = most_likely(likelihood, above_one, total, pull)
    p, over, gamma = found.tolist()
    model = GammaGamma(p, 1.0 + over, gamma * unit)
    return Fitted(model, summed(users, model.log_likelihood(x, m)), converged, total)


class _Likelihood:
    """The summed log-likelihood of weighted users and its slope by p, q - 1 and gamma."""

    def __init__(self, x: F64, m: F64, users: F64) -> None:
        self._spent, self._users = x * m, users
        self._purchases, self._log_m = users * x, summed(users, np.log(m))
        # gamma functions depend on x alone, which has few values
        self._counts, which = np.unique(x, return_inverse=True)
        self._with_count = np.bincount(which, users).astype(np.float64)

    def __call__(self, params: F64) -> tuple[float, F64]:
        p, over, gamma = params.tolist()
        q, users, purchases = 1.0 + over, self._users, self._purchases
        whole = gamma + self._spent
        share = summed(purchases, np.log(self._spent / whole))
        of_rest = summed(users, np.log(gamma / whole))
        of_counts, by_p, by_q = self._of_counts(p, q)
        slope = [
            by_p + share,
            by_q + of_rest,
            q / gamma * summed(users, self._spent / whole) - p * summed(purchases, 1.0 / whole),
        ]
        return of_counts + p * share + q * of_rest - self._log_m, np.array(slope)

    def _of_counts(self, p: float, q: float) -> tuple[float, float, float]:
        from scipy import special  # whoever only scores need not wait for it

        x, users, psi = self._counts, self._with_count, special.digamma
        both = psi(p * x + q)
        value = -summed(users, special.betaln(p * x, q))
        by_p = summed(users, x * (both - psi(p * x)))
        return value, by_p, summed(users, both - psi(q))


def checked(x: F64, m: F64) -> tuple[F64, F64]:
    """The two columns as float64[n], if they can be purchases and what they were worth."""
    x, m = (np.asarray(column, dtype=np.float64) for column in (x, m))
    if x.ndim != 1 or x.shape != m.shape:
        raise ValueError(f"x and m must have one length, but {x.shape} and {m.shape} came")
    fit_in = (x >= 0.0) & (x <= LARGEST) & (m >= 0.0) & (m <= LARGEST)
    if not fit_in.all():  # also for NaN, which compares with nothing
        i = int(np.argmin(fit_in))
        raise ValueError(
            f"every user needs x >= 0 and m >= 0, none above {LARGEST:g}, but user {i} has "
            f"x = {x[i]:g}, m = {m[i]:g}: clip or drop such users before"
        )
    return x, m


def _spent(x: F64, m: F64) -> tuple[F64, F64]:
    """As ``checked``, for users who spent something."""
    x, m = checked(x, m)
    spent = (x > 0.0) & (m > 0.0)
    if not spent.all():
        i = int(np.argmin(spent))
        raise ValueError(
            f"the likelihood needs users with x > 0 and m > 0, but user {i} has x = {x[i]:g}, "
            f"m = {m[i]:g}: leave out those who have not paid for anything"
        )
    return x, m
