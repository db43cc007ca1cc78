"""Item cosines beside a plain count of who had what."""

from collections import defaultdict

import numpy as np
import pytest

from events.schema import IMPRESSION, PRODUCT_VIEW, PURCHASE
from events.texts import Texts
from models.item_plan import SOURCES, ItemPlan
from models.item_records import load_items, pack_items
from models.items import ItemTable
from models.recommender import ItemRecommender
from state.times import DAY_MS, HOUR_MS
from tests.models.shopping import START_MS, Shoppers, assert_sound, names_of, pairs_of

ALONE = {name: float(name == "cosine") for name in SOURCES}


def plan_of(**more):
    limits = {"neighbours": 40, "recent": 6, "half_life_ms": 7 * DAY_MS, **more}
    return ItemPlan(sources=ALONE, adaptive=False, ranked=False, **limits)


def shop(users=10, plan=None, **lane):
    return Shoppers(ItemRecommender(plan or plan_of(), **lane), users)


def stream(rng, batches, users=10, items=30, late_ms=3 * DAY_MS):
    """Batches of (user, item, time, type), some events late."""
    out, at = [], START_MS
    for _ in range(batches):
        at += int(rng.integers(0, 12 * HOUR_MS))
        out.append(
            [
                (
                    int(rng.integers(users)),
                    f"i{int(items * rng.random() ** 2)}",
                    at - int(rng.integers(0, late_ms)) * int(rng.random() < 0.3),
                    [PRODUCT_VIEW, PRODUCT_VIEW, PURCHASE, IMPRESSION][int(rng.integers(4))],
                )
                for _ in range(int(rng.integers(1, 12)))
            ]
        )
    return out


class PlainCosines:
    """Who had what: every user's remembered items, and what each new one counts at a time."""

    def __init__(self, batches, recent, half_life_ms, at_ms):
        self.users, self.both = defaultdict(float), defaultdict(float)
        held = defaultdict(dict)
        for batch in batches:
            for user, item, ts, kind in batch:
                if kind == IMPRESSION:
                    continue
                mine = held[user]
                if item in mine:
                    mine[item] = max(mine[item], ts)
                    continue
                oldest = min(mine, key=lambda i: (mine[i], hash_of(i)), default=None)
                if len(mine) == recent and (ts, hash_of(item)) < (mine[oldest], hash_of(oldest)):
                    continue
                counts = 2.0 ** ((ts - at_ms) / half_life_ms)
                self.users[item] += counts
                for other in mine:
                    self.both[item, other] += counts
                    self.both[other, item] += counts
                if len(mine) == recent:
                    del mine[oldest]
                mine[item] = ts


def hash_of(item):
    return Texts.of([item]).hashes().tolist()[0]


def assert_counted(items, batches, at_ms=START_MS):
    """What was learned is what the plain count says."""
    plan, names = items.plan, names_of(items)
    truth = PlainCosines(batches, plan.recent, plan.half_life_ms, at_ms)
    scale = 2.0 ** ((items.landmark_ms - at_ms) / plan.half_life_ms)
    had = dict(zip(names, (items.cosine.users * scale)[: len(names)].tolist(), strict=True))
    assert had == {name: pytest.approx(truth.users[name], rel=1e-9) for name in names}
    found = pairs_of(items, items.cosine, at_ms)
    assert found == {pair: pytest.approx(n, rel=1e-5) for pair, n in truth.both.items()}
    assert_sound(items)


@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_a_plain_count(seed):
    shoppers, batches = shop(), stream(np.random.default_rng(seed), 80)
    for batch in batches:
        shoppers.act(*batch)
    # within a batch the events of one user come in its order
    assert_counted(shoppers.recommender.items, batches)


def test_a_moved_landmark_changes_nothing():
    shoppers = shop(plan=plan_of(half_life_ms=HOUR_MS))
    batches = stream(np.random.default_rng(7), 60, late_ms=HOUR_MS)
    for batch in batches:
        shoppers.act(*batch)
    items = shoppers.recommender.items
    assert items.landmark_ms > START_MS + 2 * DAY_MS
    at = max(event[2] for batch in batches for event in batch)
    names = names_of(items)
    scale = 2.0 ** ((items.landmark_ms - at) / HOUR_MS)
    truth = PlainCosines(batches, 6, HOUR_MS, at)
    for row, name in enumerate(names):
        found = items.cosine.users[row] * scale
        assert found == pytest.approx(truth.users[name], rel=1e-5, abs=1e-30)
    for pair, n in pairs_of(items, items.cosine, at).items():
        assert n == pytest.approx(truth.both[pair], rel=1e-4, abs=1e-30)


@pytest.mark.parametrize("seed", range(3))
def test_lanes_that_exchange_count_the_same(seed):
    rng = np.random.default_rng(seed)
    lanes = [shop(), shop()]
    batches = [stream(rng, 40), stream(rng, 40)]
    for n in range(40):
        for lane, own in zip(lanes, batches, strict=True):
            lane.act(*own[n])
        if n % 6 == 0 or n == 39:
            blocks = [lane.recommender.outgoing() for lane in lanes]
            lanes[0].recommender.take(blocks[1])
            lanes[1].recommender.take(blocks[0])
    others = [[(user + 10, *rest) for user, *rest in batch] for batch in batches[1]]
    for lane in lanes:
        assert_counted(lane.recommender.items, [*batches[0], *others])


def test_forgotten_items_take_their_pairs_with_them():
    shoppers = shop(plan=plan_of(most_items=100, neighbours=130))
    batches = stream(np.random.default_rng(3), 150, users=10, items=125)
    for batch in batches[:120]:
        shoppers.act(*batch)
    items, at = shoppers.recommender.items, START_MS
    before = items.renumbered
    held, had = pairs_of(items, items.cosine, at), users_of(items, at)
    gone = set(names_of(items))
    items.plan = plan_of(most_items=30, neighbours=130)
    items._forget_some()
    gone -= set(names_of(items))
    assert items.renumbered == before + 1
    assert gone
    kept = {pair: pytest.approx(n, rel=1e-6) for pair, n in held.items() if not gone & {*pair}}
    assert pairs_of(items, items.cosine, at) == kept
    assert users_of(items, at) == {k: pytest.approx(n) for k, n in had.items() if k not in gone}
    assert_sound(items)


def users_of(items, at_ms):
    """How many had each item at a time, by name."""
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.half_life_ms)
    names = names_of(items)
    return dict(zip(names, (items.cosine.users[: len(names)] * scale).tolist(), strict=True))


def stored(items):
    return pack_items(items, np.arange(len(items)))


def test_records_hold_cosines_and_those_without_load_too():
    shoppers, batches = shop(), stream(np.random.default_rng(4), 60)
    for batch in batches:
        shoppers.act(*batch)
    items = shoppers.recommender.items
    again = ItemTable(plan_of())
    load_items(again, *stored(items))
    assert_counted(again, batches)

    off = ItemTable(ItemPlan(neighbours=40, recent=6, half_life_ms=7 * DAY_MS))
    load_items(off, *stored(items))  # the source was switched off
    truth = pairs_of(items, items.covisits, START_MS)
    near = {pair: pytest.approx(n, rel=1e-5) for pair, n in truth.items()}
    assert pairs_of(off, off.covisits, START_MS) == near
    on = ItemTable(plan_of())
    load_items(on, *stored(off))  # and on again
    assert_sound(on)
    assert pairs_of(on, on.cosine, START_MS) == {}
    assert names_of(on) == names_of(items)

    half = np.arange(0, len(items), 2)
    mixed = dict(zip(*stored(off), strict=True)) | dict(zip(*pack_items(items, half), strict=True))
    some = ItemTable(plan_of(neighbours=50))
    load_items(some, list(mixed), list(mixed.values()))
    names, kept = names_of(items), {names_of(items)[k] for k in half.tolist()}
    had = users_of(some, START_MS)
    truth = users_of(items, START_MS)
    assert had == {k: pytest.approx(truth[k]) if k in kept else 0.0 for k in names}
    assert_sound(some)


def test_all_remembered_items_say_something_however_old():
    shoppers = shop()
    t = START_MS
    for user in range(4):
        shoppers.act((user, "a", t, PRODUCT_VIEW), (user, "z", t + 30 * DAY_MS, PRODUCT_VIEW))
    shoppers.act((9, "a", t, PRODUCT_VIEW))
    for n in range(5):
        shoppers.act((9, f"own{n}", t + (30 + n) * DAY_MS, PRODUCT_VIEW))
    (document,) = shoppers.documents([9], t + 40 * DAY_MS)
    said = [(i["item_id"], i["source"], i["because"]) for i in document["items"]]
    assert said == [("z", "cosine", "a")]


def test_what_is_had_again_counts_once():
    shoppers = shop()
    for n in range(5):
        shoppers.act((0, "a", START_MS + n, PRODUCT_VIEW), (0, "b", START_MS + n, PRODUCT_VIEW))
    items = shoppers.recommender.items
    pairs = pairs_of(items, items.cosine, START_MS)
    assert pairs == {pair: pytest.approx(1.0, rel=1e-5) for pair in (("a", "b"), ("b", "a"))}
