"""The expression language: text to tree, with errors that point at the place.

A recursive-descent parser over one regular expression of tokens. It knows the shape of the
language and nothing of features: names, kinds and types are the compiler's business
(``state.compiling``). Length, depth and number of a text are bounded, so that a hostile one costs
nothing.

Grammar, loosest binding first::

    or         = and ("or" and)*
    and        = not ("and" not)*
    not        = "not" not | comparison
    comparison = sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*
    sum        = product (("+" | "-") product)*
    product    = unary (("*" | "/") unary)*
    unary      = "-" unary | primary
    primary    = number | duration | string | "true" | "false"
               | name | name "(" [or ("," or)*] ")" | "(" or ")"

A chain ``a < b < c`` means ``a < b and b < c``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NoReturn

from state.syntax import Arithmetic, Call, Comparison, Literal, Logic, Name, Node, Not
from state.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

MAX_CHARACTERS: Final = 2_000
MAX_DEPTH: Final = 40
UNIT_MS: Final = {
    "w": 7 * DAY_MS,
    "d": DAY_MS,
    "h": HOUR_MS,
    "m": MINUTE_MS,
    "s": SECOND_MS,
    "ms": 1,
}
"""What a duration is made of, largest unit first."""

_COMPARISONS: Final = ("<", "<=", ">", ">=", "==", "!=")
_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<duration>(?:[0-9]+(?:ms|[wdhms]))+(?![\w.]))
  | (?P<number>[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))
  | (?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)
  | (?P<string>"[^"\\\n]*"|'[^'\\\n]*')
  | (?P<symbol><=|>=|==|!=|[-+*/<>(),])
  | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_HINTS: Final = {
    "=": "write == to compare",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    '"': "close the string on the same line; it takes no backslashes",
    "'": "close the string on the same line; it takes no backslashes",
    ".": "write a number as 0.5, and a name as rfm.r without spaces",
}


class ExpressionError(ValueError):
    """A text is not a valid expression; the message shows it with a caret under the place."""

    def __init__(self, problem: str, text: str, at: int) -> None:
        line_start = text.rfind("\n", 0, at) + 1
        line = text[line_start:].split("\n", 1)[0]
        first = max(at - line_start - 60, 0)
        shown, caret = line[first : first + 100], " " * (at - line_start - first) + "^"
        super().__init__(f"{problem}\n  {shown}\n  {caret}")
        self.problem = problem
        self.at = at


def parse(text: str) -> Node:
    """The tree of an expression.

    Args:
        text: at most ``MAX_CHARACTERS`` characters.

    Raises:
        ExpressionError: where the text is not an expression.

    >>> parse("not age >= 1h30m").part.right.value
    5400000
    >>> parse("intent >=")
    Traceback (most recent call last):
    state.expressions.ExpressionError: a value must stand here, but the text ends
      intent >=
               ^
    """
    if len(text) > MAX_CHARACTERS:
        problem = f"an expression has at most {MAX_CHARACTERS} characters, this one {len(text)}"
        raise ExpressionError(problem, text[: MAX_CHARACTERS + 1], MAX_CHARACTERS)
    parser = _Parser(text)
    tree = parser.either()
    if parser.kind != "end":
        parser.fail(f"an operator or the end must stand here, but {parser.seen()}")
    return tree


def duration_ms(text: str) -> int:
    """Milliseconds of a duration such as ``1h30m``, as the lexer found it."""
    return sum(int(n) * UNIT_MS[unit] for n, unit in re.findall(r"([0-9]+)(ms|[wdhms])", text))


class _Parser:
    """One pass over the tokens; the methods are the grammar's rules."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._next = 0
        self._open = 0
        self.advance()

    def advance(self) -> None:
        """Move to the next token."""
        match = _TOKEN.match(self._text, self._next)
        if match is None or match.lastgroup is None:
            self._refuse_character()
        self.kind = match.lastgroup
        self.token = match[self.kind]
        self.at = match.start(self.kind)
        self._next = match.end()

    def either(self) -> Node:
        return self._joined("or", self.both)

    def both(self) -> Node:
        return self._joined("and", self.opposite)

    def opposite(self) -> Node:
        if not self._is_word("not"):
            return self.comparison()
        at = self.at
        self.advance()
        part = self._nested(self.opposite)
        return Not(part, at=at, depth=self._depth(part))

    def comparison(self) -> Node:
        left = self.sum()
        parts: list[Node] = []
        while self.kind == "symbol" and self.token in _COMPARISONS:
            operator, at = self.token, self.at
            self.advance()
            right = self.sum()
            depth = self._depth(left, right)
            parts.append(Comparison(operator, left, right, at=at, depth=depth))
            left = right
        if len(parts) > 1:
            return Logic("and", tuple(parts), at=parts[0].at, depth=self._depth(*parts))
        return parts[0] if parts else left

    def sum(self) -> Node:
        return self._chain("+-", self.product)

    def product(self) -> Node:
        return self._chain("*/", self.unary)

    def unary(self) -> Node:
        if self.kind != "symbol" or self.token != "-":
            return self.primary()
        at = self.at
        self.advance()
        part = self._nested(self.unary)
        if isinstance(part, Literal) and type(part.value) in (int, float):
            return Literal(-part.value, part.duration, at=at)  # type: ignore[operator]
        return Arithmetic("-", Literal(0, at=at), part, at=at, depth=self._depth(part))

    def primary(self) -> Node:
        kind, token, at = self.kind, self.token, self.at
        if kind == "symbol" and token == "(":
            self.advance()
            inner = self._nested(self.either)
            self._expect(")")
            return inner
        if kind not in ("duration", "number", "name", "string") or token in ("and", "or", "not"):
            self.fail(f"a value must stand here, but {self.seen()}")
        self.advance()
        if kind == "name" and token not in ("true", "false"):
            return self._named(token, at)
        if kind == "duration":
            return Literal(self._finite(duration_ms(token), at), duration=True, at=at)
        if kind == "number":
            return Literal(self._finite(_number(token), at), at=at)
        return Literal(token[1:-1] if kind == "string" else token == "true", at=at)

    def _named(self, name: str, at: int) -> Node:
        if self.kind != "symbol" or self.token != "(":
            return Name(name, at=at)
        self.advance()
        arguments: list[Node] = []
        while self.token != ")" or self.kind != "symbol":
            if arguments:
                self._expect(",")
            arguments.append(self._nested(self.either))
        self.advance()
        return Call(name, tuple(arguments), at=at, depth=self._depth(*arguments))

    def _joined(self, word: str, part: Callable[[], Node]) -> Node:
        parts = [part()]
        at = self.at
        while self._is_word(word):
            self.advance()
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return Logic(word, tuple(parts), at=at, depth=self._depth(*parts))

    def _chain(self, operators: str, part: Callable[[], Node]) -> Node:
        left = part()
        while self.kind == "symbol" and self.token in operators:
            operator, at = self.token, self.at
            self.advance()
            right = part()
            left = Arithmetic(operator, left, right, at=at, depth=self._depth(left, right))
        return left

    def _nested(self, rule: Callable[[], Node]) -> Node:
        self._open += 1
        if self._open > MAX_DEPTH:
            self.fail(f"an expression nests at most {MAX_DEPTH} deep; split it into segments")
        inner = rule()
        self._open -= 1
        return inner

    def _depth(self, *parts: Node) -> int:
        depth = 1 + max((part.depth for part in parts), default=0)
        if depth > 2 * MAX_DEPTH:
            self.fail(f"an expression is at most {2 * MAX_DEPTH} operators deep; split it")
        return depth

    def _is_word(self, word: str) -> bool:
        return self.kind == "name" and self.token == word

    def _expect(self, symbol: str) -> None:
        if self.kind != "symbol" or self.token != symbol:
            self.fail(f"'{symbol}' must stand here, but {self.seen()}")
        self.advance()

    def _finite(self, number: int | float, at: int) -> int | float:
        if not abs(number) < 1e18:
            raise ExpressionError("a number must be below 1e18", self._text, at)
        return number

    def seen(self) -> str:
        """The present token in words."""
        return "the text ends" if self.kind == "end" else f"{self.token!r} came"

    def fail(self, problem: str) -> NoReturn:
        raise ExpressionError(problem, self._text, self.at)

    def _refuse_character(self) -> NoReturn:
        at = len(self._text) - len(self._text[self._next :].lstrip(" \t\n\r\f\v"))
        character = self._text[at]
        if character.isdigit():
            hint = "write numbers as 12, 1_000 or 0.5 and durations as 7d, 30m or 1h30m"
        else:
            hint = _HINTS.get(character, "see docs/segments.md for the language")
        problem = f"{character!r} does not belong here; {hint}"
        raise ExpressionError(problem, self._text, at)


def _number(token: str) -> int | float:
    digits = token.replace("_", "")
    return int(digits) if digits.isdigit() else float(digits)
