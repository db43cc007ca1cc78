"""Why a user is in a segment or not: the shard is read, not owned, and evaluated as lanes do."""

from __future__ import annotations

import difflib
import zlib

import numpy as np

from dataflows.engine import open_lane
from dataflows.settings import Settings
from state.checkpoint import check_segments
from state.explain import explain
from state.features import RowView
from state.store import Store


class UnknownError(Exception):
    """There is no such user or segment."""


def explanation(settings: Settings, store: Store, user: str, segment: str, now_ms: int) -> str:
    """The explanation in words, at a time (epoch ms), or at the user's last event if later.

    Raises:
        UnknownError: there is no such user or segment.
    """
    lane = open_lane(settings)
    names = lane.decider.plan.names
    if segment not in names:
        near = difflib.get_close_matches(segment, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
        raise UnknownError(f"there is no segment {segment!r}{hint}")
    shard = zlib.crc32(user.encode()) % settings.redis.shards
    stored = store.look(shard, lane.side_tables)
    check_segments(lane, stored)
    lane.restore(stored)
    lane.restored(store.shared("cuts"), store.shared("model:0"))
    row = lane.users.find(user)
    if row < 0:
        raise UnknownError(
            f"nothing is known of {user!r} under {settings.redis.prefix!r}: no event of this user "
            "has been committed, or the id is written differently"
        )
    rows = np.array([row], dtype=np.int64)
    at_ms = max(now_ms, int(lane.table["last_seen"][row]), int(lane.table["as_of"][row]))

    def view_at(t_ms: int) -> RowView:
        return lane.view(rows, np.array([t_ms], dtype=np.int64))

    state = lane.decider.plan.read(lane.table, rows)
    return explain(lane.decider.plan, view_at, at_ms, state, segment).to_text()
