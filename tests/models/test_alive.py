"""BG/NBD: against numeric integration and simulation, from a known truth, at the ends of floats."""

import json
import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from models import upcoming
from models.alive import BgNbd, _Likelihood, fit
from models.contract import ModelMismatch
from models.likelihood import tallied

CDNOW = BgNbd(r=0.2426, alpha=4.4136, a=0.7929, b=2.4259)

positive = st.floats(0.01, 100.0)
models = st.builds(BgNbd, r=positive, alpha=positive, a=positive, b=positive)
pasts = st.tuples(st.integers(0, 2_000), st.floats(0, 1), st.floats(0, 1_000)).map(
    lambda past: (float(past[0]), past[1] * past[2], past[2])
)


def columns(*past: float) -> tuple[np.ndarray, ...]:
    return tuple(np.array([value]) for value in past)


def simulate(model: BgNbd, T: np.ndarray, rng: np.random.Generator, t: float = 0.0):
    """Customers who live by the model's story: x, t_x, whether alive at T, purchases in T..T+t."""
    n = len(T)
    rate, leaves = rng.gamma(model.r, 1 / model.alpha, n), rng.beta(model.a, model.b, n)
    now, last, x, after = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    alive_at_T = np.ones(n, dtype=bool)
    going = np.arange(n)
    while len(going):
        now[going] += rng.exponential(1.0, len(going)) / rate[going]
        going = going[now[going] <= T[going] + t]
        within = now[going] <= T[going]
        x[going] += within
        after[going] += ~within
        last[going[within]] = now[going[within]]
        left = rng.random(len(going)) < leaves[going]
        alive_at_T[going[left & within]] = False
        going = going[~left]
    return x, last, alive_at_T, after


def mean_by_integration(r: float, a: float, b: float, x: float, s: float) -> float:
    """E[(1 - (1 + p s)^-A) / p] over p ~ Beta(a, b + x), by adaptive quadrature over logit p."""
    A, B = r + x, b + x

    def at(u: float) -> float:
        log_p, log_rest = -np.logaddexp(0.0, -u), -np.logaddexp(0.0, u)
        density = math.exp(a * log_p + B * log_rest - special.betaln(a, B) - log_p)
        return -density * math.expm1(-A * math.log1p(s * math.exp(log_p)))

    middle = math.log(a / B)
    width = math.sqrt(1 / a + 1 / B)
    marks = [middle - 60 / min(a, 1), middle + 60 / min(B, 1)]
    marks = sorted(marks + [middle + k * width for k in (-6, -2, 0, 2, 6)])
    pieces = pairwise(marks)
    return sum(integrate.quad(at, *piece, epsabs=0, epsrel=1e-10, limit=200)[0] for piece in pieces)


# -- purchases to come ------------------------------------------------------------------------


def test_the_mean_equals_numeric_integration():
    rng = np.random.default_rng(0)
    for _ in range(120):
        r, a, b, s = 10 ** rng.uniform([-1.5, -0.5, -0.5, -3], [1.3, 1.5, 2, 6])
        x = float(rng.choice([0, 0, 1, 12, 200, 3_000, 40_000]))
        found = upcoming.upcoming(r, a, b, np.array([x]), np.array([s]))[0]
        assert found == pytest.approx(mean_by_integration(r, a, b, x, s), rel=1e-7), (r, a, b, x, s)


@settings(max_examples=150)
@given(
    *[st.floats(-2, 2).map(lambda power: 10**power)] * 3,
    st.integers(0, 500),
    st.floats(-9, 1.5).map(lambda power: 10**power),
)
def test_both_sums_agree(r, a, b, x, s):
    quick = upcoming._by_powers(r, a, b, float(x), s)
    sure = upcoming._by_places(r, a, b, float(x), s)
    assert quick < 0 or quick == pytest.approx(sure, rel=2e-8)
    if a < 4 and r < a + b and s < 20:
        assert quick >= 0, "the usual shop must not need the slower sum"


def test_the_mean_equals_the_papers_formula_with_2f1():
    x, T = np.meshgrid(np.arange(0.0, 30.0), np.linspace(1.0, 60.0, 20))
    x, T = x.ravel(), T.ravel()
    r, alpha, a, b, t = CDNOW.r, CDNOW.alpha, CDNOW.a, CDNOW.b, 39.0
    gauss = special.hyp2f1(r + x, b + x, a + b + x - 1, t / (alpha + T + t))
    inner = 1 - ((alpha + T) / (alpha + T + t)) ** (r + x) * gauss
    expected = (a + b + x - 1) / (a - 1) * inner * CDNOW.p_alive(x, T, T)
    np.testing.assert_allclose(CDNOW.expected_purchases(x, T, T, t), expected, rtol=1e-7)


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.4), (0.5, 0.5), (1.0 + 1e-12, 2.4), (0.3, 0.7)])
def test_where_the_papers_formula_divides_by_zero_the_mean_is_smooth(a, b):
    x, s = np.array([0.0, 0.0, 3.0]), np.array([1e-9, 5.0, 5.0])
    around = [upcoming.upcoming(0.3, a + d, b, x, s) for d in (-1e-4, 1e-4)]
    np.testing.assert_allclose(upcoming.upcoming(0.3, a, b, x, s), sum(around) / 2, rtol=1e-6)


# -- against simulation -----------------------------------------------------------------------


def test_simulated_customers_are_alive_and_buy_as_often_as_it_says():
    model, rng = BgNbd(r=0.8, alpha=5.0, a=0.9, b=2.5), np.random.default_rng(3)
    T = rng.uniform(5.0, 40.0, 150_000)
    x, t_x, alive, after = simulate(model, T, rng, t=20.0)
    p, expected = model.p_alive(x, t_x, T), model.expected_purchases(x, t_x, T, 20.0)
    for here in np.array_split(np.lexsort((expected, p)), 12):
        assert alive[here].mean() == pytest.approx(p[here].mean(), abs=0.01)
        assert after[here].mean() == pytest.approx(expected[here].mean(), rel=0.05, abs=0.02)
    assert after.mean() == pytest.approx(expected.mean(), rel=0.01)


def test_a_fit_recovers_the_truth():
    """Within four standard errors, as the spread of fits over many seeds has them."""
    truth, rng = BgNbd(r=0.6, alpha=4.0, a=0.8, b=2.5), np.random.default_rng(7)
    T = rng.uniform(10.0, 50.0, 20_000)
    x, t_x, _, _ = simulate(truth, T, rng)
    found = fit(x, t_x, T)
    assert found.converged
    assert found.users == 20_000
    assert found.log_likelihood == pytest.approx(found.model.log_likelihood(x, t_x, T).sum())
    assert found.log_likelihood >= truth.log_likelihood(x, t_x, T).sum()
    model = found.model
    assert model.r == pytest.approx(truth.r, rel=0.06)
    assert model.alpha == pytest.approx(truth.alpha, rel=0.09)
    assert model.a == pytest.approx(truth.a, rel=0.17)
    assert model.b == pytest.approx(truth.b, rel=0.22)


# -- likelihood and fit -----------------------------------------------------------------------


def some_users(n: int = 400, seed: int = 5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    T = np.round(rng.uniform(5.0, 40.0, n))
    x, t_x, _, _ = simulate(BgNbd(r=0.9, alpha=6.0, a=0.8, b=2.0), T, rng)
    return x, np.round(t_x), T


def test_the_slope_of_the_likelihood_is_its_slope():
    x, t_x, T = some_users()
    rows, users = tallied(np.stack([x, t_x, T], axis=1), None)
    assert len(rows) < 400
    score, params = _Likelihood(*rows.T, users), np.array([0.7, 3.0, 0.6, 1.8])
    value, slope = score(params)
    assert value == pytest.approx(BgNbd(*params).log_likelihood(x, t_x, T).sum())
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-5
        rise = score(params + step)[0] - score(params - step)[0]
        assert slope[k] == pytest.approx(rise / 2e-5, rel=1e-5)


def test_weights_count_users_and_order_does_not():
    x, t_x, T = some_users()
    whole = fit(x, t_x, T).model
    order = np.random.default_rng(0).permutation(len(x))
    mixed = fit(x[order], t_x[order], T[order]).model
    rows, users = tallied(np.stack([x, t_x, T], axis=1), None)
    by_weight = fit(*rows.T, weights=users).model
    assert mixed == whole
    assert by_weight == whole


def test_another_unit_of_time_changes_nothing_but_alpha():
    x, t_x, T = some_users()
    weeks, days = fit(x, t_x, T).model, fit(x, t_x * 7, T * 7).model
    assert days.alpha == pytest.approx(weeks.alpha * 7, rel=1e-3)
    assert (days.r, days.a, days.b) == pytest.approx((weeks.r, weeks.a, weeks.b), rel=1e-3)


def test_a_pull_holds_on_to_the_start_and_fades_with_users():
    x, t_x, T = some_users()
    start = BgNbd(r=0.3, alpha=3.0, a=2.0, b=4.0)
    free = fit(x, t_x, T, start=start)
    away = [
        abs(math.log(fit(x, t_x, T, weights, start, pull).model.r / start.r))
        for pull, weights in [(1e9, None), (30.0, None), (30.0, np.full(len(x), 100.0))]
    ]
    assert away[0] < 1e-3 < away[1] < away[2] <= abs(math.log(free.model.r / start.r)) + 1e-3
    assert free.log_likelihood == pytest.approx(fit(x, t_x, T).log_likelihood, abs=1e-3)


@pytest.mark.parametrize(
    ("n", "change", "words"),
    [
        (99, {}, "at least 100 users, but 99 came: fit later"),
        (400, {"x": 0.0}, "at least 10 users who bought again, but 0 came"),
        (400, {"x": 3.0, "t_x": 2.0, "T": 5.0}, "users who differ, but all have x = 3"),
        (400, {"t_x": 0.0, "T": 0.0}, "all have just come"),
        (400, {"T": np.nan}, "0 <= t_x <= T"),
        (400, {"x": -1.0}, "x >= 0"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_in_words(n, change, words):
    users = dict(zip(("x", "t_x", "T"), some_users(n), strict=True))
    for name, value in change.items():
        users[name] = np.full(n, value)
    with pytest.raises(ValueError, match=words):
        fit(**users)


def test_wrong_weights_pulls_and_parameters_are_refused():
    x, t_x, T = some_users()
    with pytest.raises(ValueError, match="weights must be"):
        fit(x, t_x, T, weights=np.ones(3))
    with pytest.raises(ValueError, match="weights must be"):
        fit(x, t_x, T, weights=np.full(len(x), np.nan))
    with pytest.raises(ValueError, match="the pull must be"):
        fit(x, t_x, T, pull=-1.0)
    with pytest.raises(ValueError, match="alpha must be positive"):
        BgNbd(r=1.0, alpha=np.nan, a=1.0, b=1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["nobody leaves", "two kinds", "all at once", "one giant", "few"])
def test_odd_users_give_numbers_not_nan(kind, seed):
    rng = np.random.default_rng(seed)
    n, T = (
        (100 if kind == "few" else 300),
        rng.uniform(1.0, 30.0, 300)[: 100 if kind == "few" else 300],
    )
    x = rng.poisson(1.0, n).astype(float)
    t_x = {"nobody leaves": T, "all at once": np.zeros(n)}.get(kind, T * rng.random(n))
    if kind == "two kinds":
        x, t_x, T = np.arange(n) % 2.0, np.ones(n), np.full(n, 9.0)
    if kind == "one giant":
        x[0] = 1e9
    found = fit(x, np.where(x > 0, t_x, 0.0), T)
    model = found.model
    assert np.isfinite([found.log_likelihood, model.r, model.alpha, model.a, model.b]).all()
    assert np.isfinite(model.expected_purchases(x, t_x, T, 10.0)).all()


# -- properties -------------------------------------------------------------------------------


@given(models, pasts, st.floats(0, 1_000))
def test_p_alive_is_a_probability_that_falls_in_silence(model, past, silence):
    x, t_x, T = columns(*past)
    p, later = model.p_alive(x, t_x, T)[0], model.p_alive(x, t_x, T + silence)[0]
    assert 0.0 <= later <= p <= 1.0
    assert past[0] > 0 or p == later == 1.0
    assert np.isfinite(model.log_likelihood(x, t_x, T)).all()


@given(models, pasts, st.floats(0, 500), st.floats(0, 500))
def test_expected_purchases_grow_with_the_horizon_from_zero(model, past, t, more):
    x, t_x, T = columns(*past)
    assert model.expected_purchases(x, t_x, T, 0.0).tolist() == [0.0]
    near, far = (model.expected_purchases(x, t_x, T, horizon)[0] for horizon in (t, t + more))
    assert 0.0 <= near <= far * (1 + 1e-7) < np.inf
    # never more than if nobody left
    at_most = model.p_alive(x, t_x, T)[0] * (model.r + x[0]) * t / (model.alpha + T[0])
    assert near <= at_most * (1 + 1e-7)


def test_at_the_ends_of_what_is_accepted_nothing_overflows():
    far = [0.0, 1e-300, 1e-9, 1.0, 1e5, 1e10]
    x, t_x, T = (g.ravel() for g in np.meshgrid([0.0, 1.0, 1e3, 1e10], far, far))
    good = t_x <= T
    past = x[good], t_x[good], T[good]
    for model in (CDNOW, BgNbd(1e-5, 1e-5, 1e-5, 1e-5), BgNbd(50.0, 1e5, 3.0, 0.01)):
        p = model.p_alive(*past)
        assert ((p >= 0) & (p <= 1)).all()
        assert np.isfinite(model.log_likelihood(*past)).all()
        for t in (0.0, 1e-300, 1.0):
            assert np.isfinite(model.expected_purchases(*past, t)).all()
    assert np.isfinite(CDNOW.expected_purchases(*past, 1e300)).all()


@pytest.mark.parametrize(
    "past", [(-1.0, 0.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 1e11), (np.nan, 0, 1)]
)
def test_pasts_that_cannot_be_are_refused_with_their_row(past):
    x, t_x, T = (np.array([1.0, value]) for value in past)
    for ask in (CDNOW.p_alive, CDNOW.log_likelihood, lambda *p: CDNOW.expected_purchases(*p, 1.0)):
        with pytest.raises(ValueError, match="user 1 has"):
            ask(x, t_x, T)


def test_shapes_and_horizons_are_checked_and_empty_columns_are_fine():
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match="one length"):
        CDNOW.p_alive(one, two, two)
    for t in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="horizon"):
            CDNOW.expected_purchases(one, one, one, t)
    empty = np.empty(0)
    assert CDNOW.p_alive(empty, empty, empty).tolist() == []
    assert CDNOW.expected_purchases(empty, empty, empty, 1.0).tolist() == []


def test_a_row_scores_the_same_in_any_batch():
    x, t_x, T = some_users(101)
    whole = CDNOW.expected_purchases(x, t_x, T, 9.0)
    alone = [
        CDNOW.expected_purchases(*columns(*row), 9.0)[0] for row in zip(x, t_x, T, strict=True)
    ]
    assert whole.tolist() == alone


# -- saved form -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_saved_and_restored_it_is_the_same_bit_for_bit(code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    model = BgNbd(r=0.1 + 0.2, alpha=1 / 3, a=1e-5, b=1e5)
    assert BgNbd.from_state(load(save(model.to_state()))) == model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format is 99"),
        ({"model": "gamma-gamma"}, "kind is 'gamma-gamma'"),
        ({"scipy": "0.1"}, "scipy version is '0.1'"),
        ({"parameters": {"r": 1.0}}, "list of parameters is"),
    ],
)
def test_a_saved_model_that_does_not_fit_is_refused_in_words(change, words):
    with pytest.raises(ModelMismatch, match=words):
        BgNbd.from_state(CDNOW.to_state() | change)
