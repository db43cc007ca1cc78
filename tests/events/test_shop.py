"""The shop is repeatable, tells the truth about its messages, and behaves like a shop."""

from collections import Counter, defaultdict

import msgspec
import numpy as np
import pytest

from events.shop import BROKEN, DAMAGES, DUPLICATE, GOOD, Habits, Shop, ShopBlock
from events.shop_habits import STEPS_PER_VISIT

START_MS = 1_790_000_000_000


def good(block: ShopBlock) -> list[dict]:
    pairs = zip(block.payloads, block.kind.tolist(), strict=True)
    return [msgspec.json.decode(p) for p, kind in pairs if kind == GOOD]


@pytest.fixture(scope="module")
def block() -> ShopBlock:
    return Shop(3, START_MS, Habits(users=500, late_share=0.1)).block(60_000)


def test_same_seed_gives_same_bytes_in_blocks_of_any_size():
    whole = Shop(5, START_MS, Habits(users=100)).block(30_000)
    shop = Shop(5, START_MS, Habits(users=100))
    parts = [shop.block(n) for n in (1, 0, 7, 492, 20_000, 9_500)]
    assert [p for b in parts for p in b.payloads] == whole.payloads
    assert np.concatenate([b.kind for b in parts]).tolist() == whole.kind.tolist()
    assert np.concatenate([b.log_ms for b in parts]).tolist() == whole.log_ms.tolist()
    assert Shop(6, START_MS, Habits(users=100)).payloads(100) != whole.payloads[:100]


def test_messagepack_says_the_same_as_json():
    habits = Habits(users=100)
    as_json, packed = (Shop(2, START_MS, habits, packed=p).block(20_000) for p in (False, True))
    assert as_json.kind.tolist() == packed.kind.tolist()
    for a, b, kind in zip(as_json.payloads, packed.payloads, as_json.kind.tolist(), strict=True):
        if kind != BROKEN:
            assert msgspec.json.decode(a) == msgspec.msgpack.decode(b)


def test_event_ids_are_unique_and_duplicates_are_copies_of_recent_good_messages(block):
    ids = [e["event_id"] for e in good(block)]
    assert len(set(ids)) == len(ids)
    copies = np.flatnonzero(block.kind == DUPLICATE).tolist()
    assert 0.005 < len(copies) / len(block) < 0.02
    for i in copies:
        earlier = block.payloads.index(block.payloads[i], max(0, i - 200))
        assert earlier < i
        assert block.kind[earlier] == GOOD


def test_every_kind_of_damage_happens_and_is_named(block):
    assert set(block.damage[block.kind == BROKEN].tolist()) == set(range(len(DAMAGES)))
    assert (block.damage[block.kind != BROKEN] == -1).all()


def test_an_order_has_one_time_and_its_lines_follow_each_other(block):
    orders = defaultdict(list)
    for e in good(block):
        if e["type"] == "purchase" and "order_id" in e:
            orders[e["order_id"]].append((e["ts"], e["user_id"], e["item_id"]))
    assert len(orders) > 1_000
    assert max(map(len, orders.values())) >= 3
    assert all(len({line[:2] for line in lines}) == 1 for lines in orders.values())


def test_refunds_follow_their_order_but_some_precede_it_in_the_log(block):
    bought, early, refunds = {}, 0, 0
    events = good(block)
    whole = {e["order_id"]: e["ts"] for e in events if e["type"] == "purchase" and "order_id" in e}
    for e in events:
        if e["type"] == "purchase" and "order_id" in e:
            bought[e["order_id"]] = e["ts"]
        elif e["type"] == "refund" and e.get("order_id") in whole:
            refunds += 1
            early += e["order_id"] not in bought
            if e["order_id"] in bought:
                assert e["ts"] >= whole[e["order_id"]] - 1_000
    assert refunds > 50
    assert 0 < early < refunds / 4


def test_late_events_lie_behind_the_log_and_none_before_it(block):
    events = np.array([e["ts"] for e in good(block)])
    log = block.log_ms[block.kind == GOOD]
    assert (events <= log).all()
    assert 0.03 < (log - events > 1_000).mean() < 0.2


def test_carts_lose_only_what_they_hold(block):
    added = set()
    for e in sorted(good(block), key=lambda e: e["ts"]):
        line = e["session_id"], e.get("item_id")
        if e["type"] == "add_to_cart":
            added.add(line)
        elif e["type"] in ("remove_from_cart", "purchase"):
            assert line in added


def test_popular_users_lead_unless_all_are_alike():
    zipf, uniform = (
        Counter(e["user_id"] for e in good(Shop(1, START_MS, habits).block(30_000)))
        for habits in (Habits(users=200, drift_share=0), Habits(users=200, zipf=0, drift_share=0))
    )
    assert zipf.most_common(1)[0][1] > 0.15 * zipf.total()
    assert uniform.most_common(1)[0][1] < 0.02 * uniform.total()
    assert len(uniform) == 200


def test_users_drift_away_and_come_back():
    habits = Habits(users=20, zipf=0, drift_share=1, drift_period_s=20.0, pace_s=0.05)
    seen = defaultdict(list)
    for e in good(Shop(1, START_MS, habits).block(60_000)):
        seen[e["user_id"]].append(e["ts"])
    pauses = [np.diff(np.sort(times)).max() for times in seen.values()]
    assert np.median(pauses) > 5_000


def test_a_given_clock_moves_the_events_to_now():
    shop = Shop(4, 0, Habits(users=50, rate_per_s=1_000))
    for now_ms in (START_MS, START_MS + 10, START_MS + 60_000):
        block = shop.block(100, now_ms)
        assert block.log_ms[-1] == now_ms
        assert now_ms - block.log_ms[0] <= 100
        assert (np.diff(block.log_ms) >= 0).all()
    assert shop.block(10, START_MS).log_ms.tolist() == [START_MS] * 10


def test_a_visit_is_as_long_as_the_rate_supposes():
    shop = Shop(9, START_MS, Habits(users=500))
    visits = {e["session_id"] for e in good(shop.block(100_000))}
    assert len(visits) * STEPS_PER_VISIT == pytest.approx(100_000, rel=0.1)


def test_impossible_habits_are_refused_in_words():
    with pytest.raises(ValueError, match="rate_per_s must be positive"):
        Habits(rate_per_s=0)
