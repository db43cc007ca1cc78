"""Recency, frequency and monetary scores from 1 to 5, by quintiles of the live population.

Who is scored: users with an order. What is scored is the **basis**: the decayed, the windowed or
the lifetime orders and spend. The four cuts of each score lie at the population's quintiles and
carry a version, so a score can always be recomputed from the values and the cuts it was given.

- **R** counts whole UTC days since the last order and is reversed: 5 is the most recent.
- **M** and **R** use right-closed linear quantiles, as ``pandas.qcut`` does.
- **F** is scored by rank, ties broken by user id, so its five classes are of equal size even where
  half of the users have one order. A cut of F is therefore a value *and* a user id. With
  ``ties="same"`` equal frequencies get equal scores instead.
- On the decayed basis values are compared in log form (``log2 Σ w·2^(t/h)``). All users decay
  alike, so order and quintiles do not change while nobody acts, and neither do F and M.

>>> spec = RfmSpec(basis="lifetime")
>>> days, orders = np.array([0, 1, 2, 3, 40]), np.array([9.0, 1, 1, 1, 1])
>>> spend = np.array([900.0, 10, 20, 30, 40])
>>> cuts = quintiles(spec, days, orders, spend, list("abcde"), version=1, as_of_ms=0)
>>> r, f, m = score(cuts, days, orders, spend, list("abcde"))
>>> r.tolist(), f.tolist(), m.tolist()
([5, 4, 3, 2, 1], [5, 1, 2, 3, 4], [5, 1, 2, 3, 4])
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.times import DAY_MS, FAR_MS

I8 = NDArray[np.int8]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Basis = Literal["decayed", "window", "lifetime"]


class Names(Protocol):
    """User ids that are looked up one by one."""

    def __getitem__(self, i: int, /) -> str: ...


QUINTILES: Final = (0.2, 0.4, 0.6, 0.8)


@dataclass(slots=True, frozen=True)
class RfmSpec:
    """What is scored and how.

    Attributes:
        basis: which orders and spend count.
        half_life_ms: of the decayed basis.
        window_ms: of the window basis.
        ties: ``rank`` breaks ties of F by user id, ``same`` scores equals equal.
        fixed: cuts to use instead of the population's quintiles.
    """

    basis: Basis = "decayed"
    half_life_ms: int = 30 * DAY_MS
    window_ms: int = 90 * DAY_MS
    ties: Literal["rank", "same"] = "rank"
    fixed: Cuts | None = None


@dataclass(slots=True, frozen=True)
class Cuts:
    """Four ascending cuts for each of R, F and M; a score is 1 + the cuts strictly below.

    Attributes:
        version: rises by one with each new set; 0 means that no user can be scored yet.
        as_of_ms: event time at which the population was measured.
        recency_days: cuts on whole days since the last order.
        frequency, monetary: cuts in the basis' own unit; in log form on the decayed basis.
        frequency_ids: the user ids that break ties of F at each cut; empty without tie-breaking.
        users: how many users were measured.
    """

    version: int = 0
    as_of_ms: int = 0
    recency_days: tuple[float, ...] = ()
    frequency: tuple[float, ...] = ()
    monetary: tuple[float, ...] = ()
    frequency_ids: tuple[str, ...] = ()
    users: int = 0

    def encode(self) -> bytes:
        """As MessagePack, to be shared between lanes."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(raw: bytes) -> Cuts:
        """The cuts that ``encode`` wrote."""
        return msgspec.msgpack.decode(raw, type=Cuts)


def whole_days(later_ms: I64, earlier_ms: I64) -> I64:
    """UTC midnights between two times: days of ``later`` minus days of ``earlier``."""
    return later_ms // DAY_MS - earlier_ms // DAY_MS


def quintiles(
    spec: RfmSpec,
    days: I64,
    frequency: F64,
    monetary: F64,
    user_ids: Names,
    *,
    version: int,
    as_of_ms: int,
) -> Cuts:
    """Measure a population: whole days, frequency and monetary value of its buyers, each n.

    ``user_ids`` needs to answer only where a frequency equals a cut. Returns version 0 for an
    empty population.
    """
    n = len(days)
    if n == 0:
        return Cuts()
    frequency_cuts, ids = _frequency_cuts(spec, frequency, user_ids)
    return Cuts(
        version=version,
        as_of_ms=as_of_ms,
        recency_days=_linear(days.astype(np.float64)),
        frequency=frequency_cuts,
        monetary=_linear(monetary),
        frequency_ids=ids,
        users=n,
    )


def score(
    cuts: Cuts, days: I64, frequency: F64, monetary: F64, user_ids: Names
) -> tuple[I8, I8, I8]:
    """R, F and M of n buyers, int8[n] each; all 0 where there are no cuts yet.

    ``user_ids`` needs to answer only where a frequency equals a cut.
    """
    if cuts.version == 0:
        zero = np.zeros(len(days), dtype=np.int8)
        return zero, zero.copy(), zero.copy()
    r, f, m = np.empty((3, len(days)), dtype=np.int8)
    edges = np.array([cuts.recency_days, cuts.frequency, cuts.monetary])
    tied = np.empty((len(cuts.frequency_ids), len(days)), dtype=np.bool_)
    if _score(edges, days, frequency, monetary, r, f, m, tied):
        for place, i in np.argwhere(tied).tolist():
            f[i] += user_ids[i] > cuts.frequency_ids[place]
    return r, f, m


def next_recency_step_ms(cuts: Cuts, last_order_ms: I64, now_ms: I64) -> I64:
    """The midnight at which R next falls in silence, int64[n]; far where it cannot fall further."""
    if cuts.version == 0 or len(cuts.recency_days) == 0:
        return np.full(len(now_ms), FAR_MS, dtype=np.int64)
    edges = np.floor(np.asarray(cuts.recency_days)).astype(np.int64) + 1
    days = whole_days(now_ms, last_order_ms)
    position = np.searchsorted(edges, days, side="right")
    next_day = np.append(edges, -1)[position]
    step = (last_order_ms // DAY_MS + next_day) * DAY_MS
    return np.where(next_day < 0, FAR_MS, step)


def _frequency_cuts(
    spec: RfmSpec, frequency: F64, user_ids: Names
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The four (value, id) pairs that end the lower four fifths of the ranking."""
    if spec.ties == "same":
        return _linear(frequency), ()
    places = [int((len(frequency) - 1) * q) for q in QUINTILES]
    values = np.partition(frequency, sorted(set(places)))[places]
    ids = []
    for place, value in zip(places, values.tolist(), strict=True):
        below = int(np.count_nonzero(frequency < value))
        tied = sorted(user_ids[i] for i in np.flatnonzero(frequency == value).tolist())
        ids.append(tied[place - below])
    return tuple(values.tolist()), tuple(ids)


@compiled
def _score(
    edges: F64,
    days: I64,
    frequency: F64,
    monetary: F64,
    r: I8,
    f: I8,
    m: I8,
    tied: NDArray[np.bool_],
) -> bool:
    """Count the cuts below each value; whether any frequency equals a cut that has an id."""
    some = False
    for i in range(len(days)):
        r[i], f[i], m[i] = 5, 1, 1
        for k in range(edges.shape[1]):
            r[i] -= not days[i] <= edges[0, k]
            f[i] += not frequency[i] <= edges[1, k]
            m[i] += not monetary[i] <= edges[2, k]
        for k in range(len(tied)):
            tied[k, i] = frequency[i] == edges[1, k]
            some |= tied[k, i]
    return some


def _linear(values: F64) -> tuple[float, ...]:
    """Quintiles with linear interpolation; beside an infinite neighbour, the lower one."""
    positions = [(len(values) - 1) * q for q in QUINTILES]
    lows = [int(p) for p in positions]
    highs = [min(low + 1, len(values) - 1) for low in lows]
    ordered = np.partition(values, sorted({*lows, *highs}))
    cuts = []
    for position, low, high in zip(positions, lows, highs, strict=True):
        a, b = float(ordered[low]), float(ordered[high])
        share = position - low
        cuts.append(a if a == b or share == 0 or np.isinf(a) else a + (b - a) * share)
    return tuple(cuts)
