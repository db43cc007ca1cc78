"""The guard: what was poisoned goes back, what learns as it should never does."""

import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contract import ModelMismatch
from models.copies import Copies
from models.guard import Guard, Verdict
from models.probabilities import log_losses

K = 6
BATCH = 40


class Logistic:
    """A logistic regression: AdaGrad, or plain gradient steps with ``steady``."""

    def __init__(self, rate, steady=False):
        self.rate, self.steady = rate, steady
        self.w, self.squares = np.zeros(K + 1), np.full(K + 1, 0.01)

    def predict(self, X):
        return 1 / (1 + np.exp(-np.clip(X @ self.w[1:] + self.w[0], -30, 30)))

    def learn(self, X, y):
        error = self.predict(X) - y
        gradient = np.concatenate([[error.sum()], error @ X])
        self.squares += gradient**2
        self.w -= self.rate * gradient / (1.0 if self.steady else np.sqrt(self.squares))

    def to_state(self):
        numbers = {"w": self.w.tolist(), "squares": self.squares.tolist()}
        return numbers | {"rate": self.rate, "steady": self.steady}

    @classmethod
    def from_state(cls, state):
        model = cls(state["rate"], state["steady"])
        model.w, model.squares = np.array(state["w"]), np.array(state["squares"])
        return model


class Life:
    """A model that learns from a world, guarded; what is done to it comes between the steps."""

    def __init__(self, model, seed, intercept=-1.0):
        self.rng = np.random.default_rng(seed)
        self.weights, self.others = self.rng.normal(size=(2, K))
        self.intercept = intercept
        self.live, self.guard, self.copies = model, Guard(), Copies(model.to_state())
        self.good = type(model).from_state(self.copies.good)
        self.labels = 0
        self.verdicts = []
        self.lost = []

    def step(self, weights, flipped=False):
        X = self.rng.normal(size=(BATCH, K))
        y = self.rng.random(BATCH) < 1 / (1 + np.exp(-(X @ weights + self.intercept)))
        y ^= flipped
        p_live, p_good = self.live.predict(X), self.good.predict(X)
        self.live.learn(X, y)
        self.labels += BATCH
        self.lost.append(log_losses(p_live, y, 1e-6).mean())
        verdict = self.guard.note(y, p_live, p_good)
        back_to = self.copies.follow(verdict, self.live.to_state)
        if back_to is not None:
            self.live = type(self.live).from_state(back_to)
        if verdict is not Verdict.NOTHING:
            self.good = type(self.live).from_state(self.copies.good)
            self.verdicts.append((verdict, self.labels))

    def run(self, labels, flipped=False):
        for _ in range(labels // BATCH):
            self.step(self.weights, flipped)

    def restored(self):
        return [at for verdict, at in self.verdicts if verdict is Verdict.RESTORE]


def stay(life, _t):
    return life.weights


def turn(life, t):
    return math.cos(math.pi * t) * life.weights + math.sin(math.pi * t) * life.others


def turn_over(life, t):
    return life.weights if t < 0.5 else -life.weights


def more_buy(life, t):
    life.intercept = -4.0 if t < 0.5 else -2.0
    return life.weights


KINDS = [{"rate": 0.1}, {"rate": 0.5}, {"rate": 0.005, "steady": True}]


@pytest.mark.parametrize("world", [stay, turn, turn_over, more_buy])
def test_a_model_that_learns_is_never_set_back(world):
    for seed in range(50):
        life = Life(Logistic(**KINDS[seed % len(KINDS)]), seed)
        for t in range(0, 8_000, BATCH):
            life.step(world(life, t / 8_000))
        assert life.restored() == [], seed
        assert life.guard.standing().keeps >= 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("intercept", [-1.0, -4.0])
def test_garbage_is_taken_back_within_400_labels(kind, intercept):
    for seed in range(10):
        life = Life(Logistic(**kind), seed, intercept)
        life.run(6_000 + 400 * seed)
        was_at, usual = life.labels, np.mean(life.lost[-50:])
        life.live.w = life.rng.normal(size=K + 1) * 3
        life.run(1_000)
        assert was_at < life.restored()[0] <= was_at + 400, seed
        assert np.mean(life.lost[-10:]) < usual + 0.15


@pytest.mark.parametrize("kind", [{"rate": 0.5}, {"rate": 0.02, "steady": True}])
def test_500_flipped_labels_are_taken_back_within_400_after_them(kind):
    for seed in range(10):
        life, twin = (Life(Logistic(**kind), seed) for _ in range(2))
        for each in (life, twin):
            each.run(6_000 + 400 * seed)
        life.run(520, flipped=True)
        was_at = life.labels
        twin.rng.bit_generator.state = life.rng.bit_generator.state
        life.run(1_000)
        twin.run(1_000)
        assert was_at < life.restored()[0] <= was_at + 400, seed
        assert np.mean(life.lost[-10:]) < np.mean(twin.lost[-10:]) + 0.05


def test_it_may_be_poisoned_again_and_again():
    life = Life(Logistic(0.1), seed=1)
    for _ in range(5):
        life.run(2_520)
        life.live.w[:] = 4.0
    life.run(400)
    assert len(life.restored()) == 5


def test_what_is_no_probability_goes_back_at_once_and_a_copy_must_not_say_it():
    life = Life(Logistic(0.1), seed=2)
    life.run(3_000)
    life.live.w[2] = np.nan
    with np.errstate(invalid="ignore"):
        life.step(life.weights)
    assert life.verdicts[-1] == (Verdict.RESTORE, life.labels)
    assert np.isfinite(life.live.w).all()
    y, p = np.array([True]), np.array([0.5])
    before = life.guard.to_state()
    with pytest.raises(ValueError, match="row 0 is nan"):
        life.guard.note(y, p, np.array([np.nan]))
    with pytest.raises(ValueError, match="about the same rows"):
        life.guard.note(y, np.array([0.5, 0.5]), p)
    with pytest.raises(ValueError, match="label of type bool"):
        life.guard.note(np.array([1]), p, p)
    assert life.guard.to_state() == before


def test_where_few_buy_a_model_that_rightly_says_more_is_left_alone():
    for seed in range(100):
        y = np.random.default_rng(seed).random(2_000) < 0.05
        guard = Guard()
        for part in np.split(y, 200):
            verdict = guard.note(part, np.full(10, 0.05), np.full(10, 0.02))
            assert verdict is not Verdict.RESTORE


def drawn(seed, n):
    rng = np.random.default_rng(seed)
    return rng.random(n) < 0.3, rng.random(n), rng.random(n)


def by_hand(y, p_live, p_good, margin, memory):
    """What is remembered of the losses, told label by label in plain Python."""
    kept = 1 - 1 / memory
    total = squares = surprise = variance = lately = 0.0
    weight = live = good = base = hits = 0.0
    for hit, p, q in zip(y.tolist(), p_live.tolist(), p_good.tolist(), strict=True):
        lost = {True: -math.log(q), False: -math.log(1 - q)}
        worse = {True: -math.log(p) - lost[True], False: -math.log(1 - p) - lost[False]}
        rate = (hits + 0.5) / (weight + 1)
        usual = good / weight if weight else 0.0
        lately += (lost[hit] - lately) / min(50.0, weight + 1)
        weight, hits = kept * weight + 1, kept * hits + hit
        live, good = kept * live + lost[hit] + worse[hit], kept * good + lost[hit]
        base = kept * base - math.log(rate if hit else 1 - rate)
        mean = p * worse[True] + (1 - p) * worse[False]
        total += worse[hit] - margin - max(lately - usual, 0.0)
        squares += worse[hit] ** 2
        surprise += worse[hit] - mean
        variance += p * worse[True] ** 2 + (1 - p) * worse[False] ** 2 - mean**2
        if total <= 0:
            total = squares = surprise = variance = 0.0
    return [total, squares, surprise, variance, lately, weight, live, good, base, hits]


@settings(max_examples=50)
@given(st.integers(0, 1_000), st.integers(0, 60), st.sampled_from([0.0, 0.3]))
def test_what_is_remembered_is_what_plain_python_says(seed, n, margin):
    y, p_live, p_good = drawn(seed, n)
    guard = Guard(margin=margin, memory=20.0, z=1e9)
    guard.note(y, p_live, p_good)
    remembered = list(guard.to_state()["losses"].values())
    expected = by_hand(y, p_live, p_good, margin, 20.0)
    assert remembered == pytest.approx(expected, abs=1e-9, rel=1e-9)
    standing = guard.standing()
    assert standing.labels == n
    if n:
        assert standing.live == pytest.approx(expected[6] / expected[5])
        assert standing.base == pytest.approx(expected[8] / expected[5])
    else:
        assert (standing.live, standing.good, standing.base) == (None, None, None)


@settings(max_examples=50)
@given(st.integers(0, 1_000), st.lists(st.integers(0, 300), max_size=4))
def test_batches_do_not_matter_and_saved_it_goes_on_bit_for_bit(seed, cuts):
    columns = drawn(seed, 300)
    whole, parts = Guard(z=1e9, patience=10_000), Guard(z=1e9, patience=10_000)
    whole.note(*columns)
    for piece in zip(*(np.split(column, sorted(cuts)) for column in columns), strict=True):
        parts.note(*piece)
        packed = json.loads(json.dumps(parts.to_state()))
        parts = Guard.from_state(msgspec.msgpack.decode(msgspec.msgpack.encode(packed)))
    assert parts.to_state() == whole.to_state()
    assert parts.standing() == whole.standing()


def test_copies_are_taken_sooner_at_the_start_and_then_with_patience():
    life = Life(Logistic(0.1), seed=3)
    life.run(9_000)
    times = [at for _, at in life.verdicts]
    assert times[0] in range(250, 300)
    assert all(
        2_000 <= later - at < 2_100 for at, later in zip(times[-3:], times[-2:], strict=False)
    )


def test_the_good_copy_is_older_than_a_burst():
    """The copy that is gone back to was taken a patience before it became the good one."""
    life = Life(Logistic(0.1), seed=4)
    taken = {}
    for _ in range(300):
        life.run(BATCH)
        taken.setdefault(json.dumps(life.copies.trial), life.labels)
        if life.labels > 6_000:
            age = life.labels - taken[json.dumps(life.copies.good)]
            assert 2_000 <= age <= 2 * (2_000 + BATCH)


def test_after_going_back_it_waits():
    guard = Guard(wait=100, patience=50)
    y = np.random.default_rng(0).random(400) < 0.5
    good = np.where(y, 0.8, 0.2)
    assert guard.note(y, 1 - good, good) is Verdict.RESTORE
    for _ in range(9):
        assert guard.note(y[:10], 1 - good[:10], good[:10]) is Verdict.NOTHING
    assert guard.standing().against == 0.0
    verdicts = [guard.note(y[:10], 1 - good[:10], good[:10]) for _ in range(10)]
    assert verdicts.count(Verdict.RESTORE) == 1
    assert verdicts[0] is not Verdict.RESTORE
    assert guard.standing().restores == 2


def test_a_model_that_is_no_worse_than_its_copy_is_copied_and_one_in_doubt_is_not():
    y = np.random.default_rng(0).random(2_000) < 0.3
    for p_live, p_good, verdict in [
        (0.55, 0.3, Verdict.NOTHING),
        (0.55, 0.6, Verdict.KEEP),  # worse than the base rate, but so is the copy
        (0.32, 0.3, Verdict.KEEP),
    ]:
        guard = Guard(z=1e9)
        assert guard.note(y, np.full(2_000, p_live), np.full(2_000, p_good)) is verdict


def test_a_model_that_was_bad_just_now_is_not_copied():
    y, good = np.zeros(2_000, dtype=bool), np.full(2_000, 0.01)
    live = good.copy()
    assert Guard(memory=2.0).note(y, live, good) is Verdict.KEEP
    live[-3:] = 0.9
    guard = Guard(memory=2.0)
    assert guard.note(y, live, good) is Verdict.NOTHING
    assert 0.0 < guard.standing().against < 2.0


def test_a_few_bad_labels_are_doubt_enough_not_to_copy():
    y, good = np.zeros(2_000, dtype=bool), np.full(2_000, 0.01)
    live = good.copy()
    live[-5:] = 0.9
    guard = Guard(margin=0.1)
    assert guard.note(y, live, good) is Verdict.NOTHING
    assert guard.standing().live < guard.standing().good + 0.1
    assert 2.0 < guard.standing().against < 4.0


def test_copies_are_saved_as_they_are():
    copies = Copies({"n": 0})
    copies.follow(Verdict.KEEP, lambda: {"n": 1})
    restored = Copies.from_state(json.loads(json.dumps(copies.to_state())))
    assert (restored.good, restored.trial) == ({"n": 0}, {"n": 1})
    assert restored.follow(Verdict.NOTHING, lambda: pytest.fail("no copy is needed")) is None
    assert restored.follow(Verdict.RESTORE, lambda: pytest.fail("no copy is needed")) == {"n": 0}
    assert restored.trial == {"n": 0}


def test_settings_and_states_that_do_not_fit_are_refused():
    for wrong in (
        {"margin": -0.1},
        {"patience": 0},
        {"z": 0.0},
        {"memory": math.nan},
        {"wait": -1},
    ):
        with pytest.raises(ValueError, match="a guard needs"):
            Guard(**wrong)
    with pytest.raises(ModelMismatch, match="format of guard is 9"):
        Guard.from_state(Guard().to_state() | {"format": 9})
