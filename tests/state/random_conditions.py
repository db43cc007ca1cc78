"""Random users, random conditions as trees, and an obvious interpreter of these trees."""

import math
import operator

from hypothesis import strategies as st

from state.times import HOUR_MS, NEVER_MS
from tests.state.array_view import DEVICES, T0_MS, ArrayView, User

COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
DURATION_MS = {
    "1ms": 1,
    "500ms": 500,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "2h30m": 5 * HOUR_MS // 2,
    "1d": 24 * HOUR_MS,
}
times = st.builds(
    lambda hours, ms: T0_MS + hours * HOUR_MS + ms, st.integers(-6, 6), st.integers(-1, 1)
)
small = st.integers(0, 4)


def timeline(values):
    changes = st.lists(st.tuples(times, values), max_size=3, unique_by=lambda change: change[0])
    return changes.map(sorted)


users = st.builds(
    User,
    st.fixed_dictionaries(
        {
            "orders": timeline(small),
            "ratio": timeline(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
            "bought": timeline(st.one_of(st.just(NEVER_MS), times)),
            "visit.start": timeline(st.one_of(st.just(NEVER_MS), times)),
            "visit.active": timeline(st.booleans()),
            "visit.device": timeline(st.integers(-1, 2)),
        }
    ),
    st.fixed_dictionaries(
        {
            name: st.lists(st.tuples(st.sampled_from([0.5, 1.0, 4.0]), times), max_size=2)
            for name in ("intent", "heat")
        }
    ),
)
constants = st.one_of(small, st.sampled_from([0.25, 0.5, 1.5])).map(lambda x: ("constant", x))
durations = st.sampled_from(sorted(DURATION_MS)).map(lambda text: ("duration", text))
numbers = st.sampled_from(["orders", "ratio", "intent", "heat"]).map(lambda n: ("name", n))
moments = st.sampled_from(["bought", "visit.start"]).map(lambda n: ("name", n))
ages = moments.map(lambda time: ("age", time))
gaps = st.tuples(st.just("gap"), moments, moments)
sums = st.recursive(
    st.one_of(numbers, constants),
    lambda part: st.tuples(st.sampled_from("+-*/"), part, part),
    max_leaves=3,
)
signs = st.sampled_from(sorted(COMPARE))
equality = st.sampled_from(["==", "!="])


def compared(left, right):
    return st.tuples(st.just("compare"), signs, left, right)


atoms = st.one_of(
    compared(numbers, constants),
    compared(constants, numbers),
    compared(ages, durations),
    compared(durations, ages),
    compared(moments, moments),
    compared(gaps, durations),
    compared(sums, sums),
    compared(ages, ages),
    moments.map(lambda time: ("happened", time)),
    st.tuples(st.just("within"), moments, durations),
    st.just(("flag", "visit.active")),
    st.just(("known", "visit.device")),
    st.tuples(
        st.just("text"), equality, st.just("visit.device"), st.sampled_from([*DEVICES, "watch"])
    ),
    st.booleans().map(lambda value: ("always", value)),
)


def joined(part):
    return st.one_of(
        part.map(lambda a: ("not", a)),
        st.tuples(st.sampled_from(["and", "or"]), part, part),
        st.tuples(st.sampled_from(["and", "or"]), part, part, part),
    )


def trees(*segments):
    """Conditions; ``segments`` may be asked for with member."""
    leaves = atoms
    if segments:
        leaves = st.one_of(atoms, st.sampled_from(segments).map(lambda name: ("member", name)))
    return st.recursive(leaves, joined, max_leaves=5)


def written(tree):
    """The tree in the language."""
    match tree:
        case ("constant" | "duration" | "name" | "flag", text):
            return str(text)
        case ("always", value):
            return str(value).lower()
        case ("age" | "happened", ("name", time)):
            return f"{tree[0]}({time})"
        case ("known", name):
            return f"known({name})"
        case ("within", ("name", time), (_, limit)):
            return f"within({time}, {limit})"
        case ("member", name):
            return f"member('{name}')"
        case ("gap", left, right):
            return f"{written(left)} - {written(right)}"
        case ("text", sign, name, text):
            return f'{name} {sign} "{text}"'
        case ("compare", sign, left, right):
            return f"{written(left)} {sign} {written(right)}"
        case ("not", part):
            return f"not ({written(part)})"
        case ("and" | "or" as word, *parts):
            return f" {word} ".join(f"({written(part)})" for part in parts)
        case (sign, left, right):
            return f"({written(left)}) {sign} ({written(right)})"


def number(tree, user, t_ms):
    """The value of an operand, NaN where there is none, infinite for the age of what never was."""
    match tree:
        case ("constant", value):
            return float(value)
        case ("duration", text):
            return {"1h": 1, "2h": 2, "2h30m": 2.5, "1d": 24}.get(text, 0) * HOUR_MS or int(
                text[:-2]
            )
        case ("name", ("intent" | "heat") as name):
            return float(ArrayView([user], t_ms).value(name)[0])
        case ("name", name):
            value = user.at(name, t_ms)
            return math.nan if value == NEVER_MS else value
        case ("age", ("name", time)):
            at_ms = user.at(time, t_ms)
            return math.inf if at_ms == NEVER_MS else t_ms - at_ms
        case ("gap", left, right):
            return number(left, user, t_ms) - number(right, user, t_ms)
        case (sign, left, right):
            a, b = number(left, user, t_ms), number(right, user, t_ms)
            if sign == "/":
                return a / b if b else math.nan
            return {"+": a + b, "-": a - b, "*": a * b}[sign]


def holds(tree, user, t_ms, members=frozenset()):
    """Whether the condition holds for one user at one time."""
    match tree:
        case ("always", value):
            return value
        case ("not", part):
            return not holds(part, user, t_ms, members)
        case ("and", *parts):
            return all(holds(part, user, t_ms, members) for part in parts)
        case ("or", *parts):
            return any(holds(part, user, t_ms, members) for part in parts)
        case ("member", name):
            return name in members
        case ("flag", name):
            return user.at(name, t_ms)
        case ("known", name):
            return user.at(name, t_ms) >= 0
        case ("happened", (_, time)):
            return user.at(time, t_ms) != NEVER_MS
        case ("within", time, limit):
            return number(("age", time), user, t_ms) < number(limit, user, t_ms)
        case ("text", sign, name, text):
            code = user.at(name, t_ms)
            return code >= 0 and COMPARE[sign](DEVICES[code], text)
        case ("compare", sign, left, right):
            a, b = number(left, user, t_ms), number(right, user, t_ms)
            return not (math.isnan(a) or math.isnan(b)) and COMPARE[sign](a, b)
