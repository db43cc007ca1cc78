"""The parser, and the language's page."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.conditions import compile_condition
from state.declared import DecayedSpec
from state.expressions import MAX_CHARACTERS, ExpressionError, parse
from state.measures import Measures
from state.plan import LanePlan
from state.segments import FamilySpec, SegmentError, SegmentPlan, SegmentSpec
from state.table import Table
from state.times import DAY_MS, HOUR_MS
from state.view import Kind
from tests.state.array_view import KINDS, T0_MS, ArrayView, User

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "segments.md").read_text("utf-8")
POLLED = "intent / 2 >= 4"


def shipped_kinds():
    declared = [DecayedSpec(name, HOUR_MS, {}) for name in ("intent", "engagement")]
    measures = Measures(LanePlan(decayed=declared), Table())
    return {name: feature.kind for name, feature in measures.features.items()}


def fenced(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


operands = st.sampled_from(["1", "2", "3.5", "-4", "0.25", "(1 + 2)", "- 2", "1_0"])
numbers = st.builds(
    lambda first, rest: first + "".join(f" {sign} {number}" for sign, number in rest),
    operands,
    st.lists(st.tuples(st.sampled_from("+-*/"), operands), max_size=4),
)
comparisons = st.builds(
    lambda first, rest: first + "".join(f" {sign} {number}" for sign, number in rest),
    numbers,
    st.lists(
        st.tuples(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers),
        min_size=1,
        max_size=2,
    ),
)
propositions = st.builds(
    lambda first, rest: first + "".join(f" {word} {part}" for word, part in rest),
    comparisons,
    st.lists(
        st.tuples(st.sampled_from(["and", "or", "and not", "or not"]), comparisons), max_size=4
    ),
)


@settings(max_examples=300)
@given(propositions)
def test_constant_expressions_mean_what_python_means(text):
    try:
        want = eval(text)
    except ZeroDivisionError:
        return
    condition = compile_condition(text, {})
    assert condition.truth(ArrayView([User()], T0_MS))[0] == want


@pytest.mark.parametrize(
    ("text", "ms"),
    [("7d", 7 * DAY_MS), ("1h30m", 5_400_000), ("2w", 14 * DAY_MS), ("45s", 45_000), ("5ms", 5)],
)
def test_durations(text, ms):
    literal = parse(text)
    assert (literal.value, literal.duration) == (ms, True)


@pytest.mark.parametrize(
    ("text", "problem", "at"),
    [
        ("", "a value must stand here, but the text ends", 0),
        ("a and", "a value must stand here, but the text ends", 5),
        ("a = 3", "write == to compare", 2),
        ("a & b", "write 'and'", 2),
        ("a !b", "write 'not'", 2),
        ("a b", "an operator or the end must stand here, but 'b' came", 2),
        ("a\n  and b c", "an operator or the end must stand here, but 'c' came", 10),
        ("(a", "')' must stand here, but the text ends", 2),
        ("f(a b)", "',' must stand here, but 'b' came", 4),
        ("7days > a", "write numbers as 12, 1_000 or 0.5 and durations as 7d", 0),
        ("a > 1.", "write numbers as 12", 4),
        ("a == 'x", "close the string on the same line", 5),
        ("a == 'x\\'", "close the string on the same line; it takes no backslashes", 5),
        ("a > é", "'é' does not belong here", 4),
        ("\x00", "does not belong here", 0),
        ("a > 1e400", "a number must be below 1e18", 4),
        ("a > " + "9" * 500, "a number must be below 1e18", 4),
        ("a and or b", "a value must stand here, but 'or' came", 6),
    ],
)
def test_a_text_that_is_no_expression_says_where(text, problem, at):
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert problem in str(caught.value)
    assert caught.value.at == at


@pytest.mark.parametrize(
    "text",
    [
        "(" * 900,
        "not " * 400 + "a",
        "-" * 1_500 + "1",
        "f(" * 900,
        "1" + "+1" * 900,
        "((" + ")-1)" * 400,
        "x" * (MAX_CHARACTERS + 1),
        "a and " * 300 + "a" * 300,
    ],
)
def test_large_texts_are_refused_and_harmless(text):
    with pytest.raises(ExpressionError):
        parse(text)


def test_long_chains_of_and_are_shallow():
    text = " and ".join(f"orders > {i}" for i in range(100))
    assert len(compile_condition(text, KINDS).atoms) == 100


def test_the_caret_stands_under_the_place_in_a_long_line():
    text = "a > 1 and " * 100 + "b ? c"
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    _, line, caret = str(caught.value).split("\n")
    assert line[caret.index("^")] == "?"


def test_the_conditions_of_the_page_compile():
    (block,) = fenced("condition")
    segments = ["high_intent", "high", "some"]
    kinds = shipped_kinds() | {"scores.churn_30d": Kind.NUMBER}
    families = {"value": ["high", "some"]}
    for line in block.splitlines():
        assert compile_condition(line, kinds, segments, families=families).polled == ()
    assert compile_condition(POLLED, shipped_kinds()).polled == (POLLED,)
    assert f"`{POLLED}`" in PAGE


def test_the_definitions_of_the_page_compile():
    (block,) = fenced("toml")
    written = tomllib.loads(block)
    specs = [
        SegmentSpec(name, table["enter"], table.get("exit"))
        for name, table in written["segments"].items()
    ]
    families = [
        FamilySpec(name, list(table["labels"].items()))
        for name, table in written["families"].items()
    ]
    plan = SegmentPlan.compile(specs, families, shipped_kinds())
    assert plan.names == ("high_intent", "cart_abandoned", "high", "some")
    assert not list(plan.polled())


def test_the_error_of_the_page_is_the_real_one():
    (block,) = fenced("error")
    text = block.splitlines()[1].strip()
    with pytest.raises(SegmentError) as caught:
        SegmentPlan.compile([SegmentSpec("keen", text)], [], shipped_kinds())
    assert str(caught.value) == block.rstrip()


def test_the_functions_of_the_page_are_all_there_are():
    listed = re.findall(r"^\| `(\w+)\(", PAGE, re.MULTILINE)
    with pytest.raises(ExpressionError, match="there is no function 'zzz'") as hint:
        compile_condition("zzz(1) > 2", {})
    assert sorted(listed) == str(hint.value).splitlines()[0].split("there are ")[1].split(", ")
