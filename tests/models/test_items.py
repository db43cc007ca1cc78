"""The item table, held against a count of all events one by one."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.schema import IMPRESSION, PRODUCT_VIEW, PURCHASE
from events.texts import Texts
from models.esteem import SUMS
from models.item_plan import ItemPlan
from models.items import ItemTable
from state.times import DAY_MS, HOUR_MS
from tests.models.shopping import (
    START_MS,
    Counted,
    assert_sound,
    described,
    interactions,
    names_of,
    pairs_of,
    random_events,
)
from tests.state.collisions import twins, without_hash

PLAN = ItemPlan(half_life_ms=7 * DAY_MS, neighbours=30, together=30, backward=0.5)


def taught(events, plan=PLAN, parts=1, **facts):
    """A table that has learned events in so many parts."""
    items = ItemTable(plan)
    for part in np.array_split(np.arange(len(events)), parts):
        items.learn(interactions([events[k] for k in part.tolist()], **facts))
    return items


def assert_counted(items, events):
    """Popularity and pairs are those of all events, at the time of the last."""
    at_ms = max(event[1] for event in events)
    truth, names = Counted(items.plan, events, at_ms), names_of(items)
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.half_life_ms)
    table = items.table
    popularity = items.popularity(np.arange(len(names)), at_ms)
    lately = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.trend_ms)
    for row, name in enumerate(names):
        assert popularity[row] == pytest.approx(truth.popularity[name], rel=1e-9, abs=1e-30)
        trend = table["trend"][row] * lately
        assert trend == pytest.approx(truth.trend[name], rel=1e-9, abs=1e-30)
        for number, label in enumerate(items.segments):
            expected = truth.by_segment[name, label]
            found = table["by_segment"][row, number] * scale
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-30)
        for column in SUMS:
            found, expected = table[column][row] * scale, truth.sums[column, name]
            assert found == pytest.approx(expected, rel=1e-5, abs=1e-30)
        for column in ("impressions", "clicks"):
            expected = getattr(truth, column)[name]
            assert table[column][row] * scale == pytest.approx(expected, rel=1e-5, abs=1e-30)
        if name in truth.last_ms:
            assert table["last_ms"][row] == truth.last_ms[name]
    assert {label for _, label in truth.by_segment} <= set(items.segments)
    for kind in ("covisits", "together"):
        found, expected = pairs_of(items, getattr(items, kind), at_ms), getattr(truth, kind)
        assert {pair for pair, weight in expected.items() if weight > 1e-30} <= found.keys()
        for pair, weight in found.items():
            assert weight == pytest.approx(expected[pair], rel=1e-5, abs=1e-30)


@pytest.mark.parametrize("seed", range(6))
def test_counts_and_pairs_are_those_of_all_events_however_they_came(seed):
    rng = np.random.default_rng(seed)
    events = random_events(rng, 400, 25)
    in_order = taught(events, parts=7)
    assert_counted(in_order, events)
    assert_sound(in_order)
    mixed = [events[k] for k in rng.permutation(len(events)).tolist()]
    shuffled = taught(mixed, parts=3)
    assert_counted(shuffled, events)
    assert shuffled.learned == in_order.learned == len(events)


@pytest.mark.parametrize("half_life_ms", [HOUR_MS, DAY_MS])
def test_a_moved_landmark_changes_nothing_but_float_noise(half_life_ms):
    """Thirty days are 720 or 30 half-lives; the landmark moves at each 40."""
    plan = ItemPlan(half_life_ms=half_life_ms, neighbours=30, together=30)
    events = random_events(np.random.default_rng(3), 600, 20)
    items = taught(events, plan, parts=60)
    assert (items.landmark_ms > events[10][1]) == (half_life_ms == HOUR_MS)
    assert_counted(items, events)


def test_rebasing_by_hand_keeps_every_weight():
    events = random_events(np.random.default_rng(4), 300, 20)
    items = taught(events)
    items.table["changed"][:] = False
    items.rebase(items.landmark_ms + 35 * PLAN.half_life_ms)
    assert_counted(items, events)
    assert items.table["changed"][: len(items)].all()


def test_times_that_are_years_apart_neither_overflow_nor_fail():
    year_ms = 365 * DAY_MS
    events = [
        ("old", START_MS - 56 * year_ms, PURCHASE, [], []),
        ("new", START_MS, PURCHASE, ["old"], ["old"]),
        ("old", START_MS - 50 * year_ms, PRODUCT_VIEW, ["new"], []),
        ("far", START_MS + 300 * year_ms, PRODUCT_VIEW, ["new"], []),
        ("late", START_MS, PURCHASE, ["far"], ["new"]),
    ]
    for parts in (1, 5):
        items = taught(events, parts=parts)
        assert_sound(items)
        for name in ("popularity", "trend", "impressions", "clicks"):
            assert np.isfinite(items.table[name][: len(items)]).all()
        for kind in (items.covisits, items.together):
            assert np.isfinite(kind.weight[: len(items)]).all()
        items.find_popular()
        assert names_of(items)[int(items.popular[0])] == "far"
        assert names_of(items)[int(items.trending[0])] == "far"
        at = items.popularity(np.arange(len(items)), START_MS - 60 * year_ms)
        assert not np.isnan(at).any()


# -- the cap --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_cap_forgets_the_least_popular_and_neighbours_keep_their_names(seed):
    rng = np.random.default_rng(seed)
    plan = ItemPlan(most_items=100, neighbours=130, together=130)
    events = random_events(rng, 1_200, 125)
    names = list(dict.fromkeys(n for e in events for n in (e[0], *e[3], *e[4])))
    assert len(names) > 100
    facts = {
        "categories": {n: f"c{int(n[1:]) % 7}" for n in names},
        "prices": {n: int(n[1:]) for n in names},
    }
    items = taught(events, plan, **facts)
    at_ms = events[-1][1]
    truth = Counted(plan, events, at_ms)
    ranked = sorted(names, key=lambda n: -truth.popularity[n])
    kept = names_of(items)
    assert len(kept) == 90
    assert set(kept) == set(ranked[:90])
    assert set(items.forgotten) == {n.encode() for n in ranked[90:]}
    assert_sound(items)
    for row, name in enumerate(kept):
        assert items.table["price"][row] == facts["prices"][name]
        code = np.array([items.table["category"][row]])
        assert items.categories.texts(code)[0] == facts["categories"][name]
    for kind in ("covisits", "together"):
        found = pairs_of(items, getattr(items, kind), at_ms)
        expected = {
            pair: weight for pair, weight in getattr(truth, kind).items() if set(pair) <= set(kept)
        }
        assert found.keys() == expected.keys()
        for pair, weight in found.items():
            assert weight == pytest.approx(expected[pair], rel=1e-4)


def test_a_million_made_up_items_leave_the_memory_as_it_was():
    plan = ItemPlan(most_items=1_000, neighbours=5, together=5)
    items, most = ItemTable(plan), 0
    for block in range(100):
        names = [f"{'x' * 116}{block:04d}{k:08d}" for k in range(10_000)]
        texts = Texts.of(names)
        some = interactions([])
        some = type(some)(
            texts.hashes(),
            np.full(10_000, START_MS + block * HOUR_MS),
            np.full(10_000, PRODUCT_VIEW, np.int8),
            np.roll(texts.hashes(), 1).reshape(-1, 1),
            np.zeros((10_000, 0), np.uint64),
            described(names, [f"{block}c{k}" for k in range(10_000)]),
            np.zeros(10_000, np.float32),
            np.full(10_000, np.nan, np.float32),
            np.full(10_000, -1, np.int8),
        )
        items.learn(some)
        items.forgotten.clear()
        most = max(most, items.bytes_held() + items.categories.bytes_held())
        assert len(items) <= 1_000
    assert_sound(items)
    assert most < 3_000_000
    assert len(items.categories) < 5_000


def test_one_item_of_ever_new_categories_leaves_the_memory_as_it_was():
    items = ItemTable(PLAN)
    events = [("a", START_MS, PRODUCT_VIEW, [], []), ("b", START_MS, PRODUCT_VIEW, [], [])]
    for n in range(6_000):
        items.learn(interactions(events, categories={"a": f"c{n}", "b": "steady"}))
    assert len(items.categories) < 3_000
    assert_sound(items)
    codes = items.table["category"][:2].astype(np.int64)
    assert items.categories.texts(codes).tolist() == ["c5999", "steady"]


def test_where_nobody_cared_for_anything_the_cap_still_holds():
    plan = ItemPlan(most_items=100)
    items = ItemTable(plan)
    for block in range(5):
        names = [f"{block}-{k}" for k in range(80)]
        items.learn(interactions([(n, START_MS, IMPRESSION, [], []) for n in names]))
        assert len(items) <= 100
        assert_sound(items)
        assert len(items.popular) == 0
    items.learn(interactions([("a", START_MS, PRODUCT_VIEW, [], [])]))
    items.find_popular()
    assert [names_of(items)[k] for k in items.popular.tolist()] == ["a"]


def test_what_is_to_be_saved_survives_forgetting():
    rng = np.random.default_rng(8)
    items = taught(random_events(rng, 600, 80), ItemPlan(most_items=100, neighbours=9, together=9))
    items.begin_saving()
    first = items.some_unsaved(10)
    assert len(first) == 10
    waiting = {n.encode() for n in items.ids.texts(np.arange(10, len(items))).tolist()}
    for n in range(40):
        items.learn(interactions([(f"n{n}", START_MS + 90 * DAY_MS, PURCHASE, [], [])]))
    assert items.forgotten
    rest = items.some_unsaved(10_000)
    names = set(items.ids.texts(rest).bytes_list())
    assert names == waiting - set(items.forgotten)
    assert len(items.some_unsaved(10)) == 0
    assert_sound(items)


# -- hostile ids ----------------------------------------------------------------------------------


def test_two_ids_of_one_hash_leave_all_others_in_their_places():
    """Whoever looks for collisions finds them; it must hurt nobody but the two."""
    one, other = twins()
    names = ["before", one, other, "after", "last"]
    items = ItemTable(PLAN)
    items.learn(interactions([(n, START_MS, PRODUCT_VIEW, [], []) for n in names]))
    items.learn(interactions([("after", START_MS, PURCHASE, ["last"], ["before"])]))
    hashes = Texts.of(names).hashes()
    assert items.find(hashes).tolist() == [0, 1, 1, 3, 4]
    at = pairs_of(items, items.covisits, START_MS)
    assert at == {("last", "after"): 3.0, ("after", "last"): 1.5}
    assert items.popularity(np.array([3]), START_MS).tolist() == [4.0]


def test_an_id_whose_hash_stands_for_nothing_is_seen_with_nobody():
    nothing = without_hash()
    names = ["a", nothing, "b"]
    items = ItemTable(PLAN)
    items.learn(interactions([(n, START_MS, PRODUCT_VIEW, [], []) for n in names]))
    items.learn(interactions([("b", START_MS, PURCHASE, ["a"], ["a"])]))
    some = interactions([("b", START_MS, PURCHASE, ["a"], [])])
    padded = np.zeros((1, 4), np.uint64)
    padded[:, :1] = some.before
    items.learn(replace(some, before=padded, together=padded * 0))
    for pair in pairs_of(items, items.covisits, START_MS):
        assert nothing not in pair
    assert items.find(np.zeros(1, np.uint64)).tolist() == [-1]


# -- popular items --------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),  # popularity
            st.integers(-1, 3),  # category
            st.booleans(),  # blocked
            st.sampled_from([0.0, 0.5, 1.0, 2.0]),  # boost
            st.integers(0, 5),  # trend
        ),
        max_size=40,
    ),
    st.integers(1, 30),
)
@settings(max_examples=150)
def test_popular_items_are_those_of_a_plain_sort(rows, length):
    items = ItemTable(ItemPlan(length=length))
    for k in range(3, -1, -1):
        items.categories.number(Texts.of([f"c{k}"]))
    items.rows(Texts.of([f"i{k}" for k in range(len(rows))]))
    for place, name in enumerate(("popularity", "category", "blocked", "boost", "trend")):
        items.table[name][: len(rows)] = [row[place] for row in rows]
    items.find_popular()

    def sort_by(place):
        scores = {
            k: row[place] * row[3]
            for k, row in enumerate(rows)
            if not row[2] and row[place] * row[3] > 0
        }
        return sorted(scores, key=lambda k: -scores[k])

    ranked = sort_by(0)
    assert items.popular.tolist() == ranked
    assert items.trending.tolist() == sort_by(4)[: max(4 * length, 100)]
    by_category = defaultdict(list)
    for k in ranked:
        by_category[rows[k][1]].append(k)
    start = items.category_start.tolist()
    for category in range(4):
        found = items.category_items[start[category] : start[category + 1]].tolist()
        assert found == by_category[category]
    assert_sound(items)


def test_only_so_many_are_listed_in_all_and_per_category():
    items = ItemTable(ItemPlan(length=20))
    n = 12_000
    items.rows(Texts.of([f"i{k}" for k in range(n)]))
    codes = items.categories.number(Texts.of(["big", "small"]))
    popularity = np.random.default_rng(1).permutation(n) + 1.0
    items.table["popularity"][:n] = popularity
    items.table["category"][:n] = codes[0]
    items.table["category"][:30] = codes[1]
    items.find_popular()
    order = np.argsort(-popularity)
    assert items.popular.tolist() == order[:100].tolist()
    start = items.category_start.tolist()
    big, small = (items.category_items[start[c] : start[c + 1]].tolist() for c in (0, 1))
    top = order[:10_000]
    assert big == top[top >= 30][:50].tolist()
    assert small == top[top < 30].tolist()


def test_popular_items_are_looked_up_when_there_is_something_to_see():
    items = ItemTable(ItemPlan(popular_every_ms=1_000))
    view = PRODUCT_VIEW
    items.learn(interactions([("a", START_MS, view, [], [])]))
    assert items.popular.tolist() == [0]
    for n in range(98):
        items.learn(interactions([("b", START_MS + n, view, [], [])]))
    items.learn(interactions([("b", START_MS + 5_000, view, [], [])]))
    assert items.popular.tolist() == [0]  # too few to look
    items.learn(interactions([("b", START_MS + 5_000, view, [], [])]))
    assert items.popular.tolist() == [1, 0]


# -- facts ----------------------------------------------------------------------------------------


def test_odd_ids_keep_apart_and_facts_stay_until_others_are_said():
    names = ["é" * 64, "x" * 128, "x" * 127, "[b]", "商品", "a b", " a"]
    events = [(n, START_MS, PRODUCT_VIEW, [], []) for n in names]
    prices = {n: 100 + k for k, n in enumerate(names)}
    items = taught(events, categories=dict.fromkeys(names, "k" * 128), prices=prices)
    items.learn(interactions(events))  # which says nothing of price and category
    assert names_of(items) == names
    assert items.table["price"][: len(names)].tolist() == list(prices.values())
    assert set(items.table["category"][: len(names)].tolist()) == {0}
    items.learn(interactions(events[:1], categories={names[0]: "other"}))
    assert items.table["category"][:2].tolist() == [1, 0]


def test_nothing_learned_is_nothing_changed():
    items = ItemTable(PLAN)
    items.learn(interactions([]))
    items.find_popular()
    items.begin_saving()
    assert len(items) == 0
    assert len(items.some_unsaved(5)) == 0
    assert_sound(items)
    assert items.popularity(np.empty(0, np.int64), START_MS).tolist() == []
