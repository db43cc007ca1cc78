"""Stays and ratings, from the events to what ranking makes of them."""

import math

import numpy as np
import pytest

from events.schema import ADD_TO_CART, PRODUCT_VIEW, RATING
from models.esteem import LONGEST_MS, excess
from models.item_plan import ItemPlan
from models.recommender import ItemRecommender
from state.times import DAY_MS, HOUR_MS
from tests.models.shopping import START_MS, Shoppers, names_of

WEIGHTS = {PRODUCT_VIEW: 1.0, ADD_TO_CART: 2.0, RATING: 1.0}


def shop(**more):
    plan = ItemPlan(weights=WEIGHTS, half_life_ms=10**6 * DAY_MS, gap_ms=HOUR_MS, **more)
    return Shoppers(ItemRecommender(plan), 4)


def said(shoppers, *names):
    """By item: how many stays, and how long all of them, as logarithms of seconds."""
    items = shoppers.recommender.items
    table, rows = items.table, {name: k for k, name in enumerate(names_of(items))}
    return [
        (round(float(table["stays"][rows[n]]), 3), float(table["stayed"][rows[n]])) for n in names
    ]


def test_a_stay_lasts_until_the_next_item_in_one_batch_or_in_two():
    for apart in (False, True):
        shoppers, t = shop(), START_MS
        events = [(0, "a", t, PRODUCT_VIEW), (0, "b", t + 9_000, PRODUCT_VIEW)]
        events += [(0, "b", t + 20_000, ADD_TO_CART), (0, "a", t + 50_000, PRODUCT_VIEW)]
        for part in [[e] for e in events] if apart else [events]:
            shoppers.act(*part)
        a, b = said(shoppers, "a", "b")
        # to put it into the cart was still to stay with b, but it came from a again
        assert a == (2.0, pytest.approx(math.log1p(9) + math.log1p(20), rel=1e-5))
        assert b == (1.0, pytest.approx(math.log1p(30), rel=1e-5))


def test_who_was_away_or_comes_late_has_not_stayed():
    shoppers, t = shop(), START_MS
    shoppers.act((0, "a", t, PRODUCT_VIEW), (0, "b", t + LONGEST_MS + 1, PRODUCT_VIEW))
    shoppers.act((1, "b", t + 5_000, PRODUCT_VIEW), (1, "a", t, PRODUCT_VIEW))
    shoppers.act((2, "a", t, PRODUCT_VIEW), (2, "b", t, PRODUCT_VIEW))
    assert said(shoppers, "a", "b") == [(0.0, 0.0), (0.0, 0.0)]


def test_ratings_that_are_none_say_nothing():
    shoppers = shop()
    for k, value in enumerate([4.0, 2.0, math.nan, 1e300, -1e300, 101.0]):
        shoppers.act((0, "a", START_MS + k, RATING), values=[value])
    shoppers.act((0, "a", START_MS + 9, PRODUCT_VIEW), values=[5.0])
    table = shoppers.recommender.items.table
    assert (table["ratings"][0], table["rated"][0]) == (pytest.approx(2), pytest.approx(6))
    shoppers.recommender.items.find_popular()
    assert shoppers.recommender.items.mean_rating == pytest.approx(3.0)


def test_little_is_drawn_towards_the_mean_of_all():
    counts = np.array([0, 1, 20, 2_000], np.float32)
    found = excess(5 * counts, counts, 3.0, 1.0)
    np.testing.assert_allclose(found, 2 * counts / (counts + 20), rtol=1e-5)
