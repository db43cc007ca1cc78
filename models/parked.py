"""Labels that take time: which snapshots to park, what became of them, when they may be learned.

"Buys within the horizon" is known of a user only when they buy or when the horizon has passed.
Learning buyers at once and the others later teaches a model that everybody buys, and a snapshot
that is learned before its horizon is learned with a label that may still change. So the features
of some moments are **parked**; a purchase **flags** the snapshots whose horizon it falls in; and
both classes are learned when the clock has passed the horizon, not before, in order of time.

Nothing here stores anything: the functions take columns and give masks or positions. The choice of
what to park is a hash of user and time bucket, so it is the same in every replay, at any batching
and on any number of workers, and it can be made without knowing what was chosen before.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def bucket_of(ts_ms: I64, every_ms: int) -> I64:
    """The number of the time bucket of each event, int64[n]; one snapshot per bucket is enough."""
    return ts_ms // every_ms


def should_park(user_hash: U64, ts_ms: I64, every_ms: int, rate: float) -> Bools:
    """Whether each event's user is sampled in its time bucket, bool[n].

    All events of one user in one bucket get the same answer; whoever parks keeps one of them.

    Args:
        user_hash: a stable hash of each event's user, uint64[n].
        ts_ms: event times, int64[n].
        every_ms: length of a bucket.
        rate: share of (user, bucket) pairs to sample, 0 to 1.

    >>> users = np.arange(1000, dtype=np.uint64)
    >>> chosen = should_park(users, np.full(1000, 5_000), 60_000, 0.25)
    >>> 200 < int(chosen.sum()) < 300
    True
    >>> again = should_park(users, np.full(1000, 59_999), 60_000, 0.25)
    >>> bool((chosen == again).all())
    True
    """
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"the sampling rate must lie between 0 and 1, but {rate!r} came")
    bucket = bucket_of(ts_ms, every_ms).astype(np.uint64)
    draw = _mix(user_hash ^ _mix(bucket))
    return (draw >> np.uint64(11)).astype(np.float64) < rate * 2.0**53


def flag_outcomes(
    parked_row: I64, parked_ms: I64, bought_row: I64, bought_ms: I64, horizon_ms: int
) -> Bools:
    """Which parked snapshots a purchase falls due to, bool[p].

    True where the same row bought in ``(parked_ms, parked_ms + horizon_ms]``. Combine with earlier
    flags by "or": more purchases can only turn flags on, so their order does not matter. Pass the
    buyers' snapshots only where many are parked: it sorts what it is given.

    Args:
        parked_row: row of each snapshot, int64[p].
        parked_ms: time of each snapshot, int64[p].
        bought_row: row of each purchase, int64[b].
        bought_ms: time of each purchase, int64[b].
        horizon_ms: how far ahead the label looks.

    >>> rows, times = np.array([1, 1, 2]), np.array([0, 10, 0])
    >>> flag_outcomes(rows, times, np.array([1]), np.array([10]), 10).tolist()
    [True, False, False]
    """
    parked, bought = len(parked_row), len(bought_row)
    out = np.zeros(parked, dtype=np.bool_)
    if parked == 0 or bought == 0:
        return out
    row = np.concatenate([bought_row, parked_row])
    ts_ms = np.concatenate([bought_ms, parked_ms])
    # stable: at equal times purchases come first, so they are not "after" the snapshot
    order = np.lexsort((ts_ms, row))
    last = len(order) - 1
    place = np.arange(len(order))
    upcoming = np.where(order < bought, place, last)
    upcoming = np.minimum.accumulate(upcoming[::-1])[::-1]
    here = np.flatnonzero(order >= bought)
    snapshot, purchase = order[here], order[upcoming[here]]
    out[snapshot - bought] = (
        (purchase < bought)
        & (row[purchase] == row[snapshot])
        & (ts_ms[purchase] - ts_ms[snapshot] <= horizon_ms)
    )
    return out


def due(parked_ms: I64, horizon_ms: int, clock_ms: int) -> I64:
    """Positions of the snapshots whose horizon has passed, earliest first, int64[d].

    ``clock_ms`` should follow the watermark, so that purchases which are late within the allowed
    lateness have already flagged what they flag. Equal times keep the order they were given in.

    >>> due(np.array([30, 10, 20]), 5, 24).tolist()
    [1]
    >>> due(np.array([30, 10, 20]), 5, 35).tolist()
    [1, 2, 0]
    """
    ripe = np.flatnonzero(parked_ms <= clock_ms - horizon_ms)
    return ripe[np.argsort(parked_ms[ripe], kind="stable")]


def _mix(x: U64) -> U64:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): every bit moves every bit."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))
