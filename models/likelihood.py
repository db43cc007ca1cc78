"""The parameters under which data are likeliest: what all fits of ``models`` share.

- **Equal rows are counted once.** Likelihoods are sums over users, and many users are alike; round
  times to days before and a million users become some ten thousand rows.
- **Parameters are positive**, so their logarithms are searched, by L-BFGS with exact slopes. They
  stay within 1e-5 and 1e5 in units of the data (see each fit), so that data which would like a
  parameter to be infinite still give numbers. A fit that ends on that border says so; one in the
  thousands tells that a parameter is large (users are alike in it), hardly how large.
- **A pull** towards the start is possible: it costs ``pull`` times the squared distance of the
  logarithms, in units of log-likelihood, so it counts less the more users there are. Without it,
  which is the default, the result is the maximum of the likelihood and nothing else.

Fits refuse what they cannot learn from, before they start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray

from models.contract import State, refuse_mismatch

F64 = NDArray[np.float64]
M = TypeVar("M")

FORMAT: Final = 1
"""Version of the saved form."""

FEWEST_USERS: Final = 100
"""With fewer, a fit says more about chance than about customers."""

_FARTHEST: Final = float(np.log(1e5))
_AT_BORDER: Final = 1e-6
_STEEP: Final = 1e-5
"""Slope of the mean log-likelihood that a maximum must not have."""


@dataclass(slots=True, frozen=True)
class Fitted(Generic[M]):
    """What a fit found.

    Attributes:
        model: with the parameters found.
        log_likelihood: of the data under them, natural logarithm, without the pull.
        converged: whether they are a maximum; False if the search gave up or met a border.
        users: how many were looked at, the sum of the weights.
    """

    model: M
    log_likelihood: float
    converged: bool
    users: float


def tallied(columns: F64, weights: F64 | None) -> tuple[F64, F64]:
    """The distinct rows and the summed weight of each: float64[g, k] and float64[g].

    Args:
        columns: the data, float64[n, k].
        weights: how many users each row stands for, float64[n]; None for one each.

    Raises:
        ValueError: weights that are not finite, negative, or not one for each row.

    >>> rows, weights = tallied(np.array([[1.0, 2.0], [0.0, 9.0], [1.0, 2.0]]), None)
    >>> rows.tolist(), weights.tolist()
    ([[0.0, 9.0], [1.0, 2.0]], [1.0, 2.0])
    """
    counts = np.ones(len(columns)) if weights is None else np.asarray(weights, dtype=np.float64)
    if counts.shape != (len(columns),) or not ((counts >= 0.0) & (counts < np.inf)).all():
        raise ValueError(
            "weights must be one finite number of at least 0 for each user, but "
            f"{counts.shape} came for {len(columns)} users: give counts, or None for one each"
        )
    columns, counts = columns[counts > 0.0], counts[counts > 0.0]
    order = np.lexsort(columns.T[::-1])
    columns, counts = columns[order], counts[order]
    first = np.ones(len(columns), dtype=np.bool_)
    first[1:] = (columns[1:] != columns[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    return columns[starts], np.add.reduceat(counts, starts) if len(starts) else counts


def summed(weights: F64, values: F64) -> float:
    """The weighted sum of values, both float64[n].

    Not a dot product: BLAS shares long ones among threads, which wait for each other where cores
    are busy (a fit took forty times as long), and rounds by how many threads there are.
    """
    return float((weights * values).sum())


def refuse_few(users: float, wanted: int, who: str) -> None:
    """Raise ``ValueError`` unless there are ``wanted`` users of that kind.

    >>> refuse_few(3, 10, "users who bought again")
    Traceback (most recent call last):
    ValueError: a fit needs at least 10 users who bought again, but 3 came: fit later, over a \
longer time or over more users, and keep the parameters in use until then
    """
    if users < wanted:
        raise ValueError(
            f"a fit needs at least {wanted} {who}, but {users:g} came: fit later, over a longer "
            "time or over more users, and keep the parameters in use until then"
        )


def most_likely(
    score: Callable[[F64], tuple[float, F64]], start: F64, users: float, pull: float
) -> tuple[F64, bool]:
    """The parameters with the highest log-likelihood, float64[k], and whether they are a maximum.

    Args:
        score: log-likelihood of parameters float64[k], and its slope by each, float64[k].
        start: where to begin, float64[k], and where the pull leads to.
        users: how many the log-likelihood sums over.
        pull: strength of the pull; 0 for none.

    Raises:
        ValueError: a negative or infinite pull, or a likelihood that is not finite.

    >>> def normal(params):
    ...     return float(-((params - 3.0) ** 2).sum()), -2.0 * (params - 3.0)
    >>> params, found = most_likely(normal, np.array([1.0]), users=1, pull=0.0)
    >>> params.round(4).tolist(), found
    ([3.0], True)
    """
    if not 0.0 <= pull < np.inf:
        raise ValueError(f"the pull must be finite and at least 0, but {pull!r} came")
    origin = np.clip(np.log(start), -_FARTHEST, _FARTHEST)

    def loss(logs: F64) -> tuple[float, F64]:
        params, away = np.exp(logs), logs - origin
        value, slope = score(params)
        cost = (pull * summed(away, away) - value) / users
        return cost, (2.0 * pull * away - slope * params) / users

    from scipy import optimize  # a second, and not for whoever only scores

    found = optimize.minimize(
        loss,
        origin,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_FARTHEST, _FARTHEST)] * len(origin),
        options={"ftol": 1e-15, "gtol": 1e-8, "maxiter": 1_000, "maxfun": 2_000},
    )
    cost, slope = loss(found.x)
    if not (np.isfinite(cost) and np.isfinite(found.x).all()):
        raise ValueError(
            f"the log-likelihood must be finite, but {-cost * users} came at {np.exp(found.x)}: "
            "look for extreme values among the data"
        )
    inside = bool((np.abs(found.x) < _FARTHEST - _AT_BORDER).all())
    params: F64 = np.exp(found.x)
    return params, inside and float(np.abs(slope).max()) < _STEEP


def saved(model: str, parameters: Mapping[str, float]) -> State:
    """Parameters as plain data, for JSON or MessagePack."""
    return {
        "format": FORMAT,
        "model": model,
        "scipy": scipy.__version__,
        "parameters": dict(parameters),
    }


def restored(model: str, names: Sequence[str], state: State) -> dict[str, float]:
    """The parameters that ``saved`` wrote.

    Raises:
        ModelMismatch: another format, another model, another scipy or parameters of other names.
    """
    refuse_mismatch("format", state.get("format"), FORMAT)
    refuse_mismatch("kind", state.get("model"), model)
    refuse_mismatch("scipy version", state.get("scipy"), scipy.__version__)
    refuse_mismatch("list of parameters", list(state.get("parameters", ())), list(names))
    return dict(state["parameters"])
