"""Gamma-Gamma: a density, a shrunken mean, a known truth, and words where there is none."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from models.alive import BgNbd
from models.contract import ModelMismatch
from models.spend import GammaGamma, _Likelihood, fit

CDNOW = GammaGamma(p=6.25, q=3.74, gamma=15.44)

positive = st.floats(0.05, 50.0)
models = st.builds(GammaGamma, p=positive, q=positive.map(lambda q: 1 + q), gamma=positive)


def simulate(model: GammaGamma, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """Purchases seen, their mean, and one purchase more."""
    rng = np.random.default_rng(seed)
    x, scale = rng.geometric(0.3, n).astype(float), rng.gamma(model.q, 1 / model.gamma, n)
    return x, rng.gamma(model.p * x, 1 / scale) / x, rng.gamma(model.p, 1 / scale)


@pytest.mark.parametrize("x", [1.0, 7.0])
def test_the_likelihood_is_a_density(x):
    def density(m: float) -> float:
        return float(np.exp(CDNOW.log_likelihood(np.array([x]), np.array([m])))[0])

    total = sum(integrate.quad(density, *piece)[0] for piece in [(1e-9, 50), (50, np.inf)])
    assert total == pytest.approx(1.0, rel=1e-6)


def test_simulated_customers_spend_next_what_it_says():
    model = GammaGamma(p=3.0, q=4.0, gamma=50.0)
    x, m, following = simulate(model, 200_000, seed=1)
    expected = model.expected_spend(x, m)
    for group in np.array_split(np.argsort(expected), 8):
        assert following[group].mean() == pytest.approx(expected[group].mean(), rel=0.03)


def test_a_fit_recovers_the_truth():
    """Within four standard errors, as the spread of fits over many seeds has them."""
    truth = GammaGamma(p=5.0, q=3.5, gamma=20.0)
    x, m, _ = simulate(truth, 20_000, seed=2)
    found = fit(x, m)
    assert found.converged
    assert found.log_likelihood >= truth.log_likelihood(x, m).sum()
    assert found.model.p == pytest.approx(truth.p, rel=0.16)
    assert found.model.q == pytest.approx(truth.q, rel=0.06)
    assert found.model.gamma == pytest.approx(truth.gamma, rel=0.23)
    again = fit(x, m, start=found.model)
    assert again.model.p == pytest.approx(found.model.p, rel=1e-3)


def test_the_slope_of_the_likelihood_is_its_slope():
    x, m, _ = simulate(CDNOW, 200, seed=3)
    users, params = np.arange(1.0, 201.0), np.array([4.0, 2.0, 9.0])
    score = _Likelihood(x, m, users)
    value, slope = score(params)
    assert value == pytest.approx(users @ GammaGamma(4.0, 3.0, 9.0).log_likelihood(x, m))
    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-5
        rise = score(params + step)[0] - score(params - step)[0]
        assert slope[k] == pytest.approx(rise / 2e-5, rel=1e-5)


def test_weights_count_users_and_money_has_no_unit():
    x, m, _ = simulate(CDNOW, 300, seed=4)
    whole = fit(np.repeat(x, 3), np.repeat(m, 3)).model
    assert fit(x, m, weights=np.full(300, 3.0)).model == whole
    cents = fit(x, m * 100).model
    assert (cents.p, cents.q) == pytest.approx((whole.p, whole.q), rel=1e-2)
    assert cents.gamma == pytest.approx(whole.gamma * 100, rel=1e-2)


@given(models, st.floats(0, 1e6), st.floats(0, 1e9))
def test_what_is_expected_lies_between_the_customers_mean_and_that_of_all(model, x, m):
    of_all = model.p * model.gamma / (model.q - 1)
    expected = model.expected_spend(np.array([x]), np.array([m]))[0]
    assert min(m, of_all) * (1 - 1e-9) <= expected <= max(m, of_all) * (1 + 1e-9)
    assert x > 0 or expected == pytest.approx(of_all, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "m", "words"),
    [
        (1.0, 0.0, "leave out those who have not paid"),
        (0.0, 5.0, "x > 0 and m > 0, but user 0"),
        (1.0, np.nan, "x >= 0 and m >= 0"),
        (1.0, 5.0, "spends that differ, but all users have a mean of 5"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_in_words(x, m, words):
    with pytest.raises(ValueError, match=words):
        fit(np.full(300, x), np.full(300, m))


def test_few_users_and_impossible_parameters_are_refused():
    with pytest.raises(ValueError, match="at least 100 users who spent, but 99 came"):
        fit(np.ones(99), np.arange(1.0, 100.0))
    with pytest.raises(ValueError, match="one length"):
        CDNOW.expected_spend(np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="q must be above 1"):
        GammaGamma(p=1.0, q=1.0, gamma=1.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tail", [1e-12, 0.1, 8.0])
def test_odd_spends_give_numbers_not_nan(tail, seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 6, 150).astype(float)
    found = fit(x, np.clip(np.exp(tail * rng.standard_normal(150)), 1e-15, 1e15))
    model = found.model
    assert np.isfinite([found.log_likelihood, model.p, model.q, model.gamma]).all()


def test_saved_and_restored_it_is_the_same_and_others_are_refused():
    model = GammaGamma(p=0.1 + 0.2, q=1 + 1 / 3, gamma=1e-5)
    assert GammaGamma.from_state(json.loads(json.dumps(model.to_state()))) == model
    for change in ({"format": 2}, {"scipy": "0.1"}, {"parameters": {"p": 1.0}}):
        with pytest.raises(ModelMismatch):
            GammaGamma.from_state(model.to_state() | change)
    with pytest.raises(ModelMismatch, match="kind is 'bg/nbd'"):
        GammaGamma.from_state(BgNbd(1.0, 1.0, 1.0, 1.0).to_state())
