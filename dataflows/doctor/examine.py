"""The examination: facts of all parts, and the findings they come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dataflows import plans
from dataflows.doctor.broker import BrokerFacts, gather_broker
from dataflows.doctor.broker_checks import check_broker, topic_names
from dataflows.doctor.findings import Finding, fault
from dataflows.doctor.machine import Machine, look_at_port
from dataflows.doctor.machine_checks import check_loops, check_memory, check_port
from dataflows.doctor.store import Shard, StoreFacts, gather_store
from dataflows.doctor.store_checks import check_store
from dataflows.engine import open_lane
from dataflows.settings import Settings

_NAMED: Final = {
    "kafka": ("KAFKA_BOOTSTRAP", "localhost:9092", "broker"),
    "redis": ("REDIS_URL", "redis://localhost:6379/0", "store"),
}


@dataclass(slots=True, frozen=True)
class Examined:
    """What was found, and what it was found on.

    Attributes:
        findings: faults first.
        looked_at: what was there, in words.
    """

    findings: list[Finding]
    looked_at: list[str]


def wall_ms() -> float:
    """This machine's clock."""
    return time.time() * 1000


def examine(
    settings: Settings, machine: Machine, now_ms: Callable[[], float] = wall_ms
) -> Examined:
    """Look at everything around an engine of these settings.

    Args:
        settings: in force.
        machine: it would run on.
        now_ms: its clock.
    """
    lane = open_lane(settings)
    findings, looked_at = _unnamed(settings), []
    store: StoreFacts | None = None
    if settings.redis.url.get_secret_value():
        store = gather_store(settings, lane.side_tables, now_ms)
        findings += check_store(store, settings, now_ms())
        looked_at += [] if store.error else [_servers(store)]
    shards = store.shards if store is not None else []
    if settings.kafka.bootstrap:
        positions = lowest(shards)
        events = settings.kafka.events
        broker = gather_broker(
            plans.kafka_config(settings), topic_names(settings).values(), events, positions
        )
        known = store.meta.get(f"log:{events}", "") if store is not None else ""
        findings += check_broker(broker, settings, positions, known, now_ms())
        looked_at += [] if broker.error else [_topics(broker)]
    port = look_at_port(settings.metrics.address)
    findings += check_memory(machine, 0 if store is None or port.ours else store.users)
    findings += check_loops(machine)
    findings += check_port(settings.metrics.address, port)
    return Examined(sorted(findings, key=lambda found: found.level), looked_at)


def lowest(shards: list[Shard]) -> Mapping[int, int]:
    """Where reading goes on: per partition the lowest position of any shard.

    >>> lowest([Shard(positions={0: 7, 1: 3}), Shard(positions={0: 5})])
    {0: 5, 1: 0}
    """
    partitions = sorted({p for shard in shards for p in shard.positions})
    return {p: min(shard.positions.get(p, 0) for shard in shards) for p in partitions}


def _unnamed(settings: Settings) -> list[Finding]:
    named = {"kafka": settings.kafka.bootstrap, "redis": settings.redis.url.get_secret_value()}
    return [
        fault(
            "settings.address",
            f"no {what} is named",
            f"{variable}, such as {example}",
            "nothing",
            f"Set {variable}; only `afterglow demo` needs no {what}",
        )
        for part, (variable, example, what) in _NAMED.items()
        if not named[part]
    ]


def _servers(store: StoreFacts) -> str:
    programs = {f"{s.name} {'.'.join(map(str, s.version))}".strip() for s in store.servers}
    many = f"{len(store.servers)} x " if len(store.servers) > 1 else ""
    return f"store {many}{', '.join(sorted(programs))} with {store.users:,} users"


def _topics(broker: BrokerFacts) -> str:
    kind = "the embedded broker" if broker.embedded else "broker"
    events = sum(high - low for low, high in broker.bounds.values())
    return f"{kind} with {len(broker.topics)} topics and {events:,} events"
