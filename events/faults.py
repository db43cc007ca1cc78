"""What the parser says of a field, in the words of everything else: what must be, and what came."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_EXPECTED: Final = re.compile(
    r"Expected `(?P<kinds>[^`]*)`(?P<length> of length)?(?: (?P<sign>[<>]=) (?P<bound>[-0-9.]+))?"
    r"(?:, got `(?P<got>[^`]*)`)?\Z"
)
_KINDS: Final = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a map",
}
_STEP: Final = re.compile(r"\.([A-Za-z_]+)|\[([0-9]+)\]")
_SHOWN: Final = 60


def in_words(said: str, path: str, payload: bytes, *, packed: bool) -> str:
    """A sentence on a field that is not as it must be.

    Args:
        said: by the parser, without the path.
        path: of the field, such as ``$.tags[0]``.
        payload: the message.
        packed: whether it is MessagePack.

    >>> in_words("Expected `int | null`, got `str`", "$.n", b'{"n": "two"}', packed=False)
    "must be a whole number, but 'two' came"
    >>> in_words("Expected `str` of length <= 3", "$.a[1]", b'{"a": ["b", "cccc"]}', packed=False)
    "must be a text of at most 3 characters, but 'cccc' came"
    """
    found = _EXPECTED.match(said)
    if not found:
        return said
    kinds = [kind for kind in found["kinds"].split(" | ") if kind != "null"]
    must = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
    if found["sign"]:
        must += " of at least" if found["sign"] == ">=" else " of at most"
        must += f" {found['bound'].removesuffix('.0')}"
    if found["length"]:
        must += " characters" if kinds == ["str"] else " entries"
    try:
        came = f"{_at(path, payload, packed=packed)!r:.{_SHOWN}}"
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError):
        came = _KINDS.get(found["got"], found["got"] or "something else")
    return f"must be {must}, but {came} came"


def _at(path: str, payload: bytes, *, packed: bool) -> Any:
    """What a message holds there."""
    value = (msgspec.msgpack if packed else msgspec.json).decode(payload)
    for name, place in _STEP.findall(path):
        value = value[name or int(place)]
    return value
