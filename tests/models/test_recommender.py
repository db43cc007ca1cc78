"""Whose turn it is, what a list says, and what is kept of a batch."""

import random

import msgspec
import numpy as np
import pytest

from events.schema import CLICK, IMPRESSION, PRODUCT_VIEW, PURCHASE, REFUND, TYPES
from events.texts import Texts
from models.impressions import Shown
from models.interactions import Interactions
from models.item_plan import SOURCES, ItemPlan
from models.ranker import INPUTS, Ranker
from models.recommender import ItemRecommender
from state.times import DAY_MS, HOUR_MS, MINUTE_MS, NEVER_MS
from tests.models.shopping import START_MS, Shoppers, names_of, pairs_of

SEARCH = TYPES.index("search")
WALL_MS = 5_000_000


def shop(users=10, keeps=True, shares=True, **plan):
    return Shoppers(ItemRecommender(ItemPlan(**plan), keeps=keeps, shares=shares), users)


def view(users, ts=START_MS):
    """One batch in which some users look at something, one after another."""
    return [(user, f"i{user % 7}", ts, PRODUCT_VIEW) for user in users]


def ask(shoppers, users, ts=START_MS):
    """The same, a batch for each."""
    for event in view(users, ts):
        shoppers.act(event)


# -- whose turn it is -----------------------------------------------------------------------------


def test_without_a_clock_everybody_is_served_at_once():
    shoppers = shop(50, lists_per_s=3)
    ask(shoppers, [9, 3, 9, 40])
    assert shoppers.recommender.waiting() == 4
    assert shoppers.due() == [3, 9, 40]
    assert shoppers.due() == []
    assert shoppers.recommender.waiting() == 0


def test_the_newest_go_first_and_a_quarter_goes_to_the_oldest():
    shoppers = shop(40, lists_per_s=8)
    ask(shoppers, range(40))
    assert shoppers.due(WALL_MS) == [0, 1, *range(34, 40)]
    assert shoppers.due(WALL_MS) == []
    ask(shoppers, [5, 39])
    # 5 has waited since it first asked, and is new as well; 39 has asked again
    assert shoppers.due(WALL_MS + 1_000) == [2, 3, 5, 30, 31, 32, 33, 39]
    assert shoppers.due(WALL_MS + 1_500) == [4, 27, 28, 29]


def test_who_acts_again_every_second_is_served_all_the_same():
    """Whoever acts again does not lose the place that it has waited for."""
    shoppers = shop(400, lists_per_s=100)
    rounds = [0] * 400
    for second in range(20):
        shoppers.act(*view(range(400), START_MS + second))
        for user in shoppers.due(WALL_MS + 1_000 * second):
            rounds[user] += 1
    assert sum(rounds) == 2_000
    assert min(rounds) >= 1


def test_the_budget_is_no_more_than_a_second_of_it():
    shoppers = shop(100, lists_per_s=10)
    ask(shoppers, range(100))
    assert len(shoppers.due(WALL_MS)) == 10
    assert len(shoppers.due(WALL_MS + 3_600_000)) == 10
    assert len(shoppers.due(WALL_MS + 3_600_000 - 50)) == 0  # the clock was set back
    assert len(shoppers.due(WALL_MS + 3_600_000 + 250)) == 3


def test_a_small_budget_adds_up():
    shoppers = shop(100, lists_per_s=1)
    ask(shoppers, range(100))
    served = [len(shoppers.due(WALL_MS + 125 * n)) for n in range(41)]
    assert sum(served) == 6
    assert max(served) == 1


@pytest.mark.parametrize("seed", range(8))
def test_turns_are_those_of_a_plain_list_and_nobody_is_lost(seed):
    """Held against two lists: when each has asked first since its last list, and when last."""
    chance = random.Random(seed)
    per_s = chance.choice([4, 12, 40])
    shoppers, at = shop(60, lists_per_s=per_s), WALL_MS
    first, last, asked, budget = {}, {}, 0, float(per_s)
    for step in range(120):
        for user in chance.choices(range(60), k=chance.randrange(0, 12)):
            ask(shoppers, [user], START_MS + step)
            asked += 1
            first.setdefault(user, asked)
            last[user] = asked
        passed = chance.choice([0, 20, 100, 1_500])
        at += passed
        budget = min(budget + passed * per_s / 1_000, per_s) if step else per_s
        most = int(budget)
        if len(first) <= most or not first:
            expected = set(first)
        else:
            newest = sorted(last, key=lambda user: -last[user])[: int(most * 0.75)]
            oldest = sorted(set(first) - set(newest), key=lambda user: first[user])
            expected = {*newest, *oldest[: most - int(most * 0.75)]}
        found = shoppers.due(at)
        if not first:
            budget = min(budget, per_s)
        assert found == sorted(expected)
        budget -= len(found)
        for user in found:
            del first[user], last[user]
    while first:
        at += 1_000
        found = shoppers.due(at)
        assert found
        for user in found:
            del first[user], last[user]


def test_those_who_wait_are_noted_in_bounded_space():
    shoppers = shop(50, lists_per_s=1)
    for n in range(300):
        shoppers.act(*view(range(50), START_MS + n))
        shoppers.due(WALL_MS)
        assert shoppers.recommender.waiting() <= 100


# -- what a batch leaves --------------------------------------------------------------------------


def test_only_what_matters_makes_a_list_old():
    shoppers = shop()
    shoppers.act((1, "a", START_MS, IMPRESSION), (2, "a", START_MS, SEARCH))
    shoppers.act((3, "a", START_MS, REFUND), (4, None, START_MS, PRODUCT_VIEW))
    assert shoppers.due() == []
    assert names_of(shoppers.recommender.items) == ["a"]
    assert shoppers.recommender.last.recent.items(shoppers.table, shoppers.rows).max() == 0
    shoppers.act((5, "b", START_MS, CLICK), (6, "b", START_MS, PURCHASE))
    assert shoppers.due() == [5, 6]


def test_impressions_only_and_no_weights_at_all():
    shoppers = shop(weights={})
    for n in range(150):
        shoppers.act((n % 10, f"i{n % 3}", START_MS + n, IMPRESSION), (1, "x", START_MS, PURCHASE))
    assert shoppers.due() == []
    items = shoppers.recommender.items
    assert sorted(names_of(items)) == ["i0", "i1", "i2"]
    assert items.table["popularity"][:3].tolist() == [0.0] * 3
    assert items.table["impressions"][:3] == pytest.approx(50.0, rel=1e-3)
    assert shoppers.listed(0) == []
    assert Interactions.joined(shoppers.recommender._unsent).before.shape == (150, 7)


def test_pairs_come_from_the_items_before_and_baskets_from_purchases():
    shoppers = shop(steps=2, gap_ms=10 * MINUTE_MS, half_life_ms=10**15)
    t = START_MS
    shoppers.act((0, "a", t, PRODUCT_VIEW), (0, "b", t + 1, PRODUCT_VIEW))
    shoppers.act((0, "c", t + 2, PURCHASE), (1, "z", t + 2, PRODUCT_VIEW))
    shoppers.act((0, "d", t + 3, PURCHASE))
    shoppers.act((0, "e", t + 11 * MINUTE_MS, PRODUCT_VIEW))
    items = shoppers.recommender.items
    covisits = {
        ("a", "b"): 1.0, ("b", "c"): 3.0, ("a", "c"): 1.5, ("c", "d"): 3.0, ("b", "d"): 1.5,
    }  # fmt: skip
    both_ways = covisits | {(b, a): w for (a, b), w in covisits.items()}
    near = lambda expected: {k: pytest.approx(v, rel=1e-5) for k, v in expected.items()}  # noqa: E731
    assert pairs_of(items, items.covisits, t) == near(both_ways)
    assert pairs_of(items, items.together, t) == near({("c", "d"): 1.0, ("d", "c"): 1.0})


def test_a_price_is_that_of_one_piece():
    shoppers = shop()
    shoppers.act((0, "a", START_MS, PURCHASE), amounts={"a": 999}, categories={"a": "books"})
    items = shoppers.recommender.items
    assert items.table["price"][0] == 999
    assert items.categories[int(items.table["category"][0])] == "books"


def test_what_waits_for_the_exchange_is_bounded(monkeypatch):
    monkeypatch.setattr("models.recommender._UNSENT_MOST", 25)
    shoppers = shop()
    for n in range(10):
        shoppers.act(*view(range(10), START_MS + n))
    assert shoppers.recommender.dropped == 80
    some = Interactions.joined(shoppers.recommender._unsent)
    assert len(some) == 20
    assert set(some.ts_ms.tolist()) == {START_MS + 8, START_MS + 9}


def test_an_impression_of_another_century_is_learned_and_ends_nothing():
    """A producer that writes seconds where milliseconds belong."""
    shoppers = shop(shares=False, click_ms=MINUTE_MS)
    shoppers.act((1, "a", START_MS, PRODUCT_VIEW), (1, "b", START_MS, PRODUCT_VIEW))
    shoppers.act((2, "a", START_MS // 1000, PRODUCT_VIEW))
    shoppers.act((2, "b", START_MS // 1000, IMPRESSION))
    shoppers.act((3, "a", START_MS + HOUR_MS, PRODUCT_VIEW))
    assert shoppers.recommender.quality()["ranking"]["examples"] == 1


def test_an_example_that_is_no_number_is_passed_over():
    """It stands in the store, and every lane reads it at every start."""
    X = np.ones((3, len(INPUTS)), np.float32)
    X[1, 4] = np.nan
    ranker = Ranker()
    ranker.learn(Shown(X, np.array([0.5, 0.5, np.inf], np.float32), np.ones(3, np.bool_)))
    assert ranker.learned == 1


@pytest.mark.parametrize(("keeps", "shares"), [(False, True), (True, False)])
def test_what_nobody_asks_for_is_not_remembered(keeps, shares):
    shoppers = shop(keeps=keeps, shares=shares, most_items=100)
    for n in range(30):
        shoppers.act(*[(k % 10, f"{n}-{k}", START_MS + n, PRODUCT_VIEW) for k in range(50)])
    assert len(shoppers.recommender.items.forgotten) == 0
    assert shares or not shoppers.recommender._unsent


def test_who_was_forgotten_and_came_back_is_not_deleted():
    shoppers = shop(most_items=100)
    shoppers.act((0, "old", START_MS, PRODUCT_VIEW))
    shoppers.act(*[(1, f"n{k}", START_MS + DAY_MS, PURCHASE) for k in range(100)])
    gone = shoppers.recommender.items.forgotten
    assert b"old" in gone
    shoppers.act((0, "old", START_MS + 2 * DAY_MS, PURCHASE))
    others = set(gone) - {b"old"}
    assert set(shoppers.recommender.forgotten()) == others
    assert shoppers.recommender.forgotten() == []
    assert set(shoppers.recommender.forgotten([b"old", *others])) == others


# -- lists ----------------------------------------------------------------------------------------


def test_a_document_says_what_when_and_why():
    shoppers = shop(validity_ms=1_000, ranked=False)
    t = START_MS
    shoppers.act((0, "a", t, PRODUCT_VIEW), (0, "ü" * 64, t + 1, PRODUCT_VIEW))
    shoppers.act((1, "x" * 128, t + 2, PRODUCT_VIEW), (1, "a", t + 3, PRODUCT_VIEW))
    shoppers.act((2, "z", t + 4, PRODUCT_VIEW))
    first, second, third = shoppers.documents([0, 1, 2], t + 10)
    assert shoppers.documents([5], t + 10) == []  # who never had to do with an item
    assert list(first) == ["v", "as_of", "valid_to", "model", "user_id", "experiment", "items"]
    assert (first["v"], first["as_of"], first["valid_to"]) == (1, t + 10, t + 1_010)
    assert (first["model"], first["user_id"], first["experiment"]) == (5, "u0", {})
    assert [item["item_id"] for item in first["items"]] == ["a", "x" * 128]
    assert first["items"][0]["source"] == "reminders"
    assert first["items"][0]["because"] == "a"
    because = second["items"][0]
    assert list(because) == ["item_id", "score", "source", "because"]
    assert because["item_id"] == because["because"] == "x" * 128
    popular = [(item["item_id"], item["source"], item["because"]) for item in third["items"]]
    # as looked up after the first batch; the later of two counts a little more
    assert popular == [("ü" * 64, "popular", None), ("a", "popular", None)]
    for document in (first, second, third):
        scores = [item["score"] for item in document["items"]]
        assert scores == sorted(scores, reverse=True)
        assert {item["source"] for item in document["items"]} <= set(SOURCES)
    assert shoppers.documents([], t) == []


def test_what_was_bought_comes_back_after_a_while():
    shoppers = shop(bought_ms=10 * DAY_MS, ranked=False)
    shoppers.act((0, "a", START_MS, PURCHASE), (0, "b", START_MS + 1, PRODUCT_VIEW))
    assert shoppers.listed(0, START_MS + 2) == []
    assert shoppers.listed(0, START_MS + 10 * DAY_MS) == []
    assert shoppers.listed(0, START_MS + 10 * DAY_MS + 1) == ["a"]


def test_whoever_waits_when_the_lane_is_lost_waits_after_it():
    """However late the events are, and if they come within one millisecond."""
    shoppers = shop(20, lists_per_s=4)
    ask(shoppers, [0, 1, 2, 3])
    made = shoppers.due(WALL_MS)
    shoppers.documents(made, START_MS + 100)
    assert restored(shoppers) == []
    ask(shoppers, [1], START_MS)  # the same millisecond, and the same item
    ask(shoppers, [2], START_MS - DAY_MS)  # late
    ask(shoppers, [3, 7], START_MS + 50)
    assert restored(shoppers) == [1, 2, 3, 7]
    assert shoppers.due(WALL_MS) == []
    assert restored(shoppers) == [1, 2, 3, 7]
    shoppers.documents([1, 2, 3, 7], START_MS + 100)
    assert restored(shoppers) == []


def restored(shoppers):
    """Who waits in a lane that loads the same users."""
    again = ItemRecommender(shoppers.recommender.plan)
    again.restored(shoppers.table)
    return again.due(None).tolist()


def test_loading_takes_the_place_of_what_was_known():
    shoppers, other = shop(), shop()
    shoppers.act(*view(range(7)))
    other.act((0, "z", START_MS, PURCHASE))
    rec = shoppers.recommender
    rec.begin_saving()
    stored = rec.some_unsaved(100)
    assert rec.some_unsaved(100) == ([], [])
    other.recommender.load_items(*stored, rec.beside())
    assert sorted(names_of(other.recommender.items)) == [f"i{k}" for k in range(7)]
    other.recommender.load_items([], [])
    assert len(other.recommender.items) == 0
    rec.begin_saving()
    assert rec.some_unsaved(100) == ([], [])
    rec.begin_saving(everything=True)
    assert len(rec.some_unsaved(100)[0]) == 7


def test_hostile_ids_harm_nobody_else():
    shoppers = shop(most_items=1_000, recent=4)
    rng = random.Random(1)
    for n in range(40):
        names = [
            "".join(rng.choices("aé商\U0001f600 []{}", k=rng.randrange(1, 33))) for _ in range(200)
        ]
        kinds = [rng.choice([PRODUCT_VIEW, PURCHASE, IMPRESSION, CLICK]) for _ in names]
        ts = [START_MS + rng.randrange(-(10**11), 10**11) for _ in names]
        shoppers.act(*zip([n % 10] * 200, names, ts, kinds, strict=True))
        assert len(shoppers.recommender.items) <= 1_000
        shoppers.documents(range(10), START_MS)
    held = shoppers.recommender.last.recent.at_ms(shoppers.table, shoppers.rows)
    assert (np.diff(held, axis=1) <= 0).all()
    assert (held > NEVER_MS).all()
    assert shoppers.recommender.outgoing() != b""
    assert shoppers.recommender.outgoing() == b""
    assert Texts.of(names).hashes().dtype == np.uint64


# -- what sources are worth -----------------------------------------------------------------------


def wanderers(rng, count, at_ms=START_MS):
    """Events of users who all go on to what is popular."""
    return [
        (int(rng.integers(0, 40)), f"i{int(rng.zipf(1.6)) % 50}", at_ms + 1_000 * n, PRODUCT_VIEW)
        for n in range(count)
    ]


def test_weights_of_sources_follow_what_users_do():
    shoppers = shop(40, shares=False)
    for event in wanderers(np.random.default_rng(1), 3_000):
        shoppers.act(event)
    weights = shoppers.recommender.weights.others
    assert weights.in_force
    popular = SOURCES.index("popular")
    assert weights.current[popular] > shoppers.recommender.plan.source_weights[popular]
    quality = shoppers.recommender.quality()["sources"]
    assert quality["mrr"] > quality["mrr_settings"]


def test_they_are_those_of_the_settings_where_they_are_not_to_follow():
    shoppers = shop(40, shares=False, adaptive=False)
    for event in wanderers(np.random.default_rng(1), 1_000):
        shoppers.act(event)
    assert shoppers.recommender.weights is None
    assert "sources" not in shoppers.recommender.quality()


def test_lanes_that_hear_of_each_other_give_sources_the_same_weights():
    some = [shop(40, keeps=place == 0) for place in range(2)]
    events = wanderers(np.random.default_rng(2), 2_500)
    for first in range(0, len(events), 50):
        for event in events[first : first + 50]:
            some[event[0] % 2].act(event)
        blocks = [each.recommender.outgoing() for each in some]
        for place, each in enumerate(some):
            for sender, block in enumerate(blocks):
                each.recommender.take(block, own=sender == place)
    one, other = (each.recommender.weights for each in some)
    assert one.others.learned > 500
    assert one.newcomers.learned > 0
    assert one.to_state() == other.to_state()


def test_what_former_versions_told_and_stored_is_understood():
    shoppers, other = shop(), shop(shares=False)
    for event in wanderers(np.random.default_rng(3), 600):
        other.act(event)
    told, taken, _ = msgspec.msgpack.decode(told_by(shoppers))
    other.recommender.take(msgspec.msgpack.encode((told, taken)))
    weights = other.recommender.weights
    before = weights.newcomers.learned, weights.others.learned
    other.recommender.load_items([], [], msgspec.msgpack.encode(Ranker().to_state()))
    assert (weights.newcomers.learned, weights.others.learned) == before
    told, taken, sought = msgspec.msgpack.decode(told_by_many())
    of_others = [part for some in sought for part in some[1:]]
    other.recommender.take(msgspec.msgpack.encode((b"", [], of_others)))
    assert weights.newcomers.learned == before[0]
    assert weights.others.learned > before[1]
    again = shop()
    again.recommender.load_items([], [], other.recommender.beside())
    assert again.recommender.weights.to_state() == other.recommender.weights.to_state()


def test_newcomers_have_weights_of_their_own():
    """Whoever comes goes for what all want next, and then to and fro between the two."""
    shoppers = shop(4_000, shares=False)
    rng = np.random.default_rng(4)
    moments = iter(range(1_790_000_000_000, 1_800_000_000_000, 500))
    for user in range(1_400):
        first, second = rng.integers(100, 400), rng.zipf(1.8) % 100
        for item in (first, second, first, second):
            shoppers.act((user, f"i{item}", next(moments), PRODUCT_VIEW))
    weights = shoppers.recommender.weights
    popular, reminders = SOURCES.index("popular"), SOURCES.index("reminders")
    assert weights.newcomers.learned >= 500
    share = {
        name: each.current[popular] / (each.current[popular] + each.current[reminders])
        for name, each in (("newcomers", weights.newcomers), ("others", weights.others))
    }
    assert share["newcomers"] > 10 * share["others"]
    quality = shoppers.recommender.quality()
    assert quality["sources_newcomers"]["examples"] == weights.newcomers.learned
    assert quality["sources"]["examples"] == weights.others.learned


def told_by_many():
    """What a lane tells after some hundred events."""
    some = shop(40)
    for event in wanderers(np.random.default_rng(6), 600):
        some.act(event)
    return some.recommender.outgoing()


def told_by(shoppers):
    shoppers.act(*view(range(3)))
    return shoppers.recommender.outgoing()


def test_of_a_large_batch_users_of_every_age_are_looked_at():
    """Not only those who came first, and not so many that small batches become dear."""
    shoppers = shop(800, shares=True)
    for second in range(2):
        shoppers.act(*view(range(800), START_MS + 1_000 * second))
    recommender = shoppers.recommender
    recommender.outgoing()
    asked = []
    find = recommender.last.recent.items
    recommender.last.recent.items = lambda table, rows: asked.append(rows) or find(table, rows)
    shoppers.act(
        *[(user, f"i{(user + 1) % 7}", START_MS + 9_000, PRODUCT_VIEW) for user in range(800)]
    )
    (looked_at,) = [rows for rows in asked if len(rows) < 800][:1]
    assert 32 <= len(looked_at) <= 64
    assert looked_at.min() < 100
    assert looked_at.max() > 700


def test_examples_do_not_pile_up_while_nobody_asks():
    shoppers = shop(40)
    for event in wanderers(np.random.default_rng(4), 1_000):
        shoppers.act(event)
    told = msgspec.msgpack.decode(shoppers.recommender.outgoing())
    assert len(told[2]) == 256
    assert shoppers.recommender.outgoing() == b""
