"""The command that writes one shard, in the form in which it travels; see ``commit.lua``.

A lane under load sends one for each of its shards every few milliseconds, so what most of them have
in common is written once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from state.commit import ShardCommit

Part = bytes | memoryview
"""A piece of a command; of large arguments the memory in which they lie."""

_KEPT: Final = 16_384
"""Names of keys that are kept in their written form: those of some hundred shards."""


def written(argument: bytes) -> bytes:
    r"""An argument as it travels: its length, then its bytes.

    >>> written(b"HSET")
    b'$4\r\nHSET\r\n'
    """
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


_HSET, _HDEL, _SADD, _SREM, _APPEND, _UNLINK, _XADD, _EVALSHA, _EXAMPLES = map(
    written,
    (b"HSET", b"HDEL", b"SADD", b"SREM", b"APPEND", b"UNLINK", b"XADD", b"EVALSHA", b"examples"),
)
_NUMBERS: Final = [written(b"%d" % n) for n in range(1024)]


class CommitCommands:
    """Writes the commands of one store.

    Args:
        key: the name of a key of a shard, from its kind, the shard and what follows.
        sha: of ``commit.lua``.
    """

    def __init__(self, key: Callable[[str, int, str], str], sha: str) -> None:
        self._begin = _EVALSHA + written(sha.encode())
        self._key = lru_cache(_KEPT)(
            lambda kind, shard, rest="": written(key(kind, shard, rest).encode())
        )
        self._record: tuple[tuple[tuple[str, bytes], ...], bytes] = (), _number(0)

    def of(self, c: ShardCommit, fence: bytes, entries: Sequence[tuple[int, bytes]]) -> list[Part]:
        """The command of one shard.

        Args:
            c: what is written.
            fence: of whoever writes it.
            entries: of the outbox: sequences and changes.
        """
        key, shard = self._key, c.shard
        work = _Work(key("commit", shard), key("outbox", shard))
        if c.gone:
            for kind in ("profile", "state", "candidates"):
                work.add(_HDEL, key(kind, shard), len(c.gone), _all(c.gone))
        if len(c.users):
            work.add(_HSET, key("profile", shard), len(c.profiles), c.profiles.raw)
            work.add(_HSET, key("state", shard), len(c.states), c.states.raw)
        if len(c.listed):
            work.add(_HSET, key("candidates", shard), len(c.candidates), c.candidates.raw)
        for name, table in c.tables.items():
            if len(table.removed):
                work.add(_HDEL, key(name, shard), len(table.removed), table.removed.raw)
            if len(table.changed):
                work.add(_HSET, key(name, shard), len(table.changed), table.changed.raw)
        for segment in c.former:
            work.add(_UNLINK, key("members", shard, segment), 0, b"")
        for segment, users in c.left.items():
            work.add(_SREM, key("members", shard, segment), len(users), _all(users))
        for segment, users in c.joined.items():
            work.add(_SADD, key("members", shard, segment), len(users), _all(users))
        for bucket, block in c.dedup.items():
            work.add(_APPEND, key("dedup", shard, str(bucket)), 1, written(block))
        if c.examples:
            example = written(b"%d-*" % c.seq) + _EXAMPLES + written(c.examples)
            work.add(_XADD, key("examples", shard), 3, example)
        for bucket in c.dedup_dropped:
            work.add(_UNLINK, key("dedup", shard, str(bucket)), 0, b"")
        head = [written(fence), _number(c.expected), _number(c.seq), _number(2 * len(entries))]
        for seq, changes in entries:
            head += (_number(seq), written(changes))
        head.append(self._record_of(c))
        count = 3 + len(work.keys) + len(head) + 2 * len(c.record) + work.count
        begin = b"*%d\r\n" % count + self._begin + _number(len(work.keys))
        return [begin, *work.keys, *head, *work.parts]

    def _record_of(self, c: ShardCommit) -> bytes:
        """The fields of the commit record and their number; most shards have those of the last."""
        fields = tuple(c.record.items())
        if fields != self._record[0]:
            flat = chain.from_iterable((name.encode(), value) for name, value in fields)
            self._record = fields, _number(2 * len(fields)) + _all(flat)
        return self._record[1]


class _Work:
    """Operations of a command, and the keys that they name by their numbers.

    Attributes:
        keys: as they travel.
        parts: of the operations.
        count: of their arguments.
    """

    def __init__(self, *keys: bytes) -> None:
        self.keys = list(keys)
        self.parts: list[Part] = []
        self.count = 0

    def add(self, command: bytes, key: bytes, count: int, arguments: Part) -> None:
        self.keys.append(key)
        self.parts += (command, _number(len(self.keys)), _number(count), arguments)
        self.count += 3 + count


def _number(n: int) -> bytes:
    return _NUMBERS[n] if n < len(_NUMBERS) else written(b"%d" % n)


def _all(arguments: Iterable[bytes]) -> bytes:
    return b"".join(map(written, arguments))
