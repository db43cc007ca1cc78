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

I64 = NDArray[np.int64]

_NOBODY: Final = Texts.absent(0)


@dataclass(slots=True, frozen=True)
class Operation:
    """One command on one kind of key, for each of some shards.

    Attributes:
        command: its name.
        kind, rest: which of a shard's keys.
        bounds: the i-th shard's arguments begin at ``bounds[i]`` and end before ``bounds[i + 1]``,
            int64[shards + 1]; a shard without any has no command.
        fields: arguments, k.
        values: the argument behind each of them, k; None for none.
    """

    command: Literal["HSET", "HDEL", "APPEND"]
    kind: str
    bounds: I64
    fields: Texts
    values: Texts | None = None
    rest: str = ""


@dataclass(slots=True, frozen=True)
class Writes:
    """What some shards write, in columns.

    Attributes:
        shards: which, in order.
        operations: in the order in which each shard does them.
    """

    shards: Sequence[int] = ()
    operations: Sequence[Operation] = ()

    def set(self, kind: str, place: int) -> Texts:
        """The fields of a kind of hash that the shard at a place sets."""
        for each in self.operations:
            if (each.command, each.kind) == ("HSET", kind):
                return each.fields.between(int(each.bounds[place]), int(each.bounds[place + 1]))
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
        writes: where it has its columns: users, side tables, ids of events.
        place: its own place there.
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
    place: int = 0
    dedup_dropped: Sequence[int] = ()
    joined: dict[str, list[bytes]] = field(default_factory=dict)
    left: dict[str, list[bytes]] = field(default_factory=dict)
    former: Sequence[str] = ()
    examples: bytes = b""
    changes: bytes = b""
    change_count: int = 0

    @property
    def users(self) -> Texts:
        """The ids of its users."""
        return self.writes.set("profile", self.place)

    @property
    def listed(self) -> Texts:
        """The ids of users with new lists of items."""
        return self.writes.set("candidates", self.place)


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
