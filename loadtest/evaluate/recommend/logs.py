"""Real logs as users that meet items, in numbers.

The order is that of the files: by time, and events of one millisecond by their row in the source.
Users and items are numbered in the order in which they first come.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from loadtest.evaluate.logs import DATA

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
Texts = NDArray[np.str_]


@dataclass(slots=True, frozen=True)
class Interactions:
    """Events in order, one row each.

    Attributes:
        name: of the log.
        user: whose history an event extends: a session of ``serenade_bol``, else a user, int64[n].
        item: what it is about, int64[n].
        ts_ms: when, int64[n].
        turn: events of one turn come together (a basket), so they are foretold together and
            learned after that; a turn's rows follow each other, int64[n].
        weight: what a recommender is told, float64[n].
        texts: other columns of the file by name, text[n].
        users, items: how many there are.
    """

    name: str
    user: I64
    item: I64
    ts_ms: I64
    turn: I64
    weight: F64
    texts: Mapping[str, Texts] = field(default_factory=dict)

    @property
    def users(self) -> int:
        """Users that ever come."""
        return int(self.user.max(initial=-1)) + 1

    @property
    def items(self) -> int:
        """Items that ever come: the catalogue."""
        return int(self.item.max(initial=-1)) + 1

    def __len__(self) -> int:
        return len(self.item)

    def rows(self, chosen: I64 | Bools) -> Interactions:
        """Some of the events, in the order given; users and items keep their numbers."""
        return Interactions(
            self.name,
            self.user[chosen],
            self.item[chosen],
            self.ts_ms[chosen],
            self.turn[chosen],
            self.weight[chosen],
            {name: text[chosen] for name, text in self.texts.items()},
        )

    def of_items(self, column: str) -> Texts:
        """A text of each item, from its first event that has one, text[items].

        >>> kinds = {"kind": np.array(["", "tea", "cup"])}
        >>> log = interactions("x", ["a", "b", "a"], ["p", "q", "p"], [1, 2, 3], texts=kinds)
        >>> log.of_items("kind").tolist()
        ['cup', 'tea']
        """
        texts = self.texts[column]
        found = np.zeros(self.items, texts.dtype)
        rows = np.flatnonzero(texts != "")[::-1]
        found[self.item[rows]] = texts[rows]  # the last assignment stays, so the first event's
        return found


def interactions(
    name: str,
    users: Sequence[str] | Texts,
    items: Sequence[str] | Texts,
    ts_ms: Sequence[int] | I64,
    turns: Sequence[str] | Texts | None = None,
    texts: Mapping[str, Texts] | None = None,
) -> Interactions:
    """A log from columns in order of time; every event is a turn, unless turns are named.

    A turn comes when its first event does; one that other events interrupt is put together.

    >>> log = interactions("x", ["a", "b", "a"], ["p", "q", "q"], [1, 2, 3])
    >>> log.user.tolist(), log.item.tolist(), log.turn.tolist()
    ([0, 1, 0], [0, 1, 1], [0, 1, 2])
    """
    turn = np.arange(len(users)) if turns is None else numbered(turns)
    order = np.argsort(turn, kind="stable")
    return Interactions(
        name,
        numbered(users)[order],
        numbered(items)[order],
        np.asarray(ts_ms, np.int64)[order],
        turn[order],
        np.ones(len(users)),
        {name: text[order] for name, text in (texts or {}).items()},
    )


def numbered(values: Sequence[str] | Texts) -> I64:
    """Numbers instead of values, in the order in which they first come, int64[n].

    >>> numbered(["b", "a", "b", "c"]).tolist()
    [0, 1, 0, 2]
    """
    _, first, which = np.unique(np.asarray(values), return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[which]


@dataclass(slots=True, frozen=True)
class Source:
    """One file, and how it is read.

    Attributes:
        name: of the file, without ``.csv.gz``.
        kind: the type of the events that count.
        user: the column of whose history an event extends.
        baskets: whether events of one user and session come together.
        texts: columns that are kept beside.
    """

    name: str
    kind: str
    user: str = "user_id"
    baskets: bool = False
    texts: tuple[str, ...] = ()

    def read(self, data: Path = DATA) -> Interactions:
        """The events that count.

        Raises:
            FileNotFoundError: there is no such file in the folder.
        """
        path = data / f"{self.name}.csv.gz"
        if not path.is_file():
            raise FileNotFoundError(f"the log {self.name} is needed, but there is no file {path}")
        columns = _columns(path, self.kind, (self.user, "item_id", "ts", "session_id", *self.texts))
        users, items, ts, sessions, *texts = columns
        turns = np.char.add(np.char.add(users, "|"), sessions) if self.baskets else None
        kept = dict(zip(self.texts, texts, strict=True))
        return interactions(self.name, users, items, ts.astype(np.int64), turns, kept)


SERENADE: Final = Source("serenade_bol", "view", user="session_id", texts=("split",))
"""Kersbergen, Sprangers and Schelter, "Serenade", SIGMOD 2022: clicks in sessions of a shop."""

MOVIES: Final = Source("movietweetings_100k", "rating", texts=("category",))
"""MovieTweetings: films that people rated, whatever the rating; category is genres."""

BASKETS: Final = Source(
    "complete_journey_sample", "purchase", baskets=True, texts=("category", "department", "brand")
)
"""dunnhumby, "The Complete Journey": baskets of households."""


def _columns(path: Path, kind: str, names: Iterable[str]) -> list[Texts]:
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows)
        of_kind, item = header.index("event_type"), header.index("item_id")
        places = [header.index(name) for name in names]
        kept = [
            [row[at] for at in places] for row in rows if row[of_kind] == kind and row[item] != ""
        ]
    return [np.array(column) for column in zip(*kept, strict=True)]
