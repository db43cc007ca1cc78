"""Columns of files of events: which there must be, and under which names they may come."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from events.schema import TYPES

FIELDS: Final = (
    *("event_id", "user_id", "type", "ts", "source", "item_id", "category", "amount", "currency"),
    *("quantity", "order_id", "session_id", "device", "country", "value"),
)
REQUIRED: Final = ("event_id", "user_id", "type", "ts")
_SHOWN: Final = 60


class RowError(Exception):
    """A file cannot be read as events; the message says what to do."""


def parse_pairs(texts: Sequence[str], flag: str) -> dict[str, str]:
    """``a=b`` options as a map.

    >>> parse_pairs(["user_id=visitor"], "--map")
    {'user_id': 'visitor'}

    Raises:
        RowError: an option of another form, or one that contradicts another.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        left, mark, right = text.partition("=")
        if not (left and mark and right):
            raise RowError(f"{flag} {text}: must be of the form NAME=VALUE")
        if pairs.setdefault(left, right) != right:
            raise RowError(
                f"{flag} {left}= must be given once, but {flag} {left}={pairs[left]} and "
                f"{flag} {text} came; leave one of them out"
            )
    return pairs


def check_options(columns: Mapping[str, str], types: Mapping[str, str]) -> None:
    """Refuse a mapping to what the contract does not have.

    Args:
        columns: contract field to the column it is taken from.
        types: the file's value of ``type`` to the contract's.

    Raises:
        RowError: there is no such field or type.
    """
    for name, column in columns.items():
        if name not in FIELDS:
            hint = _near(name, FIELDS)
            raise RowError(f"--map {name}={column}: the contract has no field {name!r}; {hint}")
    for old, name in types.items():
        if name not in TYPES:
            hint = _near(name, TYPES)
            raise RowError(f"--type {old}={name}: the contract has no type {name!r}; {hint}")


def check_columns(path: Path, columns: Mapping[str, str], there: Sequence[str]) -> None:
    """Refuse a table without the columns that are mapped or required; all that lack are named.

    Args:
        path: of the file.
        columns: contract field to the column it is taken from.
        there: the table's columns.

    Raises:
        RowError: some lack.
    """
    absent = {name: column for name, column in columns.items() if column not in there}
    needed = [name for name in REQUIRED if name not in columns and name not in there]
    shown, said = ", ".join(there), []
    if absent:
        maps = ", ".join(f"--map {name}={column}" for name, column in absent.items())
        said.append(
            f"{maps}: there is no column {listed(absent.values(), 'or')}; there are {shown}"
        )
    if len(needed) == 1:
        said.append(
            f"a column {needed[0]!r} is needed; say which one it is with "
            f"--map {needed[0]}=<one of {shown}>"
        )
    elif needed:
        maps = " ".join(f"--map {name}=<column>" for name in needed)
        said.append(
            f"columns {listed(needed, 'and')} are needed; say which ones they are with {maps}, "
            f"of {shown}"
        )
    if said:
        raise RowError(f"{path}: {'; '.join(said)}")


def check_header(path: Path, header: Sequence[str], names: Collection[str]) -> None:
    """Refuse the header of a CSV that is none, or that has a column twice.

    Args:
        path: of the file.
        header: its first line.
        names: of the columns that are read; others may be there as often as they like.

    Raises:
        RowError: it is not as it must be.
    """
    if not header:
        raise RowError(f"{path}: must begin with a line of column names, but is empty")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise RowError(
                f"{path}: columns must be separated by commas, but {name} separate their names: "
                f"{header[0][:_SHOWN]!r}; save it with commas"
            )
    for name in header:
        if name in names and header.count(name) > 1:
            raise RowError(
                f"{path}: there are {header.count(name)} columns {name!r}; one is needed: rename "
                "or remove the others"
            )


def listed(names: Collection[str], joint: str) -> str:
    """Names in words: ``'a', 'b' or 'c'``."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} {joint} {last}" if first else last


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
