"""Conditions on items: what a rule may ask of an item, whole tables at a time.

It is the language of segments (``docs/segments.md``) over an item's facts, with two more functions:
``tagged("sale")`` for one of its tags, and ``mentions("wool")`` for a word or words in its title,
whatever the case. Prices are in minor units, as all money is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from models.catalog import Catalog
from models.item_features import plain
from models.items import ItemTable
from state import syntax
from state.atoms import Member
from state.compiling import FUNCTIONS, Compiler, suggest
from state.conditions import POLL_MS
from state.evaluation import Program
from state.expressions import ExpressionError, parse
from state.joins import atoms_of
from state.nodes import Nodes
from state.text_index import TextIndex
from state.times import FAR_MS, NEVER_MS
from state.view import Kind

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

KINDS: Final = {
    "item_id": Kind.TEXT,
    "title": Kind.TEXT,
    "category": Kind.TEXT,
    "brand": Kind.TEXT,
    "price": Kind.NUMBER,
    "popularity": Kind.NUMBER,
    "available": Kind.FLAG,
    "first_seen": Kind.TIME,
    "last_seen": Kind.TIME,
}
"""What a rule may ask of an item."""

_TAGGED, _MENTIONS = "tagged", "mentions"
_FUNCTIONS: Final = ("age", "happened", "known", _MENTIONS, _TAGGED, "within")


class ItemCondition:
    """A condition on items.

    Args:
        text: as it was written.

    Raises:
        ExpressionError: where it cannot mean anything.

    >>> ItemCondition('brand == "acme" and (tagged("sale") or price < 500)').text[:8]
    'brand =='
    >>> ItemCondition("brnad == 'acme'")
    Traceback (most recent call last):
    state.expressions.ExpressionError: there is no feature 'brnad'; did you mean 'brand'?
      brnad == 'acme'
      ^
    """

    def __init__(self, text: str) -> None:
        self.text = text
        tree = _named(parse(text), text)
        test = Compiler(text, KINDS, _Named(), POLL_MS, Nodes()).test(tree)
        self._asked = [a.segment for a in atoms_of([test]) if isinstance(a, Member)]
        self._program = Program(lambda on: on.truth(test))

    def truth(self, view: ItemView) -> Bools:
        """Whether it holds for each item, bool[n]."""
        members = {name: view.has(name) for name in self._asked}
        return self._program.run(view, members).asked


class ItemView:
    """All items of a table as the ``View`` of a condition, at one time.

    Args:
        items: the table.
        catalog: what its codes stand for.
        now_ms: the time.
    """

    def __init__(self, items: ItemTable, catalog: Catalog, now_ms: int) -> None:
        self._items, self._catalog = items, catalog
        self.now_ms = np.full(len(items), now_ms, dtype=np.int64)
        self._at_ms = now_ms
        self._had: dict[str, Bools] = {}

    def value(self, name: str) -> NDArray[Any]:
        """A fact of each item."""
        size = len(self._items)
        table = self._items.table
        match name:
            case "item_id":
                return np.arange(size)
            case "popularity":
                return self._items.popularity(np.arange(size), self._at_ms)
            case "price":
                price = table["price"][:size]
                return np.where(price > 0, price, np.nan)
            case "first_seen":
                first = table["first_ms"][:size]
                return np.where(first == FAR_MS, NEVER_MS, first)
            case "last_seen":
                name = "last_ms"
        out: NDArray[Any] = table[name][:size]
        return out

    def code(self, name: str, text: str) -> int:
        """The code of a text; -2 where no item has it."""
        found = int(self._index(name).find(Texts.of([text]))[0])
        return found if found >= 0 else -2

    def text(self, name: str, code: int) -> str | None:
        """The text behind a code."""
        index: TextIndex = self._index(name)
        return index.texts(np.array([code]))[0]

    def falls_below_ms(self, _name: str, _threshold: float, /) -> I64:
        """Never: nobody waits for an item's silence."""
        return np.full(len(self._items), FAR_MS, dtype=np.int64)

    def next_step_ms(self, _name: str, /) -> None:
        """Never: all is looked at anew every so often."""

    def has(self, name: str) -> Bools:
        """Which items have a tag, or mention something: ``tagged x``, ``mentions x``."""
        if name not in self._had:
            function, _, wanted = name.partition(" ")
            if function == _TAGGED:
                column = "tags"
                found = [wanted in tags for tags in self._catalog.tags()]
            else:
                column, wanted = "title", plain(wanted)
                found = [wanted in plain(title) for title in self._catalog.titles()]
            # the last place is that of items without a code
            held = np.array([*found, False], dtype=np.bool_)
            self._had[name] = held[self._items.table[column][: len(self._items)]]
        return self._had[name]

    def _index(self, name: str) -> TextIndex:
        if name == "item_id":
            return self._items.ids
        return self._items.categories if name == "category" else self._catalog.texts[name]


class _Named(Collection[str]):
    """The names that ``_named`` gives, and no others."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith((f"{_TAGGED} ", f"{_MENTIONS} "))

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _named(node: syntax.Node, text: str) -> syntax.Node:
    """The tree with ``tagged`` and ``mentions`` as memberships, which the compiler knows."""
    match node:
        case syntax.Call(function="tagged" | "mentions" as function):
            argument = node.arguments[0] if len(node.arguments) == 1 else None
            if not isinstance(argument, syntax.Literal) or not isinstance(argument.value, str):
                problem = f'{function} takes a text in quotes, as in {function}("sale")'
                raise ExpressionError(problem, text, node.at)
            name = replace(argument, value=f"{function} {argument.value}")
            return replace(node, function="member", arguments=(name,))
        case syntax.Call(function="member"):
            problem = 'items are in no segments; write tagged("…") or mentions("…")'
            raise ExpressionError(problem, text, node.at)
        case syntax.Call() if node.function not in FUNCTIONS:
            problem = f"there is no function {node.function!r}"
            raise ExpressionError(problem + suggest(node.function, _FUNCTIONS), text, node.at)
        case syntax.Logic():
            return replace(node, parts=tuple(_named(part, text) for part in node.parts))
        case syntax.Not():
            return replace(node, part=_named(node.part, text))
    return node
