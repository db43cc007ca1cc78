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
>>> score(cuts, orders > 0, days, orders, spend, list("abcde")).T.tolist()
[[5, 4, 3, 2, 1], [5, 1, 2, 3, 4], [5, 1, 2, 3, 4]]
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.times import DAY_MS, FAR_MS

Bools = NDArray[np.bool_]
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

    @property
    def mark(self) -> int:
        """Cuts of another mark are in another unit, or of other users."""
        return zlib.crc32(repr(self).encode())


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
        mark: of the spec by which they were measured; 0 where that is not known.
    """

    version: int = 0
    as_of_ms: int = 0
    recency_days: tuple[float, ...] = ()
    frequency: tuple[float, ...] = ()
    monetary: tuple[float, ...] = ()
    frequency_ids: tuple[str, ...] = ()
    users: int = 0
    mark: int = 0

    def encode(self) -> bytes:
        """As MessagePack, to be shared between lanes."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(raw: bytes) -> Cuts:
        """The cuts that ``encode`` wrote."""
        return msgspec.msgpack.decode(raw, type=Cuts)


def recency_days(buyers: Bools, last_order_ms: I64, now_ms: I64) -> I64:
    """UTC midnights since the last order, int64[n]; 0 for who is no buyer."""
    out = np.zeros(len(now_ms), dtype=np.int64)
    _days(buyers, last_order_ms, now_ms, out)
    return out


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
        mark=spec.mark,
        users=n,
    )


def score(
    cuts: Cuts,
    buyers: Bools,
    days: I64,
    frequency: F64,
    monetary: F64,
    user_ids: Names,
) -> I8:
    """R, F and M of n users, int8[n, 3]; 0 for who is no buyer, and where there are no cuts yet.

    ``user_ids`` needs to answer only where a buyer's frequency equals a cut.
    """
    out = np.zeros((len(days), 3), dtype=np.int8)
    if cuts.version == 0:
        return out
    edges = np.array([cuts.recency_days, cuts.frequency, cuts.monetary])
    tied = np.zeros((len(cuts.frequency_ids), len(days)), dtype=np.bool_)
    if _score(edges, buyers, days, frequency, monetary, out, tied):
        for place, i in np.argwhere(tied).tolist():
            out[i, 1] += user_ids[i] > cuts.frequency_ids[place]
    return out


def next_recency_step_ms(cuts: Cuts, buyers: Bools, last_order_ms: I64, now_ms: I64) -> I64:
    """The midnight at which R next falls in silence, int64[n].

    ``FAR_MS`` where it cannot fall further, and for who is no buyer.
    """
    out = np.full(len(now_ms), FAR_MS, dtype=np.int64)
    if cuts.version:
        days = np.array([int(edge // 1) + 1 for edge in cuts.recency_days], dtype=np.int64)
        _next_step(days, buyers, last_order_ms, now_ms, out)
    return out


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
    buyers: Bools,
    days: I64,
    frequency: F64,
    monetary: F64,
    out: I8,
    tied: Bools,
) -> bool:
    """Count the cuts below each value; whether any frequency equals a cut that has an id."""
    some = False
    for i in range(len(days)):
        if not buyers[i]:
            continue
        out[i, 0], out[i, 1], out[i, 2] = 5, 1, 1
        for k in range(edges.shape[1]):
            out[i, 0] -= not days[i] <= edges[0, k]
            out[i, 1] += not frequency[i] <= edges[1, k]
            out[i, 2] += not monetary[i] <= edges[2, k]
        for k in range(len(tied)):
            tied[k, i] = frequency[i] == edges[1, k]
            some |= tied[k, i]
    return some


@compiled
def _days(buyers: Bools, last_order_ms: I64, now_ms: I64, out: I64) -> None:
    for i in range(len(out)):
        if buyers[i]:
            out[i] = max(now_ms[i] // DAY_MS - last_order_ms[i] // DAY_MS, 0)


@compiled
def _next_step(step_days: I64, buyers: Bools, last_order_ms: I64, now_ms: I64, out: I64) -> None:
    """The first of the ages, ascending, that a buyer's last order does not have yet."""
    for i in range(len(out)):
        last_day, day = last_order_ms[i] // DAY_MS, now_ms[i] // DAY_MS
        for k in range(len(step_days)):
            if buyers[i] and step_days[k] > day - last_day:
                out[i] = (last_day + step_days[k]) * DAY_MS
                break


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
