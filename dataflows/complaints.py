"""What is wrong with settings, one readable line each: where, what is needed, what came."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from dataflows.sections import Settings

_SECRET: Final = frozenset({"kafka.password", "kafka.options", "redis.url", "serve.tokens"})
"""Settings that are, or may hold, a secret."""
_FORMS: Final = {
    "serve.address": "must be host:port, such as 127.0.0.1:8080",
    "metrics.address": "must be host:port, such as 127.0.0.1:9109, or empty for none",
}
"""What the text of a setting must look like, in words."""
_MOST: Final = 80
"""Characters of a wrong value that are shown."""


def lines(error: ValidationError, section: Sequence[str] = (), hidden: int = 0) -> Iterator[str]:
    """One line per wrong value, in the order of the sections.

    Args:
        error: what was found.
        section: which one was looked at, if not all; paths begin with it.
        hidden: so much of the section is not shown, because whoever wrote it did not write that.
    """
    for problem in error.errors(include_url=False):
        yield _line(_place((*section, *problem["loc"])), problem, hidden)


def _place(location: Sequence[int | str]) -> list[str]:
    """A path as it is written; a feature's kind is no part of it."""
    place = [str(part) for part in location]
    if place[0] == "features" and place[2:3] in (["decayed"], ["count"]):
        del place[2]
    return place[:-1] if place[-1] == "[key]" else place


def _line(place: list[str], problem: Mapping[str, Any], hidden: int) -> str:
    full, path, kind = ".".join(place), ".".join(place[hidden:]), problem["type"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], _known(place[:-1]), 1)
        return f"{path}: there is no such setting" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    if kind == "missing":
        return f"{path}: is needed, but is not there"
    if kind == "union_tag_not_found":
        return f"{path}.kind: is needed: decayed or count, but is not there"
    if kind == "union_tag_invalid":
        return f"{path}.kind: must be decayed or count, but {problem['ctx']['tag']!r} came"
    needed = problem["msg"].removeprefix("Value error, ")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        needed = "must be a table of settings"
    if full in _FORMS and kind in ("string_type", "string_pattern_mismatch"):
        needed = _FORMS[full]
    return f"{path}: {needed[0].lower()}{needed[1:]}, but {_shown(full, problem['input'])} came"


def _shown(path: str, value: Any) -> str:
    """A wrong value; not a secret, and not all of a long one."""
    if path in _SECRET:
        return f"{type(value).__name__} (hidden)"
    text = repr(value)
    return text if len(text) <= _MOST else text[:_MOST] + "…"


def _known(place: Sequence[str]) -> list[str]:
    """The settings that there are at a place."""
    schema = Settings.model_json_schema()
    nodes = list(_tables(schema, schema["$defs"]))
    for part in place:
        children = (_child(node, part) for node in nodes)
        nodes = [table for child in children for table in _tables(child, schema["$defs"])]
    return [name for node in nodes for name in node.get("properties", {})]


def _child(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a table of the schema says of one name in it; of names that users choose, of all."""
    children: list[Any] = [
        node.get("properties", {}).get(name),
        *node.get("patternProperties", {}).values(),
        node.get("additionalProperties"),
    ]
    return next((child for child in children if isinstance(child, dict)), {})


def _tables(node: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A node of the schema without references and choices."""
    if "$ref" in node:
        yield from _tables(named[node["$ref"].rpartition("/")[2]], named)
        return
    choices = node.get("oneOf") or node.get("anyOf")
    if not choices:
        yield node
    for choice in choices or ():
        yield from _tables(choice, named)
