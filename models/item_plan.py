"""What the settings say about items and recommendations, checked and compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.schema import ADD_TO_CART, CLICK, PRODUCT_VIEW, PURCHASE, TYPES
from models.rules import Rule
from state.times import DAY_MS, MINUTE_MS, SECOND_MS

SOURCES: Final = (
    *("covisits", "reminders", "together", "similar"),
    *("category", "popular", "trending", "segment"),
    *("sessions", "cosine"),
)
"""Where a candidate may come from; a number stands for the place in this tuple."""

COVISITS, REMINDERS, TOGETHER, SIMILAR = range(4)
CATEGORY, POPULAR, TRENDING, SEGMENT, SESSIONS, COSINE = range(4, len(SOURCES))

STEPS_MOST: Final = 16


def _weights() -> dict[int, float]:
    return {PRODUCT_VIEW: 1.0, CLICK: 1.0, ADD_TO_CART: 2.0, PURCHASE: 3.0}


def _sources() -> dict[str, float]:
    return {
        "covisits": 1.0,
        "reminders": 1.5,
        "together": 0.5,
        "similar": 0.1,
        "category": 0.02,
        "popular": 0.005,
        "trending": 0.005,
        "segment": 0.005,
        "sessions": 0.0,
        "cosine": 0.0,
    }


@dataclass(slots=True, frozen=True)
class ItemPlan:
    """How items are learned and lists are made.

    Attributes:
        weights: by type of event, how much it says that a user cares for the item; others are no
            interactions.
        half_life_ms: after so long, what was learned counts half.
        trend_ms: after so long, what makes an item trend counts half.
        steps: an interaction is paired with so many items before it, the nearer the more.
        gap_ms: items further back in time are not paired with it.
        backward: weight of the pair against the order of time.
        neighbours: kept per item.
        together: bought-together neighbours kept per item.
        basket_ms: purchases within so long were bought together.
        recent: items remembered per user.
        bought: purchases remembered per user; none of them is recommended.
        bought_ms: for so long.
        looks_back: from so many of the last items are candidates taken.
        fade: a step back counts as ``1 / place ** fade``.
        damping: the power of an item's popularity by which its neighbours are discounted.
        segment: the family of labels among whose users items are popular; empty for none.
        sources: weight of each source, see ``SOURCES``; 0 switches it off.
        rank_offset: what is added to ranks before their reciprocals are fused.
        length: items in a list.
        per_category: at most so many of one category in a list; 0 for any number.
        most_items: the table forgets the least popular beyond.
        validity_ms: how long a list holds.
        lists_per_s: lists made anew in a second at most; what exceeds it waits, the newest first.
        exchange_ms: how often lanes exchange what they saw.
        adaptive: whether the weights of sources follow what they prove worth.
        ranked: whether lists are ranked by what users took of what they were shown.
        click_ms: how long a user has to take what was shown.
        rank_least: examples before ranking may be used.
        popular_every_ms: how often popular items are looked up anew, in event time.
        rules: of the shop's people, by name, unless the store has others.
        session_count: sessions that are remembered.
        session_sample: so many of the latest that share an item with a user's are looked at.
        session_neighbours: so many of them say what comes.
        tried: names of sources that arms of experiments switch on.
    """

    weights: Mapping[int, float] = field(default_factory=_weights)
    half_life_ms: int = 14 * DAY_MS
    trend_ms: int = DAY_MS
    steps: int = 7
    gap_ms: int = DAY_MS
    backward: float = 1.0
    neighbours: int = 50
    together: int = 20
    basket_ms: int = DAY_MS
    recent: int = 8
    bought: int = 6
    bought_ms: int = 30 * DAY_MS
    looks_back: int = 4
    fade: float = 2.0
    damping: float = 0.25
    segment: str = "rfm"
    sources: Mapping[str, float] = field(default_factory=_sources)
    rank_offset: float = 0.5
    length: int = 20
    per_category: int = 0
    most_items: int = 1_000_000
    validity_ms: int = 7 * DAY_MS
    lists_per_s: int = 10_000
    exchange_ms: int = SECOND_MS
    adaptive: bool = True
    ranked: bool = True
    click_ms: int = 30 * MINUTE_MS
    rank_least: int = 2_000
    popular_every_ms: int = 10 * SECOND_MS
    rules: Mapping[str, Rule] = field(default_factory=dict)
    session_count: int = 100_000
    session_sample: int = 500
    session_neighbours: int = 100
    tried: frozenset[str] = frozenset()

    def is_on(self, source: int) -> bool:
        """Whether a source, a place in ``SOURCES``, may have to say something to anybody."""
        name = SOURCES[source]
        return bool(self.sources.get(name, 0.0) > 0.0) or name in self.tried

    @property
    def weight_of(self) -> NDArray[np.float64]:
        """The weight of each type of event, float64[types]."""
        out = np.zeros(len(TYPES))
        out[list(self.weights)] = list(self.weights.values())
        return out

    @property
    def source_weights(self) -> NDArray[np.float64]:
        """The weight of each source, float64[sources]."""
        return np.array([self.sources.get(name, 0.0) for name in SOURCES])
