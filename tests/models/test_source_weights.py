"""What sources are worth, held against the same steps in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candidates import UNRANKED, Candidates
from models.item_plan import SOURCES, ItemPlan
from models.source_weights import Sought, SourceWeights

S = len(SOURCES)
SETTINGS = ItemPlan(
    sources={"covisits": 1.0, "reminders": 1.5, "together": 0.5, "category": 0.02, "popular": 0.01}
).source_weights
OFFSET = 0.5


def lists(ranks, items=None):
    """Lists with such ranks, uint8[n, m, sources]; items are numbered from 0 in each."""
    n, m = ranks.shape[:2]
    items = np.tile(np.arange(m, dtype=np.int32), (n, 1)) if items is None else items
    nothing = np.zeros((n, m), dtype=np.float32)
    because = np.full((n, m), -1, dtype=np.int32)
    count = np.full(n, m)
    return Candidates(items, nothing, nothing.astype(np.uint8), because, ranks, count)


def some_ranks(rng, n, m):
    ranks = rng.integers(0, 30, (n, m, S)).astype(np.uint8)
    ranks[rng.random((n, m, S)) < 0.5] = UNRANKED
    return ranks


class Naive:
    """One example after another, one source after another."""

    def __init__(self, weights):
        self.logs = [math.log(w) if w else None for w in weights]
        self.squares = [0.0] * S

    def says(self, rank):
        return 0.0 if rank == UNRANKED else 1.0 / (OFFSET + rank + 1.0)

    def learn(self, ranks):
        """Ranks of the candidates, those of the one that came first."""
        weights = [0.0 if log is None else math.exp(log) for log in self.logs]
        scores = [sum(w * self.says(r) for w, r in zip(weights, c, strict=True)) for c in ranks]
        grown = [math.exp(score) if score > 0 else 0.0 for score in scores]
        if not sum(grown):
            return
        for s, weight in enumerate(weights):
            if not weight:
                continue
            expected = sum(
                g / sum(grown) * self.says(c[s]) for g, c in zip(grown, ranks, strict=True)
            )
            slope = (self.says(ranks[0][s]) - expected) * weight
            self.squares[s] += slope**2
            step = 0.4 * slope / math.sqrt(self.squares[s] + 1e-9)
            self.logs[s] = min(max(self.logs[s] + step, -12.0), 6.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), m=st.integers(1, 12))
def test_weights_are_those_of_single_steps(seed, n, m):
    rng = np.random.default_rng(seed)
    weights, naive = SourceWeights(SETTINGS, OFFSET, 20), Naive(SETTINGS)
    ranks = some_ranks(rng, n, m)
    came = rng.integers(-1, m + 2, n)
    found = weights.seek(lists(ranks.copy()), came)
    weights.learn(found)
    held = [i for i in range(n) if 0 <= came[i] < m]
    assert len(found) == len(held)
    for i in held:
        first = ranks[i, came[i]].tolist()
        naive.learn([first, *(ranks[i, k].tolist() for k in range(m) if k != came[i])])
    expected = [0.0 if log is None else math.exp(log) for log in naive.logs]
    state = weights.to_state()
    np.testing.assert_allclose(
        np.where(SETTINGS > 0, np.exp(state["logs"]), 0.0), expected, rtol=1e-9
    )


def test_places_are_those_by_either_weights():
    rng = np.random.default_rng(1)
    weights = SourceWeights(SETTINGS, OFFSET, 5)
    ranks, came = some_ranks(rng, 200, 30), rng.integers(0, 30, 200)
    weights.learn(weights.seek(lists(ranks.copy()), came))
    state = weights.to_state()
    learned = np.where(SETTINGS > 0, np.exp(state["logs"]), 0.0)
    found = weights.seek(lists(ranks.copy()), came)
    for name, by in (("plain", SETTINGS), ("learned", learned)):
        for i in range(200):
            scores = [
                sum(w / (OFFSET + r + 1) for w, r in zip(by, c, strict=True) if r != UNRANKED)
                for c in ranks[i].tolist()
            ]
            above = sum(score > scores[came[i]] + 1e-12 for score in scores)
            expected = 1 / (1 + above) if above < 5 else 0.0
            assert getattr(found, name)[i] == pytest.approx(expected)


def taught(favourite, n=1_500, seed=3):
    """Weights after what came was always what one source ranks high."""
    rng = np.random.default_rng(seed)
    weights = SourceWeights(SETTINGS, OFFSET, 20)
    for _ in range(n // 50):
        ranks = some_ranks(rng, 50, 40)
        if favourite is None:
            came = rng.integers(0, 40, 50)
        else:
            came = rng.integers(0, 40, 50)
            ranks[np.arange(50), came, favourite] = rng.integers(0, 3, 50)
        weights.learn(weights.seek(lists(ranks), came))
    return weights


@pytest.mark.parametrize("favourite", [SOURCES.index("category"), SOURCES.index("popular")])
def test_a_source_that_is_right_gains_weight_and_comes_into_force(favourite):
    weights = taught(favourite)
    assert weights.in_force
    assert weights.current.argmax() == favourite
    assert weights.current.sum() == pytest.approx(SETTINGS.sum())
    assert weights.current[SOURCES.index("similar")] == 0.0  # it is off
    quality = weights.quality()
    assert quality["mrr"] > 2 * quality["mrr_settings"]


def judged(n, better):
    """Weights that, of n examples, put so many more what came first than the set ones did."""
    weights, rng = SourceWeights(SETTINGS, OFFSET, 20), np.random.default_rng(9)
    learned, plain = np.zeros(n), np.zeros(n)
    learned[: (n + better) // 2] = plain[(n + better) // 2 :] = 1.0
    order = rng.permutation(n)
    weights.learn(Sought(some_ranks(rng, n, 10), learned[order], plain[order]))
    return weights


def test_few_examples_change_something_only_where_they_leave_no_doubt():
    assert not judged(n=49, better=49).in_force
    assert judged(n=50, better=50).in_force
    assert not judged(n=400, better=60).in_force, "three standard errors"
    assert judged(n=400, better=100).in_force, "more than four"
    assert judged(n=500, better=60).in_force
    assert not judged(n=500, better=-60).in_force
    unsure = judged(n=400, better=60)
    assert unsure.current.tolist() == SETTINGS.tolist()


def test_what_a_former_version_had_learned_of_few_examples_is_in_doubt():
    weights = judged(n=400, better=100)
    state, again = weights.to_state(), SourceWeights(SETTINGS, OFFSET, 20)
    again.restore({**state, "sums": state["sums"][:3]})
    assert (again.learned, again.in_force) == (400, True), (
        "its differences are 1, the most there is"
    )
    unsure = judged(n=400, better=60).to_state()
    again.restore({**unsure, "sums": unsure["sums"][:3]})
    assert not again.in_force


def test_what_is_no_better_is_not_in_force():
    """The settings put what came first every time; no weights can do better, so they stay."""
    reminders = SOURCES.index("reminders")
    best = SETTINGS.copy()
    best[reminders] = 50.0
    weights = SourceWeights(best, OFFSET, 20)
    rng = np.random.default_rng(5)
    for _ in range(60):
        ranks, came = some_ranks(rng, 50, 40), rng.integers(0, 40, 50)
        ranks[:, :, reminders] = UNRANKED
        ranks[np.arange(50), came, reminders] = 0
        weights.learn(weights.seek(lists(ranks), came))
    assert weights.learned == 3_000
    assert weights.quality()["mrr_settings"] == pytest.approx(1.0)
    assert not weights.in_force
    assert weights.current.tolist() == best.tolist()


def test_examples_one_by_one_or_together_and_through_bytes():
    rng = np.random.default_rng(2)
    together, one_by_one = (SourceWeights(SETTINGS, OFFSET, 20) for _ in range(2))
    some = together.seek(lists(some_ranks(rng, 40, 10)), rng.integers(0, 10, 40))
    together.learn(Sought.unpack(some.pack()))
    for i in range(len(some)):
        at = slice(i, i + 1)
        one_by_one.learn(Sought(some.ranks[at], some.learned[at], some.plain[at]))
    a, b = together.to_state(), one_by_one.to_state()
    assert a["logs"] == b["logs"]
    np.testing.assert_allclose(a["sums"], b["sums"])


def test_state_goes_on_where_it_was_and_not_under_other_settings():
    weights = taught(SOURCES.index("popular"))
    again = SourceWeights(SETTINGS, OFFSET, 20)
    again.restore(weights.to_state())
    assert again.to_state() == weights.to_state()
    assert again.in_force
    for other in (SourceWeights(SETTINGS * 2, OFFSET, 20), SourceWeights(SETTINGS, 60.0, 20)):
        other.restore(weights.to_state())
        assert other.learned == 0


def test_nothing_on_and_nothing_found():
    weights = SourceWeights(np.zeros(S), OFFSET, 20)
    ranks = np.full((3, 4, S), UNRANKED, dtype=np.uint8)
    weights.learn(weights.seek(lists(ranks), np.array([-1, 9, 2])))
    assert weights.current.tolist() == [0.0] * S
    assert np.isfinite(weights.to_state()["logs"]).all()
