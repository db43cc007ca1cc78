"""Which moments of users are parked until their outcome is known.

"Buys within the horizon" is known of a user only when they buy or when the horizon has passed.
Learning buyers at once and the others later teaches a model that everybody buys, and a snapshot
that is learned before its horizon is learned with a label that may still change. So some moments
are parked (``models.snapshots``), and both classes are learned when the horizon has passed.

Which ones is a hash of user and time bucket, so it is the same in every replay, at any batching
and on any number of workers, and it can be said without knowing what was chosen before.
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


def _mix(x: U64) -> U64:
    """SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): every bit moves every bit."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        return x ^ (x >> np.uint64(31))
