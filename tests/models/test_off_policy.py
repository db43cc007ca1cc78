"""Off-policy estimates: against the policy's own log, and how often their intervals hold."""

import numpy as np
import pytest

from loadtest.evaluate.logs import DATA
from loadtest.evaluate.policies import judged
from models.off_policy import direct, doubly_robust, effective_size, ips, mean, snips

RATES = np.array([[0.1, 0.3, 0.5], [0.4, 0.2, 0.1]])
"""Of three actions in two contexts."""
LOGGED = np.array([[0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
TARGET = np.array([[0.2, 0.2, 0.6], [0.7, 0.2, 0.1]])
TRUTH = float((TARGET * RATES).sum(axis=1).mean())


def log(rng, n=8_000):
    context = rng.integers(0, 2, n)
    action = (rng.random((n, 1)) > LOGGED[context].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < RATES[context, action]).astype(float)
    weight = TARGET[context, action] / LOGGED[context, action]
    return context, action, reward, weight


def estimates(rng, model):
    context, action, reward, weight = log(rng)
    expected = (TARGET * model).sum(axis=1)[context]
    return {
        "ips": ips(reward, weight),
        "snips": snips(reward, weight),
        "direct": direct(expected),
        "robust": doubly_robust(reward, weight, model[context, action], expected),
    }


@pytest.mark.parametrize("model", [RATES, np.full((2, 3), 0.25), 1.0 - RATES])
def test_intervals_hold_the_truth_as_often_as_they_say(model):
    rng = np.random.default_rng(1)
    runs = [estimates(rng, model) for _ in range(400)]
    for name in ("ips", "snips", "robust"):
        held = np.mean([run[name].low <= TRUTH <= run[name].high for run in runs])
        assert 0.92 < held < 0.98, name
        assert np.mean([run[name].value for run in runs]) == pytest.approx(TRUTH, abs=0.004)


def test_a_good_model_narrows_and_a_bad_direct_method_misses():
    rng = np.random.default_rng(2)
    good, bad = estimates(rng, RATES), estimates(rng, 1.0 - RATES)
    width = {name: each.high - each.low for name, each in good.items()}
    assert width["direct"] < width["robust"] < width["ips"]
    assert abs(bad["direct"].value - TRUTH) > 0.2


def test_the_same_policy_is_its_own_mean():
    rng = np.random.default_rng(3)
    _, _, reward, _ = log(rng)
    ones = np.ones(len(reward))
    own = mean(reward)
    assert ips(reward, ones) == snips(reward, ones) == own
    assert own.effective == len(reward)


def test_the_effective_size_falls_with_uneven_weights():
    assert effective_size(np.array([100.0, *[0.01] * 99])) < 1.1
    assert effective_size(np.zeros(3)) == 0.0


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real logs in {DATA}")
def test_estimates_of_a_real_log_agree_with_what_the_policies_earned():
    """All that weigh the log; a model of the items alone does not always."""
    found = list(judged(DATA / "open_bandit_small.csv.gz"))
    assert [(each.campaign, each.policy) for each in found] == [
        (campaign, policy) for campaign in ("men", "women") for policy in ("random", "bts")
    ]
    assert [each.own.value for each in found] == [0.0046, 0.0069, 0.0046, 0.0046]
    weighed = ("IPS", "SNIPS", "SNIPS, clipped", "doubly robust", "doubly robust, clipped")
    assert all(each.agrees(name) for each in found for name in weighed)
    assert not found[0].agrees("direct")
