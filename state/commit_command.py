"""The commands that write shards, in the form in which they travel; see ``commit.lua``.

A lane under load sends one for each of its shards every few milliseconds. What they have in columns
is written from there (``state.commit_writing``), and what is alike in most of them once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.texts import Texts
from state.commit import ShardCommit, Writes
from state.commit_writing import Frames, Keys, commands, keys_before_own

I64 = NDArray[np.int64]

_KEPT: Final = 16_384
"""Names of keys that are kept in their written form: those of some hundred shards."""
_KEPT_FIELDS: Final = 1_024
"""Fields of commit records that are kept in their written form: shards have many alike."""
_KEPT_KINDS: Final = 64
"""Kinds of keys whose names for all shards are kept together; buckets of ids come and go."""


def written(argument: bytes) -> bytes:
    r"""An argument as it travels: its length, then its bytes.

    >>> written(b"HSET")
    b'$4\r\nHSET\r\n'
    """
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


_EMPTY: Final = Texts.of_bytes([b""])
_IN_HEAD: Final = 5
"""Arguments between the keys and the operations, entries and fields of the record aside."""

_HDEL, _SADD, _SREM, _UNLINK, _XADD, _EVALSHA = map(
    written, (b"HDEL", b"SADD", b"SREM", b"UNLINK", b"XADD", b"EVALSHA")
)
_NUMBERS: Final = [written(b"%d" % n) for n in range(1024)]


class CommitCommands:
    """Writes the commands of one store.

    Args:
        key: the name of a key of a shard, from its kind, the shard and what follows.
        sha: of ``commit.lua``.
    """

    def __init__(self, key: Callable[[str, int, str], str], sha: str) -> None:
        self._begin = Texts.of_bytes([_EVALSHA + written(sha.encode())])
        self._key = lru_cache(_KEPT)(
            lambda kind, shard, rest="": written(key(kind, shard, rest).encode())
        )
        self._keys = lru_cache(_KEPT_KINDS)(self._keys_of)
        self._names = lru_cache(_KEPT_KINDS)(self._names_of)
        self._first_keys = lru_cache(_KEPT_KINDS)(self._first_keys_of)

    def of(
        self,
        commits: Sequence[ShardCommit],
        fences: Sequence[bytes],
        entries: Sequence[Sequence[tuple[int, bytes]]],
    ) -> list[memoryview]:
        """The commands of some shards.

        Args:
            commits: what is written, n.
            fences: of whoever writes it, n.
            entries: of each shard's outbox: sequences and changes, n.
        """
        out: list[memoryview] = []
        shared = groupby(
            zip(commits, fences, entries, strict=True), lambda each: id(each[0].writes)
        )
        for _, some in shared:
            out += self._with_columns(*zip(*some, strict=True))
        return out

    def _with_columns(
        self,
        commits: Sequence[ShardCommit],
        fences: Sequence[bytes],
        entries: Sequence[Sequence[tuple[int, bytes]]],
    ) -> list[memoryview]:
        """The commands of shards that share their columns."""
        writes, n = commits[0].writes, len(commits)
        shards = np.array([c.shard for c in commits], dtype=np.int64)
        most = int(shards.max()) + 1
        own = self._own(commits, writes, shards)
        beside = zip(entries, commits, own, strict=True)
        numbers = np.array(
            [
                [c.expected for c in commits],
                [c.seq for c in commits],
                [2 * len(each) for each in entries],
                [len(each.keys) for each in own],
                [_IN_HEAD + 2 * (len(e) + len(c.record)) + o.count for e, c, o in beside],
            ]
        )
        parts = [
            self._begin.take(np.zeros(n, dtype=np.int64)),
            self._first_keys(most).take(shards),
            _together([each.keys for each in own]),
            _fences_of(tuple(fences)),
            _together(list(map(_entries_of, entries))),
            _records_of([c.record for c in commits]),
            _together([each.before for each in own]),
            _together([each.after for each in own]),
        ]
        keys = self._keys(tuple((each.kind, each.rest) for each in writes.operations), most)
        return commands(writes, keys, Frames(shards, numbers, parts))

    def _own(self, commits: Sequence[ShardCommit], writes: Writes, shards: I64) -> list[_Own]:
        """What each shard has that no other has: most of them nothing."""
        if not any(map(_has_own, commits)):
            return [_NO_OWN] * len(commits)
        first = keys_before_own(writes, shards).tolist()
        return [
            self._own_of(c, number) if _has_own(c) else _NO_OWN
            for c, number in zip(commits, first, strict=True)
        ]

    def _own_of(self, c: ShardCommit, number: int) -> _Own:
        """The operations of one shard alone; so many keys come before theirs."""
        own, key, shard = _Own(number), self._key, c.shard
        if c.gone:
            for kind in ("profile", "state", "candidates"):
                own.add(_HDEL, key(kind, shard), c.gone, first=True)
        for segment in c.former:
            own.add(_UNLINK, key("members", shard, segment))
        for segment, users in c.left.items():
            own.add(_SREM, key("members", shard, segment), users)
        for segment, users in c.joined.items():
            own.add(_SADD, key("members", shard, segment), users)
        if c.examples:
            own.add(_XADD, key("examples", shard), (b"%d-*" % c.seq, b"examples", c.examples))
        for bucket in c.dedup_dropped:
            own.add(_UNLINK, key("dedup", shard, str(bucket)))
        return own

    def _keys_of(self, kinds: tuple[tuple[str, str], ...], most: int) -> Keys:
        """The keys of operations on some kinds, of all shards from 0 on."""
        return Keys.of([self._names(kind, rest, most) for kind, rest in kinds])

    def _names_of(self, kind: str, rest: str, most: int) -> Texts:
        return Texts.of_bytes([self._key(kind, shard, rest) for shard in range(most)])

    def _first_keys_of(self, most: int) -> Texts:
        """The commit record and the outbox of all shards from 0 on."""
        kinds = ("commit", "outbox")
        return Texts.of_bytes([b"".join(self._key(k, s) for k in kinds) for s in range(most)])


class _Own:
    """Operations of one shard alone, and the keys that they name by their numbers.

    Attributes:
        keys: of them.
        before: those that come before the operations of the columns, as they travel.
        after: those that come after them.
        count: of all their arguments.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.keys: list[bytes] = []
        self.before: list[bytes] = []
        self.after: list[bytes] = []
        self.count = 0

    def add(
        self, command: bytes, key: bytes, arguments: Sequence[bytes] = (), *, first: bool = False
    ) -> None:
        self.keys.append(key)
        number, count = _number(self._number + len(self.keys)), _number(len(arguments))
        side = self.before if first else self.after
        side += (command, number, count, *map(written, arguments))
        self.count += 3 + len(arguments)


_NO_OWN: Final = _Own(0)


def _number(n: int) -> bytes:
    return _NUMBERS[n] if n < len(_NUMBERS) else written(b"%d" % n)


def _has_own(c: ShardCommit) -> bool:
    return bool(c.gone or c.former or c.left or c.joined or c.examples or c.dedup_dropped)


@lru_cache(_KEPT_KINDS)
def _fences_of(fences: tuple[bytes, ...]) -> Texts:
    return Texts.of_bytes(list(map(written, fences)))


def _together(parts: Sequence[Sequence[bytes]]) -> Texts:
    """What lies ready for each shard, one piece behind another."""
    if not any(parts):
        return _EMPTY.take(np.zeros(len(parts), dtype=np.int64))
    return Texts.of_bytes([b"".join(each) for each in parts])


def _entries_of(entries: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Entries of the outbox."""
    return [_number(seq) + written(changes) for seq, changes in entries]


def _records_of(records: Sequence[Mapping[str, bytes]]) -> Texts:
    """The fields of commit records, and before them how many arguments they are."""
    distinct: dict[int, int] = {}
    which = [distinct.setdefault(id(record), len(distinct)) for record in records]
    found = {id(record): record for record in records}
    return Texts.of_bytes(list(map(_record_of, found.values()))).take(np.array(which))


def _record_of(record: Mapping[str, bytes]) -> bytes:
    fields = [_field(name, value) for name, value in record.items()]
    return b"".join([_number(2 * len(fields)), *fields])


@lru_cache(_KEPT_FIELDS)
def _field(name: str, value: bytes) -> bytes:
    return written(name.encode()) + written(value)
