"""How many purchases a living customer will still make: the mean, quickly and to eight digits.

After x repeat purchases in T a customer's rate is Gamma(A = r + x, alpha + T), and the chance to
leave after each purchase is Beta(a, b + x). So the mean number of purchases in the next t is

    E[(1 - (1 + p s)^-A) / p],   s = t / (alpha + T),   p ~ Beta(a, b + x).

The paper writes it as C / (a - 1) * (1 - (1 + s)^-A 2F1(A, b + x; C; s / (1 + s))) with C = a + b +
x - 1. That is 0 / 0 at a = 1, overflows for busy customers, loses its digits for short horizons and
needs hundreds of terms for new customers. Here are two sums for the mean itself, without 2F1:

- in powers of z, where s = 4 z / (1 - z)^2. The mean has its only singularities at s = -1 and
  beyond, which this puts on the rim of the unit disc, so the terms shrink like z^k: a dozen at
  s = 1, forty at s = 10. Put into the differential equation of 2F1(A, a - 1; C; -s), it gives each
  term from the three before; the factor a - 1 is divided out beforehand.
- over the number K of purchases there would be if nobody left, which is negative binomial: of k,
  on the mean 1 + B/(B+a) + B(B+1)/((B+a)(B+a+1)) + ... (k terms, B = b + x) come before leaving.
  Nothing in it is negative, so no digit is lost, but it needs as many terms as purchases.

The first is used unless its terms were so much larger than its sum that digits are gone: that takes
a long horizon, s > 5 or so, and a > 5 or r > a + b beside it. Both are for ``models.alive``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step

F64 = NDArray[np.float64]

LONGEST: Final = 1e6
"""Horizons beyond so many times (alpha + T) count as that: no one means them."""

_POWERS: Final = 20_000
"""Enough for ``LONGEST``."""

_COUNTS: Final = 1_000_000
"""Purchases beyond so many are not looked for."""

_SMALL: Final = 1e-10
"""Of the sum, what the rest of it may be."""

_LOST: Final = 1e6
"""How much larger than the sum a term may be: of 16 digits, 6 are gone then."""

_HUGE: Final = 1e200
_LOG_HUGE: Final = math.log(_HUGE)


def upcoming(r: float, a: float, b: float, x: F64, s: F64) -> F64:
    """The mean number of purchases of customers who have not left, float64[n].

    Not for users whose data have not been checked: NaN in, NaN out, after a long search for it.

    Args:
        r: shape of the rates of purchase.
        a: of the chances to leave.
        b: of the chances to leave.
        x: repeat purchases so far, float64[n], at least 0.
        s: the horizon as a multiple of (alpha + T), float64[n], at least 0.

    >>> upcoming(1.0, 1.0, 1.0, np.array([0.0, 0.0]), np.array([0.0, 1.0])).round(6).tolist()
    [0.0, 0.693147]
    """
    out = np.empty(len(x))
    _fill(r, a, b, x, np.minimum(s, LONGEST), out)
    return out


@step
def _by_powers(r: float, a: float, b: float, x: float, s: float) -> float:
    """The sum in powers of z; negative where it has lost its digits."""
    A, w, C = r + x, a - 1.0, a + b + x - 1.0
    root = 1.0 + math.sqrt(1.0 + s)
    z = s / (root * root)
    M, Q = 2.0 + 3.0 * (C - 1.0) - 4.0 * (A + w), 4.0 * A * w
    z2, z3 = z * z, z * z * z
    h3, h2, h1 = 0.0, 0.0, 4.0 * A * z
    total, largest, extra = h1, h1, 4.0 * A * C * z2
    enough = _SMALL * (1.0 - z)
    for k in range(2, _POWERS):
        u, v, w3 = k - 1.0, k - 2.0, k - 3.0
        share = 1.0 / (k * (k + C - 1.0))  # aside, so that no term waits for a division
        older = (v * (v - M) - Q) * z2 * share * h2 - w3 * (w3 - C + 1.0) * z3 * share * h3
        h = (u * (u + M) - Q) * z * share * h1 + (older + extra * share)
        extra = 0.0
        total += h
        largest = max(largest, abs(h))
        if abs(h) + abs(h1) + abs(h2) <= enough * total:
            return total if largest <= min(_LOST * total, _HUGE) else -1.0
        h3, h2, h1 = h2, h1, h
    return -1.0


@step
def _by_counts(r: float, a: float, b: float, x: float, s: float) -> float:
    """The sum over the number of purchases there would be if nobody left."""
    A, B, z = r + x, b + x, s / (1.0 + s)
    p, mass, part = 1.0, 1.0, 0.0  # in units of the chance of no purchase
    log_unit = -A * math.log1p(s)
    mean, more = 0.0, 1.0
    for k in range(_COUNTS):
        p *= z * (A + k) / (k + 1.0)
        mean += more
        more *= (B + k) / (a + B + k)
        mass += p
        part += p * mean
        if k > A * s and p * (mean + more) <= _SMALL * (1.0 - z) * part:
            return part / mass
        if more * (B + k + 1.0) <= _SMALL * (a - 1.0) * mean:
            break  # more purchases would all come after leaving
        if mass > _HUGE:
            p, mass, part, log_unit = p / _HUGE, mass / _HUGE, part / _HUGE, log_unit + _LOG_HUGE
    seen = min(1.0, mass * math.exp(min(log_unit, 0.0)))
    return part / mass * seen + mean * (1.0 - seen)


@compiled
def _fill(r: float, a: float, b: float, x: F64, s: F64, out: F64) -> None:
    for i in range(len(x)):
        found = _by_powers(r, a, b, x[i], s[i])
        out[i] = found if found >= 0.0 else _by_counts(r, a, b, x[i], s[i])
