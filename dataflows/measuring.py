"""Segments held against business figures: who was in one when a period began, and who was not.

Membership comes first and what is bought after it, so a segment is not credited with the purchase
that brought somebody in. What a user was in then is told by when it last changed: not since then,
or once since then. Who is in a segment is not chosen by lot, so a lift says what a segment is
worth and not what it causes; that takes an experiment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.sequential import Comparison, Sample, compare
from state.lane import Lane
from state.memberships import SegmentState

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

ALPHA = 0.05


@dataclass(slots=True, frozen=True)
class Measured:
    """One segment against the rest.

    Attributes:
        members, rest: users who were in it when the period began, and users who were not.
        moved: users of whom that cannot be told.
        buyers, rest_buyers: how many of each bought something in the period.
        revenue, rest_revenue: what each bought, less refunds, in minor units.
        conversion: buyers per user, held against the rest.
        worth: revenue per user, held against the rest.
    """

    members: int
    rest: int
    moved: int
    buyers: int
    rest_buyers: int
    revenue: int
    rest_revenue: int
    conversion: Comparison
    worth: Comparison


def measure(lane: Lane, over_ms: int) -> dict[str, Measured]:
    """All segments over the time that ends at the lane's clock.

    Args:
        lane: nobody is stale in it.
        over_ms: how long the period is; orders must be kept for so long.
    """
    begin_ms = lane.clock.now_ms - over_ms
    everybody = np.arange(lane.table.size)
    rows = np.flatnonzero(lane.view_now(everybody).value("first_seen") <= begin_ms)
    orders, spent = _bought(lane, begin_ms)
    plan = lane.decider.plan
    state = plan.read(lane.table, rows)
    bought, spent = orders[rows] > 0, spent[rows]
    out = {}
    for tag in plan.tags:
        was, known = _tag_then(state, tag.index, begin_ms)
        out[tag.name] = _against_rest(was, known, bought, spent)
    for family in plan.families:
        for place, label in enumerate(family.labels):
            was, known = _label_then(state, family.index, place, begin_ms)
            out[label] = _against_rest(was, known, bought, spent)
    return out


def _bought(lane: Lane, begin_ms: int) -> tuple[I64, I64]:
    """Orders and what they are worth, by row, since a time."""
    entries = lane.measures.orders.entries
    live = entries.live()
    live = live[(entries["ts"][live] > begin_ms) & (entries["ts"][live] <= lane.clock.now_ms)]
    net = np.maximum(entries["gross"][live] - entries["refunded"][live], 0)
    owner, size = entries["owner"][live], lane.table.size
    spent = np.zeros(size, dtype=np.int64)
    np.add.at(spent, owner, net)
    return np.bincount(owner, minlength=size).astype(np.int64), spent


def _tag_then(state: SegmentState, index: int, begin_ms: int) -> tuple[Bools, Bools]:
    """Who was in a tag then, and of whom that is known: a later flip came from the other side."""
    now = (state.members >> np.uint64(index) & np.uint64(1)) != 0
    return now ^ (state.since_ms[:, index] > begin_ms), np.ones(len(now), dtype=np.bool_)


def _label_then(state: SegmentState, index: int, place: int, begin_ms: int) -> tuple[Bools, Bools]:
    """Who had a label then, and of whom that is known: who lost another one since may have."""
    now = state.family[:, index] == place
    moved = state.family_since_ms[:, index] > begin_ms
    return now & ~moved, now | ~moved


def _against_rest(was: Bools, known: Bools, bought: Bools, spent: I64) -> Measured:
    inside, outside = was & known, ~was & known
    members, rest = int(inside.sum()), int(outside.sum())
    buyers, rest_buyers = int(bought[inside].sum()), int(bought[outside].sum())
    planned = max(members + rest, 1)
    return Measured(
        members=members,
        rest=rest,
        moved=len(known) - members - rest,
        buyers=buyers,
        rest_buyers=rest_buyers,
        revenue=int(spent[inside].sum()),
        rest_revenue=int(spent[outside].sum()),
        conversion=compare(
            Sample.of_proportion(rest, rest_buyers),
            Sample.of_proportion(members, buyers),
            ALPHA,
            planned,
        ),
        worth=compare(_sample(spent[outside]), _sample(spent[inside]), ALPHA, planned),
    )


def _sample(amounts: I64) -> Sample:
    each = amounts.astype(np.float64)
    return Sample(len(amounts), float(each.sum()), float((each * each).sum()))
