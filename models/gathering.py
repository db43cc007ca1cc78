"""Gathering: for each of many users the items that may interest them now, from several sources.

Each source ranks items by itself; the ranks are fused by weighted reciprocal rank (Cormack, Clarke
and Buettcher, SIGIR 2009), so that scores of different kinds never have to be compared:

- covisits: what is seen with the user's last items, the nearer the more;
- reminders: the user's own earlier items, but for the one just seen;
- together: what is bought with what the user bought;
- similar: what is described alike, for items that few have seen;
- sessions: what came in those of the latest sessions that are like the user's own;
- cosine: what was had by those who had the user's items, over long histories;
- category, popular, trending, segment: what many want, in the category of the last item, over all,
  lately, and with the users of the same label.

What was just seen or lately bought, and what is blocked, is never a candidate; without reminders
none of the user's remembered items is.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.board import clear, new_slots
from models.candidates import UNRANKED, Candidates
from models.cosine import add_cosines
from models.fusing import FUSED, begin_near, fuse_listed, fuse_near, fuse_own, hide, rank
from models.item_plan import (
    CATEGORY,
    COSINE,
    COVISITS,
    POPULAR,
    REMINDERS,
    SEGMENT,
    SESSIONS,
    SIMILAR,
    SOURCES,
    TOGETHER,
    TRENDING,
    ItemPlan,
)
from models.items import ItemTable
from models.running_sessions import Running
from models.session_neighbours import LONGEST, SessionIndex, add_votes
from models.sums import NEAR, add_near

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]

_RANKS: Final = 60
"""So many items of each source are fused."""
_SURELY: Final = 0.99
"""Less than this share of another sum is less however both were rounded."""


class _Items(NamedTuple):
    """What is read of the item table."""

    popularity: F64
    category: I32
    blocked: Bools
    boost: F32
    co_item: I32
    co_weight: F32
    to_item: I32
    to_weight: F32
    like_item: I32
    like_weight: F32
    popular: I32
    trending: I32
    category_start: I32
    category_items: I32
    segment_items: I32
    cosine_users: F64
    cosine_item: I32
    cosine_weight: F32
    sessions: SessionIndex


class _Rules(NamedTuple):
    """How sources are weighed; ``flat`` counts everything bought alike."""

    weights: F64
    flat: F64
    fades: F64
    damping: float
    offset: float
    boosts: tuple[float, float]
    running: Running


class _Scratch(NamedTuple):
    """Boards to work on, of neighbours and of candidates, and neighbours in order."""

    near_slots: U64
    near: NDArray[np.void]
    slots: U64
    fused: NDArray[np.void]
    order: I32
    sums: F32


class Gatherer:
    """Makes lists from an item table; keeps the space it works in.

    Args:
        plan: how lists are made.
        items: what is known of items.
    """

    def __init__(self, plan: ItemPlan, items: ItemTable) -> None:
        self._plan, self._items = plan, items
        self._scratch: _Scratch | None = None

    def gather(
        self,
        recent: I64,
        bought: I64,
        length: int,
        weights: F64 | None = None,
        segment: I64 | None = None,
        running: Running | None = None,
    ) -> Candidates:
        """Lists for n users.

        Args:
            recent: rows of each user's items, the newest first, int64[n, k]; -1 where there is
                none, or one that is not known any more.
            bought: rows of what each has bought, likewise, int64[n, b].
            length: most items in a list, below 255, so that a rank fits a byte.
            weights: of the sources, float64[n, sources]; those of the plan if None.
            segment: of each user, int64[n], -1 for none; of nobody if None.
            running: the users' sessions; if None, all their items belong together.
        """
        n = len(recent)
        plan = self._plan
        if weights is None:
            weights = np.broadcast_to(plan.source_weights, (n, len(SOURCES)))
        out = Candidates(
            np.full((n, length), -1, dtype=np.int32),
            np.zeros((n, length), dtype=np.float32),
            np.zeros((n, length), dtype=np.uint8),
            np.full((n, length), -1, dtype=np.int32),
            np.full((n, length, len(SOURCES)), UNRANKED, dtype=np.uint8),
            np.zeros(n, dtype=np.int64),
        )
        fades = np.arange(1, plan.looks_back + 1, dtype=np.float64) ** -plan.fade
        # a copy, because a view that is not to be written would be compiled for anew
        rules = _Rules(
            np.array(weights, order="C"), np.ones(bought.shape[1]), fades, plan.damping,
            plan.rank_offset,
            self._items.boosts, running or Running.unknown(n, recent.shape[1]),
        )  # fmt: skip
        columns = out.item, out.score, out.source, out.because, out.ranks, out.count
        space = self._space(recent.shape[1], bought.shape[1], length)
        if segment is None:
            segment = np.full(n, -1)
        _gather(recent, bought, segment, self._view(), rules, space, *columns)
        return out

    def _view(self) -> _Items:
        items, table = self._items, self._items.table
        return _Items(
            table["popularity"],
            table["category"],
            table["blocked"],
            table["boost"],
            items.covisits.item,
            items.covisits.weight,
            items.together.item,
            items.together.weight,
            items.similar.item,
            items.similar.weight,
            items.popular,
            items.trending,
            items.category_start,
            items.category_items,
            items.segment_items,
            items.cosine.users,
            items.cosine.item,
            items.cosine.weight,
            items.sessions.index,
        )

    def _space(self, recent: int, bought: int, length: int) -> _Scratch:
        """Room for all that one user may touch."""
        items, plan = self._items, self._plan
        looks_back = min(recent, plan.looks_back)
        own = recent + bought
        near = looks_back * max(items.covisits.places, items.similar.places)
        voted = min(len(items.sessions), plan.session_neighbours) * LONGEST
        near = own + max(near, bought * items.together.places, recent * items.cosine.places, voted)
        near_kinds = 3 + plan.is_on(SESSIONS) + plan.is_on(COSINE)
        fused = own + near_kinds * _RANKS + recent + 4 * length
        held = self._scratch
        if held is None or len(held.near) < near or len(held.fused) < fused:
            self._scratch = held = _Scratch(
                *(new_slots(near), np.zeros(near, NEAR)),
                *(new_slots(fused), np.zeros(fused, FUSED)),
                *(np.zeros(_RANKS, np.int32), np.zeros(_RANKS, np.float32)),
            )
        return held


@compiled
def _gather(
    recent: I64,
    bought: I64,
    segment: I64,
    items: Any,
    rules: Any,
    s: Any,
    out_item: I32,
    out_score: F32,
    out_source: U8,
    out_because: I32,
    out_ranks: U8,
    out_count: I64,
) -> None:
    length, offset = out_item.shape[1], rules.offset
    flat, fades, all_weights = rules.flat, rules.fades, rules.weights
    popularity, blocked, boost = items.popularity, items.blocked, items.boost
    co_item, co_weight = items.co_item, items.co_weight
    to_item, to_weight = items.to_item, items.to_weight
    like_item, like_weight = items.like_item, items.like_weight
    near_slots, near, slots, fused = s.near_slots, s.near, s.slots, s.fused
    order, sums = s.order, s.sums
    for i in range(len(recent)):
        own, says = recent[i], all_weights[i]
        clear(slots)
        hidden = hide(own, 1 if says[REMINDERS] > 0.0 else len(own), slots, fused, 0)
        hidden = hide(bought[i], bought.shape[1], slots, fused, hidden)
        given = hidden
        least = 0.0  # what as many candidates as make a list have each, if not more
        for source in (COVISITS, TOGETHER, SIMILAR, SESSIONS, COSINE):
            if says[source] <= 0.0:
                continue
            begin_near(near_slots, near, fused, hidden)
            n = hidden
            if source == COVISITS:
                n = add_near(
                    own, fades, rules.damping, popularity, co_item, co_weight, blocked,
                    near_slots, near, n,
                )  # fmt: skip
            elif source == TOGETHER:
                n = add_near(
                    bought[i], flat, 0.0, popularity, to_item, to_weight, blocked, near_slots,
                    near, n,
                )  # fmt: skip
            elif source == SESSIONS:
                n = add_votes(
                    own, rules.running.items[i], rules.running.key[i], items.sessions, blocked,
                    near_slots, near, n,
                )  # fmt: skip
            elif source == COSINE:
                n = add_cosines(
                    own, items.cosine_users, items.cosine_item, items.cosine_weight, blocked,
                    near_slots, near, n,
                )  # fmt: skip
            else:
                n = add_near(
                    own, fades, 0.0, popularity, like_item, like_weight, blocked, near_slots,
                    near, n,
                )  # fmt: skip
            n = rank(near, n, order, sums)
            given = fuse_near(n, order, near, source, says[source], offset, slots, fused, given)
            if n >= length:
                least = max(least, says[source] / (offset + length))
        if says[REMINDERS] > 0.0:
            given = fuse_own(
                own, REMINDERS, says[REMINDERS], offset, blocked, slots, fused, hidden, given
            )
        listed_most = (
            says[CATEGORY] + says[POPULAR] + says[TRENDING] + says[SEGMENT]
        ) / (offset + 1.0)  # fmt: skip
        is_full = listed_most * rules.boosts[1] < _SURELY * least * rules.boosts[0]
        for source in (CATEGORY, POPULAR, TRENDING, SEGMENT):
            if says[source] <= 0.0:
                continue
            because: Any = np.int64(-1)
            if source == POPULAR:
                listed = items.popular
            elif source == TRENDING:
                listed = items.trending
            elif source == SEGMENT:
                if not 0 <= segment[i] < len(items.segment_items):
                    continue
                listed = items.segment_items[segment[i]]
            else:
                category = items.category[own[0]] if own[0] >= 0 else np.int32(-1)
                if not 0 <= category < len(items.category_start) - 1:
                    continue
                because = own[0]
                first, stop = items.category_start[category], items.category_start[category + 1]
                listed = items.category_items[first:stop]
            given = fuse_listed(
                listed, length, source, because, says[source], offset, blocked, slots, fused,
                hidden, given, is_full,
            )  # fmt: skip
        # the best of them, kept in order; spots stand where rows will
        n = 0
        for spot in range(hidden, given):
            score = fused[spot].score * boost[fused[spot].row]
            if n < length:
                at = n
                n += 1
            elif score > out_score[i, n - 1]:
                at = n - 1
            else:
                continue
            while at > 0 and out_score[i, at - 1] < score:
                out_item[i, at], out_score[i, at] = out_item[i, at - 1], out_score[i, at - 1]
                at -= 1
            out_item[i, at], out_score[i, at] = spot, score
        for k in range(n):
            spot = out_item[i, k]
            out_item[i, k] = fused[spot].row
            out_source[i, k], out_because[i, k] = fused[spot].source, fused[spot].because
            for source in range(out_ranks.shape[2]):
                out_ranks[i, k, source] = fused[spot].ranks[source]
        out_count[i] = n
