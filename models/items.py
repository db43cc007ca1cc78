"""The item table: what all users together have taught about items.

One row per item: how popular it is, what it is seen with, what it is bought with, what it costs,
and whether it may be recommended. Everything decays and is added up, so lanes that learn the same
interactions in any order hold the same table, but for the capped lists' last places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from events.schema import CLICK, IMPRESSION, PURCHASE
from events.texts import Texts
from models import esteem
from models.cosine import CosineNeighbours
from models.interactions import Interactions, Seen
from models.item_plan import COSINE, SEGMENT, SESSIONS, ItemPlan
from models.neighbours import Neighbours, add_one
from models.session_neighbours import SessionNeighbours
from state.hash_index import HashIndex
from state.table import Column, Table
from state.text_index import TextIndex
from state.times import FAR_MS, NEVER_MS

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

NO_CATEGORY: Final = -1
_TAKEN_RATE: Final = 0.02
_REBASE: Final = 40.0
"""Half-lives after which the landmark moves, long before a float32 overflows."""
_REBASE_TREND: Final = 800.0
"""The same for what is kept as float64."""
_MOST_HALF_LIVES: Final = 900.0
"""Asked for further back, a popularity is that of so many half-lives: a float holds no more."""
_WORTH_A_LOOK: Final = 100
"""Interactions after which popular items may be others."""
_SPARE_CATEGORIES: Final = 1_000
"""Beyond these and two per item, names of categories that no item has any more are forgotten."""
_SHORTLIST: Final = 10_000
"""Popular items of which the most popular per category are sought."""
_PER_CATEGORY: Final = 50
SEGMENTS_MOST: Final = 16
"""Labels among whose users items are counted; more are not told apart."""


class ItemTable:
    """All items that were ever seen, up to a cap.

    Args:
        plan: how they are learned.

    Attributes:
        table: a row per item.
        ids: the items' ids; an id's number is its row.
        categories: the categories' names; ``table["category"]`` holds their numbers.
        covisits, together: what goes with what.
        cosine: how many users had both of two items; without places if that source is off.
        sessions: the latest sessions; none if that source is off.
        popular, trending: rows of the most popular items that may be recommended, and of those
            that are it lately, falling, int32[p].
        boosts: the least and the most that scores of items are multiplied by; new ones by 1.
        category_start, category_items: the same by category, int32; those of category c stand from
            ``category_start[c]`` up to, not including, ``category_start[c + 1]``.
        segments: names of the labels that users had; a number stands for the place.
        segment_items: the same by label, int32[labels, p]; -1 behind the last.
        segment_share: how much of all popularity is that of each label's users, float64[labels].
        mean_stay, mean_rating: of all items, see ``models.esteem``.
        learned: interactions that were learned.
        renumbered: how often rows got other numbers.
        forgotten: ids of items that were forgotten to keep the cap.
    """

    def __init__(self, plan: ItemPlan) -> None:
        self.plan = plan
        self._weight_of = plan.weight_of
        self._segments = SEGMENTS_MOST if plan.is_on(SEGMENT) and plan.segment else 0
        self.forgotten: list[bytes] = []
        self.renumbered = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.landmark_ms = NEVER_MS
        self.learned = 0
        self._popular_ms, self._unranked = NEVER_MS, _WORTH_A_LOOK
        self.categories = TextIndex()
        self.segments: list[str] = []
        self._unsaved = np.empty(0, dtype=np.int64)
        self.renumbered += 1
        self.sessions = SessionNeighbours(
            self.plan.session_count if self.plan.is_on(SESSIONS) else 0,
            self.plan.session_sample,
            self.plan.session_neighbours,
        )
        self._clear()

    def _clear(self) -> None:
        self.table = Table(
            [
                Column("hash", "u8"),
                Column("popularity", "f8"),
                Column("trend", "f8"),
                Column("by_segment", "f4", 0.0, (self._segments,)),
                *esteem.columns(),
                Column("impressions", "f4"),
                Column("clicks", "f4"),
                Column("first_ms", "i8", FAR_MS),
                Column("last_ms", "i8", NEVER_MS),
                Column("price", "i8"),
                Column("price.said", "?"),
                Column("category", "i4", NO_CATEGORY),
                Column("category.said", "?"),
                *(Column(name, "i4", -1) for name in ("title", "brand", "tags")),
                Column("slot", "i4", -1),
                Column("described", "?"),
                Column("available", "?", True),
                Column("blocked", "?"),
                Column("boost", "f4", 1.0),
                Column("changed", "?"),
            ]
        )
        self.covisits = Neighbours(self.table, "covisits", self.plan.neighbours)
        self.together = Neighbours(self.table, "together", self.plan.together)
        self.similar = Neighbours(self.table, "similar", self.plan.together)
        self.cosine = CosineNeighbours(
            self.table, self.plan.neighbours if self.plan.is_on(COSINE) else 0
        )
        self.ids, self._rows = TextIndex(), HashIndex()
        self.popular = self.trending = np.empty(0, dtype=np.int32)
        self.boosts = 1.0, 1.0
        self.category_start = np.zeros(1, dtype=np.int32)
        self.category_items = np.empty(0, dtype=np.int32)
        self.segment_items = np.empty((0, 0), dtype=np.int32)
        self.segment_share = np.empty(0)
        self.mean_stay = self.mean_rating = 0.0

    def __len__(self) -> int:
        return self.table.size

    # -- items --------------------------------------------------------------------------------

    def find(self, hashes: U64) -> I64:
        """The row of each item, in the shape of ``hashes``; -1 for unknown ones.

        Of two ids that share a hash the one that came first is found: what is said of the other
        counts for it, and no other item is touched.
        """
        return self._rows.find(hashes)

    def rows(self, ids: Texts) -> I64:
        """The row of each item, int64[n]; new ones get new rows."""
        rows = self.ids.number(ids)
        if len(self.ids) > len(self):
            new = self.table.grow(len(self.ids) - len(self))
            hashes = self.ids.texts(new).hashes()
            self.table["hash"][new] = hashes
            self._rows.add(hashes, new)
        return rows

    def describe(self, seen: Seen) -> None:
        """Take over what events say of items; what the catalogue says of them stays."""
        rows = self.rows(seen.ids)
        said = np.flatnonzero(seen.categories.present & ~self.table["category.said"][rows])
        codes = self.categories.number(seen.categories.take(said))
        self.table["category"][rows[said]] = codes
        priced = np.flatnonzero((seen.price > 0) & ~self.table["price.said"][rows])
        self.table["price"][rows[priced]] = seen.price[priced]
        self.table["changed"][rows] = True

    @property
    def tells_apart(self) -> bool:
        """Whether items are counted by the users' labels."""
        return self._segments > 0

    def segment_of(self, label: I8, labels: Sequence[str]) -> I64:
        """The segment of each user, int64[n], -1 for none; new names get numbers while there are.

        Args:
            label: places in ``labels``, int8[n]; -1 for none.
            labels: the names.
        """
        for name in labels:
            if name not in self.segments and len(self.segments) < self._segments:
                self.segments.append(name)
        known = [self.segments.index(n) if n in self.segments else -1 for n in labels]
        return np.array([*known, -1], dtype=np.int64)[label]

    # -- saving -------------------------------------------------------------------------------

    def begin_saving(self) -> None:
        """All rows that have changed up to now are to be saved."""
        changed = self.table["changed"][: len(self)]
        self._unsaved = np.union1d(self._unsaved, np.flatnonzero(changed))
        changed[:] = False

    def some_unsaved(self, most: int) -> I64:
        """Some of those rows, which count as saved then; empty after the last."""
        some, self._unsaved = self._unsaved[:most], self._unsaved[most:]
        return some

    # -- learning -----------------------------------------------------------------------------

    def learn(self, some: Interactions) -> None:
        """Learn interactions in their order."""
        if not len(some):
            return
        self.describe(some.seen)
        newest_ms = int(some.ts_ms.max())
        self._move_landmark(newest_ms)
        table, rows = self.table, self.find(some.item)
        np.minimum.at(table["first_ms"], rows[rows >= 0], some.ts_ms[rows >= 0])
        before = self.find(some.before)
        _learn(
            rows,
            some.ts_ms,
            some.type,
            before,
            self.find(some.together),
            self.segment_of(some.label, some.labels),
            self._weight_of,
            self.landmark_ms,
            1.0 / self.plan.half_life_ms,
            1.0 / self.plan.trend_ms,
            self.plan.backward,
            table["popularity"],
            table["trend"],
            table["by_segment"],
            table["impressions"],
            table["clicks"],
            table["last_ms"],
            table["changed"],
            self.covisits.item,
            self.covisits.weight,
            self.together.item,
            self.together.weight,
        )
        esteem.learn(
            *(rows, before, some.ts_ms, some.stay, some.rating),
            *(self.landmark_ms, 1.0 / self.plan.half_life_ms),
            *(*(table[name] for name in esteem.SUMS), table["changed"]),
        )
        if some.had is not None and self.cosine.places:
            self.cosine.learn(
                rows,
                some.ts_ms,
                self.find(some.had),
                self.landmark_ms,
                1.0 / self.plan.half_life_ms,
                table["changed"],
            )
        if some.session is not None and self.plan.is_on(SESSIONS):
            self.sessions.learn(rows, some.session, some.ts_ms, len(self))
        self.learned += len(some)
        self._unranked += len(some)
        waited_ms = newest_ms - self._popular_ms
        if waited_ms >= self.plan.popular_every_ms and self._unranked >= _WORTH_A_LOOK:
            self._popular_ms, self._unranked = newest_ms, 0
            self.find_popular()
        if len(self) > self.plan.most_items:
            self._forget_some()
        if len(self.categories) > 2 * len(self) + _SPARE_CATEGORIES:
            self._forget_categories()

    @property
    def half_life_ms(self) -> int:
        """After so long, what was learned counts half."""
        return self.plan.half_life_ms

    @property
    def taken_rate(self) -> float:
        """Clicks per impression of all items, lately; a guess while nothing was shown."""
        size = len(self)
        clicks = float(self.table["clicks"][:size].sum(dtype=np.float64))
        shown = float(self.table["impressions"][:size].sum(dtype=np.float64))
        return min(clicks / shown, 1.0) if shown > 0.0 and clicks > 0.0 else _TAKEN_RATE

    def popularity(self, rows: NDArray[np.integer], at_ms: int) -> F64:
        """Decayed interactions of items at a time, float64[n]."""
        half_lives = (self.landmark_ms - at_ms) / self.plan.half_life_ms
        out: F64 = self.table["popularity"][rows] * np.exp2(min(half_lives, _MOST_HALF_LIVES))
        return out

    def find_popular(self) -> None:
        """Look up anew which items are the most popular, over all and by category."""
        size = len(self)
        factor = self.table["boost"][:size].astype(np.float64)
        self.boosts = float(factor.min(initial=1.0)), float(factor.max(initial=1.0))
        factor[self.table["blocked"][:size]] = 0.0
        most = max(4 * self.plan.length, 100)
        top = _largest(self.table["popularity"][:size] * factor, _SHORTLIST)
        self.popular = top[:most].astype(np.int32)
        self.trending = _largest(self.table["trend"][:size] * factor, most).astype(np.int32)
        self._find_popular_by_segment(top, factor)
        stays, stayed, ratings, rated = (self.table[name][:size] for name in esteem.SUMS)
        self.mean_stay = esteem.mean_of(stayed, stays)
        self.mean_rating = esteem.mean_of(rated, ratings)
        category = self.table["category"][top]
        top, category = top[category >= 0], category[category >= 0]
        order = np.argsort(category, kind="stable")
        ordered = category[order]
        place = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
        kept = order[place < _PER_CATEGORY]
        self.category_items = top[kept].astype(np.int32)
        self.category_start = np.searchsorted(
            category[kept], np.arange(len(self.categories) + 1)
        ).astype(np.int32)

    def _find_popular_by_segment(self, top: I64, factor: F64) -> None:
        """The most popular by segment, of those that are popular at all."""
        count = len(self.segments)
        held = self.table["by_segment"][: len(self), :count]
        said = held[top] * factor[top, None]
        most = min(max(4 * self.plan.length, 100), len(top))
        order = np.argsort(-said, axis=0, kind="stable")[:most].T
        found = np.where(np.take_along_axis(said.T, order, 1) > 0.0, top[order], -1)
        self.segment_items = np.ascontiguousarray(found, dtype=np.int32)
        total = float(self.table["popularity"][: len(self)].sum())
        self.segment_share = held.sum(axis=0, dtype=np.float64) / max(total, 1e-300)

    def bytes_held(self) -> int:
        """Bytes of all of it."""
        parts = self.table, self.ids, self._rows, self.sessions
        return sum(part.bytes_held() for part in parts)

    # -- inside -------------------------------------------------------------------------------

    def _move_landmark(self, newest_ms: int) -> None:
        if self.landmark_ms == NEVER_MS:
            self.landmark_ms = newest_ms
            return
        gone_ms, plan = newest_ms - self.landmark_ms, self.plan
        if gone_ms > min(_REBASE * plan.half_life_ms, _REBASE_TREND * plan.trend_ms):
            self.rebase(newest_ms)

    def rebase(self, landmark_ms: int) -> None:
        """Count all weights from another landmark."""
        back_ms, size = self.landmark_ms - landmark_ms, len(self)
        factor = 2.0 ** (back_ms / self.plan.half_life_ms)
        self.table["trend"][:size] *= 2.0 ** (back_ms / self.plan.trend_ms)
        for name in ("popularity", "impressions", "clicks", "by_segment", *esteem.SUMS):
            self.table[name][:size] *= factor
        for kind in (self.covisits, self.together, self.cosine):
            kind.scale(factor)
        self.table["changed"][:size] = True
        self.landmark_ms = landmark_ms

    def _forget_some(self) -> None:
        """Keep nine tenths of the cap, the most popular; the others' rows are given anew.

        What the catalogue has spoken of is kept on top of that.
        """
        size = len(self)
        stays = self.table["described"][:size] | ~self.table["available"][:size]
        if size - np.count_nonzero(stays) <= self.plan.most_items:
            return
        popularity = np.where(stays, 0.0, self.table["popularity"][:size])
        others = _largest(popularity, self.plan.most_items * 9 // 10)
        kept = np.sort(np.concatenate([np.flatnonzero(stays), others]))
        moved = np.full(size, -1, dtype=np.int64)
        moved[kept] = np.arange(len(kept))
        ids = self.ids.texts(kept).packed()
        self.forgotten += self.ids.texts(np.flatnonzero(moved < 0)).bytes_list()
        held = {column.name: self.table[column.name][kept] for column in self.table}
        self._clear()
        self.rows(ids)
        for name, values in held.items():
            self.table[name][: len(kept)] = values
        for kind in (self.covisits, self.together, self.similar, self.cosine):
            kind.renumber(moved, len(kept))
        self.sessions.renumber(moved, len(kept))
        unsaved = moved[self._unsaved]
        self._unsaved = unsaved[unsaved >= 0]
        self.renumbered += 1
        self.find_popular()

    def _forget_categories(self) -> None:
        """Keep the categories that some item has."""
        held = self.table["category"][: len(self)]
        moved = self.categories.keep(np.unique(held[held >= 0]).astype(np.int64))
        held[held >= 0] = moved[held[held >= 0]]
        self.find_popular()


def _largest(values: F64, count: int) -> I64:
    """Places of the largest positive values, falling, of equals the first; int64[<= count]."""
    places = np.flatnonzero(values > 0.0)
    if len(places) > count:
        places = places[np.argpartition(-values[places], count)[:count]]
        places.sort()
    out: I64 = places[np.argsort(-values[places], kind="stable")]
    return out


@compiled
def _learn(
    rows: I64,
    ts_ms: I64,
    types: I8,
    before: I64,
    together: I64,
    segment: I64,
    weight_of: F64,
    landmark_ms: int,
    per_half_life: float,
    per_trend: float,
    backward: float,
    popularity: F64,
    trend: F64,
    by_segment: F32,
    impressions: F32,
    clicks: F32,
    last_ms: I64,
    changed: Bools,
    co_item: I32,
    co_weight: F32,
    to_item: I32,
    to_weight: F32,
) -> None:
    for k in range(len(rows)):
        row = rows[k]
        if row < 0:
            continue
        counts = 2.0 ** ((ts_ms[k] - landmark_ms) * per_half_life)
        changed[row] = True
        if types[k] == IMPRESSION:
            impressions[row] += np.float32(counts)
            continue
        if types[k] == CLICK:
            clicks[row] += np.float32(counts)
        says = counts * weight_of[types[k]]
        popularity[row] += says
        trend[row] += weight_of[types[k]] * 2.0 ** ((ts_ms[k] - landmark_ms) * per_trend)
        if segment[k] >= 0:
            by_segment[row, segment[k]] += np.float32(says)
        last_ms[row] = max(last_ms[row], ts_ms[k])
        for place in range(before.shape[1]):
            other = before[k, place]
            if other >= 0 and other != row:
                amount = says / (place + 1.0)
                add_one(co_item, co_weight, other, row, amount)
                add_one(co_item, co_weight, row, other, amount * backward)
                changed[other] = True
        if types[k] == PURCHASE:
            for place in range(together.shape[1]):
                other = together[k, place]
                if other >= 0 and other != row:
                    add_one(to_item, to_weight, other, row, counts)
                    add_one(to_item, to_weight, row, other, counts)
                    changed[other] = True
