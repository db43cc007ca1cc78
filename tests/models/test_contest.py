"""Promotion: hardly ever without reason, surely with one, and back again."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contest import Contest
from models.contract import ModelMismatch

NAMES = ["line", "tree", "forest"]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def labels(n: int, seed: int, errors: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and what models say that see the truth with errors of these sizes."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n) - 1
    said = [sigmoid(z + error * rng.standard_normal(n)) for error in errors]
    return rng.random(n) < sigmoid(z), np.column_stack(said)


def losses(y: np.ndarray, P: np.ndarray) -> np.ndarray:
    return -np.log(np.where(y[:, None], P, 1 - P))


def naive(contest: Contest, y: np.ndarray, P: np.ndarray) -> tuple[str, np.ndarray]:
    """Leader and gains on the champion, each look taken from all labels before it."""
    leader, L = 0, losses(y, P)
    weights = (1 - 1 / contest.memory) ** np.arange(len(y))[::-1]
    for n in range(contest.least, len(y) + 1, contest.least):
        w = weights[len(y) - n :]
        bought = w[y[:n]].sum()
        if min(bought, w.sum() - bought) < contest.rare:
            continue
        gains = L[:n, [leader]] - L[:n]
        mean = w @ gains / w.sum()
        error = np.sqrt(w @ (gains - mean) ** 2) / w.sum()
        proven = [j for j in range(P.shape[1]) if j != leader and mean[j] > contest.z * error[j]]
        leader = max(proven, key=lambda j: mean[j], default=leader)
    return contest.names[leader], weights @ (L[:, [0]] - L) / weights.sum()


def test_equal_models_hardly_ever_change_places():
    moved = 0
    for seed in range(100):
        contest = Contest(NAMES[:2])
        y, P = labels(2_500, seed, [0.5, 0.5])
        for part in range(0, 2_500, 500):
            contest.note_many(y[part : part + 500], P[part : part + 500])
            if contest.leader() != "line":
                moved += 1
                break
    assert moved <= 1


def test_the_same_model_twice_never_changes_places():
    contest = Contest(NAMES[:2])
    y, P = labels(3_000, 0, [0.5])
    contest.note_many(y, np.repeat(P, 2, axis=1))
    assert contest.leader() == "line"
    assert contest.leads() == {"line": 0.0, "tree": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_a_better_model_takes_over_and_goes_when_it_is_worse(seed):
    contest = Contest(NAMES[:2])
    y, P = labels(9_000, seed, [0.8, 0.1])
    contest.note_many(y[:499], P[:499])
    assert contest.leader() == "line", "not before the least number of labels"
    contest.note_many(y[499:3_000], P[499:3_000])
    assert contest.leader() == "tree"
    assert contest.leads()["tree"] > 0
    contest.note_many(y[3_000:3_500], P[3_000:3_500, ::-1])
    assert contest.leader() == "tree", "one bad spell is no evidence"
    contest.note_many(y[3_500:], P[3_500:, ::-1])
    assert contest.leader() == "line"


def test_of_two_better_models_the_best_leads_in_the_end():
    contest = Contest(NAMES)
    y, P = labels(6_000, 1, [1.0, 0.7, 0.05])
    contest.note_many(y, P)
    assert contest.leader() == "forest"
    assert list(contest.leads()) == NAMES
    assert contest.leads()["forest"] > contest.leads()["tree"] > contest.leads()["line"]


def test_a_model_that_never_says_yes_does_not_win_by_it():
    contest = Contest(NAMES[:2])
    y = np.arange(4_000) == 2_000  # one buyer in thousands
    P = np.column_stack([np.full(4_000, 5e-4), np.full(4_000, 1e-6)])
    contest.note_many(y[:2_000], P[:2_000])
    assert contest.leads()["tree"] > 0
    assert contest.leader() == "line"
    contest.note_many(y[2_000:], P[2_000:])
    assert contest.leads()["tree"] < 0


def test_certainty_that_was_wrong_does_not_stay_for_ever():
    contest = Contest(NAMES[:2])
    contest.note(True, [0.5, 0.0])
    assert np.isfinite(contest.leads()["tree"])
    y, P = labels(6_000, 2, [0.8, 0.05])
    contest.note_many(y, P)
    assert contest.leader() == "tree"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.booleans(), st.tuples(*[st.sampled_from([0.01, 0.2, 0.5, 0.8, 0.97])] * 3)),
        min_size=1,
        max_size=80,
    ),
    st.integers(1, 20),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 3),
)
def test_it_is_what_comes_of_counting_everything_again(rows, least, z, rare):
    y = np.array([label for label, _ in rows])
    P = np.array([p for _, p in rows])
    contest = Contest(NAMES, memory=20, least=least, z=z, rare=rare)
    contest.note_many(y, P)
    leads = np.array(list(contest.leads().values()))
    leader, expected = naive(contest, y, P)
    np.testing.assert_allclose(leads, expected, rtol=1e-9, atol=1e-9)
    assert contest.leader() == leader


@pytest.mark.parametrize("code", [json, msgspec.msgpack])
def test_saved_and_restored_it_goes_on_bit_for_bit_in_any_batches(code):
    save = code.dumps if code is json else code.encode
    load = code.loads if code is json else code.decode
    y, P = labels(1_200, 3, [0.9, 0.2, 0.1])
    whole, parts = Contest(NAMES), Contest(NAMES)
    whole.note_many(y, P)
    parts.note_many(y[:0], P[:0])
    for part in range(0, 1_000, 125):
        parts.note_many(y[part : part + 125], P[part : part + 125])
        parts = Contest.from_state(load(save(parts.to_state())), NAMES)
    for label, p in zip(y[1_000:].tolist(), P[1_000:].tolist(), strict=True):
        parts.note(label, p)
    assert parts.to_state() == whole.to_state()
    assert whole.leader() != "line"


def test_what_does_not_fit_is_refused_and_changes_nothing():
    contest = Contest(NAMES)
    before = contest.to_state()
    for bad in (np.nan, -0.1, 1.1, np.inf):
        with pytest.raises(ValueError, match="but tree gave"):
            contest.note_many(np.array([True, True]), np.array([[0.5] * 3, [0.5, bad, 0.5]]))
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        contest.note(True, [0.5])
    assert contest.to_state() == before
    with pytest.raises(ModelMismatch, match="contestants"):
        Contest.from_state(before, ["line", "tree"])
    with pytest.raises(ModelMismatch, match="format is 99"):
        Contest.from_state(before | {"format": 99})
    with pytest.raises(ValueError, match="different names"):
        Contest(["line", "line"])
    for wrong in ({"least": 0}, {"z": -1.0}, {"z": np.nan}, {"memory": 10}, {"rare": -1}):
        with pytest.raises(ValueError, match="a contest needs"):
            Contest(NAMES, **wrong)
