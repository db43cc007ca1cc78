"""Candidates: for each of many users the items that may interest them now, from several sources.

Each source ranks items by itself; the ranks are fused by weighted reciprocal rank (Cormack, Clarke
and Buettcher, SIGIR 2009), so that scores of different kinds never have to be compared:

- covisits: what is seen with the user's last items, the nearer the more;
- reminders: the user's own earlier items, but for the one just seen;
- together: what is bought with what the user bought;
- similar: what is described alike, for items that few have seen;
- category, popular: what many want, in the category of the last item and over all.

What was just seen or lately bought, and what is blocked, is never a candidate; without reminders
none of the user's remembered items is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from models.item_plan import (
    CATEGORY,
    COVISITS,
    POPULAR,
    REMINDERS,
    SIMILAR,
    SOURCES,
    TOGETHER,
    ItemPlan,
)
from models.items import ItemTable

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

UNRANKED: Final = 255
"""The rank of an item in a source that does not name it."""
_RANKS: Final = 60
"""So many items of each source are fused."""


@dataclass(slots=True, frozen=True)
class Candidates:
    """Lists of n users, of at most m items each, the best first.

    Attributes:
        item: rows of the item table, int32[n, m]; -1 behind the end of a list.
        score: fused, falling, float32[n, m].
        source: which source says most for it, place in ``SOURCES``, uint8[n, m].
        because: the user's item that it goes with, a row; -1 for none, int32[n, m].
        ranks: by source from 0, ``UNRANKED`` where it does not name the item, uint8[n, m, sources].
        count: items of each list, int64[n].
    """

    item: I32
    score: F32
    source: U8
    because: I32
    ranks: U8
    count: I64

    def ordered(self, values: F64, length: int) -> Candidates:
        """Each list by other values, float64[n, m], falling, cut to a length."""
        held = np.arange(self.item.shape[1]) < self.count[:, None]
        order = np.argsort(np.where(held, -values, np.inf), axis=1, kind="stable")[:, :length]
        return Candidates(
            np.take_along_axis(self.item, order, 1),
            np.take_along_axis(values, order, 1).astype(np.float32),
            np.take_along_axis(self.source, order, 1),
            np.take_along_axis(self.because, order, 1),
            np.take_along_axis(self.ranks, order[..., None], 1),
            np.minimum(self.count, length),
        )

    def of(self, users: I64, items: I64) -> Candidates:
        """For some pairs of a list and an item, lists of that item alone, int64[k] each.

        An item that its list does not hold has no ranks and the score 0; an unknown one, -1, stays
        one.
        """
        match = self.item[users] == items[:, None]
        place = match.argmax(axis=1)
        found = match.any(axis=1) & (items >= 0)
        at = users, place
        return Candidates(
            items.astype(np.int32)[:, None],
            np.where(found, self.score[at], 0.0).astype(np.float32)[:, None],
            self.source[at][:, None],
            self.because[at][:, None],
            np.where(found[:, None], self.ranks[at], UNRANKED).astype(np.uint8)[:, None],
            np.ones(len(users), dtype=np.int64),
        )


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
    category_start: I32
    category_items: I32


class _Rules(NamedTuple):
    """How sources are weighed."""

    weights: F64
    fades: F64
    damping: float
    offset: float
    per_category: int


class _Scratch(NamedTuple):
    """Places to work in; zero, or -1, between two users."""

    raw: F32
    best: F32
    because: I32
    fused: F32
    most: F32
    source: U8
    why: I32
    place: I32
    own: Bools
    touched: I32
    top: I32
    ranks: U8
    per_category: I32


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
        self, recent: I64, bought: I64, length: int, weights: F64 | None = None
    ) -> Candidates:
        """Lists for n users.

        Args:
            recent: rows of each user's items, the newest first, int64[n, k]; -1 where there is
                none, or one that is not known any more.
            bought: rows of what each has bought, likewise, int64[n, b].
            length: most items in a list, below 255, so that a rank fits a byte.
            weights: of the sources, float64[n, sources]; those of the plan if None.
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
            np.array(weights, order="C"), fades, plan.damping, plan.rank_offset, plan.per_category
        )
        columns = out.item, out.score, out.source, out.because, out.ranks, out.count
        most = self._most(recent.shape[1], bought.shape[1], length)
        _gather(recent, bought, self._view(), rules, self._space(most), *columns)
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
            items.category_start,
            items.category_items,
        )

    def _most(self, recent: int, bought: int, length: int) -> int:
        """How many items one user may touch at most: a source's neighbours, or all in the end."""
        items, looks_back = self._items, min(recent, self._plan.looks_back)
        near = looks_back * max(items.covisits.places, items.similar.places)
        return max(near, bought * items.together.places, 3 * _RANKS + recent + 2 * length)

    def _space(self, most: int) -> _Scratch:
        size, held = len(self._items.table["popularity"]), self._scratch
        if held is None or len(held.raw) < size or len(held.touched) < most:
            self._scratch = _Scratch(
                np.zeros(size, np.float32),
                np.zeros(size, np.float32),
                np.full(size, -1, np.int32),
                np.zeros(size, np.float32),
                np.zeros(size, np.float32),
                np.zeros(size, np.uint8),
                np.full(size, -1, np.int32),
                np.full(size, -1, np.int32),
                np.zeros(size, np.bool_),
                np.zeros(most, np.int32),
                np.zeros(_RANKS, np.int32),
                np.full((most, len(SOURCES)), UNRANKED, np.uint8),
                np.zeros(1 + size, np.int32),
            )
            return self._scratch
        return held


@step
def _add_near(
    own: I64, fades: F64, damping: float, near: I32, weight: F32, items: Any, s: Any
) -> int:
    """Sum up the neighbours of some items into ``s.raw``; how many were touched."""
    n = 0
    for place in range(min(len(fades), len(own))):
        row = own[place]
        if row < 0:  # the table has forgotten it, or never knew it
            continue
        counts = fades[place]
        if damping > 0.0:
            counts /= (items.popularity[row] + 1e-9) ** damping
        for k in range(near.shape[1]):
            other = near[row, k]
            if other < 0:
                break
            if s.own[other] or items.blocked[other]:
                continue
            amount = np.float32(counts * weight[row, k])
            if amount <= 0.0:
                continue
            if s.raw[other] == 0.0:
                s.touched[n] = other
                n += 1
            s.raw[other] += amount
            if amount > s.best[other]:
                s.best[other], s.because[other] = amount, row
    return n


@step
def _mark(rows: I64, count: int, own: bool, s: Any) -> None:
    """Note, or forget, that the first of some items are not to be recommended."""
    for k in range(count):
        if rows[k] >= 0:
            s.own[rows[k]] = own


@step
def _rank(touched: int, s: Any) -> int:
    """The touched items with the largest sums, falling, in ``s.top``; how many. Clears the sums."""
    n = 0
    for k in range(touched):
        row = s.touched[k]
        value = s.raw[row]
        if n < _RANKS:
            at = n
            n += 1
        elif value > s.raw[s.top[n - 1]]:
            at = n - 1
        else:
            continue
        while at > 0 and s.raw[s.top[at - 1]] < value:
            s.top[at] = s.top[at - 1]
            at -= 1
        s.top[at] = row
    for k in range(touched):
        s.raw[s.touched[k]], s.best[s.touched[k]] = 0.0, 0.0
    return n


@step
def _fuse(
    row: int, rank: int, source: int, because: int, weight: float, offset: float, found: int, s: Any
) -> int:
    """Let a source speak for an item; how many items there are."""
    at = s.place[row]
    if at < 0:
        at = found
        s.place[row], s.touched[at] = at, row
        for k in range(s.ranks.shape[1]):
            s.ranks[at, k] = UNRANKED
        found += 1
    says = np.float32(weight / (offset + rank + 1.0))
    s.ranks[at, source] = rank
    s.fused[row] += says
    if says > s.most[row]:
        s.most[row], s.source[row], s.why[row] = says, source, because
    return found


@step
def _fuse_ranked(n: int, source: int, weight: float, offset: float, found: int, s: Any) -> int:
    """Let a source that was ranked speak."""
    for rank in range(n):
        row = s.top[rank]
        found = _fuse(row, rank, source, s.because[row], weight, offset, found, s)
    return found


@compiled
def _gather(
    recent: I64,
    bought: I64,
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
    length = out_item.shape[1]
    flat = np.ones(bought.shape[1], dtype=np.float64)
    kept, why = np.empty((2, 3, _RANKS), dtype=np.int32)
    many = np.zeros(3, dtype=np.int64)
    for i in range(len(recent)):
        last, weights = recent[i, 0], rules.weights[i]
        _mark(recent[i], 1 if weights[REMINDERS] > 0.0 else recent.shape[1], True, s)
        _mark(bought[i], bought.shape[1], True, s)
        for which in range(3):
            n = 0
            if which == 0 and weights[COVISITS] > 0.0:
                n = _add_near(
                    recent[i], rules.fades, rules.damping, items.co_item, items.co_weight, items, s
                )
            elif which == 1 and weights[TOGETHER] > 0.0:
                n = _add_near(bought[i], flat, 0.0, items.to_item, items.to_weight, items, s)
            elif which == 2 and weights[SIMILAR] > 0.0:
                n = _add_near(
                    recent[i], rules.fades, 0.0, items.like_item, items.like_weight, items, s
                )
            many[which] = _rank(n, s)
            for k in range(many[which]):
                kept[which, k], why[which, k] = s.top[k], s.because[s.top[k]]
        found = 0
        for which in range(3):
            source = COVISITS if which == 0 else (TOGETHER if which == 1 else SIMILAR)
            for k in range(many[which]):
                found = _fuse(
                    kept[which, k], k, source, why[which, k], weights[source], rules.offset, found,
                    s,
                )  # fmt: skip
        if weights[REMINDERS] > 0.0:
            rank = 0
            for k in range(1, recent.shape[1]):
                row = recent[i, k]
                if row < 0:
                    continue
                if not s.own[row] and not items.blocked[row]:
                    found = _fuse(
                        row, rank, REMINDERS, row, weights[REMINDERS], rules.offset, found, s
                    )
                rank += 1
        if weights[CATEGORY] > 0.0 and last >= 0 and items.category[last] >= 0:
            category = items.category[last]
            if category + 1 < len(items.category_start):
                first, stop = items.category_start[category], items.category_start[category + 1]
                rank = 0
                for k in range(first, stop):
                    if rank >= length:
                        break
                    row = items.category_items[k]
                    if not s.own[row] and not items.blocked[row]:
                        found = _fuse(
                            row, rank, CATEGORY, last, weights[CATEGORY], rules.offset, found, s
                        )
                        rank += 1
        if weights[POPULAR] > 0.0:
            rank = 0
            for k in range(len(items.popular)):
                if rank >= length:
                    break
                row = items.popular[k]
                if not s.own[row] and not items.blocked[row]:
                    found = _fuse(row, rank, POPULAR, -1, weights[POPULAR], rules.offset, found, s)
                    rank += 1
        # the best of them, kept in order
        n = 0
        for k in range(found):
            row = s.touched[k]
            score = s.fused[row] * items.boost[row]
            s.fused[row] = score
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
            out_item[i, at], out_score[i, at] = row, score
        for k in range(n):
            row = out_item[i, k]
            out_source[i, k], out_because[i, k] = s.source[row], s.why[row]
            out_ranks[i, k] = s.ranks[s.place[row]]
        out_count[i] = n
        for k in range(found):
            row = s.touched[k]
            s.fused[row], s.most[row], s.place[row], s.why[row] = 0.0, 0.0, -1, -1
        _mark(recent[i], recent.shape[1], False, s)
        _mark(bought[i], bought.shape[1], False, s)
