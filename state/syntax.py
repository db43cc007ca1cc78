"""The tree of an expression: what was written, not yet what it means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A part of an expression; ``at`` is its first character, ``depth`` its height."""

    at: int
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text or truth value; ``duration`` marks milliseconds written with units."""

    value: int | float | str | bool
    duration: bool = False


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A feature."""

    name: str


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of some arguments."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """``left + right`` and its like; a minus sign is ``0 - right``."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Comparison(Node):
    """``left < right`` and its like; ``at`` is the operator's place."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """``and`` or ``or`` of two or more parts."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """The opposite of a condition."""

    part: Node
