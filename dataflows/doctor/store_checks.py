"""What is wrong with the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dataflows.doctor.findings import Finding, fault, warning
from dataflows.doctor.needs import Asked
from dataflows.doctor.store import Server, Shard, StoreFacts
from dataflows.settings import Settings
from state.meta import FORMAT

_OLDEST: Final = {"redis": (6, 2), "valkey": (7, 2)}
_FULL: Final = 0.9
SKEW_MS: Final = 1000.0
_MIB: Final = 1 << 20


def check_store(facts: StoreFacts, settings: Settings, now_ms: float) -> Iterator[Finding]:
    """All of it.

    Args:
        facts: of the store.
        settings: in force.
        now_ms: this machine's clock.
    """
    if facts.error:
        yield _silent(facts)
        return
    for server in facts.servers:
        yield from _check_program(server)
        yield from _check_persistence(server)
        yield from _check_memory(server)
        yield from _check_clock(server)
    yield from _check_rights(facts.denied, settings.redis.prefix)
    yield from _check_data(facts, settings)
    yield from _check_owners(facts.shards, settings, now_ms)
    if facts.unseen:
        yield warning(
            "store.unseen",
            "not all could be looked at",
            "a store that says it to this user",
            f"no answer to {', '.join(facts.unseen)}",
            "Run the doctor once with REDIS_URL naming a user who may, or look there by hand",
        )


def _silent(facts: StoreFacts) -> Finding:
    if facts.refused:
        return fault(
            "store.user",
            "the store refuses this user",
            "a user and password that it knows",
            facts.error,
            "Put them into REDIS_URL: redis://user:password@host:6379/0",
        )
    return fault(
        "store.reach",
        "the store cannot be asked",
        "an answer at REDIS_URL",
        facts.error,
        "Check REDIS_URL, that the server runs, and the network between",
    )


def _check_program(server: Server) -> Iterator[Finding]:
    oldest = _OLDEST.get(server.name, ())
    if server.version and server.version < oldest:
        yield fault(
            "store.version",
            f"the store's server{_at(server)} is too old",
            f"{server.name} {_dotted(oldest)} or later",
            _dotted(server.version),
            "Update the server",
        )
    if server.info.get("role") == "slave":
        yield fault(
            "store.role",
            f"the store{_at(server)} cannot be written",
            "a primary",
            f"a replica of {server.info.get('master_host')}:{server.info.get('master_port')}",
            "Point REDIS_URL at the primary, or make this one a primary: REPLICAOF NO ONE",
        )


def _check_persistence(server: Server) -> Iterator[Finding]:
    info, sync = server.info, server.appendfsync
    if info and not info.get("aof_enabled"):
        yield fault(
            "store.appendonly",
            f"the store{_at(server)} forgets its latest commits when it ends",
            "appendonly yes",
            "appendonly no",
            "CONFIG SET appendonly yes, and put it into the server's configuration",
        )
    elif sync is not None and sync not in ("everysec", "always"):
        yield fault(
            "store.appendfsync",
            f"the store{_at(server)} syncs its file when the kernel likes to",
            "appendfsync everysec (or always)",
            f"appendfsync {sync}",
            "CONFIG SET appendfsync everysec, and put it into the server's configuration",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield fault(
            "store.disk",
            f"the store{_at(server)} could not write its append-only file",
            "aof_last_write_status ok",
            str(info["aof_last_write_status"]),
            "Look at the server's log; its disk is full or cannot be written",
        )


def _check_memory(server: Server) -> Iterator[Finding]:
    info = server.info
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        yield fault(
            "store.eviction",
            f"the store{_at(server)} throws data away when memory is short",
            "maxmemory-policy noeviction",
            f"maxmemory-policy {policy}",
            "CONFIG SET maxmemory-policy noeviction, and put it into the server's configuration",
        )
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > _FULL * limit:
        yield fault(
            "store.memory",
            f"the store{_at(server)} is nearly full and will refuse commits",
            f"at most {_FULL:.0%} of maxmemory ({limit / _MIB:,.1f} MiB) in use",
            f"{used / _MIB:,.1f} MiB",
            "Raise maxmemory: CONFIG SET maxmemory; or give the server a larger machine",
        )


def _check_clock(server: Server) -> Iterator[Finding]:
    if server.skew_ms is not None and abs(server.skew_ms) > SKEW_MS:
        side = "ahead of" if server.skew_ms > 0 else "behind"
        yield fault(
            "clock.store",
            f"this machine and the store{_at(server)} disagree about the time",
            f"clocks within {SKEW_MS / 1000:g} s",
            f"a store that is {abs(server.skew_ms) / 1000:,.1f} s {side} this machine",
            "Let both follow the same time servers (chrony or systemd-timesyncd)",
        )


def _check_rights(denied: Sequence[Asked], prefix: str) -> Iterator[Finding]:
    if not denied:
        return
    names = sorted({_name(asked) for asked in denied})
    keys = sorted({key for asked in denied if (key := _key(asked, prefix))})
    shown = ", ".join(names)
    if keys:
        shown += f" on {', '.join(keys[:4])}{' and others' if len(keys) > 4 else ''}"
    grants = " ".join(f"+{name}" for name in names)
    yield fault(
        "store.acl",
        "the store's user may not send what the engine sends",
        "a user who may",
        f"a refusal of {shown}",
        f"ACL SETUSER <user> ~{prefix}:* {grants}",
    )


def _check_data(facts: StoreFacts, settings: Settings) -> Iterator[Finding]:
    prefix, away = settings.redis.prefix, "or use another redis.prefix"
    for name, value in (("format", str(FORMAT)), ("shards", str(settings.redis.shards))):
        held = facts.meta.get(name, value)
        if held != value:
            mend = "run the version that wrote them" if name == "format" else f"set it to {held}"
            yield fault(
                f"store.{name}",
                f"the data under {prefix!r} were written otherwise",
                f"redis.{name} {held}" if name == "shards" else f"format {value}",
                value if name == "shards" else f"format {held}",
                f"{mend[0].upper()}{mend[1:]}, {away}",
            )


def _check_owners(shards: Sequence[Shard], settings: Settings, now_ms: float) -> Iterator[Finding]:
    taken = [shard.epoch for shard in shards if shard.epoch]
    if not taken:
        return
    first, last = min(taken), max(taken)
    if last > now_ms + SKEW_MS:
        yield fault(
            "store.fence",
            "an engine took its shards in the future",
            "a clock that only goes forward",
            f"a fence of {(last - now_ms) / 1000:,.0f} s from now",
            "Set this machine's clock right; the engine that took them had a wrong one, or this "
            "one was set back",
        )
    if last - first > settings.supervisor.start:
        old = sum(epoch < last - settings.supervisor.start for epoch in taken)
        yield fault(
            "store.owners",
            "shards are owned by engines that were started at different times",
            "workers of one start",
            f"{old} of {len(taken)} shards taken {(last - first) / 1000:,.0f} s before the others",
            "One engine of another --workers or --addresses took some shards over: stop all "
            "engines of this redis.prefix, then start one",
        )


def _name(asked: Asked) -> str:
    return "|".join(asked[:2]) if asked[0] in ("script", "cluster") else asked[0]


def _key(asked: Asked, prefix: str) -> str:
    return next((part for part in asked[1:] if part.startswith(f"{prefix}:")), "")


def _at(server: Server) -> str:
    return f" (at {server.address})" if server.address else ""


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))
