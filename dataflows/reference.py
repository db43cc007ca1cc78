"""Every value of a profile recomputed from all events, one by one, slowly and obviously.

The engine never does it this way; that is the point: ``afterglow verify`` and the tests hold live
profiles against it. Plain lists and dicts, sums by ``math.fsum``,
no imports from the engine. Events are plain maps with ``user_id``, ``type``, ``ts`` (epoch ms) and
where they apply ``event_id``, ``order_id``, ``item_id``, ``device``, ``country``, ``amount_minor``
(int) and ``event_hash`` (breaks ties of device and country). Values are those at a time ``at_ms``,
or at the user's last event if that is later.

Times that never happened are None. Windows are open on the left: ``T - W < ts <= T``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

MINUTE_MS = 60_000
DAY_MS = 86_400_000

Event = Mapping[str, Any]
Profile = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What the values depend on; weights are by event type."""

    window_ms: int = 90 * DAY_MS
    half_life_ms: int = 30 * DAY_MS
    session_gap_ms: int = 30 * MINUTE_MS
    return_gap_ms: int = 30 * DAY_MS
    cart_ttl_ms: int = 30 * DAY_MS
    engagement: Mapping[str, float] = field(default_factory=dict)
    engagement_half_life_ms: int = 7 * DAY_MS
    intent: Mapping[str, float] = field(default_factory=dict)
    intent_half_life_ms: int = 60 * MINUTE_MS
    sums: Mapping[str, tuple[Mapping[str, float], int]] = field(default_factory=dict)
    """More decayed sums by name: weights and half-life."""


@dataclass
class Order:
    """One order of a user: its purchase lines and its refunds as (ts, amount)."""

    lines: list[tuple[int, int]] = field(default_factory=list)
    refunds: list[tuple[int, int]] = field(default_factory=list)

    @property
    def ts(self) -> int | None:
        """The time of the latest purchase line; None while known only by refunds."""
        return max((t for t, _ in self.lines), default=None)


def without_duplicates(events: Iterable[Event]) -> list[Event]:
    """The first of each (user id, event id), in log order."""
    first: dict[tuple[str, str], Event] = {}
    for event in events:
        first.setdefault((event["user_id"], event["event_id"]), event)
    return list(first.values())


def profiles(
    events: Iterable[Event], at_ms: int, settings: Settings | None = None
) -> dict[str, Profile]:
    """The profile of every user, by user id; duplicates must have been removed."""
    by_user: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_user[event["user_id"]].append(event)
    chosen = settings or Settings()
    return {user: profile(own, at_ms, chosen) for user, own in by_user.items()}


def profile(events: Sequence[Event], at_ms: int, settings: Settings) -> Profile:
    """The profile of one user from all of their events, in any order."""
    s = settings
    times = [e["ts"] for e in events]
    at_ms = max([at_ms, *times])
    purchases = [e for e in events if e["type"] == "purchase"]
    orders = orders_of(events)
    last_order = max((e["ts"] for e in purchases), default=None)
    return {
        "as_of": at_ms,
        "first_seen": min(times),
        "last_seen": max(times),
        "last_order": last_order,
        "lifetime": lifetime(events, orders),
        "window": window(orders, at_ms, s.window_ms),
        "decayed": decayed(orders, at_ms, s.half_life_ms),
        "recency_days": None if last_order is None else at_ms // DAY_MS - last_order // DAY_MS,
        "engagement": weighted(events, s.engagement, at_ms, s.engagement_half_life_ms),
        "intent": weighted(events, s.intent, at_ms, s.intent_half_life_ms),
        "session": session(events, at_ms, s.session_gap_ms),
        "returned_at": returned_at(events, s.session_gap_ms, s.return_gap_ms),
        "cart": cart(events, last_order, at_ms, s.cart_ttl_ms),
        **{
            name: weighted(events, weights, at_ms, half_life_ms)
            for name, (weights, half_life_ms) in s.sums.items()
        },
    }


def orders_of(events: Iterable[Event]) -> list[Order]:
    """A user's orders; a line or refund without an order id stands alone."""
    orders: dict[Any, Order] = defaultdict(Order)
    for n, event in enumerate(events):
        key = event.get("order_id") or ("alone", n)
        if event["type"] == "purchase":
            orders[key].lines.append((event["ts"], event["amount_minor"]))
        elif event["type"] == "refund":
            orders[key].refunds.append((event["ts"], event["amount_minor"]))
    return list(orders.values())


def lifetime(events: Sequence[Event], orders: Iterable[Order]) -> dict[str, int]:
    """Events, distinct orders, refunds, and spend after them, which is never negative."""
    bought = [order for order in orders if order.lines]
    gross = sum(e["amount_minor"] for e in events if e["type"] == "purchase")
    refunds = sum(e["amount_minor"] for e in events if e["type"] == "refund")
    return {
        "events": len(events),
        "orders": len(bought),
        "spend": max(0, gross - refunds),
        "refunds": refunds,
    }


def window(orders: Iterable[Order], at_ms: int, window_ms: int) -> dict[str, int]:
    """Orders in the window and what is left of them after refunds.

    A refund counts against its own order only; one whose order is unknown, against the window
    while the latest such refund of that order is in it.
    """
    count = spend = 0
    for order in orders:
        refunded = sum(amount for _, amount in order.refunds)
        if order.ts is not None:
            if at_ms - window_ms < order.ts <= at_ms:
                count += 1
                spend += max(0, sum(amount for _, amount in order.lines) - refunded)
        elif at_ms - window_ms < max(t for t, _ in order.refunds) <= at_ms:
            spend -= refunded
    return {"orders": count, "spend": max(0, spend)}


def decayed(orders: Iterable[Order], at_ms: int, half_life_ms: int) -> dict[str, float]:
    """Orders and spend, each worth half as much after every half-life."""

    def worth(t: int) -> float:
        return math.pow(2.0, -(at_ms - t) / half_life_ms)

    count, gross, refunds = [], [], []
    for order in orders:
        if order.ts is not None:
            count.append(worth(order.ts))
        gross += [amount * worth(t) for t, amount in order.lines]
        refunds += [
            amount * worth(t if order.ts is None else order.ts) for t, amount in order.refunds
        ]
    spend = math.fsum([*gross, *(-r for r in refunds)])
    return {"orders": math.fsum(count), "spend": max(0.0, spend)}


def weighted(
    events: Iterable[Event], weights: Mapping[str, float], at_ms: int, half_life_ms: int
) -> float:
    """A decayed sum of a weight per event type; other types weigh nothing."""
    return math.fsum(
        weights[e["type"]] * 2.0 ** (-(at_ms - e["ts"]) / half_life_ms)
        for e in events
        if e["type"] in weights
    )


def sessions(events: Iterable[Event], gap_ms: int) -> list[list[Event]]:
    """Chains of events with no pause longer than the gap, oldest first."""
    chains: list[list[Event]] = []
    for event in sorted(events, key=lambda e: e["ts"]):
        if chains and event["ts"] - chains[-1][-1]["ts"] <= gap_ms:
            chains[-1].append(event)
        else:
            chains.append([event])
    return chains


def session(events: Iterable[Event], at_ms: int, gap_ms: int) -> Profile:
    """The latest session, still active or not."""
    own = sessions(events, gap_ms)[-1]
    start, end = own[0]["ts"], own[-1]["ts"]
    return {
        "active": at_ms - end <= gap_ms,
        "start": start,
        "end": end,
        "views": sum(e["type"] == "product_view" for e in own),
        "carts": sum(e["type"] == "add_to_cart" for e in own),
        "device": latest(own, "device"),
        "country": latest(own, "country"),
    }


def latest(events: Iterable[Event], name: str) -> str | None:
    """The value of the latest event that carries one; ties go to the higher event hash."""
    told = [(e["ts"], e.get("event_hash", 0), e[name]) for e in events if e.get(name) is not None]
    return max(told)[2] if told else None


def returned_at(events: Iterable[Event], gap_ms: int, return_gap_ms: int) -> int | None:
    """When the user last came back after a long absence."""
    chains = sessions(events, gap_ms)
    comebacks = [
        later[0]["ts"]
        for earlier, later in pairwise(chains)
        if later[0]["ts"] - earlier[-1]["ts"] >= return_gap_ms
    ]
    return max(comebacks, default=None)


def cart(events: Iterable[Event], last_order: int | None, at_ms: int, ttl_ms: int) -> Profile:
    """What is in the cart: added later than removed, bought or forgotten."""
    added: dict[str, int] = {}
    removed: dict[str, int] = {}
    for event in events:
        times = {"add_to_cart": added, "remove_from_cart": removed}.get(event["type"])
        if times is not None:
            times[event["item_id"]] = max(event["ts"], times.get(event["item_id"], event["ts"]))
    lines = {
        item: ts
        for item, ts in added.items()
        if (item not in removed or ts > removed[item])
        and (last_order is None or ts > last_order)
        and ts > at_ms - ttl_ms
    }
    touched = max([*added.values(), *removed.values()], default=None)
    return {"items": len(lines), "lines": lines, "touched": touched}


# -- RFM ------------------------------------------------------------------------------------------

LABELS = {
    **dict.fromkeys([(5, 4), (5, 5)], "champions"),
    **dict.fromkeys([(3, 4), (3, 5), (4, 4), (4, 5)], "loyal_customers"),
    **dict.fromkeys([(4, 2), (4, 3), (5, 2), (5, 3)], "potential_loyalists"),
    (5, 1): "new_customers",
    (4, 1): "promising",
    (3, 3): "need_attention",
    **dict.fromkeys([(3, 1), (3, 2)], "about_to_sleep"),
    **dict.fromkeys([(1, 3), (1, 4), (2, 3), (2, 4)], "at_risk"),
    **dict.fromkeys([(1, 5), (2, 5)], "cant_lose"),
    **dict.fromkeys([(1, 1), (1, 2), (2, 1), (2, 2)], "hibernating"),
}
"""The label of each pair of an R and an F score."""


def rfm(
    user_id: str, days: int, frequency: float, monetary: float, cuts: Mapping[str, Any]
) -> tuple[int, int, int, str]:
    """R, F, M and label at given cuts: a score is one more than the cuts strictly below.

    ``cuts`` holds ``recency_days``, ``frequency``, ``monetary`` and ``frequency_ids``, four each;
    with ids, a frequency that equals its cut is above it if the user id is above the cut's.
    """
    r = 5 - sum(cut < days for cut in cuts["recency_days"])
    m = 1 + sum(cut < monetary for cut in cuts["monetary"])
    ids = cuts["frequency_ids"] or [None] * len(cuts["frequency"])
    f = 1
    for cut, boundary in zip(cuts["frequency"], ids, strict=True):
        f += cut < frequency or (cut == frequency and boundary is not None and user_id > boundary)
    return r, f, m, LABELS[r, f]
