"""The store: Redis or Valkey as the checkpoint.

A shard has one owner at a time. The owner takes a **fence** (an epoch plus random bits) before it
loads anything, and every commit names that fence and the sequence it builds on, so that a writer
that was replaced, however long it slept, writes nothing. One Lua script writes one shard
(``commit.lua``); the scripts of all shards of a commit travel in one round trip.

Keys, with ``{07}`` as the hash tag of shard 7, so that a cluster keeps a shard on one node::

    ag:profile:{07}            hash    user id -> profile (MessagePack)
    ag:state:{07}              hash    user id -> state record
    ag:candidates:{07}         hash    user id -> list of items (MessagePack)
    ag:<table>:{07}            hash    side tables: orders, carts, parked
    ag:members:{07}:<segment>  set     user ids
    ag:outbox:{07}             stream  changes that are decided and maybe not yet published
    ag:dedup:{07}:<bucket>     string  ids of events, by event time
    ag:examples:{07}           stream  what models have not learned yet
    ag:commit:{07}             hash    fence, epoch, sequence, positions, clock, layout
    ag:meta                    hash    what must not change under the data; see ``state.meta``
    ag:cuts, ag:models         string  statistics that lanes share
    ag:trainer                 string  the memory of the lane that learns
    ag:reset                   string  models that it is to begin anew, JSON
    ag:items                   hash    item id -> record; see ``state.item_store``
    ag:segments                hash    revision -> definitions of segments, JSON
    ag:rules                   string  rules over what is recommended, JSON
    ag:interactions            stream  what lanes tell each other about items
    ag:experiments             string  what was ruled about experiments
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import resources
from itertools import islice
from typing import Any, TypeVar

import msgspec

from state.commit import ShardCommit, StoredShard
from state.commit_command import CommitCommands
from state.example_store import ExampleStore
from state.lane_places import LanePlaces
from state.meta import Meta
from state.outbox import Outbox
from state.servers import TROUBLE, Sent, Servers
from state.store_errors import (
    FencedOff,
    StoreError,
    StoreSetBack,
    StoreUnavailable,
    in_words,
    unanswered,
)

T = TypeVar("T")

_FENCE = """
local held = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
local epoch = string.format('%.0f', math.max(held + 1, tonumber(ARGV[2])))
redis.call('HSET', KEYS[1], 'epoch', epoch, 'fence', epoch .. ':' .. ARGV[1])
return redis.call('HGETALL', KEYS[1])
"""
"""The epoch is the time, and above the stored one: a store that was set back gives none twice."""


class Store:
    """All shards of one key prefix.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address of a server, or of one of a cluster.
        prefix: starts every key; without braces.
        shards: how many shards the data are split into.
        timeout_s: how long one answer may take.
        give_up_s: how long errors may last before ``StoreUnavailable``.

    Attributes:
        outbox: changes that may not be published yet.
        examples: what models have not learned yet.
        lane_places: how far each lane is in the log.
        meta: what must not change under the data.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "ag",
        shards: int = 64,
        *,
        timeout_s: float = 5.0,
        give_up_s: float = 30.0,
    ) -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError(
                f"redis.prefix must hold no braces, because they mark the shard, but is {prefix!r}"
            )
        self.prefix = prefix
        self.shards = shards
        self._give_up_s = give_up_s
        script = resources.files("state").joinpath("commit.lua").read_bytes()
        self._servers = Servers(url, timeout_s, script)
        self._commands = CommitCommands(self.key, self._servers.sha)
        self._fences: dict[int, bytes] = {}
        self._sent: list[ShardCommit] = []
        self._on_way: Sent | None = None
        self.outbox = Outbox(self._servers, partial(self.key, "outbox"))
        self.lane_places = LanePlaces(self._servers, f"{prefix}:places")
        self.meta = Meta(self._servers, prefix, shards, partial(secrets.randbits, 63))
        self.examples = ExampleStore(self._servers, partial(self.key, "examples"), range(shards))

    # -- keys ---------------------------------------------------------------------------------

    def key(self, kind: str, shard: int, rest: str = "") -> str:
        """Name of one of a shard's keys: ``ag:profile:{07}``."""
        return f"{self.prefix}:{kind}:{{{shard:02d}}}" + (f":{rest}" if rest else "")

    # -- start --------------------------------------------------------------------------------

    def positions(self) -> dict[int, int]:
        """Per source partition the lowest position of any shard, where reading must start.

        A partition that some shard has no position in is not among them: it must be read from the
        first offset that it holds.
        """
        with in_words("positions could not be read"):
            pipe = self.client.pipeline(transaction=False)
            for shard in range(self.shards):
                pipe.hget(self.key("commit", shard), "positions")
            found = pipe.execute()
        held = [msgspec.json.decode(raw, type=dict[int, int]) if raw else {} for raw in found]
        common = set(held[0]).intersection(*held[1:])
        return {partition: min(each[partition] for each in held) for partition in common}

    def record_fields(self, names: Sequence[str]) -> list[list[bytes | None]]:
        """The same fields of every shard's commit record, shard by shard; None where not there.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        with in_words("commit records could not be read"):
            pipe = self.client.pipeline(transaction=False)
            for shard in range(self.shards):
                pipe.hmget(self.key("commit", shard), names)
            found: list[list[bytes | None]] = pipe.execute()
        return found

    def take_fence(self, shard: int) -> dict[bytes, bytes]:
        """Become the owner of a shard; gives its commit record as it stands then."""
        key, now_ms = self.key("commit", shard), time.time_ns() // 1_000_000
        with in_words(f"shard {shard} could not be taken over"):
            flat = self.client.eval(_FENCE, 1, key, secrets.token_hex(8), now_ms)
        record = dict(zip(flat[::2], flat[1::2], strict=True))
        self._fences[shard] = record[b"fence"]
        return record

    def owns(self) -> bool:
        """Whether nobody has taken one of the shards since they were taken; true without answer."""
        try:
            pipe = self.client.pipeline(transaction=False)
            for shard in self._fences:
                pipe.hget(self.key("commit", shard), "fence")
            found = pipe.execute()
        except TROUBLE:
            return True
        return not any(map(_replaces, found, self._fences.values()))

    def load(self, shard: int, tables: Sequence[str]) -> StoredShard:
        """Take the fence of a shard, then read everything of it."""
        record = {self._text(k): v for k, v in self.take_fence(shard).items()}
        return self._read(shard, tables, record)

    def look(self, shard: int, tables: Sequence[str]) -> StoredShard:
        """Everything of a shard as it stands, without becoming its owner; for explanations."""
        return self._read(shard, tables, {"fence": b"", "epoch": b"0", **self.record(shard)})

    def sizes(self, kinds: Sequence[str], shards: Sequence[int]) -> dict[str, int]:
        """How many fields some shards' hashes have in all, by kind."""
        with in_words("sizes could not be read"):
            pipe = self.client.pipeline(transaction=False)
            for kind in kinds:
                for shard in shards:
                    pipe.hlen(self.key(kind, shard))
            found = iter(pipe.execute())
        return {kind: sum(islice(found, len(shards))) for kind in kinds}

    def _read(self, shard: int, tables: Sequence[str], record: dict[str, bytes]) -> StoredShard:
        buckets = _bucket_list(record.get("buckets", b""))
        with in_words(f"shard {shard} could not be loaded"):
            pipe = self.client.pipeline(transaction=False)
            for kind in ("state", *tables):
                pipe.hgetall(self.key(kind, shard))
            for bucket in buckets:
                pipe.get(self.key("dedup", shard, str(bucket)))
            replies = pipe.execute()
        hashes, blocks = replies[: 1 + len(tables)], replies[1 + len(tables) :]
        return StoredShard(
            shard=shard,
            fence=record.pop("fence"),
            epoch=int(record.pop("epoch")),
            seq=int(record.pop("seq", b"0")),
            record=record,
            users=list(hashes[0]),
            states=list(hashes[0].values()),
            tables={
                name: (list(held), list(held.values()))
                for name, held in zip(tables, hashes[1:], strict=True)
            },
            dedup={b: block for b, block in zip(buckets, blocks, strict=True) if block},
        )

    # -- commit -------------------------------------------------------------------------------

    def commit(self, commits: Sequence[ShardCommit]) -> dict[int, int]:
        """Write shards, each atomically, all in one round trip; tries again until it is known.

        Returns:
            The shards that the store holds at an older sequence than expected, with that
            sequence: it lost its tail, and they must be written forward. All others are written.

        Raises:
            FencedOff: another engine owns one of the shards.
            StoreSetBack: the store is as it was before the shards were taken.
            StoreUnavailable: errors lasted longer than ``give_up_s``.
        """
        waiting = {c.shard: c for c in commits}
        behind: dict[int, int] = {}
        self._write(waiting, behind)
        return behind

    def send(self, commits: Sequence[ShardCommit]) -> None:
        """Begin to write shards, as ``commit`` does, and do not wait; must be finished."""
        self._sent = list(commits)
        if self._sent:
            keys = [self.key("commit", c.shard) for c in self._sent]
            self._on_way = self._servers.send(keys, self._commands_of(self._sent))

    def finish(self) -> dict[int, int]:
        """Wait until what was sent is written; returns and raises what ``commit`` does."""
        sent, way = self._sent, self._on_way
        self._sent, self._on_way = [], None
        waiting = {c.shard: c for c in sent}
        behind: dict[int, int] = {}
        if way is not None:
            self._take(list(waiting), self._servers.fetch(way), waiting, behind)
            self._write(waiting, behind)
        return behind

    def _write(self, waiting: dict[int, ShardCommit], behind: dict[int, int]) -> None:
        """Try again and again what is waiting; note what the store holds at an older sequence."""
        deadline_s, pause_s = 0.0, 0.01
        while waiting:
            failure = self._try(waiting, behind)
            if failure is None or not waiting:
                continue
            deadline_s = deadline_s or time.monotonic() + self._give_up_s  # of errors, not of work
            if time.monotonic() > deadline_s:
                raise StoreUnavailable(
                    f"{len(waiting)} shards could not be committed for {self._give_up_s:.0f} s; "
                    f"the store's last answer was: {failure}. Nothing is lost: the engine resumes "
                    "from its last commit when the store is well"
                ) from failure
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    def _try(self, waiting: dict[int, ShardCommit], behind: dict[int, int]) -> Exception | None:
        """One round trip; removes from ``waiting`` what is settled, gives the last failure."""
        tried = list(waiting)
        keys = [self.key("commit", shard) for shard in tried]
        answers = self._servers.exchange(keys, self._commands_of(list(waiting.values())))
        return self._take(tried, answers, waiting, behind)

    def _take(
        self,
        tried: list[int],
        answers: list[bytes | Exception],
        waiting: dict[int, ShardCommit],
        behind: dict[int, int],
    ) -> Exception | None:
        """Remove from ``waiting`` what the answers settle; the last failure among them."""
        failure: Exception | None = None
        for shard, answer in zip(tried, answers, strict=True):
            if isinstance(answer, Exception):
                failure = answer
            else:
                self._settle(waiting.pop(shard), answer, behind)
        return failure

    def _settle(self, c: ShardCommit, reply: bytes, behind: dict[int, int]) -> None:
        word, _, rest = reply.partition(b" ")
        shard = c.shard
        if word == b"FENCED":
            raise self._not_ours(shard, rest)
        if word == b"BEHIND":
            behind[shard] = int(rest)
        elif c.changes:
            self.outbox.committed(shard, c.seq, c.changes)

    def _not_ours(self, shard: int, fence: bytes) -> StoreError:
        """What it means that a shard has another fence, or none."""
        ours, stored = self._fences[shard].decode(), fence.decode(errors="replace")
        if _replaces(fence, self._fences[shard]):
            return FencedOff(
                f"shard {shard} is owned by another engine now (its fence is {stored}, ours was "
                f"{ours}); this one has written nothing since and ends. "
                "Run one engine per shard: stop the other one first if it is not meant to run"
            )
        found = f"has the older fence {stored}" if stored else "has no fence"
        return StoreSetBack(
            f"shard {shard} {found}, ours was {ours}: the store was set back to before this engine "
            "started (a backup or a replica that was behind took its place, or it was emptied). "
            "This one has written nothing since and ends. Start it again if no supervisor does: it "
            "takes the shards over as they are and reads the log again from where they stand"
        )

    def _commands_of(self, commits: Sequence[ShardCommit]) -> list[memoryview]:
        fences = [self._fences[c.shard] for c in commits]
        return self._commands.of(commits, fences, list(map(self._entries_of, commits)))

    def _entries_of(self, c: ShardCommit) -> list[tuple[int, bytes]]:
        # written forward: what the store has lost may not be published yet
        entries = self.outbox.after(c.shard, c.expected)
        if c.changes:
            entries.append((c.seq, c.changes))
        return entries

    # -- statistics and repair ----------------------------------------------------------------

    def shared(self, name: str) -> bytes | None:
        """A value that belongs to no shard, such as ``cuts``."""
        with in_words(f"{name!r} could not be read"):
            value: bytes | None = self.client.get(f"{self.prefix}:{name}")
        return value

    def share(self, name: str, value: bytes) -> None:
        """Replace a value that belongs to no shard; tries again until it is known.

        Raises:
            StoreUnavailable: errors lasted longer than ``give_up_s``.
        """
        key = f"{self.prefix}:{name}"
        self._insist(f"{name!r} could not be written", lambda: self.client.set(key, value))

    def unshare(self, name: str) -> bool:
        """Delete a value that belongs to no shard; whether there was one."""
        with in_words(f"{name!r} could not be deleted"):
            return bool(self.client.delete(f"{self.prefix}:{name}"))

    def sequences(self) -> dict[int, int]:
        """The sequence that each shard of ours has reached in the store; none without answer.

        Raises:
            FencedOff: another engine owns one of them, though perhaps nothing was written since.
            StoreSetBack: the store is as it was before they were taken.
        """
        try:
            pipe = self.client.pipeline(transaction=False)
            for shard in self._fences:
                pipe.hmget(self.key("commit", shard), "seq", "fence")
            found = pipe.execute()
        except TROUBLE:
            return {}  # whoever commits waits for it
        for (shard, ours), (_, fence) in zip(self._fences.items(), found, strict=True):
            if fence not in (ours, None):  # one that was set back may have none
                raise self._not_ours(shard, fence)
        return {shard: int(seq or 0) for shard, (seq, _) in zip(self._fences, found, strict=True)}

    def fields(self, kind: str, shard: int) -> list[bytes]:
        """The field names of one of a shard's hashes; for repair, not for the hot path.

        Tries again until they are known: who writes forward has what the store has lost.

        Raises:
            StoreUnavailable: errors lasted longer than ``give_up_s``.
        """
        key = self.key(kind, shard)
        return self._insist(f"{key!r} could not be read", lambda: list(self.client.hkeys(key)))

    def buckets(self, shard: int) -> list[int]:
        """Those of a shard's ids of events by its commit record; for repair, as ``fields``."""
        key = self.key("commit", shard)
        raw = self._insist(f"{key!r} could not be read", lambda: self.client.hget(key, "buckets"))
        return _bucket_list(raw or b"")

    def profile(self, shard: int, user: str) -> bytes | None:
        """One profile document."""
        with in_words("a profile could not be read"):
            document: bytes | None = self.client.hget(self.key("profile", shard), user)
        return document

    def candidates(self, shard: int, user: str) -> bytes | None:
        """One user's list of items."""
        with in_words("a list of items could not be read"):
            document: bytes | None = self.client.hget(self.key("candidates", shard), user)
        return document

    def profiles(self, shard: int) -> Iterator[tuple[str, bytes]]:
        """All profiles of a shard as (user id, document), in no order."""
        what = f"the profiles of shard {shard} could not be read"
        with in_words(what):
            found = self.client.hscan_iter(self.key("profile", shard), count=1000)
        while True:
            with in_words(what):
                user, document = next(found, (None, b""))
            if user is None:
                return
            yield user.decode(), document

    def members(self, shard: int, segment: str) -> set[str]:
        """The user ids of one shard in a segment."""
        with in_words(f"the members of {segment!r} in shard {shard} could not be read"):
            found = self.client.smembers(self.key("members", shard, segment))
        return {user.decode() for user in found}

    def record(self, shard: int) -> dict[str, bytes]:
        """The commit record of a shard, read only."""
        with in_words(f"the commit record of shard {shard} could not be read"):
            held = self.client.hgetall(self.key("commit", shard))
        return {self._text(name): value for name, value in held.items()}

    def ping(self) -> None:
        """Raise ``StoreUnavailable`` in words unless the store answers."""
        try:
            self.client.ping()
        except TROUBLE as error:
            raise StoreUnavailable(unanswered(error)) from error

    def close(self) -> None:
        """Give the connections back."""
        self._servers.close()

    @property
    def client(self) -> Any:
        """The client, for what belongs to no shard."""
        return self._servers.client

    @property
    def name(self) -> str:
        """What no other engine is called; known when a fence was taken."""
        return self._text(min(self._fences.values(), default=b""))

    @property
    def epoch(self) -> int:
        """Since when the shards are owned here, epoch milliseconds; known when a fence was taken.

        It is the time of taking them, or above the last owner's if clocks differ.
        """
        return int(self.name.partition(":")[0])

    def _insist(self, what: str, ask: Callable[[], T]) -> T:
        """An answer, asked for until there is one; ``what`` says what could not be done."""
        deadline, pause_s = time.monotonic() + self._give_up_s, 0.01
        while True:
            try:
                with in_words(what):
                    return ask()
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)

    @staticmethod
    def _text(raw: bytes | None) -> str:
        return raw.decode() if raw else ""


def _bucket_list(listed: bytes) -> list[int]:
    return [int(bucket) for bucket in listed.split()]


def _replaces(fence: bytes | None, ours: bytes) -> bool:
    """Whether a stored fence was taken after ours; an older one has come back.

    >>> ours = b"1700:ab"
    >>> [_replaces(fence, ours) for fence in (b"1701:cd", b"1700:ef", ours, b"1699:cd", b"", None)]
    [True, True, False, False, False, False]
    """
    return fence != ours and _epoch(fence) >= _epoch(ours)


def _epoch(fence: bytes | None) -> int:
    """When it was taken; 0 for what is no fence."""
    epoch = (fence or b"").partition(b":")[0]
    return int(epoch) if epoch.isdigit() else 0
