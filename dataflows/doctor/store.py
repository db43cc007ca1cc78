"""Facts of the store, read as the engine's own user; nothing is written.

What the user may do is asked inside a script, by ``redis.acl_check_cmd``: it needs no more rights
than the engine has anyhow, and calls nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from redis import RedisCluster
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from dataflows.doctor.needs import Asked, needed
from dataflows.settings import Settings
from state.servers import TROUBLE
from state.store import Store

_ASK: Final = """
local out = {}
for i, asked in ipairs(cjson.decode(ARGV[1])) do
  local well, may = pcall(redis.acl_check_cmd, unpack(asked))
  out[i] = well and (may and 'yes' or 'no') or 'unknown'
end
return out
"""
_NO_CHECK: Final = "acl_check_cmd"
_RECORD: Final = ("fence", "seq", "positions")
_NUMBER: Final = re.compile(r"\d+")
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class Shard:
    """What a commit record says.

    Attributes:
        epoch: when its owner took it, by the owner's clock (epoch ms); 0 if nobody has.
        seq: of the last commit.
        positions: where reading goes on, by partition.
    """

    epoch: int = 0
    seq: int = 0
    positions: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Server:
    """What one server says; what it would not say is empty or None.

    Attributes:
        address: which one, where there are several; else empty.
        name, version: of the program.
        info: as it says it.
        appendfsync: how often the append-only file is synced.
        skew_ms: its clock less ours.
    """

    address: str = ""
    name: str = ""
    version: tuple[int, ...] = ()
    info: dict[str, Any] = field(default_factory=dict)
    appendfsync: str | None = None
    skew_ms: float | None = None


@dataclass(slots=True)
class StoreFacts:
    """What the store says.

    Attributes:
        error: why nothing could be asked; empty if it answers.
        refused: whether that was because of the user or the password.
        unseen: what this user may not look at.
        servers: the one, or all primaries of a cluster.
        cluster: whether it is one.
        denied: commands that the engine's user may not send.
        meta: what must not change under the data.
        shards: commit records.
        users: how many profiles there are.
    """

    error: str = ""
    refused: bool = False
    unseen: list[str] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    cluster: bool = False
    denied: list[Asked] = field(default_factory=list)
    meta: dict[str, str] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)
    users: int = 0


def gather_store(
    settings: Settings, side_tables: Sequence[str], now_ms: Callable[[], float]
) -> StoreFacts:
    """Ask the store that the settings name.

    Args:
        settings: in force.
        side_tables: of the lanes.
        now_ms: this machine's clock.
    """
    chosen, facts = settings.redis, StoreFacts()
    store = Store(
        chosen.url.get_secret_value(),
        chosen.prefix,
        chosen.shards,
        timeout_s=min(chosen.timeout / 1000, 5.0),
        give_up_s=0.0,
    )
    try:
        store.client.ping()
    except NoPermissionError:
        facts.denied.append(("ping",))
    except TROUBLE as error:
        facts.error = str(error) or type(error).__name__
        facts.refused = isinstance(error, AuthenticationError) or "NOAUTH" in facts.error
        store.close()
        return facts
    try:
        _look(store, facts, side_tables, now_ms)
    except TROUBLE as error:
        facts.error = f"it answered at first, then: {error}"
    finally:
        store.close()
    return facts


def _look(
    store: Store, facts: StoreFacts, side_tables: Sequence[str], now_ms: Callable[[], float]
) -> None:
    client = store.client
    facts.cluster = isinstance(client, RedisCluster)
    if facts.cluster:
        for node in client.get_primaries():
            facts.servers.append(_server(facts, client.get_redis_connection(node), now_ms))
            facts.servers[-1].address = node.name
    else:
        facts.servers.append(_server(facts, client, now_ms))
    _ask_rights(store, facts, side_tables)
    _read_records(store, facts)


def _server(facts: StoreFacts, client: Any, now_ms: Callable[[], float]) -> Server:
    found = Server(info=_seen(facts, "INFO", client.info) or {})
    info = found.info
    if info:
        found.name = "valkey" if info.get("valkey_version") else "redis"
        version = str(info.get("valkey_version") or info.get("redis_version") or "")
        found.version = tuple(map(int, _NUMBER.findall(version)[:3]))
    config = _seen(facts, "CONFIG GET", lambda: client.config_get("appendfsync"))
    found.appendfsync = (config or {}).get("appendfsync")
    began_ms, began_s = now_ms(), time.monotonic()
    moment = _seen(facts, "TIME", client.time)
    if moment is not None:
        half_ms = (time.monotonic() - began_s) * 500
        found.skew_ms = moment[0] * 1000 + moment[1] / 1000 - began_ms - half_ms
    return found


def _ask_rights(store: Store, facts: StoreFacts, side_tables: Sequence[str]) -> None:
    asked = list(needed(store.prefix, side_tables, cluster=facts.cluster))
    try:
        said = store.client.eval(_ASK, 0, json.dumps(asked))
    except NoPermissionError:
        facts.denied.append(("eval",))
    except ResponseError as error:
        if _NO_CHECK not in str(error):
            raise
        facts.unseen.append("what its user may do (it is older than 7.0)")
    else:
        if b"unknown" in said and b"yes" not in said and b"no" not in said:
            facts.unseen.append("what its user may do (it is older than 7.0)")
        facts.denied += [a for a, may in zip(asked, said, strict=True) if may == b"no"]


def _read_records(store: Store, facts: StoreFacts) -> None:
    meta = _seen(facts, "HGETALL", lambda: store.client.hgetall(f"{store.prefix}:meta"))
    facts.meta = {k.decode(): v.decode() for k, v in (meta or {}).items()}
    count = facts.meta.get("shards", "")
    shards = int(count) if count.isdigit() else store.shards

    def fields(command: str, kind: str, *rest: str) -> list[Any]:
        pipe = store.client.pipeline(transaction=False)
        for shard in range(shards):
            getattr(pipe, command)(store.key(kind, shard), *rest)
        found: list[Any] = pipe.execute()
        return found

    records = _seen(facts, "HMGET", lambda: fields("hmget", "commit", *_RECORD))
    facts.shards = [_shard(*record) for record in records or ()]
    facts.users = sum(_seen(facts, "HLEN", lambda: fields("hlen", "profile")) or ())


def _shard(fence: bytes | None, seq: bytes | None, positions: bytes | None) -> Shard:
    epoch = (fence or b"").partition(b":")[0]
    return Shard(
        int(epoch) if epoch.isdigit() else 0,
        int(seq or 0),
        msgspec.json.decode(positions, type=dict[int, int]) if positions else {},
    )


def _seen(facts: StoreFacts, command: str, ask: Callable[[], T]) -> T | None:
    """An answer, or None where the user may not ask; only that is forgiven."""
    try:
        return ask()
    except NoPermissionError:
        if command not in facts.unseen:
            facts.unseen.append(command)
        return None
