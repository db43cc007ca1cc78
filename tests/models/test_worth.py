"""What buyers are worth, from a real lane: what the formulas say, and whatever amounts come."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from events.decode import Decoder
from events.schema import EventRules
from models import alive, spend
from models.lifetime import WEEK_MS, from_orders
from models.online import OnlineModels
from models.plan import Clustering, ModelPlan, Valuing
from models.worth import SCORES, Worth
from state.lane import Lane
from state.times import DAY_MS, HOUR_MS
from tests.state.streams import START_MS, plan, read_of

VALUING = Valuing(least=100)
NOW_MS = START_MS + 260 * DAY_MS
DEAREST = 10**9
"""What one line of an order may cost at most; 1e13 where a unit has four digits."""


def purchases(user, times_ms, amounts):
    """A user's orders."""
    return [
        {
            "event_id": f"{user}-{n}",
            "user_id": user,
            "type": "purchase",
            "ts": START_MS + int(ts_ms),
            "amount": float(amount),
            "order_id": f"{user}-{n}",
        }
        for n, (ts_ms, amount) in enumerate(zip(times_ms, amounts, strict=True))
    ]


def look(user, ts_ms=250 * DAY_MS):
    return {
        "event_id": f"{user}-look",
        "user_id": user,
        "type": "product_view",
        "ts": START_MS + int(ts_ms),
    }


def regulars(n, seed=0):
    """Customers who buy at a rate of their own, pay about a sum of their own, and leave some day.

    A third of the users has only looked.
    """
    rng = np.random.default_rng(seed)
    events = []
    for user in range(n):
        if user % 3 == 2:
            events.append(look(f"u{user}"))
            continue
        every_ms, usual = rng.gamma(2.0, 15.0) * DAY_MS, rng.gamma(4.0, 12.0)
        at_ms = rng.uniform(0, 120) * DAY_MS
        times_ms = []
        while at_ms < 250 * DAY_MS:
            times_ms.append(at_ms)
            if rng.random() < 0.2:
                break
            at_ms += rng.exponential(every_ms)
        events += purchases(
            f"u{user}", times_ms, np.ceil(rng.gamma(5.0, usual / 5.0, len(times_ms)))
        )
    return events


def lane_of(events, digits=2, **changes):
    """A lane that has taken in these events and learns what buyers are worth."""
    models = OnlineModels(ModelPlan((), valuing=VALUING, **changes), at_once=True)
    lane, decode = Lane(plan(), range(64), models), Decoder(EventRules(minor_digits=digits))
    events = sorted(events, key=lambda event: event["ts"])
    for start in range(0, len(events), 500):
        batch, letters = decode(read_of(events[start : start + 500], start))
        assert not letters
        lane.apply(batch)
    return lane


def view_of(lane, now_ms=NOW_MS):
    rows = np.arange(lane.table.size)
    return lane.view(rows, np.maximum(now_ms, lane.table["last_seen"][rows]))


@pytest.fixture(scope="module")
def shop():
    """A lane of regulars."""
    return lane_of(regulars(900))


@pytest.fixture(scope="module")
def fitted(shop):
    worth = Worth.fitted(view_of(shop), VALUING)
    assert worth is not None
    return worth


def test_nothing_is_known_of_fewer_buyers_than_it_takes(shop):
    view = view_of(shop)
    buyers = int(np.count_nonzero(view.value("lifetime.orders")))
    assert 500 < buyers < len(view)
    assert Worth.fitted(view, replace(VALUING, least=buyers + 1)) is None
    assert Worth.fitted(view, replace(VALUING, least=buyers)).buyers == buyers
    assert Worth.fitted(view.part(np.empty(0, np.int64)), VALUING) is None


def test_it_is_fitted_to_buyers_only(shop, fitted):
    view = view_of(shop)
    buyers = view.part(np.flatnonzero(view.value("lifetime.orders") > 0))
    assert Worth.fitted(buyers, VALUING) == fitted
    orders = buyers.value("lifetime.orders")
    past = from_orders(orders, buyers.value("first_order"), buyers.value("last_order"), NOW_MS)
    paid = buyers.value("lifetime.spend") / orders
    again = past.x > 0
    assert fitted.alive == alive.fit(*past).model
    assert fitted.spend == spend.fit(past.x[again] + 1.0, paid[again]).model
    # users pay about 48.00 on the mean, and a fifth of them leaves after each order
    mean = fitted.spend.expected_spend(np.zeros(1), np.zeros(1)).item()
    assert mean == pytest.approx(4_850, rel=0.1)
    assert fitted.alive.a / (fitted.alive.a + fitted.alive.b) == pytest.approx(0.2, abs=0.07)


def test_who_has_bought_nothing_is_worth_what_nobody_knows(shop, fitted):
    view = view_of(shop)
    unknown = np.isnan(fitted.score(view))
    looked = view.value("lifetime.orders") == 0
    assert np.count_nonzero(looked) == 300
    assert (unknown == looked[:, None]).all()
    lookers = view.part(np.flatnonzero(looked))
    assert np.isnan(fitted.score(lookers)).all()
    assert fitted.score(view.part(np.empty(0, np.int64))).shape == (0, len(SCORES))


def test_buyers_are_worth_what_the_formulas_say(shop, fitted):
    view = view_of(shop)
    scores = fitted.score(view)
    columns = [view.value(f"{name}").tolist() for name in ("lifetime.orders", "lifetime.spend")]
    times = [view.value(name).tolist() for name in ("first_order", "last_order")]
    for row, (orders, paid, first_ms, last_ms) in enumerate(zip(*columns, *times, strict=True)):
        if not orders:
            continue
        past = [
            np.array([float(value)])
            for value in (
                orders - 1,
                (last_ms - first_ms) / WEEK_MS,
                (int(view.now_ms[row]) - first_ms) / WEEK_MS,
            )
        ]
        ahead = fitted.alive.expected_purchases(*past, VALUING.horizon_ms / WEEK_MS).item()
        each = fitted.spend.expected_spend(np.array([orders]), np.array([paid / orders])).item()
        assert scores[row, 0] == pytest.approx(fitted.alive.p_alive(*past).item(), rel=1e-12)
        assert scores[row, 1] == pytest.approx(ahead, rel=1e-12)
        assert abs(scores[row, 2] - ahead * each) <= 0.5 + 1e-6


def test_later_fewer_are_customers_still(shop, fitted):
    view = view_of(shop)
    again = view.value("lifetime.orders") > 1
    now, later = (fitted.score(v)[again, 0] for v in (view, view_of(shop, NOW_MS + 90 * DAY_MS)))
    assert (later < now).all()


def test_saved_and_restored_it_says_the_same(shop, fitted):
    again = Worth.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(fitted.to_state())))
    assert again == fitted
    without = replace(fitted, spend=None)
    assert Worth.from_state(without.to_state()) == without


def test_the_next_fit_begins_where_the_last_one_ended(shop, fitted):
    again = Worth.fitted(view_of(shop), VALUING, fitted)
    for name in ("r", "alpha", "a", "b"):
        assert getattr(again.alive, name) == pytest.approx(getattr(fitted.alive, name), rel=0.02)


# -- in the lane --------------------------------------------------------------------------------


def test_a_lane_fits_it_by_itself_and_profiles_show_it(shop):
    assert shop.learner.trainer.worth is not None
    documents = [
        msgspec.msgpack.decode(raw) for raw in shop.portraits.encode(np.arange(900)).bytes_list()
    ]
    scored = [doc["scores"] for doc in documents if doc["lifetime"]["orders"]]
    assert all(0.0 <= each["alive"] <= 1.0 for each in scored)
    assert all(type(each["expected_spend"]) is int for each in scored)
    looked = next(doc for doc in documents if not doc["lifetime"]["orders"])
    names = [score.name for score in SCORES]
    assert [looked["scores"][name] for name in names] == [None] * 3


@pytest.mark.parametrize("groups", [None, Clustering("cluster", ("lifetime.orders",), k=2)])
def test_where_nothing_is_foretold_no_snapshot_waits_for_ever(groups):
    lane = lane_of(regulars(300), clustering=groups, rate=1.0, every_ms=HOUR_MS)
    waiting = lane.learner.snapshots
    last_ms = lane.clock.now_ms
    assert np.all(waiting.entries["ts"][waiting.entries.live()] >= last_ms - 2 * HOUR_MS)
    assert waiting.refused == 0


# -- whatever comes -----------------------------------------------------------------------------


def hostile(amounts, n=300, orders=4, seed=1):
    """Buyers who pay one of these amounts each time."""
    rng = np.random.default_rng(seed)
    events = []
    for user in range(n):
        times_ms = np.sort(rng.uniform(0, 250 * DAY_MS, 1 + rng.integers(0, orders)))
        events += purchases(f"u{user}", times_ms, rng.choice(amounts, len(times_ms)))
    return events


@pytest.mark.parametrize(
    "amounts",
    [
        [DEAREST],
        [0.0001, DEAREST],
        [5, 6, 7, DEAREST],
        [0, DEAREST],
        [0],
        [0.0001],
        [0, 0.0001, 1],
    ],
    ids=str,
)
def test_hostile_amounts_are_survived(amounts):
    lane = lane_of(hostile(amounts), digits=4)
    view = view_of(lane)
    worth = Worth.fitted(view, VALUING)
    assert worth is not None
    scores = worth.score(view)
    assert np.isfinite(scores[:, :2]).all()
    known = scores[~np.isnan(scores[:, 2]), 2]
    assert ((known >= 0.0) & (known < 2.0**63)).all()
    for raw in lane.portraits.encode(np.arange(lane.table.size)).bytes_list():
        shown = msgspec.msgpack.decode(raw)["scores"]["expected_spend"]
        assert shown is None or 0 <= shown < 2**63


@pytest.mark.parametrize("lines", [1, 200])
def test_one_who_pays_more_than_all_others_does_not_stop_the_fit(lines):
    """So many of the dearest lines are more than an order may count as."""
    bought = purchases("whale", np.repeat(np.arange(10) * DAY_MS, lines), [DEAREST] * 10 * lines)
    whale = [event | {"order_id": f"w{n // lines}"} for n, event in enumerate(bought)]
    view = view_of(lane_of(regulars(600) + whale, digits=4))
    assert view.value("lifetime.spend").max() == 1e14 * lines
    worth = Worth.fitted(view, VALUING)
    assert worth.spend is not None
    scores = worth.score(view)
    assert (scores[~np.isnan(scores)] >= 0.0).all()


def test_of_those_who_bought_once_nothing_is_learned():
    once = [event for u in range(300) for event in purchases(f"u{u}", [u * HOUR_MS], [9 + u])]
    lane = lane_of(once)
    assert Worth.fitted(view_of(lane), VALUING) is None
    assert lane.learner.trainer.worth is None


def test_of_those_who_are_all_alike_nothing_is_learned():
    alike = [e for u in range(300) for e in purchases(f"u{u}", [0, 7 * DAY_MS], [20, 20])]
    assert Worth.fitted(view_of(lane_of(alike)), VALUING) is None


def test_of_those_who_have_all_just_come_nothing_is_learned():
    events = [
        e for u in range(300) for e in purchases(f"u{u}", [0] * (1 + u % 3), [20] * (1 + u % 3))
    ]
    view = view_of(lane_of(events), START_MS)
    assert Worth.fitted(view, VALUING) is None


def test_where_all_pay_the_same_only_their_orders_are_foretold():
    events = [event | {"amount": 25.0} for event in regulars(600) if event["type"] == "purchase"]
    view = view_of(lane_of(events))
    worth = Worth.fitted(view, VALUING)
    assert worth.spend is None
    scores = worth.score(view)
    assert np.isfinite(scores[:, :2]).all()
    assert np.isnan(scores[:, 2]).all()


def test_one_who_orders_all_day_does_not_stop_the_fit():
    often = purchases("robot", np.arange(5_000) * 60_000, [1] * 5_000)
    view = view_of(lane_of(regulars(600) + often))
    worth = Worth.fitted(view, VALUING)
    assert np.isfinite(worth.score(view)[view.value("lifetime.orders") > 0]).all()
