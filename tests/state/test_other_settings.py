"""A lane that starts on what other settings have measured: no value is absurd, nobody is left."""

import msgspec
import numpy as np
import pytest

from events.decode import Decoder
from events.schema import EventRules
from state.changes import decode_entry
from state.checkpoint import Checkpoint
from state.declared import DecayedSpec, PanesSpec
from state.definitions import SegmentSpec
from state.lane import Lane
from state.rfm import RfmSpec
from state.store import Store
from state.times import DAY_MS, HOUR_MS, MINUTE_MS
from tests.state.streams import START_MS, plan, read_of

pytestmark = pytest.mark.servers

VIEWS = PanesSpec("views", 7 * DAY_MS, 7, ("product_view",))


class Shop:
    """One store, and one lane after another on it."""

    def __init__(self, url, **settings):
        self.url, self.offset, self.changes = url, 0, []
        self.start(**settings)

    def start(self, **settings):
        """What was not committed is lost; these settings are in force from now on."""
        self.lane = Lane(plan(**{"lateness_ms": 0, "order_keep_ms": 0, **settings}), range(64))
        self.store = Store(self.url, "t", 64)
        self.checkpoint = Checkpoint(self.lane, self.store)
        self.checkpoint.open()

    def happens(self, *events):
        """Events are taken in and committed."""
        told = [{"event_id": f"e{n}", **event} for n, event in enumerate(events, self.offset)]
        batch, letters = Decoder(EventRules())(read_of(told, self.offset))
        assert not letters
        self.offset += len(told)
        self.lane.apply(batch)
        self.commit()

    def quiet(self, wall_ms):
        """Nothing comes, and the clock goes on."""
        batch, _ = Decoder(EventRules())(read_of([], self.offset, at_end=True))
        self.lane.apply(batch, wall_ms)
        self.commit()

    def commit(self):
        for each in self.checkpoint.commit(heartbeat=True):
            self.changes += [msgspec.json.decode(raw) for _, raw in decode_entry(each.changes)]

    def value(self, name, at_ms, user="ann"):
        rows = np.array([self.lane.users.find(user)])
        return self.lane.view(rows, np.array([at_ms])).value(name)[0].item()

    def members(self, name):
        return {user for shard in range(64) for user in self.store.members(shard, name)}


def view(ts, user="ann"):
    return {"user_id": user, "type": "product_view", "ts": ts, "item_id": "i"}


def purchase(ts, user="ann", amount=10, order="o"):
    kind = {"user_id": user, "type": "purchase", "ts": ts}
    return {**kind, "amount": amount, "order_id": f"{user}-{order}"}


@pytest.mark.parametrize("days", [1, 14, 30, 365])
def test_a_decayed_sum_goes_on_from_its_value_with_another_half_life(store_url, days):
    def decayed(half_life_ms):
        return {"decayed": [DecayedSpec("keen", half_life_ms, {"product_view": 2.0})]}

    shop = Shop(store_url, **decayed(7 * DAY_MS))
    shop.happens(*(view(START_MS + n * HOUR_MS) for n in range(10)))
    now_ms = START_MS + 9 * HOUR_MS
    before = shop.value("keen", now_ms)
    shop.start(**decayed(days * DAY_MS))
    assert shop.value("keen", now_ms) == pytest.approx(before, rel=1e-9)
    assert shop.value("keen", now_ms + days * DAY_MS) == pytest.approx(before / 2, rel=1e-9)
    shop.happens(view(now_ms))
    assert shop.value("keen", now_ms) == pytest.approx(before + 2, rel=1e-9)
    shop.start(**decayed(7 * DAY_MS))
    assert shop.value("keen", now_ms) == pytest.approx(before + 2, rel=1e-9)


@pytest.mark.parametrize("days", [15, 60])
def test_decayed_orders_and_refunds_go_on_with_another_half_life(store_url, days):
    def refund(ts, amount, order):
        kind = {"user_id": "ann", "type": "refund", "ts": ts}
        return {**kind, "amount": amount, "order_id": order}

    shop = Shop(store_url, rfm=RfmSpec())
    now_ms = START_MS + 4 * DAY_MS
    shop.happens(
        *(purchase(START_MS + n * DAY_MS, order=n, amount=100) for n in range(4)),
        refund(now_ms, 7, "unknown"),
        refund(now_ms, 9, "never seen"),
    )
    before = {name: shop.value(f"decayed.{name}", now_ms) for name in ("orders", "spend")}
    other = {"rfm": RfmSpec(half_life_ms=days * DAY_MS)}
    shop.start(**other)
    for name, value in before.items():
        assert shop.value(f"decayed.{name}", now_ms) == pytest.approx(value, rel=1e-9)
        later_ms = now_ms + days * DAY_MS
        assert shop.value(f"decayed.{name}", later_ms) == pytest.approx(value / 2, rel=1e-9)
    shop.happens(view(now_ms, user="bob"))
    shop.start(**other)
    # one of the loose refunds goes to its order, and the sum of the others is built anew
    shop.happens(purchase(now_ms, amount=7) | {"order_id": "unknown"})
    assert shop.value("decayed.spend", now_ms) == pytest.approx(before["spend"] + 700, rel=1e-6)


@pytest.mark.parametrize(
    "then",
    [
        PanesSpec("views", 14 * DAY_MS, 7, ("product_view",)),
        PanesSpec("views", 7 * DAY_MS, 14, ("product_view",)),
        PanesSpec("views", DAY_MS, 7, ("product_view",)),
    ],
)
def test_a_count_begins_anew_with_another_window_or_other_panes(store_url, then):
    shop = Shop(store_url, panes=[VIEWS])
    shop.happens(*(view(START_MS + n * HOUR_MS) for n in range(5)))
    now_ms = START_MS + 5 * HOUR_MS
    assert shop.value("views", now_ms) == 5
    shop.start(panes=[then])
    assert shop.value("views", now_ms) == 0
    shop.happens(view(now_ms), view(now_ms + 1))
    assert shop.value("views", now_ms + 1) == 2
    assert shop.value("views", now_ms + 1 + then.window_ms) == 0
    shop.start(panes=[then])
    assert shop.value("views", now_ms + 1) == 2


SEGMENTS = [
    SegmentSpec("buyer", "window.orders >= 1"),
    SegmentSpec("has_cart", "cart.items > 0"),
]


def windows(days):
    return {
        "rfm": RfmSpec(window_ms=days * DAY_MS),
        "cart_ttl_ms": days * DAY_MS,
        "segments": SEGMENTS,
    }


def bought(url):
    """A shop of windows of 30 days, whose one customer has bought, and filled a cart."""
    shop = Shop(url, **windows(30))
    add = {"user_id": "ann", "type": "add_to_cart", "item_id": "i", "ts": START_MS + 1_000}
    shop.happens(purchase(START_MS), add)
    assert shop.members("buyer") == shop.members("has_cart") == {"ann"}
    return shop


def test_what_a_longer_window_counts_is_kept_for_as_long(store_url):
    shop = bought(store_url)
    shop.start(**windows(90))
    for day, inside in ((31, True), (89, True), (91, False)):
        shop.happens(view(START_MS + day * DAY_MS, user="bob"))
        if day == 31:
            shop.start(**windows(90))
        now_ms = START_MS + day * DAY_MS
        assert shop.value("window.orders", now_ms) == shop.value("cart.items", now_ms) == inside
        assert shop.members("buyer") == shop.members("has_cart") == ({"ann"} if inside else set())
    assert len(shop.lane.measures.orders.entries) == len(shop.lane.measures.carts.entries) == 0


def test_whom_a_shorter_window_leaves_out_leaves_at_the_start(store_url):
    shop = bought(store_url)
    shop.happens(view(START_MS + 10 * DAY_MS, user="bob"))
    shop.start(**windows(5))
    shop.quiet(START_MS + 10 * DAY_MS + MINUTE_MS)
    assert shop.members("buyer") == shop.members("has_cart") == set()
    assert {change["action"] for change in shop.changes[-2:]} == {"exited"}


def test_with_the_same_settings_nobody_is_decided_again(store_url):
    shop = bought(store_url)
    due = shop.lane.table["due_ms"][:1].tolist()
    shop.start(**windows(30))
    assert shop.lane.table["due_ms"][:1].tolist() == due
    shop.quiet(START_MS + MINUTE_MS)
    assert shop.lane.counters.decided == 0


@pytest.mark.parametrize("basis", ["lifetime", "window"])
def test_cuts_of_another_basis_are_measured_again_before_anybody_is_scored(store_url, basis):
    vip = SegmentSpec("vip", "rfm.m == 5", "rfm.m < 4")
    shop = Shop(store_url, rfm=RfmSpec(), segments=[vip])
    orders = [purchase(START_MS + n * MINUTE_MS, f"u{n}", amount=n + 1) for n in range(50)]
    shop.happens(*orders)
    shop.happens(view(START_MS + HOUR_MS, "u0"))
    for minute in range(60, 70):
        shop.quiet(START_MS + minute * MINUTE_MS)
    members = shop.members("vip")
    assert len(members) == 10
    shop.start(rfm=RfmSpec(basis=basis), segments=[vip])
    told = len(shop.changes)
    for minute in range(70, 90):
        shop.quiet(START_MS + minute * MINUTE_MS)
    assert (shop.members("vip"), shop.changes[told:]) == (members, [])
