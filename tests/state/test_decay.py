"""Decayed sums against the definition, summed slowly and exactly."""

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from state import decay
from state.times import FAR_MS, HOUR_MS, NEVER_MS

NOW_MS = 1_790_000_000_000

half_lives = st.sampled_from([HOUR_MS, 24 * HOUR_MS, 30 * 24 * HOUR_MS, 3_700_001])
times = st.integers(0, 400 * 24 * HOUR_MS)
events = st.lists(st.tuples(st.floats(0.001, 1e9), times), min_size=1, max_size=40)


def definition(weighted: list[tuple[float, int]], t_ms: int, half_life_ms: int) -> float:
    return math.fsum(w * 2.0 ** ((ts - t_ms) / half_life_ms) for w, ts in weighted)


def folded(weighted, half_life_ms, cuts=()):
    """Sum in several parts, as batches would."""
    m, e = np.zeros(1), np.full(1, decay.EMPTY_EXPONENT, dtype=np.int32)
    bounds = [0, *sorted(cuts), len(weighted)]
    for a, b in itertools.pairwise(bounds):
        if a < b:
            w, ts = zip(*weighted[a:b], strict=True)
            terms = decay.terms(np.array(w), NOW_MS - np.array(ts, dtype=np.int64), half_life_ms)
            decay.add_terms(np.zeros(b - a, dtype=np.int64), *terms, m, e)
    return m, e


@given(events, half_lives, st.data())
def test_value_is_the_definition_in_any_order_and_any_batching(weighted, half_life_ms, data):
    shuffled = data.draw(st.permutations(weighted))
    cuts = data.draw(st.lists(st.integers(0, len(weighted)), max_size=5))
    ahead = data.draw(st.integers(0, 100 * 24 * HOUR_MS))
    m, e = folded(shuffled, half_life_ms, cuts)
    truth = definition([(w, NOW_MS - ts) for w, ts in weighted], NOW_MS + ahead, half_life_ms)
    value = decay.at(m, e, np.array([NOW_MS + ahead]), half_life_ms)[0]
    assert math.isclose(value, truth, rel_tol=1e-12, abs_tol=1e-300)


@given(
    st.lists(st.tuples(st.floats(0.0, 1e9), st.lists(times, min_size=1, max_size=4)), min_size=1),
    half_lives,
)
def test_what_moves_counts_at_its_latest_time_alone(moves, half_life_ms):
    m, e = np.zeros(1), np.full(1, decay.EMPTY_EXPONENT, dtype=np.int32)
    for weight, stops in moves:
        before_ms = NEVER_MS
        for ago_ms in stops:
            step = np.array([before_ms]), np.array([NOW_MS - ago_ms]), np.array([weight])
            decay.move_terms(np.zeros(1, dtype=np.int64), *step, half_life_ms, m, e)
            before_ms = max(before_ms, NOW_MS - ago_ms)
    truth = definition([(w, NOW_MS - min(stops)) for w, stops in moves], NOW_MS, half_life_ms)
    value = decay.at(m, e, np.array([NOW_MS]), half_life_ms)[0]
    assert math.isclose(value, truth, rel_tol=1e-12, abs_tol=1e-300)


def test_drift_over_many_batches_stays_far_below_the_promise():
    half_life_ms, count = HOUR_MS, 20_000
    rng = np.random.default_rng(3)
    ts = NOW_MS - rng.integers(0, 3 * HOUR_MS, count)
    m, e = np.zeros(1), np.full(1, decay.EMPTY_EXPONENT, dtype=np.int32)
    log_form = -np.inf
    for t in ts.tolist():
        m, e = decay.add(m, e, *decay.terms([1.0], np.array([t]), half_life_ms))
        log_form = np.logaddexp2(log_form, t / half_life_ms)
    truth = definition([(1.0, t) for t in ts.tolist()], NOW_MS, half_life_ms)
    error = abs(decay.at(m, e, np.array([NOW_MS]), half_life_ms)[0] / truth - 1)
    log_error = abs(2.0 ** (log_form - NOW_MS / half_life_ms) / truth - 1)
    assert error < 1e-12
    assert log_error > 10 * error  # why the sum is not kept as one logarithm


@settings(max_examples=200)
@given(events, half_lives, st.floats(1e-6, 1e9))
def test_falls_below_is_the_first_such_millisecond(weighted, half_life_ms, threshold):
    m, e = folded(weighted, half_life_ms)
    now = np.array([NOW_MS])
    first = decay.falls_below_ms(m, e, now, half_life_ms, threshold)[0]
    if decay.at(m, e, now, half_life_ms)[0] < threshold:
        assert first == FAR_MS
        return
    assert first > NOW_MS
    assert decay.at(m, e, np.array([first]), half_life_ms)[0] < threshold
    if first - 1 > NOW_MS:
        assert decay.at(m, e, np.array([first - 1]), half_life_ms)[0] >= threshold


@given(st.lists(events, min_size=2, max_size=6), half_lives, st.integers(0, 10**10))
def test_log_form_orders_users_as_their_values_do_at_any_time(users, half_life_ms, ahead):
    sums = [folded(u, half_life_ms) for u in users]
    m, e = np.concatenate([s[0] for s in sums]), np.concatenate([s[1] for s in sums])
    logs = decay.log2(m, e)
    values = decay.at(m, e, np.full(len(m), NOW_MS + ahead), half_life_ms)
    for i in range(len(users)):
        for j in range(len(users)):
            if logs[i] > logs[j] + 1e-9:
                assert values[i] >= values[j]


def test_empty_sum_is_zero_and_minus_infinity():
    m, e = np.zeros(1), np.full(1, decay.EMPTY_EXPONENT, dtype=np.int32)
    assert decay.at(m, e, np.array([NOW_MS]), HOUR_MS)[0] == 0.0
    assert decay.log2(m, e)[0] == -np.inf
    assert decay.falls_below_ms(m, e, np.array([NOW_MS]), HOUR_MS, 1.0)[0] == FAR_MS


@given(st.floats(1e-9, 1e15), st.integers(-1_100, 2_500), st.integers(0, HOUR_MS - 1))
def test_however_far_away_a_sum_is_shifted_as_ldexp_does(mantissa, halves, rest_ms):
    exponent = NOW_MS // HOUR_MS - halves
    t_ms = NOW_MS // HOUR_MS * HOUR_MS + rest_ms
    term = mantissa * np.exp2(-rest_ms / HOUR_MS)
    with np.errstate(over="ignore", under="ignore"):
        expected = float(np.ldexp(term, max(-halves, -2_000)))
        m, e = np.array([mantissa]), np.array([exponent], dtype=np.int32)
        value = decay.at(m, e, np.array([t_ms]), HOUR_MS)[0]
    assert math.isclose(value, expected, rel_tol=1e-13, abs_tol=1e-310)
