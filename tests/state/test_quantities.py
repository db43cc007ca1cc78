"""Quantities against a computation row by row, and finite whatever the columns hold."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from state.expressions import ExpressionError
from state.nodes import Nodes
from state.quantities import matrix, quantity
from state.times import DAY_MS, HOUR_MS, NEVER_MS
from state.view import Kind
from tests.state.array_view import DEVICES

NOW_MS = 1_790_000_000_000
KINDS = {
    "orders": Kind.NUMBER,
    "spend": Kind.NUMBER,
    "heat": Kind.DECAYED,
    "bought": Kind.TIME,
    "joined": Kind.TIME,
    "visit.active": Kind.FLAG,
    "visit.device": Kind.TEXT,
}
LARGEST = math.log1p(1e18)


class Columns:
    """A ``View`` of plain columns; quantities ask for nothing that lies ahead."""

    def __init__(self, rows, now_ms=NOW_MS):
        types = {Kind.TIME: np.int64, Kind.FLAG: np.bool_, Kind.TEXT: np.int32}
        self.now_ms = np.full(len(rows), now_ms, dtype=np.int64)
        self._columns = {
            name: np.array([row[name] for row in rows], dtype=types.get(kind, np.float64))
            for name, kind in KINDS.items()
        }

    def value(self, name):
        return self._columns[name]

    def code(self, name, text):
        return DEVICES.index(text) if text in DEVICES else -2

    def text(self, name, code):
        raise AssertionError("no quantity shows a text")

    def falls_below_ms(self, name, threshold):
        raise AssertionError("no quantity looks ahead")

    def next_step_ms(self, name):
        raise AssertionError("no quantity looks ahead")


@dataclass
class Row:
    """One user as the computation row by row sees them: what never happened is None."""

    orders: float
    spend: float
    heat: float
    bought: int | None
    joined: int | None
    active: bool
    device: str | None

    @classmethod
    def of(cls, row):
        bought, joined = (row[n] if row[n] != NEVER_MS else None for n in ("bought", "joined"))
        device = DEVICES[row["visit.device"]] if row["visit.device"] >= 0 else None
        numbers = row["orders"], row["spend"], row["heat"]
        return cls(*numbers, bought, joined, row["visit.active"], device)

    @staticmethod
    def age(time):
        """Days since a time; endless where it never came."""
        return math.inf if time is None else (NOW_MS - time) / DAY_MS


def over(a, b):
    return a / b if b else math.nan


def capped(days):
    """A duration: ten years at most."""
    return days if math.isnan(days) else min(days, 3650.0)


def gap(row):
    """Days from joining to buying."""
    if row.bought is None or row.joined is None:
        return math.nan
    return (row.bought - row.joined) / DAY_MS


QUANTITIES = {
    "orders": lambda row: row.orders,
    "spend": lambda row: row.spend,
    "heat": lambda row: row.heat,
    "bought": lambda row: capped(row.age(row.bought)),
    "age(bought)": lambda row: capped(row.age(row.bought)),
    "age(bought) / 2": lambda row: capped(row.age(row.bought) / 2),
    "age(bought) - 30d": lambda row: capped(row.age(row.bought) - 30),
    "age(bought) - age(joined)": lambda row: capped(row.age(row.bought) - row.age(row.joined)),
    "age(bought) / 1d": lambda row: row.age(row.bought),
    "age(bought) / age(joined)": lambda row: over(row.age(row.bought), row.age(row.joined)),
    "age(bought) > 30d": lambda row: row.age(row.bought) > 30,
    "bought - joined": lambda row: capped(gap(row)),
    "(bought - joined) / orders": lambda row: capped(over(gap(row), row.orders)),
    "spend / orders": lambda row: over(row.spend, row.orders),
    "orders / (orders - 2)": lambda row: over(row.orders, row.orders - 2),
    "spend - orders * 10": lambda row: row.spend - row.orders * 10,
    "orders + heat": lambda row: row.orders + row.heat,
    "-orders": lambda row: -row.orders,
    "orders / 0": lambda _: math.nan,
    "3": lambda _: 3.0,
    "7d": lambda _: 7.0,
    "36h": lambda _: 1.5,
    "1 / 0": lambda _: math.nan,
    "visit.active": lambda row: row.active,
    "not visit.active": lambda row: not row.active,
    "visit.active == false": lambda row: not row.active,
    "orders >= 2 and heat > 0.5": lambda row: row.orders >= 2 and row.heat > 0.5,
    "orders < 1 or visit.active": lambda row: row.orders < 1 or row.active,
    "spend / orders > 20": lambda row: over(row.spend, row.orders) > 20,
    "happened(bought)": lambda row: row.bought is not None,
    "known(visit.device)": lambda row: row.device is not None,
    "within(bought, 7d)": lambda row: row.age(row.bought) < 7,
    "visit.device == 'mobile'": lambda row: row.device == "mobile",
    "visit.device != 'mobile'": lambda row: row.device not in (None, "mobile"),
    "visit.device == 'toaster'": lambda _: False,
}
"""What is written, and what it is of one row: NaN where it is missing."""

amounts = st.one_of(st.integers(0, 5).map(float), st.floats(-1e6, 1e20), st.floats(0, 100))
times = st.one_of(
    st.just(NEVER_MS),
    st.integers(-5 * HOUR_MS, 5_000 * DAY_MS).map(lambda ago_ms: NOW_MS - ago_ms),
    st.integers(0, 60).map(lambda days: NOW_MS - days * DAY_MS),
)


def rows_of(numbers, moments=times):
    return st.lists(
        st.fixed_dictionaries(
            {
                "orders": numbers,
                "spend": numbers,
                "heat": numbers,
                "bought": moments,
                "joined": moments,
                "visit.active": st.booleans(),
                "visit.device": st.integers(-1, len(DEVICES) - 1),
            }
        ),
        min_size=1,
        max_size=12,
    )


def compiled(*texts):
    nodes = Nodes()
    return [quantity(text, KINDS, nodes) for text in texts]


def logged(value):
    """What a model sees of a number: missing and negative are 0, infinite is large."""
    value = float(value)
    return math.log1p(min(value, 1e18)) if value > 0.0 else 0.0


@given(rows_of(amounts))
def test_every_quantity_is_that_of_each_row_alone(rows):
    X = matrix(Columns(rows), compiled(*QUANTITIES))
    for i, row in enumerate(rows):
        expected = [logged(value(Row.of(row))) for value in QUANTITIES.values()]
        for place, text in enumerate(QUANTITIES):
            assert X[i, place] == pytest.approx(expected[place], rel=1e-9, abs=1e-12), text


@pytest.mark.parametrize("text", QUANTITIES)
def test_each_alone_is_what_it_is_among_all(text):
    """Parts that several share are computed once, and for nobody otherwise."""
    rows = [
        {
            "orders": float(n),
            "spend": 10.0 * n * n,
            "heat": 0.3 * n,
            "bought": NEVER_MS if n == 2 else NOW_MS - n * 20 * DAY_MS,
            "joined": NEVER_MS if n == 4 else NOW_MS - 300 * DAY_MS,
            "visit.active": n % 2 == 0,
            "visit.device": n - 1 if n < 4 else -1,
        }
        for n in range(6)
    ]
    together = matrix(Columns(rows), compiled(*QUANTITIES))[:, list(QUANTITIES).index(text)]
    assert matrix(Columns(rows), compiled(text))[:, 0].tolist() == together.tolist()
    alone = [matrix(Columns([row]), compiled(text))[0, 0] for row in rows]
    assert together.tolist() == alone


anything = st.floats(allow_nan=True, allow_infinity=True)
whenever = st.one_of(st.just(NEVER_MS), st.integers(-(2**61), 2**61))


@given(rows_of(anything, whenever))
def test_everything_is_finite_whatever_the_columns_hold(rows):
    X = matrix(Columns(rows), compiled(*QUANTITIES))
    assert np.isfinite(X).all()
    assert ((X >= 0.0) & (X <= LARGEST)).all()


def test_what_never_happened_lies_ten_years_back():
    never = dict.fromkeys(("orders", "spend", "heat"), 0.0)
    never |= {"bought": NEVER_MS, "joined": NOW_MS - 4_000 * DAY_MS}
    view = Columns([never | {"visit.active": False, "visit.device": -1}])
    X = matrix(view, compiled("bought", "joined", "age(bought)", "joined - bought"))
    assert X.tolist() == [[pytest.approx(math.log1p(3650.0))] * 3 + [0.0]]


def test_of_nobody_there_is_an_empty_matrix():
    assert matrix(Columns([]), compiled("orders", "7d", "visit.active")).shape == (0, 3)
    row = dict.fromkeys(KINDS, 0)
    assert matrix(Columns([row, row]), []).shape == (2, 0)


def test_which_are_durations_is_known():
    durations = ("bought", "age(bought)", "bought - joined", "age(bought) / 2", "7d")
    assert all(each.days for each in compiled(*durations))
    others = ("orders", "heat", "age(bought) / 1d", "age(bought) > 7d", "visit.active", "7")
    assert not any(each.days for each in compiled(*others))
    assert [each.text for each in compiled(*others)] == list(others)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("visit.device", 'visit.device is a text; compare it with one, as in visit.device == "…"'),
        ("visit.device + 1", "visit.device is a text, not a number"),
        ("visit.active * 2", "visit.active is true or false, not a number"),
        ("order", "there is no feature 'order'; did you mean 'orders'?"),
        ("orders / ordres", "there is no feature 'ordres'; did you mean 'orders'?"),
        ("member('vip')", "there is no segment 'vip'; there are none"),
        ("log(orders)", "there is no function 'log'; there are age, happened, known"),
        ("bought * 2", "bought is a time: only two times can be subtracted"),
        ("bought > 3", "bought is a time and cannot be compared with a number"),
        ("(orders > 1) + 1", "a number, a time or a feature must stand here"),
        ("age(orders)", "age takes a time, but orders is a number"),
        ("'mobile'", "a number, a time or a feature must stand here, not a text"),
        ("", "a value must stand here, but the text ends"),
        ("orders orders", "an operator or the end must stand here"),
    ],
)
def test_what_is_no_quantity_is_refused_in_words(text, words):
    with pytest.raises(ExpressionError) as caught:
        quantity(text, KINDS)
    assert words in str(caught.value)
    assert "^" in str(caught.value)
