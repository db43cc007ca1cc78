"""What one shard writes at once, as a value: the lane says what is true, the store writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from events.texts import Texts
from state.bulk import NOTHING, Bulk

_NOBODY: Final = Texts.absent(0)


@dataclass(slots=True)
class TableWrite:
    """Changed entries of one side table.

    Attributes:
        changed: fields to set with their values.
        removed: fields to remove.
    """

    changed: Bulk = NOTHING
    removed: Bulk = NOTHING


@dataclass(slots=True)
class ShardCommit:
    """One atomic write of one shard. Everything in it is absolute; nothing is an increment.

    Attributes:
        shard: which shard.
        seq: the sequence of this commit, one above the last.
        expected: the sequence that the store must hold now; lower than ``seq - 1`` only when
            writing forward to a store that came back older.
        record: fields of the commit record beside the sequence: positions, clock, layout.
        gone: ids of users who were forgotten; some may be among ``users`` anew.
        users: user ids, n.
        profiles, states: each user's id with the document or the record.
        listed: users with new lists of items.
        candidates: each one's id with the list.
        tables: side tables by name.
        dedup: blocks of ids to append, by bucket.
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
    record: dict[str, bytes] = field(default_factory=dict)
    gone: list[bytes] = field(default_factory=list)
    users: Texts = _NOBODY
    profiles: Bulk = NOTHING
    states: Bulk = NOTHING
    listed: Texts = _NOBODY
    candidates: Bulk = NOTHING
    tables: dict[str, TableWrite] = field(default_factory=dict)
    dedup: dict[int, bytes] = field(default_factory=dict)
    dedup_dropped: Sequence[int] = ()
    joined: dict[str, list[bytes]] = field(default_factory=dict)
    left: dict[str, list[bytes]] = field(default_factory=dict)
    former: Sequence[str] = ()
    examples: bytes = b""
    changes: bytes = b""
    change_count: int = 0


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
