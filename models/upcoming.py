"""How many purchases a living customer will still make: the mean, quickly and to eight digits.

After x repeat purchases in T a customer's rate is Gamma(A = r + x, alpha + T), and the chance to
leave after each purchase is Beta(a, B = b + x). So the mean number of purchases in the next t is

    E[g(p)],   g(p) = (1 - (1 + p s)^-A) / p,   s = t / (alpha + T),   p ~ Beta(a, B).

The paper writes it as C / (a - 1) * (1 - (1 + s)^-A 2F1(A, B; C; s / (1 + s))) with C = a + B - 1.
That is 0 / 0 at a = 1, overflows for busy customers, loses its digits for short horizons and needs
hundreds of terms for new customers. Here are two sums for the mean itself, without 2F1:

- in powers of z, where s = 4 z / (1 - z)^2. The mean has its only singularities at s = -1 and
  beyond, which this puts on the rim of the unit disc, so the terms shrink like z^k: a dozen at
  s = 1, forty at s = 10. Put into the differential equation of 2F1(A, a - 1; C; -s), it gives each
  term from the three before; the factor a - 1 is divided out beforehand.
- over places of p, by the trapezoidal rule in w = log(p / (1 - p)), where nothing is negative and
  all is smooth. Around the mass of p places lie evenly; far out, where the tails fall like exp(a w)
  and g may still rise, they spread out like sinh, so that they reach as far as a small a needs.
  From 50 to 200 places, whatever comes (Takahasi and Mori, "Double exponential formulas for
  numerical integration", Publ. RIMS 9, 1974).

The first takes a tenth of the time, where it can be trusted: not beyond s = 20, and not where its
terms were so much larger than its sum that digits are gone. Both are for ``models.alive``.
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

_SHORT: Final = 20.0
"""The sum in powers is for horizons up to this."""

_POWERS: Final = 200
"""Enough for ``_SHORT``."""

_SMALL: Final = 1e-10
"""Of the sum, what the rest of it may be."""

_LOST: Final = 1e6
"""How much larger than the sum a term may be: of 16 digits, 6 are gone then."""

_HUGE: Final = 1e200

_STEP: Final = 0.15
"""Between two places of p, as a share of the width of its mass."""

_SPREAD: Final = 1e-3
"""Places begin to spread out where sinh is one over this."""

_PLACES: Final = 400
"""To each side at most; tails have ended long before."""

_NOTHING: Final = 1e-300
"""Below it p is nothing, and g(p) is A s."""


def upcoming(r: float, a: float, b: float, x: F64, s: F64) -> F64:
    """The mean number of purchases of customers who have not left, float64[n].

    What is no number gives none.

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
def _by_places(r: float, a: float, b: float, x: float, s: float) -> float:
    """The sum over places of p, as a mean: the same sum without g divides it."""
    A, B = r + x, b + x
    middle = math.log(a / B)
    width = min(1.0, 3.0 * math.sqrt(1.0 / a + 1.0 / B))
    top = a * math.log(a / (a + B)) + B * math.log(B / (a + B))
    away = math.exp(_STEP)
    mass = part = 0.0
    for side in (1.0, -1.0):
        t, grown = (0.0, 1.0) if side > 0.0 else (_STEP, away)  # grown is exp(t)
        for _ in range(_PLACES):
            w = middle + side * width * (t + 0.5 * _SPREAD * (grown - 1.0 / grown))
            e = math.exp(-abs(w))
            rest = math.log1p(e)
            if w > 0.0:
                p, log_chance = 1.0 / (1.0 + e), -a * rest - B * (w + rest)
            else:
                p, log_chance = e / (1.0 + e), a * (w - rest) - B * rest
            chance = math.exp(log_chance - top) * (1.0 + 0.5 * _SPREAD * (grown + 1.0 / grown))
            bought = -math.expm1(-A * math.log1p(p * s)) / p if p > _NOTHING else A * s
            mass += chance
            part += chance * bought
            if chance <= 0.1 * _SMALL * mass and chance * bought <= 0.1 * _SMALL * part:
                break
            t += _STEP
            grown *= away
    return part / mass


@compiled
def _fill(r: float, a: float, b: float, x: F64, s: F64, out: F64) -> None:
    for i in range(len(x)):
        found = -1.0
        if s[i] <= _SHORT:
            found = _by_powers(r, a, b, x[i], s[i])
        out[i] = found if found >= 0.0 else _by_places(r, a, b, x[i], s[i])
