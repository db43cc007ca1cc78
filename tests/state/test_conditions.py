"""Compiled conditions against an interpreter that takes one user at a time."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from state.conditions import compile_condition
from state.expressions import ExpressionError
from state.times import DAY_MS, FAR_MS, HOUR_MS, NEVER_MS
from tests.state.array_view import KINDS, T0_MS, ArrayView, User
from tests.state.random_conditions import holds, times, trees, users, written

POLL_MS = 60_000


def compiled(tree):
    return compile_condition(written(tree), KINDS, ("vip", "new"), poll_ms=POLL_MS)


@settings(max_examples=200)
@given(trees("vip", "new"), st.lists(users, min_size=1, max_size=4), st.data())
def test_truth_is_what_the_interpreter_says(tree, people, data):
    now = [data.draw(times) for _ in people]
    vip = np.array([data.draw(st.booleans()) for _ in people])
    members = {"vip": vip, "new": ~vip}
    got = compiled(tree).truth(ArrayView(people, now), members)
    want = [
        holds(tree, user, t, {"vip"} if is_vip else {"new"})
        for user, t, is_vip in zip(people, now, vip.tolist(), strict=True)
    ]
    assert got.tolist() == want


def interesting_times(people, now_ms, until_ms):
    """Times after now and before until at which something might change, and some others."""
    near = {now_ms + 1, until_ms - 1, (now_ms + until_ms) // 2}
    for user in people:
        steps = [t for timeline in user.steps.values() for t, _ in timeline]
        happened = [v for name in ("bought", "visit.start") for _, v in user.steps.get(name, [])]
        offsets = [0, 1, 500, HOUR_MS, 2 * HOUR_MS, 5 * HOUR_MS // 2, DAY_MS]
        near |= {t + d + by for t in steps + happened for d in offsets for by in (-1, 0, 1)}
    near |= {now_ms + k * HOUR_MS for k in range(-1, 30)} | {now_ms + 400 * DAY_MS}
    return sorted(t for t in near if now_ms < t < until_ms)


@settings(max_examples=250)
@given(trees(), users, times)
def test_nothing_changes_in_silence_before_the_next_flip(tree, user, now_ms):
    condition = compiled(tree)
    held = condition.truth(ArrayView([user], now_ms))[0]
    (flip_ms,) = condition.next_flip_ms(ArrayView([user], now_ms)).tolist()
    assert flip_ms > now_ms
    if not condition.polled:
        moments = interesting_times([user], now_ms, flip_ms)
        views = ArrayView([user] * len(moments), moments)
        assert (condition.truth(views) == held).all()


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">="])
@given(
    weight=st.floats(1e-3, 1e9),
    at_ms=times,
    limit=st.floats(1e-6, 1e9),
    now_ms=times,
)
@example(weight=4.0, at_ms=T0_MS, limit=1.0, now_ms=T0_MS)
@example(weight=4.0, at_ms=T0_MS, limit=4.0, now_ms=T0_MS)
def test_a_decayed_flip_is_exact(sign, weight, at_ms, limit, now_ms):
    user = User(terms={"intent": [(weight, at_ms)]})
    condition = compile_condition(f"intent {sign} {limit!r}", KINDS)
    held = condition.truth(ArrayView([user], now_ms))[0]
    (flip_ms,) = condition.next_flip_ms(ArrayView([user], now_ms)).tolist()
    if flip_ms == FAR_MS:
        assert condition.truth(ArrayView([user], now_ms + 400 * DAY_MS))[0] == held
    else:
        assert condition.truth(ArrayView([user], flip_ms - 1))[0] == held
        assert condition.truth(ArrayView([user], flip_ms))[0] != held


def test_a_decayed_number_comes_to_count_as_zero():
    user = User(terms={"intent": [(1.0, T0_MS)]})
    condition = compile_condition("intent > 0", KINDS)
    (flip_ms,) = condition.next_flip_ms(ArrayView([user], T0_MS)).tolist()
    assert 990 * HOUR_MS < flip_ms - T0_MS < 1000 * HOUR_MS
    later = ArrayView([user], flip_ms)
    assert not condition.truth(later)[0]
    assert condition.next_flip_ms(later)[0] == FAR_MS


@pytest.mark.parametrize(
    ("text", "flips_after_ms"),
    [
        ("age(bought) >= 7d", 7 * DAY_MS),
        ("age(bought) > 7d", 7 * DAY_MS + 1),
        ("age(bought) < 7d", 7 * DAY_MS),
        ("age(bought) <= 7d", 7 * DAY_MS + 1),
        ("within(bought, 7d)", 7 * DAY_MS),
        ("7d < age(bought)", 7 * DAY_MS + 1),
        ("age(bought) > 2.5", 3),
        ("age(bought) >= 2.5", 3),
        ("happened(bought)", None),
    ],
)
def test_an_age_flips_to_the_millisecond(text, flips_after_ms):
    user = User(steps={"bought": [(T0_MS, T0_MS)]})
    flip_ms = int(compile_condition(text, KINDS).next_flip_ms(ArrayView([user], T0_MS))[0])
    assert flip_ms == (FAR_MS if flips_after_ms is None else T0_MS + flips_after_ms)


def test_a_part_that_rules_a_user_out_keeps_the_timers_away():
    condition = compile_condition("orders > 0 and age(bought) >= 1h", KINDS)
    bought = [(T0_MS, T0_MS)]
    people = [User(steps={"bought": bought}), User(steps={"bought": bought, "orders": [(0, 1)]})]
    flips = condition.next_flip_ms(ArrayView(people, T0_MS + 1))
    assert flips.tolist() == [FAR_MS, T0_MS + HOUR_MS]


def test_never_is_older_than_any_duration():
    nobody = ArrayView([User()], T0_MS)
    ask = {
        "age(bought) > 100000w": True,
        "age(bought) < 7d": False,
        "within(bought, 100000w)": False,
        "happened(bought)": False,
        "bought <= visit.start": False,
        "bought != visit.start": False,
        "visit.start - bought >= 0": False,
        'visit.device != "mobile"': False,
        'not visit.device == "mobile"': True,
        "known(visit.device)": False,
    }
    got = {text: bool(compile_condition(text, KINDS).truth(nobody)[0]) for text in ask}
    assert got == ask


def test_division_by_zero_compares_false():
    view = ArrayView([User()], T0_MS)
    for sign in ("<", "<=", ">", ">=", "==", "!="):
        for left in ("1 / ratio", "1 / 0", "orders / ratio"):
            assert not compile_condition(f"{left} {sign} 1", KINDS).truth(view)[0]


@pytest.mark.parametrize(
    ("text", "polled"),
    [
        ("intent >= 4 and orders * 2 > ratio", ()),
        ("intent >= 2 * 3 - 1", ()),
        ("bought - visit.start > 1h", ()),
        ("intent / 2 >= 1", ("intent / 2 >= 1",)),
        ("intent > heat", ("intent > heat",)),
        ("age(bought) > age(visit.start)", ("age(bought) > age(visit.start)",)),
        ("orders < 2 and -intent < -1", ("0 - intent < -1",)),
    ],
)
def test_what_has_no_closed_form_is_polled_and_says_so(text, polled):
    condition = compile_condition(text, KINDS, poll_ms=POLL_MS)
    assert condition.polled == polled
    flip_ms = condition.next_flip_ms(ArrayView([User()], T0_MS))[0]
    assert flip_ms == (T0_MS + POLL_MS if polled else FAR_MS)


def test_measures_name_values_and_thresholds():
    person = User(
        steps={"orders": [(0, 3)], "bought": [(0, T0_MS - DAY_MS)], "visit.device": [(0, 1)]}
    )
    condition = compile_condition(
        "orders >= 2 and age(bought) > 1h and age(bought) < 7d and age(visit.start) > 5m "
        'and visit.device == "mobile" and not visit.active and not member("vip") '
        "and orders / ratio != 1",
        KINDS,
        ["vip"],
    )
    people = [User(), person]
    on = condition.evaluate(ArrayView(people, T0_MS), {"vip": np.array([True, False])})
    found = condition.causes.fill(on, np.array([0, 1]))
    nobody, somebody = zip(*(map(json.loads, side) for side in found), strict=True)
    assert somebody == (
        {
            "orders": 3,
            "age(bought)": DAY_MS,
            "age(visit.start)": None,
            "visit.device": "mobile",
            "visit.active": False,
            'member("vip")': False,
            "orders / ratio": None,
        },
        {
            "orders": 2,
            "age(bought) >": HOUR_MS,
            "age(bought) <": 7 * DAY_MS,
            "age(visit.start)": 5 * 60_000,
            "visit.device": "mobile",
            "visit.active": True,
            'member("vip")': True,
            "orders / ratio": 1,
        },
    )
    assert nobody[0]["visit.device"] is None
    assert nobody[0]["age(bought)"] is None


@pytest.mark.parametrize(
    ("text", "problem", "at"),
    [
        ("ordres > 1", "there is no feature 'ordres'; did you mean 'orders'?", 0),
        ("1 < zzz", "there is no feature 'zzz'; there are bought, heat", 4),
        ("orders", "a condition must stand here, but orders is a number", 0),
        ("vip", "there is no feature 'vip'; write member(\"vip\") for the segment", 0),
        ('member("vp")', "there is no segment 'vp'; did you mean 'vip'?", 7),
        ("member(vip)", "member takes the name of a segment in quotes", 7),
        ("ago(bought) > 7d", "there is no function 'ago'; did you mean 'age'?", 0),
        ("bought > 7d", "write age(bought) and a duration such as 7d", 7),
        ("age(orders) > 7d", "age takes a time, but orders is a number", 4),
        ("age(bought, 7d) > 1", "age takes a time and nothing else", 0),
        ("within(bought)", "within takes a time and a duration", 0),
        ("within(bought, orders)", "the second argument of within is a duration", 15),
        ("bought + 7d < bought", "only two times can be subtracted", 7),
        ('orders == "a"', "orders is a number and cannot be compared with a text", 10),
        ('visit.device < "a"', "only == and != compare with a text", 15),
        ("visit.device == visit.device", "by == or != with quotes around a text", 13),
        ("visit.active > 1", "visit.active is true or false; compare it by == or !=", 13),
        ("visit.active + 1 > 1", "visit.active is true or false, not a number", 13),
        ("(orders > 1) + 1 > 1", "must stand here, not a text or a condition", 8),
        ("orders > 1 and happened(5)", "happened takes the name of a time", 24),
        ("9e17 * 9 > orders", "a number must be below 1e18", 5),
    ],
)
def test_a_wrong_condition_says_what_and_where(text, problem, at):
    with pytest.raises(ExpressionError) as caught:
        compile_condition(text, KINDS, ["vip"])
    assert problem in str(caught.value)
    assert caught.value.at == at
    assert str(caught.value).endswith("\n  " + " " * at + "^")


words = st.sampled_from(
    [*KINDS, "and", "or", "not", "(", ")", "<", "==", "7d", "3", '"mobile"', "age(", ",", "-", "/"]
)


@given(st.one_of(st.text(max_size=40), st.lists(words, max_size=12).map(" ".join)))
def test_any_text_compiles_or_is_refused_with_words(text):
    try:
        condition = compile_condition(text, KINDS, ["vip"])
    except ExpressionError:
        return
    view = ArrayView([User()], T0_MS)
    assert condition.truth(view, {"vip": np.array([True])}).shape == (1,)


def test_the_largest_times_do_not_overflow():
    view = ArrayView([User(steps={"bought": [(NEVER_MS, T0_MS)]})], T0_MS)
    condition = compile_condition("age(bought) > 900000000000000000", KINDS)
    assert condition.next_flip_ms(view)[0] == T0_MS + 900_000_000_000_000_001


# families by their labels

FAMILIES = {"value": ["high", "some"], "alone": ["only"]}
LABELS = ("vip", "new", "high", "some", "only")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('value == "high"', [True, False, False]),
        ('"high" == value', [True, False, False]),
        ('value != "high"', [False, True, False]),
        ('not (value == "high")', [False, True, True]),
        ('alone != "only"', [False, False, False]),
        ('value == "some" and orders >= 0', [False, True, False]),
    ],
)
def test_a_family_is_compared_with_its_labels(text, want):
    condition = compile_condition(text, KINDS, LABELS, families=FAMILIES)
    members = {name: np.zeros(3, dtype=bool) for name in LABELS}
    members["high"][0] = members["some"][1] = True
    people = [User(), User(), User()]
    assert condition.truth(ArrayView(people, [T0_MS] * 3), members).tolist() == want


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('value == "hihg"', "there is no label 'hihg'; did you mean 'high'"),
        ('value > "high"', "only == and != compare with a text"),
        ("value >= 1", "there is no feature 'value'; compare the family with a label"),
    ],
)
def test_wrong_labels_are_refused(text, words):
    with pytest.raises(ExpressionError, match=words):
        compile_condition(text, KINDS, LABELS, families=FAMILIES)
