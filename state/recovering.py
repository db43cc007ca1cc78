"""Recovering: what only a lost history has told consumers is taken back.

Where a store and its lane have lost what was published, each difference between what consumers were
told and what the lane holds becomes a change with cause ``recovery``.

They may have been told of users whom the lane does not know. Changes wait for the commit under the
number of a row, so such a user gets one and **leaves** it at once, as who is forgotten does: the
commit that tells the exits stores nothing of a user without an event. Mostly the log still holds
the events. Who comes back with them before that commit goes on counting changes, and who comes
later is new in a higher epoch (``state.users``, decision 12).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from events.texts import Texts
from state.deciding import Occasion
from state.lane_users import LaneUsers
from state.times import NEVER_MS


def recover(lane: LaneUsers, told: Mapping[str, Sequence[str]], at_ms: int) -> int:
    """Note what brings consumers from what they were told to what there is.

    Args:
        lane: loaded, and nothing decided yet.
        told: per user the segments that were published last.
        at_ms: the wall clock.

    Returns:
        How many changes that takes.
    """
    users = [user for user, names in told.items() if names or lane.users.find(user) >= 0]
    ids = Texts.of(users)
    unknown = lane.users.ids.find(ids) < 0
    rows = lane.users.rows(ids)
    occasion = Occasion("recovery", at_ms)
    # by event time, because changes that bear the times of the log will follow
    times = lane.times(rows)
    times[times == NEVER_MS] = at_ms
    stale = lane.redefiner.told(rows)
    changed = lane.decider.retell(rows, [told[user] for user in users], times, occasion, stale)
    lane.touch(np.array(changed, dtype=np.int64))
    if unknown.any():
        lane.users.leave(rows[unknown])
    return len(changed)
