"""Thompson sampling: chances against draws, and users that find the better arm."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bandit import chances_best, weights


@pytest.mark.parametrize(
    ("won", "users"),
    [([5, 9], [100, 100]), ([0, 0, 0], [0, 0, 0]), ([50, 61, 40], [1_000, 1_100, 700])],
)
def test_chances_are_those_of_draws(won, users):
    rng = np.random.default_rng(1)
    lost = np.array(users) - won
    draws = rng.beta(np.array(won) + 1, lost + 1, size=(200_000, len(won)))
    shares = np.bincount(draws.argmax(axis=1), minlength=len(won)) / len(draws)
    np.testing.assert_allclose(chances_best(won, users), shares, atol=0.005)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 10**6)), min_size=1, max_size=8))
def test_weights_are_shares_above_the_floor(arms):
    found = weights([won for won, _ in arms], [won + lost for won, lost in arms])
    assert sum(found) == pytest.approx(1.0)
    assert min(found) >= min(0.05, 1 / len(arms)) - 1e-12


def test_users_find_the_better_arm():
    rng = np.random.default_rng(3)
    rates, won, users = np.array([0.05, 0.08]), np.zeros(2, int), np.zeros(2, int)
    for _ in range(40):
        new = rng.multinomial(250, weights(won, users))
        users += new
        won += rng.binomial(new, rates)
    assert users[1] > 0.75 * users.sum()
