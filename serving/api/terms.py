"""What the server grants its clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Terms:
    """Limits and times.

    Attributes:
        batch: most users in one request.
        max_body_bytes: of a request.
        concurrency: requests that are worked on at once; more are sent away.
        followers: clients that follow the changes at once.
        waiting: changes that wait for one follower before it is cut off.
        history: changes that are remembered for those who come back.
        heartbeat_s: a silent stream says so often that it is alive.
        stalled_s: a follower that takes nothing for so long is cut off.
        max_age_s: an answer may be kept by a cache for so long, and never beyond its ``valid_to``.
    """

    batch: int = 1000
    max_body_bytes: int = 1 << 20
    concurrency: int = 1000
    followers: int = 100
    waiting: int = 1000
    history: int = 10_000
    heartbeat_s: float = 15.0
    stalled_s: float = 30.0
    max_age_s: float = 0.0
