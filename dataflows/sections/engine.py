"""What the engine reads, writes and serves, and how it runs."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, SecretStr

from dataflows.sections.values import (
    KeptMillis,
    LongSpan,
    Millis,
    OptionalMillis,
    Options,
    Section,
    Span,
    Whole,
)

_STORES: Final = ("redis://", "rediss://", "unix://")


def _store_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(_STORES):
        raise ValueError(f"must begin with {', '.join(_STORES)}")
    return url


class Events(Section):
    """What an event may be."""

    types: Annotated[tuple[str, ...], Field(min_length=1)]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    minor_digits: Annotated[Whole, Field(ge=0, le=4)]
    max_ahead: Millis
    max_age: OptionalMillis
    max_bytes: Annotated[Whole, Field(ge=64, le=1_000_000)]


class Kafka(Section):
    """The log and its topics; ``bootstrap`` comes from KAFKA_BOOTSTRAP."""

    bootstrap: str = ""
    username: str = ""
    password: SecretStr = SecretStr("")
    events: str
    dead: str
    changes: str
    memberships: str
    positions: str
    catalog: str
    transactions: bool
    unpublished: Annotated[Whole, Field(ge=1)]
    group: str
    fetch_max: Annotated[Whole, Field(ge=1, le=100_000)]
    options: Options


class Redis(Section):
    """The store; ``url`` comes from REDIS_URL."""

    url: Annotated[SecretStr, AfterValidator(_store_url)] = SecretStr("")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,32}$")]
    shards: Annotated[Whole, Field(ge=1, le=1024)]
    timeout: Span
    give_up: Millis


class LaneSettings(Section):
    """Commits and time."""

    commit_events: Annotated[Whole, Field(ge=1)]
    commit_delay: Millis
    heartbeat: Span
    lateness: Millis
    wall_delay: Millis
    apart: Millis
    timer_step: Span
    timer_budget: Annotated[Whole, Field(ge=100)]
    poll: LongSpan


class DedupSettings(Section):
    """How long event ids are remembered."""

    window: Millis
    cap: Annotated[Whole, Field(ge=1000)]


class RetentionSettings(Section):
    """How long silent users are remembered."""

    after: KeptMillis
    every: Millis
    at_once: Annotated[Whole, Field(ge=1, le=100_000)]


class MetricsSettings(Section):
    """Where Prometheus finds the metrics."""

    address: Annotated[str, Field(pattern=r"^$|^.*:\d{1,5}$")]


class ServeSettings(Section):
    """The HTTP API; ``tokens`` come from AFTERGLOW_TOKENS, or from a file."""

    address: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")]
    tokens: SecretStr = SecretStr("")
    tokens_file: str
    timeout: Span
    max_age: Millis
    batch: Annotated[Whole, Field(ge=1, le=10_000)]
    max_body: Annotated[Whole, Field(ge=1024)]
    concurrency: Annotated[Whole, Field(ge=1)]
    followers: Annotated[Whole, Field(ge=0)]
    waiting: Annotated[Whole, Field(ge=1)]
    history: Annotated[Whole, Field(ge=1)]
    heartbeat: LongSpan
    stalled: LongSpan


class SupervisorSettings(Section):
    """When workers are started again."""

    watchdog: LongSpan
    start: LongSpan
    drain: LongSpan
    failures: Annotated[Whole, Field(ge=1)]
    steady: Millis


class LogSettings(Section):
    """What is said on standard error, and how."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["text", "json"]


class Embedded(Section):
    """The embedded broker."""

    partitions: Annotated[Whole, Field(ge=1, le=64)]
