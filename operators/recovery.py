"""When a store has lost what was published already: consumers are told what holds now.

A store that comes back older while its lane lives is written forward. If the lane is gone too, the
log is read again from older positions and history may take another course, because what is decided
depends on when events are seen together. What consumers were told of the lost course is in the
memberships topic; the difference to what the store holds is published, with cause ``recovery``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog

from operators.compacted import latest
from operators.courier import Membership, Position, published_positions
from operators.topics import Topics
from state.lane import Lane

log = structlog.get_logger()

_GRACE_S = 1.0
"""What was being committed when a publisher died is decided within milliseconds. What is open after
this will be given up by the next publisher, which may wait for this very lane to start."""


def recover(lane: Lane, config: Mapping[str, Any], topics: Topics, now_ms: int) -> None:
    """Tell consumers the difference, if shards of this lane have lost what was published.

    Args:
        lane: loaded, and nothing decided yet.
        config: of a Kafka client.
        topics: names.
        now_ms: the wall clock.
    """
    published = published_positions(config, topics.positions, grace_s=_GRACE_S)
    lost = lost_shards(published, lane.sequences())
    if not lost:
        return
    told = latest(
        config,
        topics.memberships,
        wanted=lambda key: lane.shard_of(key.decode()) in lost,
        grace_s=_GRACE_S,
    )
    decoder = msgspec.json.Decoder(Membership)
    # of users who were forgotten in the lost history nothing is told, though they are back
    segments: dict[str, list[str]] = {user: [] for user in lane.members(lost)}
    segments |= {key.decode(): decoder.decode(raw).segments for key, raw in told.items()}
    count = lane.recover(segments, now_ms)
    log.warning(
        "changes_recovered",
        shards=len(lost),
        changes=count,
    )


def lost_shards(published: Mapping[int, Position], stored: Mapping[int, int]) -> set[int]:
    """The shards whose published sequence is beyond the stored one.

    >>> lost_shards({0: Position(7, 12), 1: Position(7, 3)}, {0: 11, 1: 3, 2: 0})
    {0}
    """
    return {shard for shard, seq in stored.items() if published.get(shard, Position()).seq > seq}
