"""A believable shop, simulated: who comes, what they look at, what they buy and give back.

The unit of chance is the **visit**. A user arrives (Zipf over users, a Poisson process in time),
opens a page, looks at some items (Zipf over items, drawn towards the user's favourite category),
puts some in the cart, takes some out again, and checks out or not. Purchases are followed, some
time later, by refunds, ratings and reviews. A visit on a bad connection is delivered late as a
whole, so its purchases may arrive after their own refund. A share of users drift: they are away
for part of a long cycle and then come back.

All visits of a block are drawn with whole-array operations. Blocks have a fixed size, so what
happens depends on the seed only and never on how many events a caller asks for at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.shop_habits import CATEGORIES, COUNTRIES, DEVICES, STEPS_PER_VISIT, Habits

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

TYPES: Final = (
    *("page_view", "product_view", "search", "add_to_cart", "remove_from_cart", "wishlist_add"),
    *("purchase", "refund", "rating", "impression", "click", "email_open", "support_contact"),
    *("review", "attributes"),
)
"""What the shop can emit; a step's ``type`` is an index into this."""

_BLOCK_VISITS: Final = 2_048
_NO_ITEM: Final = -1

STEP: Final = np.dtype(
    [
        *(("at_ms", "f8"), ("delay_ms", "f8"), ("type", "i1"), ("device", "i1")),
        *(("user", "i4"), ("visit", "i8"), ("item", "i4"), ("quantity", "i2")),
        *(("amount_minor", "i8"), ("order", "i8"), ("line", "i2"), ("stars", "i1")),
    ]
)
"""One step of a visit. ``at_ms`` is when it reaches the log, ``delay_ms`` after it happened.

``item``, ``order`` and ``stars`` are -1 where there is none; ``line`` counts an order's lines.
"""

Steps = NDArray[Any]


class Simulation:
    """Visits, drawn block by block, given out as steps in the order of their arrival.

    Args:
        rng: the only source of chance.
        habits: see ``Habits``.
    """

    def __init__(self, rng: np.random.Generator, habits: Habits) -> None:
        self._rng = rng
        self._habits = habits
        self._clock_ms = 0.0
        self._visits = 0
        self._orders = 0
        self._pending = np.empty(0, dtype=STEP)
        self._user_cdf = _zipf_cdf(habits.users, habits.zipf)
        self._item_cdf = _zipf_cdf(habits.items, 1.05)
        self.price_minor: I64 = np.maximum(99, rng.lognormal(7.6, 0.9, habits.items)).astype(int)
        self.favourite: I64 = rng.integers(0, len(CATEGORIES), habits.users)
        self.country: I64 = rng.choice(len(COUNTRIES), habits.users, p=_falling(len(COUNTRIES)))
        self._phase = rng.random(habits.users)
        self._drifts = rng.random(habits.users) < habits.drift_share

    def next_steps(self) -> Steps:
        """The steps that arrive before the next block of visits begins, in order of arrival."""
        fresh = self._draw_visits()
        held = np.concatenate([self._pending, fresh])
        held = held[np.argsort(held["at_ms"], kind="stable")]
        ripe = int(np.searchsorted(held["at_ms"], self._clock_ms))
        self._pending = held[ripe:]
        return held[:ripe]

    def _draw_visits(self) -> Steps:
        rng, n = self._rng, _BLOCK_VISITS
        mean_ms = 1000 * STEPS_PER_VISIT / self._habits.rate_per_s
        start = self._clock_ms + np.cumsum(rng.exponential(mean_ms, n))
        self._clock_ms = float(start[-1])
        late = rng.random(n) < self._habits.late_share
        late_ms = self._habits.or_paces(self._habits.late_s, 20)
        visit = _Visits(
            first=self._visits,
            start=start,
            user=self._draw_users(start),
            delay=np.where(late, rng.exponential(late_ms, n), 0.0),
            device=rng.choice(len(DEVICES), n, p=(0.6, 0.3, 0.1)),
        )
        self._visits += n
        looks = np.minimum(rng.geometric(0.32, n), 8)
        parts = [*self._arrivals(visit), *self._looks(visit, looks)]
        return np.concatenate(parts)

    def _draw_users(self, at_ms: F64) -> I64:
        """A user for each visit; whoever is away is replaced by another, a few times."""
        rng = self._rng
        user = np.searchsorted(self._user_cdf, rng.random(len(at_ms)))
        cycles = at_ms / (1000 * self._habits.drift_period_s)
        for _ in range(6):
            away = self._drifts[user] & ((cycles + self._phase[user]) % 1.0 < 0.4)
            index = np.flatnonzero(away)
            user[index] = np.searchsorted(self._user_cdf, rng.random(len(index)))
        return user

    def _arrivals(self, visit: _Visits) -> list[Steps]:
        """How visits begin: a mail or a banner, a page, sometimes news about the user."""
        rng, n, pace = self._rng, len(visit.start), self._habits.pace_ms
        everyone = np.arange(n)
        led_by = rng.random(n)
        mail, banner = everyone[led_by < 0.08], everyone[led_by > 0.8]
        clicked = np.concatenate([mail, banner[rng.random(len(banner)) < 0.15]])
        rare = rng.random(n)
        told, asked = everyone[rare < 0.01], everyone[rare > 0.99]
        later = visit.start[asked] + pace * rng.exponential(20, len(asked))
        return [
            visit.steps("email_open", mail, visit.start[mail]),
            visit.steps("impression", banner, visit.start[banner]),
            visit.steps("click", clicked, visit.start[clicked] + 0.02 * pace),
            visit.steps("page_view", everyone, visit.start + 0.05 * pace),
            visit.steps("attributes", told, visit.start[told] + 0.06 * pace),
            visit.steps("support_contact", asked, later),
        ]

    def _looks(self, visit: _Visits, looks: I64) -> list[Steps]:
        """The items looked at, one row per look; then the checkout of what stayed in the cart."""
        rng, pace = self._rng, self._habits.pace_ms
        of = np.repeat(np.arange(len(looks)), looks)
        ends = np.cumsum(looks)
        took = rng.exponential(pace, len(of))
        elapsed = np.cumsum(took)
        before = np.repeat(elapsed[ends - 1] - np.add.reduceat(took, ends - looks), looks)
        done = visit.start[of] + elapsed - before + 0.1 * pace
        begun = done - took
        item = self._draw_items(visit.user[of])
        fates = rng.random((4, len(of)))
        added = fates[0] < 0.24
        removed = added & (fates[1] < 0.15)
        shape = {"search": fates[2] < 0.25, "product_view": np.ones(len(of), dtype=np.bool_)}
        shape |= {"wishlist_add": fates[3] < 0.04, "add_to_cart": added}
        shape |= {"remove_from_cart": removed}
        parts = []
        for place, (kind, mask) in enumerate(shape.items()):
            index = np.flatnonzero(mask)
            at = begun[index] + 0.2 * place * took[index]
            seen = np.full(len(index), _NO_ITEM) if kind == "search" else item[index]
            parts.append(visit.steps(kind, of[index], at, item=seen))
        leaves = visit.start + elapsed[ends - 1] - before[ends - 1] + 0.2 * pace
        pays = rng.random(len(looks)) < 0.5
        lines = np.flatnonzero(added & ~removed & pays[of])
        return [*parts, *self._checkout(visit, of[lines], item[lines], leaves)]

    def _checkout(self, visit: _Visits, of: I64, item: I64, leaves: F64) -> list[Steps]:
        """The orders and their follow-ups; ``of`` is the visit of each line, ascending."""
        rng = self._rng
        opens = np.diff(of, prepend=-1) != 0
        first = np.flatnonzero(opens)
        number = np.cumsum(opens) - 1
        line = np.arange(len(of)) - first[number]
        order = self._orders + number
        self._orders += len(first)
        single = np.bincount(number, minlength=len(first))[number] == 1
        nameless = single & (rng.random(len(of)) < 0.05)
        order[nameless] = -1
        quantity = 1 + rng.poisson(0.25, len(of))
        bought = visit.steps("purchase", of, leaves[of], item=item, order=order, line=line)
        bought["quantity"] = quantity
        bought["amount_minor"] = self.price_minor[item] * quantity
        return [bought, *self._follow_ups(visit, of, leaves[of], bought)]

    def _follow_ups(self, visit: _Visits, of: I64, paid: F64, bought: Steps) -> list[Steps]:
        """Refunds, ratings and reviews of lines; ``of`` and ``paid``: each one's visit and time."""
        rng = self._rng
        wait_ms = self._habits.or_paces(self._habits.follow_up_s, 20)
        parts = []
        for kind, share in (("refund", 0.06), ("rating", 0.08), ("review", 0.03)):
            index = np.flatnonzero(rng.random(len(of)) < share)
            at = paid[index] + rng.exponential(wait_ms, len(index))
            later = visit.steps(kind, of[index], at, item=bought["item"][index], prompt=True)
            if kind == "refund":
                part = np.where(rng.random(len(index)) < 0.3, 2, 1)
                later["order"] = bought["order"][index]
                later["amount_minor"] = np.maximum(bought["amount_minor"][index] // part, 1)
            elif kind == "rating":
                later["stars"] = np.minimum(rng.binomial(4, 0.75, len(index)) + 1, 5)
            parts.append(later)
        return parts

    def _draw_items(self, user: I64) -> I64:
        """One item per look, half of them from the user's favourite category."""
        rng, kinds = self._rng, len(CATEGORIES)
        item = np.searchsorted(self._item_cdf, rng.random(len(user)))
        liked = item - item % kinds + self.favourite[user]
        at_home = (rng.random(len(user)) < 0.5) & (liked < self._habits.items)
        return np.where(at_home, liked, item)


@dataclass(slots=True, frozen=True)
class _Visits:
    """The visits of one block; ``first`` numbers the earliest, arrays hold one value each."""

    first: int
    start: F64
    user: I64
    delay: F64
    device: I64

    def steps(
        self,
        kind: str,
        of: I64,
        at: F64,
        item: I64 | None = None,
        order: I64 | None = None,
        line: I64 | None = None,
        prompt: bool = False,
    ) -> Steps:
        """Steps of one type in the visits ``of`` at times ``at``; ``prompt`` ones are not late."""
        out = np.zeros(len(of), dtype=STEP)
        out["type"] = TYPES.index(kind)
        out["delay_ms"] = 0.0 if prompt else self.delay[of]
        out["at_ms"] = at + out["delay_ms"]
        out["device"], out["user"] = self.device[of], self.user[of]
        out["visit"] = self.first + of
        out["item"] = _NO_ITEM if item is None else item
        out["order"] = -1 if order is None else order
        out["line"] = 0 if line is None else line
        out["stars"] = -1
        return out


def _zipf_cdf(n: int, exponent: float) -> F64:
    """Cumulative probabilities of ranks 1 to n, float64[n], ending at 1 or just above."""
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    cdf = np.cumsum(weights / weights.sum())
    cdf[-1] = 1.0
    return cdf


def _falling(n: int) -> F64:
    weights = 0.75 ** np.arange(n)
    return np.asarray(weights / weights.sum())
