"""Two oracles that share nothing but the definitions must agree, on made-up and on real logs."""

from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflows import reference as naive
from events.shop import GOOD, Habits, Shop
from tests.oracle import batch

DATA = Path(__file__).parents[3] / "shared" / "data"
START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
SETTINGS = naive.Settings(window_ms=40 * HOUR_MS, half_life_ms=20 * HOUR_MS)

events = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from("ab"),
            "type": st.sampled_from(["purchase", "refund", "product_view"]),
            "ts": st.integers(0, 60).map(lambda hours: START_MS + hours * HOUR_MS),
            "order_id": st.sampled_from([None, "o1", "o2", "o3"]),
            "amount_minor": st.integers(0, 5_000),
        }
    ),
    min_size=1,
    max_size=25,
)


def agree(log: list[dict], frame: pl.DataFrame, at_ms: int, settings: naive.Settings) -> None:
    found = {row["user_id"]: row for row in frame.to_dicts()}
    expected = naive.profiles(log, at_ms, settings)
    assert found.keys() == expected.keys()
    for user, truth in expected.items():
        row = found[user]
        for name in ("first_seen", "last_seen", "last_order", "recency_days"):
            assert row[name] == truth[name], name
        lifetime = {name: row[name] for name in truth["lifetime"]}
        assert lifetime == truth["lifetime"]
        assert {k: row[f"window_{k}"] for k in ("orders", "spend")} == truth["window"]
        for name, value in truth["decayed"].items():
            assert row[f"decayed_{name}"] == pytest.approx(value, rel=1e-12, abs=1e-6)


@given(events, st.data())
def test_batch_and_naive_agree_on_random_logs_in_any_order(log, data):
    for number, event in enumerate(log):
        event["event_id"] = str(number)
    log = data.draw(st.permutations(log))
    at_ms = START_MS + data.draw(st.integers(60, 120)) * HOUR_MS
    frame = batch.profiles(
        batch.from_maps(log),
        until_ms=at_ms + 1,
        window_ms=SETTINGS.window_ms,
        half_life_ms=SETTINGS.half_life_ms,
    )
    agree(log, frame, at_ms + 1, SETTINGS)


def test_batch_and_naive_agree_on_a_shop_with_refunds_and_duplicates():
    block = Shop(11, START_MS, Habits(users=300, rate_per_s=0.5)).block(20_000)
    pairs = zip(block.payloads, block.kind.tolist(), strict=True)
    log = [msgspec.json.decode(p, type=dict) for p, kind in pairs if kind == GOOD]
    for event in log:
        event["amount_minor"] = batch.to_minor(str(event.get("amount", 0)))
    assert sum(e["type"] == "refund" for e in log) > 30
    at_ms = max(e["ts"] for e in log)
    frame = batch.profiles(
        batch.from_maps(log + log[:5_000]),
        window_ms=SETTINGS.window_ms,
        half_life_ms=SETTINGS.half_life_ms,
    )
    agree(log, frame, at_ms, SETTINGS)
    assert naive.without_duplicates(log + log[:5_000]) == log


def test_window_is_open_on_the_left():
    order = naive.Order(lines=[(1_000, 7)])
    assert naive.window([order], 1_999, 1_000) == {"orders": 1, "spend": 7}
    assert naive.window([order], 2_000, 1_000) == {"orders": 0, "spend": 0}


def test_sessions_and_comebacks_by_hand():
    def view(ts):
        return {"user_id": "a", "type": "product_view", "ts": ts, "device": f"d{ts}"}

    log = [view(0), view(30), view(61), view(200)]
    assert [len(s) for s in naive.sessions(log, 30)] == [2, 1, 1]
    last = naive.session(log[:3], 90, 30)
    assert [last[name] for name in ("active", "start", "end", "views")] == [True, 61, 61, 1]
    assert (last["device"], last["country"]) == ("d61", None)
    assert not naive.session(log[:3], 92, 30)["active"]
    assert naive.returned_at(log, 30, 139) == 200
    assert naive.returned_at(log, 30, 140) is None


def test_cart_by_hand():
    def act(kind, item, ts):
        return {"type": kind, "item_id": item, "ts": ts}

    log = [
        act("remove_from_cart", "b", 9),
        act("add_to_cart", "a", 3),
        act("add_to_cart", "b", 8),
        act("add_to_cart", "c", 20),
    ]
    assert naive.cart(log, None, 20, 1_000) == {
        "items": 2,
        "lines": {"a": 3, "c": 20},
        "touched": 20,
    }
    assert naive.cart(log, 3, 20, 1_000)["lines"] == {"c": 20}
    assert naive.cart(log, None, 20, 17)["lines"] == {"c": 20}


def test_labels_agree_at_the_same_cuts_whatever_computes_them():
    log = [
        {
            "user_id": u,
            "event_id": f"{u}{n}",
            "type": "purchase",
            "ts": START_MS - days * 86_400_000,
        }
        | {"amount_minor": 100 * (n + 1)}
        for days, u in enumerate("abcdefghij")
        for n in range(1 + days % 3)
    ]
    frame = batch.profiles(batch.from_maps(log))
    quantiles = [0.2, 0.4, 0.6, 0.8]

    def quintiles(name):
        return [frame[name].quantile(q, interpolation="linear") for q in quantiles]

    ranked = frame.sort("window_orders", "user_id")
    cuts = {"recency_days": quintiles("recency_days"), "monetary": quintiles("window_spend")}
    cuts |= {"frequency": [ranked["window_orders"][int(9 * q)] for q in quantiles]}
    cuts |= {"frequency_ids": [ranked["user_id"][int(9 * q)] for q in quantiles]}
    by_cuts = batch.labels_from_cuts(frame, cuts, basis="window")
    assert by_cuts.equals(batch.pandas_labels(frame, basis="window"))
    for row in by_cuts.to_dicts():
        own = frame.row(by_predicate=pl.col("user_id") == row["user_id"], named=True)
        expected = naive.rfm(
            *(row["user_id"], own["recency_days"], own["window_orders"], own["window_spend"]), cuts
        )
        assert tuple(row.values())[1:] == expected


def test_amounts_round_half_to_even_as_the_text_says():
    assert [batch.to_minor(t) for t in ("1.005", "1.015", "0.125", "2.675", "7")] == [
        *(100, 102, 12, 268, 700)
    ]


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the real events are not on this machine")
@pytest.mark.parametrize(
    ("name", "users", "orders", "spend"),
    [
        ("cdnow", 23_570, 69_659, 250_031_563),
        ("complete_journey_sample", None, 47_243, None),
        ("rees46_oct2019_head", 4_504, 200, None),
    ],
)
def test_real_logs_hold_what_is_known_of_them(name, users, orders, spend):
    log = batch.read_events(
        DATA / f"{name}.csv.gz", order_column="session_id", types=batch.SHOP_TYPES
    )
    frame = batch.profiles(log)
    assert users is None or len(frame) == users
    assert frame["orders"].sum() == orders
    assert spend is None or frame["spend"].sum() == spend
    some = frame["user_id"].head(150).to_list()
    own = log.filter(pl.col("user_id").is_in(some)).to_dicts()
    part = frame.filter(pl.col("user_id").is_in(some))
    agree(own, part, log["ts"].max(), naive.Settings())
