"""Columns into pasts, and the published figures of the CDNOW customers."""

from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import alive, spend
from models.lifetime import WEEK_MS, from_orders
from state.times import DAY_MS, NEVER_MS

DATA = Path(__file__).parents[3] / "shared" / "data" / "cdnow.csv.gz"
CALIBRATED_MS = int(datetime(1997, 9, 30, tzinfo=UTC).timestamp() * 1000)
HOLDOUT_WEEKS = 39.0

BG_NBD = alive.BgNbd(r=0.2426, alpha=4.4136, a=0.7929, b=2.4259)
GAMMA_GAMMA = spend.GammaGamma(p=6.25, q=3.74, gamma=15.44)


class Cdnow:
    """The sample of 2,357 customers, up to the end of September 1997 and after it."""

    def __init__(self) -> None:
        rows = pd.read_csv(DATA, dtype={"sample_id": str})
        rows = rows[rows["sample_id"].notna()]
        orders = rows.groupby(["user_id", "ts"])["amount"].sum().reset_index()
        before = orders[orders["ts"] <= CALIBRATED_MS].copy()
        users = before.groupby("user_id")["ts"]
        count, first, last = users.size(), users.min(), users.max()
        self.past = from_orders(count.to_numpy(), first.to_numpy(), last.to_numpy(), CALIBRATED_MS)
        later = (
            orders[orders["ts"] > CALIBRATED_MS].groupby("user_id").agg({"amount": ["size", "sum"]})
        )
        later = later.reindex(count.index, fill_value=0)
        self.bought, self.spent = (later["amount"][c].to_numpy(float) for c in ("size", "sum"))
        repeats = before[before["ts"] > before["user_id"].map(first)]
        self.m = repeats.groupby("user_id")["amount"].mean().reindex(count.index, fill_value=0.0)
        self.m = self.m.to_numpy()


@pytest.fixture(scope="module")
def cdnow() -> Cdnow:
    return Cdnow()


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"the real events are not at {DATA}")
class TestCdnow:
    def test_parameters_and_likelihood_are_those_of_the_paper(self, cdnow):
        found = alive.fit(*cdnow.past)
        assert found.converged
        assert found.users == 2_357
        assert astuple(found.model) == pytest.approx(astuple(BG_NBD), rel=1e-3)
        assert found.log_likelihood == pytest.approx(-9582.43, abs=0.01)

    def test_spend_parameters_are_those_of_the_note(self, cdnow):
        again = cdnow.past.x > 0
        found = spend.fit(cdnow.past.x[again], cdnow.m[again])
        assert found.converged
        assert found.users == 946
        assert astuple(found.model) == pytest.approx(astuple(GAMMA_GAMMA), rel=2e-3)

    def test_it_foretells_the_next_39_weeks_better_than_the_rate_so_far(self, cdnow):
        x, _, T = cdnow.past
        expected = BG_NBD.expected_purchases(*cdnow.past, HOLDOUT_WEEKS)
        naive = x / T * HOLDOUT_WEEKS
        error, naive_error = (np.abs(f - cdnow.bought).mean() for f in (expected, naive))
        fit, naive_fit = (np.corrcoef(f, cdnow.bought)[0, 1] for f in (expected, naive))
        print(
            f"correlation {fit:.3f} (naive {naive_fit:.3f}), mean absolute error {error:.3f} "
            f"({naive_error:.3f}), in all {expected.sum():.0f} ({naive.sum():.0f}) "
            f"of {cdnow.bought.sum():.0f} purchases"
        )
        assert (fit, error) == pytest.approx((0.626, 0.785), abs=0.002)
        assert fit > naive_fit + 0.03
        assert error < 0.8 * naive_error
        assert expected.sum() == pytest.approx(cdnow.bought.sum(), rel=0.15)

    def test_value_ranks_and_sums_up_what_they_then_spent(self, cdnow):
        purchases = BG_NBD.expected_purchases(*cdnow.past, HOLDOUT_WEEKS)
        value = purchases * GAMMA_GAMMA.expected_spend(cdnow.past.x, cdnow.m)
        assert value.sum() == pytest.approx(cdnow.spent.sum(), rel=0.2)
        best = np.argsort(-value)[:236]
        assert cdnow.spent[best].sum() > 0.4 * cdnow.spent.sum()


times = st.integers(-10, 10).map(lambda weeks: 1_700_000_000_000 + weeks * WEEK_MS)
users = st.lists(
    st.tuples(st.integers(-1, 5), st.sampled_from([NEVER_MS, 0]) | times, st.just(NEVER_MS) | times)
)


@given(users, times)
def test_whatever_the_columns_hold_the_models_take_it(rows, now_ms):
    orders, first, last = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    past = from_orders(orders, first, last, now_ms)
    assert all(column.dtype == np.float64 and len(column) == len(rows) for column in past)
    assert (past.x == np.maximum(orders - 1, 0)).all()
    assert ((past.x > 0) | (past.t_x == 0)).all()
    expected = BG_NBD.expected_purchases(*past, 52.0)
    assert (expected[orders < 1] < 1e-3).all()
    normal = (orders > 0) & (first <= last) & (last <= now_ms) & (first > 0)
    np.testing.assert_array_equal(past.T[normal], ((now_ms - first) / WEEK_MS)[normal])


def test_weeks_are_weeks_and_odd_orders_are_put_right():
    now_ms = 100 * WEEK_MS
    rows = [  # orders, first, last -> x, t_x, T
        ((4, 10 * WEEK_MS, 17 * WEEK_MS + DAY_MS), (3.0, 7.0 + 1 / 7, 90.0)),
        ((1, 10 * WEEK_MS, 10 * WEEK_MS), (0.0, 0.0, 90.0)),
        ((1, 10 * WEEK_MS, 20 * WEEK_MS), (0.0, 0.0, 90.0)),
        ((2, 20 * WEEK_MS, 10 * WEEK_MS), (1.0, 0.0, 80.0)),
        ((2, 90 * WEEK_MS, 105 * WEEK_MS), (1.0, 15.0, 15.0)),
        ((1, 105 * WEEK_MS, 105 * WEEK_MS), (0.0, 0.0, 0.0)),
    ]
    orders, first, last = np.array([given for given, _ in rows]).T
    for now in (now_ms, np.full(len(rows), now_ms)):
        past = from_orders(orders, first, last, now)
        np.testing.assert_allclose(np.stack(past, axis=1), [wanted for _, wanted in rows])
