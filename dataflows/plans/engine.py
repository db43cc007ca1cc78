"""What the parts around the lanes take: source, commits, publisher, supervisor, clients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dataflows.settings import Settings, SettingsError
from dataflows.supervisor import Patience
from operators.courier import Terms
from operators.lane_step import CommitPolicy
from operators.source import SourceSpec
from operators.topics import Topics

_EMBEDDED_WAIT_MS: Final = 1
"""It answers a fetch that finds nothing when the wait is over, and not when something comes."""


def commit_policy(settings: Settings) -> CommitPolicy:
    """When lanes commit."""
    lane = settings.lane
    return CommitPolicy(
        lane.commit_events,
        lane.commit_delay / 1000,
        lane.heartbeat / 1000,
        settings.kafka.fetch_max,
        ahead=True,
    )


def source_spec(settings: Settings, *, embedded: bool = False) -> SourceSpec:
    """How the log is read.

    Args:
        settings: in force.
        embedded: whether the broker is the embedded one.
    """
    kafka = settings.kafka
    spec = SourceSpec(topic=kafka.events, group=kafka.group, fetch_max=kafka.fetch_max)
    return replace(spec, fetch_wait_ms=_EMBEDDED_WAIT_MS) if embedded else spec


def topics(settings: Settings) -> Topics:
    """The topics that the engine writes."""
    kafka = settings.kafka
    return Topics(kafka.changes, kafka.memberships, kafka.positions, kafka.dead, kafka.catalog)


def publisher_terms(settings: Settings, *, has_transactions: bool) -> Terms:
    """How changes are published; the publisher's name is that of the data."""
    kafka = settings.kafka
    named = has_transactions and kafka.transactions
    name = f"{kafka.group}-{settings.redis.prefix}-publisher" if named else ""
    return Terms(topics(settings), name, waiting=kafka.unpublished)


def patience(settings: Settings) -> Patience:
    """How long the supervisor waits for what."""
    chosen = settings.supervisor
    if chosen.watchdog <= settings.redis.give_up:
        raise SettingsError(
            f"supervisor.watchdog: must be longer than redis.give_up ({settings.redis.give_up} "
            f"ms), because a worker that waits for the store is silent, but {chosen.watchdog} ms "
            "came"
        )
    return Patience(
        start_s=chosen.start / 1000,
        watchdog_s=chosen.watchdog / 1000,
        drain_s=chosen.drain / 1000,
        failures=chosen.failures,
        steady_s=chosen.steady / 1000,
    )


def metrics_address(settings: Settings, worker: int) -> str:
    """Where one of several workers on a machine serves its metrics: each a port above the last."""
    if not settings.metrics.address:
        return ""
    host, _, port = settings.metrics.address.rpartition(":")
    return f"{host}:{int(port) + worker}"


def kafka_config(settings: Settings) -> dict[str, Any]:
    """What every Kafka client is given."""
    kafka = settings.kafka
    config: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap, **kafka.options}
    if kafka.username:
        config |= {
            "sasl.username": kafka.username,
            "sasl.password": kafka.password.get_secret_value(),
        }
    return config
