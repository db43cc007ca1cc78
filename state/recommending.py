"""What a lane asks of its recommender: it hands it events and takes lists, and never learns itself.

Items belong to no user and no shard: every lane holds all of them, learns at once what its own
users do, and takes over what the others' users did (``state.sharing``,
``docs/decisions/0010-every-lane-holds-all-items.md``). The lists are documents of users; they go
out in the commit that holds the events which changed them, or in the one after it
(``docs/decisions/0024-lists-follow-their-profiles.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from events.batch import Batch
from events.catalog import Facts
from events.texts import Texts
from state.groups import Groups
from state.labels import Labels
from state.table import Column, Table

I64 = NDArray[np.int64]


@dataclass(slots=True, frozen=True)
class Lists:
    """New lists of some users.

    Attributes:
        rows: the users', distinct, ascending, int64[n].
        documents: n.
    """

    rows: I64
    documents: Texts

    @classmethod
    def none(cls) -> Lists:
        """Nobody's."""
        return cls(np.empty(0, dtype=np.int64), Texts.absent(0))

    def take(self, index: I64) -> Lists:
        """Some of them, ascending."""
        return Lists(self.rows[index], self.documents.take(index))

    def then(self, newer: Lists) -> Lists:
        """These and newer ones, which stand in place of older ones of the same users."""
        if not len(self.rows):
            return newer
        kept = self.take(np.flatnonzero(~np.isin(self.rows, newer.rows)))
        rows = np.concatenate([kept.rows, newer.rows])
        both = Lists(rows, Texts.joined([kept.documents, newer.documents]))
        return both.take(np.argsort(rows))


@dataclass(slots=True, frozen=True)
class Served:
    """What experiments say of some users, n.

    Attributes:
        which: for each user, a place in ``changes``, int64[n].
        changes: settings of ``[recommend]`` that arms change, by their path.
        held_out: users who get what is popular and nothing of their own, bool[n].
        place: of each entry of the documents' ``experiment``, its user, ascending, int64[k].
        names, arms: of each entry.
    """

    which: I64
    changes: Sequence[Mapping[str, Any]]
    held_out: NDArray[np.bool_]
    place: I64
    names: Texts
    arms: Texts

    @classmethod
    def plainly(cls, n: int) -> Served:
        """No experiments."""
        none = np.zeros(n, dtype=np.int64)
        return cls(none, [{}], none > 0, none[:0], Texts.of([]), Texts.of([]))

    def take(self, index: I64) -> Served:
        """Of some users, ascending."""
        moved = np.full(len(self.which), -1, dtype=np.int64)
        moved[index] = np.arange(len(index))
        kept = np.flatnonzero(moved[self.place] >= 0)
        place = moved[self.place[kept]]
        named = self.names.take(kept), self.arms.take(kept)
        return Served(self.which[index], self.changes, self.held_out[index], place, *named)


class Recommender(Protocol):
    """Keeps what users had to do with last, learns items from it, and makes lists."""

    keeps: bool
    """Whether this lane is the one that stores the items."""

    exchange_ms: int
    """How often lanes exchange what they saw; 0 for never."""

    def columns(self) -> list[Column]:
        """What the users' table needs."""

    def tell_apart(self, labels: Labels) -> None:
        """Users may be told apart by their labels from now on."""

    def observe(self, table: Table, groups: Groups, batch: Batch) -> None:
        """A batch has been applied: learn from it, and note whose lists are old now."""

    def forget(self, rows: I64) -> None:
        """These users leave: what was shown to them is nobody's."""

    def waiting(self) -> int:
        """How many users wait for a new list."""

    def make(self, table: Table, ids: Texts, now_ms: I64, rows: I64, served: Served) -> Lists:
        """New lists for those of some users who ever had to do with an item.

        Args:
            table: the users.
            ids: theirs, n.
            now_ms: a time for each, int64[n].
            rows: distinct, ascending, int64[n].
            served: what experiments say of them.
        """

    def due(self, wall_ms: int | None) -> I64:
        """The users whose turn it is, distinct, ascending; they wait no more."""

    def restored(self, table: Table) -> None:
        """All users are loaded: note whose lists are older than what they did."""

    def quality(self) -> dict[str, dict[str, float | None]]:
        """By part, how it does; None for what is not known yet."""

    # -- items --------------------------------------------------------------------------------

    def outgoing(self) -> bytes:
        """What own users did since this was last asked; empty for nothing."""

    def take(self, block: bytes, *, own: bool = False) -> None:
        """Learn what a lane told; of what it told itself only what it has not learned yet."""

    def beside(self) -> bytes:
        """What is stored beside the items."""

    def begin_saving(self, *, everything: bool = False) -> None:
        """All items that have changed up to now are to be saved, or all there are."""

    def some_unsaved(self, most: int) -> tuple[list[bytes], list[bytes]]:
        """Fields and values of some of them, which count as saved then; empty after the last."""

    def forgotten(self, again: Sequence[bytes] = ()) -> list[bytes]:
        """Fields of items that are not kept any more, told once.

        Args:
            again: what was told before and could not be deleted; left out is what has come back.
        """

    def load_items(
        self, fields: Sequence[bytes], values: Sequence[bytes], beside: bytes = b""
    ) -> None:
        """Take over stored items, and what is stored beside them, in place of what is known."""

    # -- catalogue and rules ----------------------------------------------------------------------

    def take_facts(self, facts: Facts) -> None:
        """Take over what the catalogue says of items."""

    def take_rules(self, raw: bytes | None) -> None:
        """Take over the rules as they are stored; None if there are none."""

    def think(self) -> None:
        """Go on with what takes long, for a few milliseconds."""

    def steer(self, table: Table, now_ms: int, rules_ms: int) -> None:
        """Let catalogue and rules take effect; note whose lists must be made anew.

        Args:
            table: the users.
            now_ms: the lane's clock, which tells what lists still hold.
            rules_ms: what tells which rules hold.
        """
