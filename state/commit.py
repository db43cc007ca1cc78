"""What one shard writes at once, as a value: the lane says what is true, the store writes it.

Most of it is alike in all shards of a commit, users and entries with their documents, and lies in
columns that they share (``Writes``). The rest is each shard's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.groups import distinct

I64 = NDArray[np.int64]

_NOBODY: Final = Texts.absent(0)


@dataclass(slots=True, frozen=True)
class Operation:
    """One command on one kind of key, for each shard that has arguments.

    Attributes:
        command: its name.
        kind, rest: which of a shard's keys.
        shard: of each argument, ascending, int64[k].
        fields: arguments, k.
        values: the argument behind each of them, k; None for none.
    """

    command: Literal["HSET", "HDEL", "APPEND"]
    kind: str
    shard: I64
    fields: Texts
    values: Texts | None = None
    rest: str = ""


@dataclass(slots=True, frozen=True)
class Writes:
    """What some shards write, in columns.

    Attributes:
        operations: in the order in which each shard does them, none of them empty.
    """

    operations: Sequence[Operation] = ()

    @property
    def shards(self) -> list[int]:
        """All that write any of it, ascending."""
        held = [np.empty(0, dtype=np.int64), *(each.shard for each in self.operations)]
        found: list[int] = distinct(np.concatenate(held)).tolist()
        return found

    def set(self, kind: str, shard: int) -> Texts:
        """The fields of a kind of hash that a shard sets."""
        for each in self.operations:
            if (each.command, each.kind) == ("HSET", kind):
                return each.fields.take(np.flatnonzero(each.shard == shard))
        return _NOBODY

    def count(self, kind: str) -> int:
        """How many fields of a kind of hash all of them set."""
        held = (e for e in self.operations if (e.command, e.kind) == ("HSET", kind))
        return sum(len(each.fields) for each in held)


NOTHING: Final = Writes()


@dataclass(slots=True)
class ShardCommit:
    """One atomic write of one shard. Everything in it is absolute; nothing is an increment.

    Attributes:
        shard: which shard.
        seq: the sequence of this commit, one above the last.
        expected: the sequence that the store must hold now; lower than ``seq - 1`` only when
            writing forward to a store that came back older.
        record: fields of the commit record beside the sequence: positions, clock, layout. Shards
            may share it.
        gone: ids of users who were forgotten; some may be among ``users`` anew.
        writes: its columns, shared with other shards: users, side tables, ids of events.
        dedup_dropped: buckets that ended.
        joined, left: user ids by segment.
        former: segments that are no more; in their sets is who has ``joined``, and nobody else.
        examples: what models are to learn of it; empty for none.
        changes: the encoded outbox entry; empty for none.
        change_count: how many changes it holds.
    """

    shard: int
    seq: int
    expected: int
    record: Mapping[str, bytes] = field(default_factory=dict)
    gone: list[bytes] = field(default_factory=list)
    writes: Writes = NOTHING
    dedup_dropped: Sequence[int] = ()
    joined: dict[str, list[bytes]] = field(default_factory=dict)
    left: dict[str, list[bytes]] = field(default_factory=dict)
    former: Sequence[str] = ()
    examples: bytes = b""
    changes: bytes = b""
    change_count: int = 0

    @property
    def users(self) -> Texts:
        """The ids of users of whom it tells anything."""
        return self.writes.set("state", self.shard)

    @property
    def listed(self) -> Texts:
        """The ids of users with new lists of items."""
        return self.writes.set("candidates", self.shard)


@dataclass(slots=True, frozen=True)
class Found:
    """What a store that came back older holds of one shard.

    Attributes:
        seq: the sequence.
        fields: of each side table and of the states.
        buckets: of ids of events.
    """

    seq: int
    fields: Mapping[str, list[bytes]]
    buckets: Sequence[int]


@dataclass(slots=True)
class StoredShard:
    """What the store holds of one shard, as it was loaded under a fence.

    Attributes:
        shard: which shard.
        fence: the fence now in force, ours.
        epoch: the fence's counter.
        seq: sequence of the last commit; 0 for none.
        record: the other fields of the commit record.
        users, states: user ids and their state records, n each.
        tables: side tables by name: fields and values.
        dedup: blocks of ids by bucket.
    """

    shard: int
    fence: bytes
    epoch: int
    seq: int
    record: dict[str, bytes]
    users: list[bytes]
    states: list[bytes]
    tables: dict[str, tuple[list[bytes], list[bytes]]]
    dedup: dict[int, bytes]
