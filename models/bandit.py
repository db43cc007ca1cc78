"""Thompson sampling between arms whose outcome is yes or no.

Each arm's rate has a Beta distribution, from its conversions and a uniform prior. New users are
shared out in the ratio of the chances that an arm is the best, which is what drawing once from each
arm for every user comes to, but needs no draw: the chances are integrals, and all who know the
counts agree on them. Users keep their arm, so only new ones follow.

It serves those who want conversions rather than an answer: arms that do badly become small, and
what is said of them stays vague. Outcomes come late (the attribution window), and a rate that
drifts while the weights move favours whoever was large at a good time; the ``floor`` keeps every
arm in sight. Russo et al., "A tutorial on Thompson sampling", 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_POINTS: Final = 2_000


def chances_best(conversions: Sequence[int], users: Sequence[int]) -> F64:
    """The chance of each arm that its rate is the highest, float64[arms].

    >>> chances_best([10, 10], [100, 100]).round(3).tolist()
    [0.5, 0.5]
    >>> chances_best([10, 30], [100, 100]).round(3).tolist()
    [0.0, 1.0]
    """
    from scipy.special import betainc, betaincinv  # slow to load, and not everybody needs it

    won = np.array(conversions, dtype=np.float64) + 1.0
    lost = np.array(users, dtype=np.float64) + 2.0 - won
    level = (np.arange(_POINTS) + 0.5) / _POINTS
    out = np.empty(len(won))
    for arm in range(len(won)):
        rate = betaincinv(won[arm], lost[arm], level)
        below = [
            betainc(won[other], lost[other], rate) for other in range(len(won)) if other != arm
        ]
        out[arm] = np.prod(below, axis=0).mean()
    chances: F64 = out / out.sum()
    return chances


def weights(conversions: Sequence[int], users: Sequence[int], floor: float = 0.05) -> list[float]:
    """The share of new users that each arm gets.

    Args:
        conversions: users of each arm who converted.
        users: exposed users of each.
        floor: no arm gets less than so much, or than an equal share.

    >>> [round(w, 2) for w in weights([10, 30], [100, 100])]
    [0.05, 0.95]
    """
    best = chances_best(conversions, users)
    least = min(floor, 1.0 / len(best))
    shared: F64 = least + (1.0 - least * len(best)) * best
    return [float(share) for share in shared]
