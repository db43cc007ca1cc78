"""Why a user is in a segment, or has an offer: the shard is read, not owned, and decided again."""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from dataflows.definitions import in_force
from dataflows.engine import open_lane
from dataflows.settings import Settings
from state.definition_store import DefinitionStore
from state.explain import explain
from state.explain_offers import explain_offer
from state.features import RowView
from state.memberships import Family
from state.store import Store


class UnknownError(Exception):
    """There is no such user, segment or offer."""


OFFERS: Final = "offers."
"""Begins the name of an offer where segments are named too."""


def explanation(settings: Settings, store: Store, user: str, name: str, now_ms: int) -> str:
    """The explanation in words, at a time (epoch ms), or at the user's last event if later.

    Args:
        settings: in force.
        store: where the user is.
        user: of whom.
        name: of a segment, or of an offer after ``offers.``.
        now_ms: at which time.

    Raises:
        UnknownError: there is no such user, segment or offer.
    """
    live = in_force(settings, DefinitionStore(store))
    lane = open_lane(settings, definitions=live.definitions)
    offers = () if lane.offering is None else lane.offering.plan.specs
    if name.startswith(OFFERS):
        _check("offer", name, [spec.column for spec in offers])
    else:
        _check("segment", name, lane.decider.plan.names, lane.decider.plan.families)
    shard = zlib.crc32(user.encode()) % settings.redis.shards
    stored = store.look(shard, lane.side_tables)
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

    plan = lane.decider.plan
    state = plan.read(lane.table, rows)
    if lane.offering is None or not name.startswith(OFFERS):
        return explain(plan, view_at, at_ms, state, name).to_text()
    memory, offer = lane.offering.copied(row), name.removeprefix(OFFERS)
    told = explain_offer(plan, lane.offering.plan, view_at, at_ms, state, memory, offer)
    return told.to_text()


def _check(kind: str, name: str, names: Sequence[str], families: Sequence[Family] = ()) -> None:
    if name not in names:
        for family in families:
            if family.name == name:
                labels = ", ".join(family.labels)
                raise UnknownError(f"{name!r} is a family; name one of its labels: {labels}")
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"
        raise UnknownError(f"there is no {kind} {name!r}{hint}")
