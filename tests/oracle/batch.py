"""The slow batch program that the engine must agree with to the last cent: Polars over a CSV.

It reads the files of ``shared/data`` whole, in whatever order, and shares no code with the engine.

What the files hold, looked up before this was written:

- ``event_id`` is unique within each file and sorting by it gives the source's order. Values of a
  profile may not depend on either order.
- Money stands in ``amount``, never in ``price``: purchases of all three files have an amount with
  two decimals, none is empty or negative. ``price`` is empty in ``cdnow`` and
  ``complete_journey_sample``; in ``rees46_oct2019_head`` it is the price of what was viewed.
  ``amount`` is the line's total: ``quantity`` must not multiply it (CDNOW 2 × … = 29.33).
- ``cdnow``: no ``session_id``, so each of the 69,659 rows is an order of its own, the 255 exact
  repeats and the 80 rows of zero dollars included. All times are midnights.
- ``complete_journey_sample``: ``session_id`` is the basket, so with it as the order id 75,000 lines
  are 47,243 orders, each with one time. ``campaign_sent`` and ``coupon_redeem`` are not types of
  the contract: unless mapped to one they are dead letters and make no profile.
- ``rees46_oct2019_head``: ``view`` and ``cart`` need mapping. 214 purchases in 200 sessions; in 12
  of those, lines differ in time, and the order's time is that of its latest.
- None has refunds. ``profiles`` handles them all the same, for generated logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

DAY_MS = 86_400_000

SHOP_TYPES = {"view": "product_view", "cart": "add_to_cart"}
"""How REES46 names the contract's types."""

CONTRACT_TYPES = (
    *("page_view", "product_view", "search", "add_to_cart", "remove_from_cart", "wishlist_add"),
    *("purchase", "refund", "rating", "impression", "click", "email_open", "support_contact"),
    *("review", "attributes"),
)


def read_events(
    path: Path, *, order_column: str = "order_id", types: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """A CSV as events: user_id, event_id, type, ts, item_id, amount_minor, order_id.

    Order and item ids are null where there is none, amounts 0.

    Args:
        path: a CSV of ``shared/data``, gzip or not.
        order_column: the column that holds the order id; may be absent.
        types: source types to contract types; what is then no type of the contract drops out.
    """
    raw = pl.read_csv(path, infer_schema=False)
    order = pl.col(order_column) if order_column in raw.columns else pl.lit(None, pl.String)
    minor = {text: to_minor(text) for text in raw["amount"].unique() if text is not None}
    return raw.select(
        "user_id",
        "event_id",
        "item_id",
        type=pl.col("event_type").replace(dict(types or {})),
        ts=pl.col("ts").cast(pl.Int64),
        amount_minor=pl.col("amount").replace_strict(minor, default=0, return_dtype=pl.Int64),
        order_id=order,
    ).filter(pl.col("type").is_in(CONTRACT_TYPES))


def from_maps(events: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Events given as maps, as the naive oracle takes them, as a frame."""
    schema = {"user_id": pl.String, "event_id": pl.String, "type": pl.String, "ts": pl.Int64}
    schema |= {"amount_minor": pl.Int64, "order_id": pl.String}
    rows = [{name: event.get(name) for name in schema} for event in events]
    return pl.DataFrame(rows, schema=schema).with_columns(pl.col("amount_minor").fill_null(0))


def to_minor(text: str) -> int:
    """Major units as decimal text to whole minor units, half to even."""
    return int((Decimal(text) * 100).quantize(Decimal(1), ROUND_HALF_EVEN))


def profiles(
    events: pl.DataFrame,
    *,
    until_ms: int | None = None,
    window_ms: int = 90 * DAY_MS,
    half_life_ms: int = 30 * DAY_MS,
) -> pl.DataFrame:
    """One row per user at a time: totals, window, decayed sums, times. Sorted by user id.

    Args:
        events: as ``read_events`` gives them; repeated (user id, event id) pairs count once.
        until_ms: events at or after it are left out and values are taken at it; default: all
            events, values at the last one.
        window_ms: length of the window.
        half_life_ms: of the decayed sums.

    Returns:
        user_id, events, first_seen, last_seen, orders, refunds, spend, last_order (null without
        one), window_orders, window_spend, decayed_orders, decayed_spend (minor units),
        recency_days (null without an order).
    """
    events = events.unique(["user_id", "event_id"], keep="first", maintain_order=True)
    if until_ms is not None:
        events = events.filter(pl.col("ts") < until_ms)
    at_ms = int(events["ts"].max()) if until_ms is None else until_ms  # type: ignore[arg-type]
    users = events.group_by("user_id").agg(
        events=pl.len().cast(pl.Int64),
        first_seen=pl.col("ts").min(),
        last_seen=pl.col("ts").max(),
        last_order=pl.col("ts").filter(pl.col("type") == "purchase").max(),
        refunds=_amount("refund").sum(),
        spend=(_amount("purchase").sum() - _amount("refund").sum()).clip(lower_bound=0),
    )
    money = _with_orders(events)
    for part in (_orders(money, at_ms, window_ms), _decayed(money, at_ms, half_life_ms)):
        users = users.join(part, on="user_id", how="left")
    days = pl.lit(at_ms) // DAY_MS - pl.col("last_order") // DAY_MS
    return users.with_columns(pl.col(_SUMS).fill_null(0), recency_days=days).sort("user_id")


_SUMS = ("orders", "window_orders", "window_spend", "decayed_orders", "decayed_spend")


def _amount(kind: str) -> pl.Expr:
    return pl.col("amount_minor").filter(pl.col("type") == kind)


def _with_orders(events: pl.DataFrame) -> pl.DataFrame:
    """Purchases and refunds with their order's time; those without an order id stand alone."""
    alone = pl.format("alone {}", pl.int_range(pl.len()))
    named = pl.format("order {}", "order_id")
    money = events.filter(pl.col("type").is_in(["purchase", "refund"])).with_columns(
        order=pl.when(pl.col("order_id").is_null()).then(alone).otherwise(named)
    )
    times = money.filter(pl.col("type") == "purchase")
    times = times.group_by("user_id", "order").agg(order_ts=pl.col("ts").max())
    return money.join(times, on=["user_id", "order"], how="left")


def _orders(money: pl.DataFrame, at_ms: int, window_ms: int) -> pl.DataFrame:
    """Lifetime orders, and orders and spend in the window, per user."""
    orders = money.group_by("user_id", "order").agg(
        known=pl.col("order_ts").is_not_null().any(),
        time=pl.coalesce(pl.col("order_ts").max(), pl.col("ts").max()),
        gross=_amount("purchase").sum(),
        refunded=_amount("refund").sum(),
    )
    recent = (pl.col("time") > at_ms - window_ms) & (pl.col("time") <= at_ms)
    left = (pl.col("gross") - pl.col("refunded")).clip(lower_bound=0)
    spend = pl.when("known").then(left).otherwise(-pl.col("refunded"))
    return orders.group_by("user_id").agg(
        orders=pl.col("known").sum().cast(pl.Int64),
        window_orders=(recent & pl.col("known")).sum().cast(pl.Int64),
        window_spend=spend.filter(recent).sum().clip(lower_bound=0),
    )


def _decayed(money: pl.DataFrame, at_ms: int, half_life_ms: int) -> pl.DataFrame:
    """Orders and net spend, halved for every half-life since, per user."""

    def worth(time: pl.Expr) -> pl.Expr:
        return pl.lit(2.0).pow((time - at_ms).cast(pl.Float64) / half_life_ms)

    refund_time = pl.coalesce("order_ts", "ts")
    purchases = money.filter(pl.col("type") == "purchase")
    counts = purchases.unique(["user_id", "order"]).group_by("user_id")
    signed = (
        pl.when(pl.col("type") == "purchase")
        .then(pl.col("amount_minor") * worth(pl.col("ts")))
        .otherwise(-pl.col("amount_minor") * worth(refund_time))
    )
    spend = money.group_by("user_id").agg(decayed_spend=signed.sum().clip(lower_bound=0.0))
    orders = counts.agg(decayed_orders=worth(pl.col("order_ts")).sum())
    return spend.join(orders, on="user_id", how="left")


# -- labels ---------------------------------------------------------------------------------------

_RF_LABELS = {
    "champions": "54 55",
    "loyal_customers": "34 35 44 45",
    "potential_loyalists": "42 43 52 53",
    "new_customers": "51",
    "promising": "41",
    "need_attention": "33",
    "about_to_sleep": "31 32",
    "at_risk": "13 14 23 24",
    "cant_lose": "15 25",
    "hibernating": "11 12 21 22",
}
LABEL_OF = {pair: label for label, pairs in _RF_LABELS.items() for pair in pairs.split()}


def labels_from_cuts(
    frame: pl.DataFrame,
    cuts: Mapping[str, Any],
    *,
    basis: str = "decayed",
    at_ms: int = 0,
    half_life_ms: int = 30 * DAY_MS,
) -> pl.DataFrame:
    """Scores and label of every buyer at cuts that the engine exported: user_id, r, f, m, label.

    Args:
        frame: what ``profiles`` gave.
        cuts: ``recency_days``, ``frequency``, ``monetary``, four each, and ``frequency_ids``.
        basis: ``decayed``, ``window`` or ``lifetime``. Cuts of the decayed basis are in log form,
            ``log2 Σ w·2^(t/h)``, where values within 1e-9 of a cut are held to equal it, since
            two ways to sum the same terms differ in the last bits.
        at_ms: of the decayed basis: when the frame's values were taken.
        half_life_ms: of the decayed basis.
    """
    buyers = frame.filter(pl.col("last_order").is_not_null())
    ids = np.array(buyers["user_id"].to_list(), dtype=object)
    prefix = "" if basis == "lifetime" else f"{basis}_"
    frequency = buyers[f"{prefix}orders"].to_numpy().astype(np.float64)
    monetary = buyers[f"{prefix}spend"].to_numpy().astype(np.float64)
    near = 0.0
    if basis == "decayed":
        with np.errstate(divide="ignore"):
            frequency, monetary = (np.log2(x) + at_ms / half_life_ms for x in (frequency, monetary))
        near = 1e-9
    r = 5 - sum(buyers["recency_days"].to_numpy() > cut for cut in cuts["recency_days"])
    m = 1 + sum(monetary > cut + near for cut in cuts["monetary"])
    f = 1 + sum(frequency > cut + near for cut in cuts["frequency"])
    for cut, boundary in zip(cuts["frequency"], cuts["frequency_ids"], strict=False):
        f += (np.abs(frequency - cut) <= near) & (ids > boundary)
    return _labelled(buyers["user_id"].to_list(), r, f, m)


def pandas_labels(frame: pl.DataFrame, *, basis: str = "window") -> pl.DataFrame:
    """Scores and label of every buyer by pandas: user_id, r, f, m, label.

    ``qcut`` into five on whole days since the last order and on spend, and on the rank of the
    order count, ties ranked in the order of user ids. Where two quintiles of a score coincide,
    pandas has fewer than five bins, which are then numbered as if the empty ones were there.
    """
    ranked = frame.filter(pl.col("last_order").is_not_null()).sort("user_id")
    buyers = pd.DataFrame(ranked.to_dict(as_series=False))
    prefix = "" if basis == "lifetime" else f"{basis}_"
    rank = buyers[f"{prefix}orders"].rank(method="first")
    r = 6 - _fifths(buyers["recency_days"])
    f, m = _fifths(rank), _fifths(buyers[f"{prefix}spend"])
    return _labelled(buyers["user_id"].tolist(), r, f, m)


def _fifths(values: pd.Series[Any]) -> np.ndarray[Any, Any]:
    """The fifth of each value, 1 to 5, by ``qcut``."""
    bins, edges = pd.qcut(values, 5, labels=False, duplicates="drop", retbins=True)
    if len(edges) == 6:
        return bins.to_numpy() + 1
    cuts = values.quantile([0.2, 0.4, 0.6, 0.8]).to_numpy()
    return 1 + (values.to_numpy()[:, None] > cuts).sum(axis=1)


def _labelled(users: list[str], r: Any, f: Any, m: Any) -> pl.DataFrame:
    scores = pl.DataFrame({"user_id": users, "r": r, "f": f, "m": m})
    pair = pl.format("{}{}", "r", "f")
    return scores.with_columns(label=pair.replace_strict(LABEL_OF, return_dtype=pl.String))
