"""Items described alike: against all pairs, and as items come, change and go."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from events.texts import Texts
from models.content import Content
from models.item_features import FEATURES, features
from models.item_plan import ItemPlan
from models.items import ItemTable
from models.steering import Steering
from tests.models.catalogs import facts

WORDS = [
    *("red", "blue", "green", "wool", "cotton", "silk", "coat", "shirt"),
    *("sock", "hat", "mug", "plate", "winter", "summer", "kids"),
]
PLACES = 6


def shop(chance, count, first=0):
    return {
        f"i{first + k}": {
            "title": " ".join(chance.sample(WORDS, 4)),
            "category": f"a{chance.randrange(3)}.b{chance.randrange(4)}",
            "brand": f"brand{chance.randrange(6)}",
            "price": chance.randrange(1, 200),
            "tags": chance.sample(["new", "sale", "eco"], chance.randrange(3)),
        }
        for k in range(count)
    }


def cosines(said):
    """All pairs, by name."""
    found = facts(**said)
    buckets, weights = features(found)
    have = [
        dict(zip(b[b >= 0].tolist(), w[b >= 0].tolist(), strict=True))
        for b, w in zip(buckets, weights, strict=True)
    ]
    count = Counter(bucket for one in have for bucket in one)
    rare = {bucket: math.log(1 + len(have) / n) for bucket, n in count.items()}
    vectors = [{b: w * rare[b] for b, w in one.items()} for one in have]
    norms = [math.sqrt(sum(v * v for v in one.values())) for one in vectors]
    ids = found.ids.tolist()
    return {
        a: {
            b: sum(v * vectors[j].get(k, 0.0) for k, v in vectors[i].items())
            / (norms[i] * norms[j])
            for j, b in enumerate(ids)
            if j != i
        }
        for i, a in enumerate(ids)
    }


def neighbours(items, name):
    (row,) = items.find(Texts.of([name]).hashes())
    return {items.ids[k]: w for k, w in items.similar.heaviest(int(row), PLACES)}


def compare_all(content):
    while content.compare(7):
        pass


@pytest.fixture
def items():
    return ItemTable(ItemPlan(together=PLACES))


@pytest.mark.parametrize("seed", range(3))
def test_few_items_are_held_against_all(items, seed):
    said = shop(random.Random(seed), 80)
    steering = Steering(items, {})
    steering.take_facts(facts(**said))
    assert len(steering.content) == 80
    compare_all(steering.content)
    assert len(steering.content) == 0
    for name, true in cosines(said).items():
        found = neighbours(items, name)
        best = sorted(true.values(), reverse=True)[:PLACES]
        assert len(found) == PLACES
        np.testing.assert_allclose(sorted(found.values(), reverse=True), best, rtol=2e-3)
        for other, value in found.items():
            assert value == pytest.approx(true[other], rel=2e-3)


def test_a_new_item_enters_the_lists_of_those_it_is_like(items):
    chance = random.Random(5)
    said = shop(chance, 60)
    steering = Steering(items, {})
    steering.take_facts(facts(**said))
    compare_all(steering.content)
    like = {**said["i7"], "title": said["i7"]["title"] + " set"}
    steering.take_facts(facts(twin=like))
    assert steering.content.compare(10) == 1, "nobody else is compared again"
    assert max(neighbours(items, "i7"), key=neighbours(items, "i7").get) == "twin"
    assert next(iter(neighbours(items, "twin"))) == "i7"


def test_an_item_that_changes_has_other_neighbours_and_one_that_goes_has_none(items):
    chance = random.Random(6)
    said = shop(chance, 60)
    steering = Steering(items, {})
    steering.take_facts(facts(**said))
    compare_all(steering.content)
    for n in range(200):
        name, other = (f"i{k}" for k in chance.sample(range(60), 2))
        said[name] = {**said[other], "price": n + 1}
        steering.take_facts(facts(**{name: said[name]}))
    compare_all(steering.content)
    true = cosines(said)
    for name in said:
        steering.take_facts(facts(**{name: {**said[name], "available": False}}))
    assert len(steering.content) == 0, "what is available says nothing of what is alike"
    (row,) = items.find(Texts.of(["i3"]).hashes())
    own = neighbours(items, "i3")
    assert max(true["i3"].values()) == pytest.approx(max(own.values()), rel=0.02)
    steering.take_facts(facts(i3=None))
    compare_all(steering.content)
    assert (items.similar.item[row] < 0).all()


def test_places_that_nothing_stands_for_are_given_back(items):
    content, rows = Content(items), items.rows(Texts.of(["a", "b"]))
    for n in range(2_000):
        content.take(facts(a={"title": f"word{n} blue"}, b={"title": "blue"}), rows)
    content.compare(9)
    assert content.bytes_held() < 6_000_000
    assert set(neighbours(items, "a")) == {"b"}


def test_neighbours_follow_when_rows_are_given_anew():
    items = ItemTable(ItemPlan(most_items=100, together=PLACES))
    steering = Steering(items, {})
    items.rows(Texts.of([f"n{k}" for k in range(150)]))
    said = shop(random.Random(8), 30)
    steering.take_facts(facts(**said))
    compare_all(steering.content)
    before = {name: neighbours(items, name) for name in said}
    items.table["popularity"][:20] = 1.0
    items._forget_some()
    assert len(items) == 20 + 30
    assert {name: neighbours(items, name) for name in said} == before
    steering.take_facts(facts(twin=said["i4"]))
    compare_all(steering.content)
    assert max(neighbours(items, "i4"), key=neighbours(items, "i4").get) == "twin"


def test_beginning_anew_compares_all_again(items):
    steering = Steering(items, {})
    said = shop(random.Random(9), 30)
    steering.take_facts(facts(**said))
    compare_all(steering.content)
    before = {name: neighbours(items, name) for name in said}
    held = steering.catalog.held()
    items.reset()
    steering.again(held)
    compare_all(steering.content)
    after = {name: neighbours(items, name) for name in said}
    for name, found in before.items():
        assert sorted(after[name].values()) == pytest.approx(sorted(found.values()), rel=1e-4)


def test_features_are_bounded_and_say_what_they_should():
    long = " ".join(f"word{k}" for k in range(30))
    found, weights = features(
        facts(
            a={"title": long, "tags": [f"t{k}" for k in range(32)]},
            b={},
            c={"category": "a.b.c"},
            d={"category": "a.b"},
            e={"title": "ÜBER"},
            f={"title": "über"},
        )
    )
    assert found.shape == weights.shape == (6, FEATURES)
    counts = (found >= 0).sum(axis=1).tolist()
    assert counts[0] == FEATURES
    assert counts[1:4] == [0, 3, 2]
    assert set(found[3][:2].tolist()) < set(found[2].tolist())
    assert (found[4] == found[5]).all()
    assert ((found >= 0) == (weights > 0)).all()
