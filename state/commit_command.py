"""The command that writes one shard, in the form in which it travels; see ``commit.lua``.

A lane under load sends one for each of its shards every few milliseconds, so what most of them have
in common is written once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from events.texts import Texts
from state.commit import NOTHING, Operation, ShardCommit, Writes
from state.commit_body import EMPTY, Body, bodies

Part = bytes | memoryview
"""A piece of a command; of large arguments the memory in which they lie."""

_KEPT: Final = 16_384
"""Names of keys that are kept in their written form: those of some hundred shards."""
_KEPT_KINDS: Final = 64
"""Kinds of keys whose names for all shards are kept together; buckets of ids come and go."""


def written(argument: bytes) -> bytes:
    r"""An argument as it travels: its length, then its bytes.

    >>> written(b"HSET")
    b'$4\r\nHSET\r\n'
    """
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


_HDEL, _SADD, _SREM, _UNLINK, _XADD, _EVALSHA, _EXAMPLES = map(
    written, (b"HDEL", b"SADD", b"SREM", b"UNLINK", b"XADD", b"EVALSHA", b"examples")
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
        self._names = lru_cache(_KEPT_KINDS)(self._names_of)
        self._record: tuple[tuple[tuple[str, bytes], ...], bytes] = (), _number(0)
        self._bodies: tuple[Writes, dict[int, Body]] = NOTHING, {}

    def of(self, c: ShardCommit, fence: bytes, entries: Sequence[tuple[int, bytes]]) -> list[Part]:
        """The command of one shard.

        Args:
            c: what is written.
            fence: of whoever writes it.
            entries: of the outbox: sequences and changes.
        """
        body, key, shard = self._body_of(c), self._key, c.shard
        keys: list[Part] = [key("commit", shard), key("outbox", shard), body.keys]
        head = [written(fence), _number(c.expected), _number(c.seq), _number(2 * len(entries))]
        for seq, changes in entries:
            head += (_number(seq), written(changes))
        head.append(self._record_of(c))
        own = _Own(2 + body.key_count)
        if c.gone:
            for kind in ("profile", "state", "candidates"):
                own.add(_HDEL, key(kind, shard), len(c.gone), _all(c.gone))
        own.parts.append(body.operations)
        for segment in c.former:
            own.add(_UNLINK, key("members", shard, segment), 0, b"")
        for segment, users in c.left.items():
            own.add(_SREM, key("members", shard, segment), len(users), _all(users))
        for segment, users in c.joined.items():
            own.add(_SADD, key("members", shard, segment), len(users), _all(users))
        if c.examples:
            example = written(b"%d-*" % c.seq) + _EXAMPLES + written(c.examples)
            own.add(_XADD, key("examples", shard), 3, example)
        for bucket in c.dedup_dropped:
            own.add(_UNLINK, key("dedup", shard, str(bucket)), 0, b"")
        shared = 2 * len(c.record) + body.argument_count
        count = 3 + own.number + len(head) + shared + own.count
        begin = b"*%d\r\n" % count + self._begin + _number(own.number)
        return [begin, *keys, *own.keys, *head, *own.parts]

    def _body_of(self, c: ShardCommit) -> Body:
        """What it has of the columns that it shares with others: all are written at once."""
        if not c.writes.operations:
            return EMPTY
        if c.writes is not self._bodies[0]:
            self._bodies = c.writes, bodies(c.writes, self._keys_of)
        return self._bodies[1].get(c.shard, EMPTY)

    def _keys_of(self, operation: Operation, most: int) -> Texts:
        """The keys of an operation, of all shards from 0 on."""
        return self._names(operation.kind, operation.rest, most)

    def _names_of(self, kind: str, rest: str, most: int) -> Texts:
        return Texts.of_bytes([self._key(kind, shard, rest) for shard in range(most)])

    def _record_of(self, c: ShardCommit) -> bytes:
        """The fields of the commit record and their number; most shards have those of the last."""
        fields = tuple(c.record.items())
        if fields != self._record[0]:
            flat = chain.from_iterable((name.encode(), value) for name, value in fields)
            self._record = fields, _number(2 * len(fields)) + _all(flat)
        return self._record[1]


class _Own:
    """Operations of one shard alone, and the keys that they name by their numbers.

    Attributes:
        number: how many keys the command has.
        keys: those added here, as they travel.
        parts: of the operations.
        count: of the arguments added here.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.keys: list[Part] = []
        self.parts: list[Part] = []
        self.count = 0

    def add(self, command: bytes, key: bytes, count: int, arguments: Part) -> None:
        self.number += 1
        self.keys.append(key)
        self.parts += (command, _number(self.number), _number(count), arguments)
        self.count += 3 + count


def _number(n: int) -> bytes:
    return _NUMBERS[n] if n < len(_NUMBERS) else written(b"%d" % n)


def _all(arguments: Iterable[bytes]) -> bytes:
    return b"".join(map(written, arguments))
