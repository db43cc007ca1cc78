"""The compiler: from the tree of an expression to a graph of whole-array tests.

It checks every name and type with the place in the text, folds constants, and picks for each
comparison the atom that knows most about silence. Only what has no closed form is polled:
arithmetic over decayed features or ages, and comparisons between two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, NoReturn

from state import syntax
from state.atoms import Aged, Compared, Decayed, Flag, Member, Present, TextIs
from state.expressions import ExpressionError
from state.joins import All, Always, Either, Opposite
from state.nodes import Nodes, Operand, Predicate
from state.operands import Age, Arithmetic, Constant, Feature
from state.view import Kind

FUNCTIONS: Final = ("age", "happened", "known", "member", "within")

_MIRROR: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
_ARTICLE: Final = {
    Kind.NUMBER: "a number",
    Kind.DECAYED: "a number",
    Kind.TIME: "a time",
    Kind.FLAG: "true or false",
    Kind.TEXT: "a text",
}


class Compiler:
    """One text being compiled.

    Args:
        text: the expression, for errors.
        kinds: every feature it may name.
        segments: every segment that ``member`` may name.
        poll_ms: how often silence is checked on what has no closed form.
        nodes: gives equal parts one node.
        families: the labels of every family that may be compared with one of them.
    """

    def __init__(
        self,
        text: str,
        kinds: Mapping[str, Kind],
        segments: Collection[str],
        poll_ms: int,
        nodes: Nodes,
        families: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._text = text
        self._kinds = kinds
        self._segments = segments
        self._poll_ms = poll_ms
        self._new = nodes
        self._families = families or {}

    def test(self, node: syntax.Node) -> Predicate:
        """A part of the tree that must be a condition."""
        match node:
            case syntax.Logic(operator="and"):
                return self._new(All, tuple(self.test(part) for part in node.parts))
            case syntax.Logic():
                return self._new(Either, tuple(self.test(part) for part in node.parts))
            case syntax.Not():
                return self._not(self.test(node.part))
            case syntax.Comparison():
                return self._comparison(node)
            case syntax.Call(function="happened" | "known" | "member" | "within"):
                return self._function(node)
            case syntax.Literal(value=bool(value)):
                return self._new(Always, value)
        operand = self.operand(node)
        if isinstance(operand, Feature) and operand.kind is Kind.FLAG:
            return self._new(Flag, operand)
        return self._fail(
            f"a condition must stand here, but {operand.text} is {_ARTICLE[operand.kind]}; "
            "compare it with something",
            node,
        )

    def operand(self, node: syntax.Node) -> Operand:
        """A part of the tree that must have a value."""
        match node:
            case syntax.Name():
                return self._new(Feature, node.name, self._kind(node))
            case syntax.Literal(value=int(value) | float(value)) if not isinstance(value, bool):
                return self._new(Constant, value, node.duration)
            case syntax.Call(function="age"):
                return self._new(Age, self._feature(node, Kind.TIME))
            case syntax.Arithmetic():
                return self._arithmetic(node)
            case syntax.Call() if node.function not in FUNCTIONS:
                problem = f"there is no function {node.function!r}"
                return self._fail(problem + suggest(node.function, FUNCTIONS), node)
        return self._fail(
            "a number, a time or a feature must stand here, not a text or a condition", node
        )

    def _comparison(self, node: syntax.Comparison) -> Predicate:
        left, right, operator = node.left, node.right, node.operator
        if isinstance(left, syntax.Literal):
            left, right, operator = right, left, _MIRROR[operator]
        if isinstance(right, syntax.Literal) and isinstance(right.value, str | bool):
            return self._against_word(left, operator, right, right.value)
        first, second = self.operand(left), self.operand(right)
        if isinstance(first, Constant):
            first, second, operator = second, first, _MIRROR[operator]
        self._check_comparable(node, first, second)
        if isinstance(second, Constant):
            return self._against_constant(first, operator, second)
        poll_ms = self._poll_ms if first.moving or second.moving else None
        return self._new(Compared, operator, first, second, poll_ms)

    def _against_word(
        self, left: syntax.Node, operator: str, right: syntax.Literal, word: str | bool
    ) -> Predicate:
        if operator not in ("==", "!="):
            problem = f"only == and != compare with a text or with true or false, not {operator}"
            self._fail(problem, right)
        if isinstance(word, bool):
            test = self.test(left)
            return test if word is (operator == "==") else self._not(test)
        if isinstance(left, syntax.Name) and left.name not in self._kinds:
            labels = self._families.get(left.name)
            if labels is not None:
                return self._label(labels, operator, right, word)
        operand = self.operand(left)
        if not isinstance(operand, Feature) or operand.kind is not Kind.TEXT:
            kind = _ARTICLE[operand.kind]
            self._fail(f"{operand.text} is {kind} and cannot be compared with a text", right)
        return self._new(TextIs, operand, word, operator == "==")

    def _label(
        self, labels: Sequence[str], operator: str, node: syntax.Literal, word: str
    ) -> Predicate:
        """Which label of a family somebody has; nobody without one differs from any."""
        if word not in labels:
            self._fail(f"there is no label {word!r}" + suggest(word, labels), node)
        if operator == "==":
            return self._new(Member, word)
        others = tuple(self._new(Member, label) for label in labels if label != word)
        return self._new(Either, others) if others else self._new(Always, False)

    def _check_comparable(self, node: syntax.Comparison, left: Operand, right: Operand) -> None:
        for side in (left, right):
            if side.kind in (Kind.TEXT, Kind.FLAG):
                hint = "quotes around a text" if side.kind is Kind.TEXT else "true or false"
                self._fail(
                    f"{side.text} is {_ARTICLE[side.kind]}; compare it by == or != with {hint}",
                    node,
                )
        if (left.kind is Kind.TIME) is not (right.kind is Kind.TIME):
            time = left if left.kind is Kind.TIME else right
            self._fail(
                f"{time.text} is a time and cannot be compared with a number; "
                f"write age({time.text}) and a duration such as 7d",
                node,
            )

    def _against_constant(self, left: Operand, operator: str, right: Constant) -> Predicate:
        if right.number != right.number:
            return self._new(Always, False)
        if isinstance(left, Constant):
            return self._new(Always, _folded(left.number, operator, right.number))
        closed = isinstance(left, Age) or left.kind is Kind.DECAYED
        if closed and operator in ("==", "!="):
            at_most = self._against_constant(left, "<=", right)
            equal = self._new(All, (self._against_constant(left, ">=", right), at_most))
            return equal if operator == "==" else self._not(equal)
        if isinstance(left, Age):
            return self._new(Aged, operator, left, right)
        if isinstance(left, Feature) and left.kind is Kind.DECAYED:
            return self._new(Decayed, operator, left, right)
        return self._new(Compared, operator, left, right, self._poll_ms if left.moving else None)

    def _arithmetic(self, node: syntax.Arithmetic) -> Operand:
        left, right = self.operand(node.left), self.operand(node.right)
        times = [side for side in (left, right) if side.kind is Kind.TIME]
        for side in (left, right):
            if side.kind in (Kind.TEXT, Kind.FLAG):
                self._fail(f"{side.text} is {_ARTICLE[side.kind]}, not a number", node)
        if times and (len(times) == 1 or node.operator != "-"):
            problem = f"{times[0].text} is a time: only two times can be subtracted"
            self._fail(f"{problem}; write age({times[0].text}) for a duration", node)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self._fold(node, left, right)
        return self._new(Arithmetic, node.operator, left, right)

    def _fold(self, node: syntax.Arithmetic, left: Constant, right: Constant) -> Constant:
        operator, a, b = node.operator, left.number, right.number
        if operator == "/":
            value = a / b if b else float("nan")
        else:
            value = a + b if operator == "+" else a - b if operator == "-" else a * b
        if abs(value) >= 1e18:
            self._fail("a number must be below 1e18", node)
        return self._new(Constant, value, left.duration or right.duration)

    def _function(self, node: syntax.Call) -> Predicate:
        if node.function == "member":
            return self._new(Member, self._segment(node))
        if node.function == "happened":
            return self._new(Present, self._feature(node, Kind.TIME))
        if node.function == "known":
            return self._new(Present, self._feature(node, Kind.TEXT))
        if len(node.arguments) != 2:
            self._fail("within takes a time and a duration, as in within(last_order, 7d)", node)
        limit = self.operand(node.arguments[1])
        if not isinstance(limit, Constant):
            self._fail("the second argument of within is a duration such as 7d", node.arguments[1])
        age = self._new(Age, self._named(node.function, node.arguments[0], Kind.TIME))
        return self._against_constant(age, "<", limit)

    def _feature(self, node: syntax.Call, kind: Kind) -> Feature:
        """The only argument of a function of one feature."""
        if len(node.arguments) != 1:
            self._fail(f"{node.function} takes {_ARTICLE[kind]} and nothing else", node)
        return self._named(node.function, node.arguments[0], kind)

    def _named(self, function: str, node: syntax.Node, kind: Kind) -> Feature:
        """An argument that must be the name of a feature of one kind."""
        if not isinstance(node, syntax.Name):
            self._fail(f"{function} takes the name of {_ARTICLE[kind]}", node)
        if self._kind(node) is not kind:
            found = _ARTICLE[self._kind(node)]
            self._fail(f"{function} takes {_ARTICLE[kind]}, but {node.name} is {found}", node)
        return self._new(Feature, node.name, kind)

    def _segment(self, node: syntax.Call) -> str:
        name = node.arguments[0] if len(node.arguments) == 1 else node
        if not isinstance(name, syntax.Literal) or not isinstance(name.value, str):
            self._fail('member takes the name of a segment in quotes, as in member("vip")', name)
        if name.value not in self._segments:
            problem = f"there is no segment {name.value!r}"
            self._fail(problem + suggest(name.value, self._segments), name)
        return name.value

    def _kind(self, node: syntax.Name) -> Kind:
        kind = self._kinds.get(node.name)
        if kind is None:
            problem = f"there is no feature {node.name!r}"
            if node.name in self._families:
                self._fail(f'{problem}; compare the family with a label, as in == "…"', node)
            if node.name in self._segments:
                self._fail(f'{problem}; write member("{node.name}") for the segment', node)
            self._fail(problem + suggest(node.name, self._kinds), node)
        return kind

    def _not(self, test: Predicate) -> Predicate:
        return test.part if isinstance(test, Opposite) else self._new(Opposite, test)

    def _fail(self, problem: str, node: syntax.Node) -> NoReturn:
        raise ExpressionError(problem, self._text, node.at)


def _folded(left: float, operator: str, right: float) -> bool:
    if left != left:
        return False
    answers = {"<": left < right, "==": left == right, ">": left > right}
    answers |= {"<=": left <= right, ">=": left >= right, "!=": left != right}
    return answers[operator]


def suggest(name: str, known: Iterable[str]) -> str:
    """What a name that there is not may mean, as the end of a sentence.

    >>> suggest("knwon", ["age", "known"])
    "; did you mean 'known'?"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    if not names:
        return "; there are none"
    return f"; there are {', '.join(names[:12])}" + (" and more" if len(names) > 12 else "")
