"""Ranking of candidates by what users took of what they were shown, learned online.

A linear model with FTRL (``models.linear``) behind the fused sources: it sees how each source ranks
an item, how often the item is taken when it is shown, how many want it, how fresh that is and
whether its price is what the user looks at. It is in force only while it has ranked the latest
impressions better than the fused score had, so lists are never worse for it than without.

Items further up are looked at more. Where an impression tells how likely its place is looked at
(its ``value``, between 0 and 1), the model has that as an input of its own; lists are ranked as if
every place were looked at (Zhao et al., "Recommending what video to watch next", RecSys 2019).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import esteem
from models.candidates import UNRANKED, Candidates
from models.impressions import Shown
from models.item_plan import SOURCES
from models.items import ItemTable
from models.linear import FtrlClassifier
from models.progress import Progress

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

INPUTS: Final = (
    *(f"rank.{name}" for name in SOURCES),
    "taken",
    "popularity",
    "age_days",
    "price",
    "segment",
    "stay",
    "rating",
    "looked_at",
)
"""What the model sees of a candidate."""

_PRIOR: Final = 20.0
"""Impressions that a rate is drawn towards the mean of all by."""
_MOST_HALF_LIVES: Final = 20.0
"""What an item was that long ago and longer is not told apart."""
_LOOK_EVERY: Final = 200
"""Examples between two looks at which order is the better one."""
_DAY_MS: Final = 86_400_000


class Ranker:
    """The online model, and whether it may be used.

    Args:
        least: examples before it may.
        window: latest examples in which it must be the better one.

    Attributes:
        learned: examples that were learned.
    """

    def __init__(self, least: int = 2_000, window: int = 5_000) -> None:
        self._least = least
        self._model = FtrlClassifier(INPUTS)
        self._own, self._plain = Progress(window), Progress(window)
        self.learned = self._looked = 0
        self.in_force = False

    def learn(self, some: Shown) -> None:
        """Learn examples in their order; each was foretold before.

        What is no number is passed over: examples come from the store, and one that cannot be
        learned must not end every lane that reads it.
        """
        some = some.where(np.isfinite(some.X).all(axis=1) & np.isfinite(some.plain))
        if not len(some):
            return
        p = self._model.learn_many(some.X.astype(np.float64), some.y)
        self._own.note_many(some.y, p)
        plain = some.plain.astype(np.float64)
        self._plain.note_many(some.y, plain / (1.0 + plain))
        self.learned += len(some)
        if self.learned - self._looked >= _LOOK_EVERY:
            self._looked = self.learned
            self.in_force = self.learned >= self._least and self._is_better()

    def chances(self, X: F32) -> F64:
        """How likely each candidate is taken if it is looked at, float64[n]."""
        return self._model.predict_proba_many(X.astype(np.float64))

    def quality(self) -> dict[str, float | None]:
        """How well it ranks, and how well the fused score does, on the latest examples."""
        return {
            "examples": float(self.learned),
            "auc": self._own.report().auc,
            "auc_fused": self._plain.report().auc,
            "in_force": float(self.in_force),
        }

    def to_state(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "model": self._model.to_state(),
            "own": self._own.to_state(),
            "plain": self._plain.to_state(),
            "learned": self.learned,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``to_state`` gave, unless it was made for other inputs."""
        if state["model"]["features"] != list(INPUTS):
            return
        self._model = FtrlClassifier.from_state(state["model"], INPUTS)
        self._own = Progress.from_state(state["own"])
        self._plain = Progress.from_state(state["plain"])
        self.learned = state["learned"]
        self.in_force = self.learned >= self._least and self._is_better()

    def _is_better(self) -> bool:
        own, plain = self._own.report().auc, self._plain.report().auc
        return own is not None and plain is not None and own > plain


def inputs(
    items: ItemTable, lists: Candidates, recent: I64, segment: I64, now_ms: I64, looked_at: F64
) -> F32:
    """What the model sees of every candidate of some lists.

    Args:
        items: what is known of items.
        lists: of n users, m candidates each; those behind a list's end give rows without meaning.
        recent: rows of each user's last items, -1 for none, int64[n, k].
        segment: of each user, as in ``Gatherer.gather``, int64[n].
        now_ms: the time of each list, int64[n].
        looked_at: how likely each candidate is looked at, float64[n, m].

    Returns:
        float32[n, m, inputs].
    """
    table = items.table
    rows = np.maximum(lists.item, 0)
    out = np.zeros((*lists.item.shape, len(INPUTS)), dtype=np.float32)
    ranks = lists.ranks.astype(np.float32)
    out[..., : len(SOURCES)] = np.where(lists.ranks == UNRANKED, 0.0, 1.0 / (1.0 + ranks))
    taken, popularity, age, price, alike, stay, rating, seen = range(len(SOURCES), len(INPUTS))
    listed = lists.item >= 0  # what stands in a table's unused rows may be anything
    shown = np.where(listed, table["impressions"][rows], np.float32(0))
    clicks = np.where(listed, table["clicks"][rows], np.float32(0))
    popular = np.where(listed, table["popularity"][rows], np.float32(0))
    half_lives = (items.landmark_ms - now_ms.max(initial=0)) / items.half_life_ms
    scale = np.float32(2.0 ** min(half_lives, _MOST_HALF_LIVES))
    mean = items.taken_rate
    rate = (clicks * scale + mean * _PRIOR) / (shown * scale + _PRIOR)
    out[..., taken] = np.log(np.maximum(rate, 1e-6))
    out[..., popularity] = np.log1p(popular * scale)
    days = (now_ms[:, None] - table["last_ms"][rows]) / _DAY_MS
    out[..., age] = np.log1p(np.clip(days, 0.0, 365.0))
    known = recent >= 0
    paid = np.where(known, table["price"][np.maximum(recent, 0)], 0).astype(np.float64)
    count = np.count_nonzero(paid > 0, axis=1)
    usual = paid.sum(axis=1) / np.maximum(count, 1)
    asked = table["price"][rows].astype(np.float64)
    comparable = (asked > 0) & (usual > 0)[:, None]
    ratio = np.where(comparable, asked, 1.0) / np.where(comparable, usual[:, None], 1.0)
    out[..., price] = np.abs(np.log(ratio))
    out[..., alike] = _wanted_more(items, rows, segment, popular, scale)
    for place, counts, sums, mean in (
        (stay, "stays", "stayed", items.mean_stay),
        (rating, "ratings", "rated", items.mean_rating),
    ):
        count = np.where(listed, table[counts][rows], np.float32(0))
        total = np.where(listed, table[sums][rows], np.float32(0))
        out[..., place] = esteem.excess(total, count, mean, float(scale))
    out[..., seen] = np.log(np.clip(looked_at, 0.01, 1.0))
    return out


def _wanted_more(items: ItemTable, rows: I64, segment: I64, popular: F32, scale: np.float32) -> F32:
    """How much more than others a user's segment wants items, the logarithm, float32[n, m].

    Few interactions say little: both sides begin with ``_PRIOR``.
    """
    told = np.flatnonzero((segment >= 0) & (segment < len(items.segment_share)))
    out = np.zeros(rows.shape, dtype=np.float32)
    which = segment[told]
    had = items.table["by_segment"][rows[told], which[:, None]] * scale
    expected = popular[told] * scale * items.segment_share[which][:, None]
    out[told] = np.log((had + _PRIOR) / (expected + _PRIOR))
    return out
