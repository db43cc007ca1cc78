"""When a store has lost what was published already: consumers are told what holds now.

A store that comes back older while its lane lives is written forward. If the lane is gone too, the
log is read again from older positions and history may take another course, because what is decided
depends on when events are seen together. What consumers were told of the lost course is in the
memberships topic; the difference to what the store holds is published, with cause ``recovery``.

An engine may die when it has committed that and not yet published it. The publisher of the next one
hands on what the outbox still holds, so what consumers are about to be told counts as told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import structlog

from operators.compacted import latest
from operators.courier import Membership, Position, published_positions
from operators.topics import Topics
from state.changes import decode_entry
from state.checkpoint import Committed
from state.lane import Lane

log = structlog.get_logger()

_GRACE_S = 1.0
"""What was being committed when a publisher died is decided within milliseconds. What is open after
this will be given up by the next publisher, which may wait for this very lane to start."""


_to_membership = msgspec.json.Decoder(Membership)


def recover(
    lane: Lane,
    config: Mapping[str, Any],
    topics: Topics,
    now_ms: int,
    left: Iterable[Committed] = (),
) -> None:
    """Tell consumers the difference, if shards of this lane have lost what was published.

    Args:
        lane: loaded, and nothing decided yet.
        config: of a Kafka client.
        topics: names.
        now_ms: the wall clock.
        left: what the outbox holds, for the publisher to hand on before all else.
    """
    published = published_positions(config, topics.positions, grace_s=_GRACE_S)
    own = lane.sequences()
    lane.outrank({shard: place.epoch for shard, place in published.items() if shard in own})
    lost = lost_shards(published, own)
    if not lost:
        return
    told = latest(
        config,
        topics.memberships,
        wanted=lambda key: lane.shard_of(key.decode()) in lost,
        grace_s=_GRACE_S,
    )
    # of users who were forgotten in the lost history nothing is told, though they are back
    segments: dict[str, list[str]] = {user: [] for user in members(lane, lost)}
    segments |= {key.decode(): _to_membership.decode(raw).segments for key, raw in told.items()}
    segments |= yet_to_be_told((entry for entry in left if entry.shard in lost), published)
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


def yet_to_be_told(
    left: Iterable[Committed], published: Mapping[int, Position]
) -> dict[str, list[str]]:
    """The segments of users by the last word of what the publisher is still to hand on.

    Args:
        left: what the outbox holds, each shard's oldest first; some may have arrived.
        published: how far each shard is published.
    """
    segments: dict[str, list[str]] = {}
    for entry in left:
        said = [_to_membership.decode(raw) for _, raw in decode_entry(entry.changes)]
        reached = published.get(entry.shard, Position())
        if said and Position(said[-1].epoch, entry.seq) > reached:
            segments |= {last.user_id: last.segments for last in said}
    return segments


def members(lane: Lane, shards: Collection[int]) -> set[str]:
    """The users of some shards who are in a segment, or are still to be told that they are not."""
    rows = lane.users.everybody()
    rows = rows[np.isin(lane.table["shard"][rows], list(shards))]
    leaving = lane.redefiner.leaving(rows)
    return {*lane.members(shards), *lane.users.ids.texts(leaving).strings()}
