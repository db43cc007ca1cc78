"""What may stand in the settings: a typed section each, frozen, with nothing unknown in it.

Defaults are not here but in ``afterglow.toml``, where each has its comment. A duration is written
as text and held as whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
)

from dataflows.durations import duration_ms

LONGEST_MS: Final = 100 * 366 * 86_400_000
_LONGEST_VALUE: Final = 500
_NO_TIME: Final = "must be a time with an offset, such as 2026-12-01T00:00:00Z"
_STORES: Final = ("redis://", "rediss://", "unix://")


def _to_ms(value: Any) -> Any:
    ms = duration_ms(value) if isinstance(value, str) else value
    if isinstance(ms, int) and ms > LONGEST_MS:
        raise ValueError("must be a duration of at most 100 years")
    return ms


def _to_optional_ms(value: Any) -> Any:
    return None if value == "" else _to_ms(value)


def _to_kept_ms(value: Any) -> Any:
    """How long something is kept: a duration, or nothing, 0 or a word for ever."""
    return None if value in ("", "never", 0) else _to_ms(value)


def _to_epoch_ms(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = datetime.min
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(_NO_TIME)
        return round(value.timestamp() * 1000)
    return value


def _flat(options: Any) -> Any:
    """``security.protocol`` names one librdkafka setting, though TOML reads a table in a table."""
    return dict(_leaves(options, "")) if isinstance(options, Mapping) else options


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float):
            yield prefix + name, value
        else:
            raise ValueError(f"{prefix}{name} must be a text, a number or true or false")


def _to_time_ms(value: Any) -> Any:
    """A TOML time, or a text, as epoch milliseconds; an empty text is none."""
    if isinstance(value, int | float):
        raise ValueError(_NO_TIME)
    return None if value == "" else _to_epoch_ms(value)


def _to_arm(value: Any) -> Any:
    """A bare weight stands for an arm that changes nothing."""
    is_weight = isinstance(value, int | float) and not isinstance(value, bool)
    return {"weight": value} if is_weight else value


def _rising(cuts: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(cuts)):
        raise ValueError("must be four numbers, each larger than the one before")
    return cuts


def _small(value: Any) -> Any:
    """What an offer tells edge services."""
    for part in value.values() if isinstance(value, dict) else [value]:
        if not isinstance(part, str | int | float):
            raise ValueError("must be a text, a number, true or false, or a table of these")
        if not isinstance(part, str) and not abs(part) < 2**63:
            raise ValueError("must have finite numbers below 2^63")
    if len(repr(value).encode()) > _LONGEST_VALUE:
        raise ValueError(f"must be at most {_LONGEST_VALUE} bytes long")
    return value


def _store_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(_STORES):
        raise ValueError(f"must begin with {', '.join(_STORES)}")
    return url


Whole = Annotated[int, Strict()]
Millis = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=0)]
Span = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=1)]
"""A duration that cannot be zero."""
LongSpan = Annotated[int, Strict(), BeforeValidator(_to_ms), Field(ge=1000)]
"""A duration of at least a second."""
OptionalMillis = Annotated[
    Annotated[int, Strict(), Field(ge=0)] | None, BeforeValidator(_to_optional_ms)
]
KeptMillis = Annotated[Annotated[int, Strict(), Field(ge=1)] | None, BeforeValidator(_to_kept_ms)]
"""A duration after which something is given up, or none: never."""
Moment = Annotated[int, Strict(), BeforeValidator(_to_epoch_ms)]
"""A time: RFC 3339 text or a TOML date-time, with an offset, or epoch milliseconds."""
Options = Annotated[dict[str, str | int | float | bool], BeforeValidator(_flat)]
Four = Annotated[tuple[float, ...], Field(min_length=4, max_length=4), AfterValidator(_rising)]
OptionalMoment = Annotated[Annotated[int, Strict()] | None, BeforeValidator(_to_time_ms)]
"""A time as epoch milliseconds, or none."""
Version = Annotated[Whole, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class Section(BaseModel):
    """A part of the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Events(Section):
    """What an event may be."""

    types: tuple[str, ...]
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


class FixedCuts(Section):
    """Cuts to use instead of the population's quintiles."""

    recency_days: Four
    frequency: Four
    monetary: Four


class Rfm(Section):
    """Recency, frequency, monetary."""

    basis: Literal["decayed", "window", "lifetime"]
    half_life: LongSpan
    window: Span
    ties: Literal["rank", "same"]
    cuts_every: Millis
    cuts: FixedCuts | None = None


class OrderSettings(Section):
    """How long orders are found."""

    keep: OptionalMillis


class SessionSettings(Section):
    """Sessions and returns."""

    gap: Span
    return_gap: Span


class ContextSettings(Section):
    """Where and when users act."""

    timezone: str


class CartSettings(Section):
    """Carts."""

    ttl: Span
    max_lines: Annotated[Whole, Field(ge=1, le=1000)]


class DecayedFeature(Section):
    """A declared decayed sum."""

    kind: Literal["decayed"]
    half_life: LongSpan
    weights: dict[str, Annotated[float, Field(ge=0)]]
    where: str = ""


class CountFeature(Section):
    """A declared windowed count."""

    kind: Literal["count"]
    window: LongSpan
    panes: Annotated[Whole, Field(ge=1, le=64)]
    types: tuple[str, ...]
    where: str = ""


FeatureSettings = Annotated[DecayedFeature | CountFeature, Field(discriminator="kind")]


class GuardSettings(Section):
    """How much of a segment may move before it is paused."""

    share: Annotated[float, Field(gt=0)]
    within: LongSpan
    least: Annotated[Whole, Field(ge=0)] = 100


class Segment(Section):
    """A declared segment."""

    enter: str
    exit: str | None = None
    min_dwell: Millis = 0
    cooldown: Millis = 0
    version: Version = 1
    max_flips: Annotated[Whole, Field(ge=0, le=255)] = 0
    guard: GuardSettings | None = None


class FamilySettings(Section):
    """A declared family of labels, in order."""

    labels: dict[str, str]
    version: Version = 1
    guard: GuardSettings | None = None


class OfferRules(Section):
    """What holds for all offers together."""

    max_offers: Annotated[Whole, Field(ge=0)]


class OfferSettings(Section):
    """A declared offer."""

    enabled: bool = True
    when: str
    lasts: Annotated[LongSpan, Field(alias="for")]
    priority: Annotated[Whole, Field(ge=-1_000_000, le=1_000_000)] = 0
    cap: Annotated[Whole, Field(ge=1)] | None = None
    cap_window: LongSpan | None = None
    cooldown: Millis = 0
    exclusive: Name | None = None
    value: Annotated[Any, AfterValidator(_small)] = None


class LearningSettings(Section):
    """Rates of the optimiser."""

    alpha: Annotated[float, Field(gt=0)]
    beta: Annotated[float, Field(ge=0)]
    l1: Annotated[float, Field(ge=0)]
    l2: Annotated[float, Field(ge=0)]
    intercept_rate: Annotated[float, Field(ge=0)]


class TaskSettings(Section):
    """Something to be foretold of a user."""

    enabled: bool = True
    outcome: tuple[str, ...] = ()
    absent: bool = False
    horizon: LongSpan
    negatives: Annotated[float, Field(gt=0, le=1)] = 1.0
    inputs: tuple[str, ...] = ()


class ChallengerSettings(Section):
    """Other learners that try to beat the champions."""

    kinds: tuple[Literal["tree", "forest"], ...]
    rate: Annotated[float, Field(gt=0, le=1)]
    least: Annotated[Whole, Field(ge=100)]


class ClusterSettings(Section):
    """Groups of users that are alike."""

    enabled: bool
    k: Annotated[Whole, Field(ge=2, le=100)]
    refit: LongSpan
    inputs: tuple[str, ...] = ()


class ValueSettings(Section):
    """Who is still a customer, and what is to be expected of them."""

    enabled: bool
    horizon: LongSpan
    refit: LongSpan
    least: Annotated[Whole, Field(ge=50)]


class Models(Section):
    """Models in the flow."""

    enabled: bool
    every: LongSpan
    rate: Annotated[float, Field(ge=0, le=1)]
    at: tuple[str, ...]
    parked_max: Annotated[Whole, Field(ge=1)]
    least: Annotated[Whole, Field(ge=1)]
    window: Annotated[Whole, Field(ge=100)]
    validity: LongSpan
    seed: Whole
    inputs: tuple[str, ...]
    tasks: dict[Name, TaskSettings]
    learning: LearningSettings
    challengers: ChallengerSettings
    clusters: ClusterSettings
    value: ValueSettings


class SourceSettings(Section):
    """What each source of candidates weighs; 0 switches one off."""

    covisits: Annotated[float, Field(ge=0)]
    reminders: Annotated[float, Field(ge=0)]
    together: Annotated[float, Field(ge=0)]
    similar: Annotated[float, Field(ge=0)]
    category: Annotated[float, Field(ge=0)]
    popular: Annotated[float, Field(ge=0)]


class BoostSettings(Section):
    """Scores that a rule multiplies."""

    when: str
    factor: Annotated[float, Field(gt=0, le=1000)]


class PinSettings(Section):
    """Items that a rule puts at places of every list."""

    items: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...], Field(min_length=1)
    ]
    place: Annotated[Whole, Field(ge=1, le=100)] = 1


class RuleSettings(Section):
    """A rule of the shop's people over what is recommended."""

    exclude: str = ""
    boost: BoostSettings | None = None
    pin: PinSettings | None = None
    valid_from: Moment | None = None
    valid_to: Moment | None = None


class RecommendSettings(Section):
    """Lists of items for users."""

    enabled: bool
    length: Annotated[Whole, Field(ge=1, le=100)]
    validity: LongSpan
    lists_per_s: Annotated[Whole, Field(ge=1)]
    exchange: Annotated[Millis, Field(ge=50)]
    most_items: Annotated[Whole, Field(ge=100)]
    recent: Annotated[Whole, Field(ge=2, le=32)]
    bought: Annotated[Whole, Field(ge=2, le=32)]
    not_again: LongSpan
    half_life: LongSpan
    steps: Annotated[Whole, Field(ge=1, le=16)]
    gap: LongSpan
    basket: LongSpan
    backward: Annotated[float, Field(ge=0, le=1)]
    neighbours: Annotated[Whole, Field(ge=1, le=500)]
    together: Annotated[Whole, Field(ge=1, le=500)]
    looks_back: Annotated[Whole, Field(ge=1, le=32)]
    fade: Annotated[float, Field(ge=0)]
    damping: Annotated[float, Field(ge=0, le=1)]
    rank_offset: Annotated[float, Field(ge=0)]
    per_category: Annotated[Whole, Field(ge=0)]
    adaptive: bool
    ranked: bool
    click_window: LongSpan
    rank_least: Annotated[Whole, Field(ge=1)]
    weights: dict[str, Annotated[float, Field(gt=0)]]
    sources: SourceSettings
    rules: dict[Name, RuleSettings] = {}


class ArmSettings(Section):
    """An arm of an experiment: its weight, and the settings it changes."""

    weight: Annotated[float, Field(gt=0)]
    overrides: Options = Field(default={}, alias="set")


class ExperimentSettings(Section):
    """Something that is tried on a part of the users."""

    salt: Annotated[str, Field(pattern=r"^[ -~]{0,64}$")] = ""
    arms: Annotated[
        dict[Name, Annotated[ArmSettings, BeforeValidator(_to_arm)]],
        Field(min_length=2, max_length=8),
    ]
    start: OptionalMoment = None
    stop: OptionalMoment = None
    conversion: Annotated[tuple[str, ...], Field(min_length=1)] = ("purchase",)
    window: Span = 7 * 86_400_000
    guard_rails: tuple[Literal["conversion", "revenue", "clicks"], ...] = ()
    allocation: Literal["fixed", "thompson"] = "fixed"
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    planned_users: Annotated[Whole, Field(ge=100)] = 20_000


class HoldoutSettings(Section):
    """Users who are in no experiment and get the fallback."""

    share: Annotated[float, Field(ge=0, le=0.5)]
    salt: Annotated[str, Field(pattern=r"^[ -~]{1,64}$")]


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


class Settings(Section):
    """All settings."""

    events: Events
    kafka: Kafka
    redis: Redis
    lane: LaneSettings
    dedup: DedupSettings
    retention: RetentionSettings
    rfm: Rfm
    orders: OrderSettings
    session: SessionSettings
    context: ContextSettings
    cart: CartSettings
    features: dict[Name, FeatureSettings]
    segments: dict[str, Segment]
    families: dict[str, FamilySettings]
    offer_rules: OfferRules
    offers: dict[Name, OfferSettings]
    models: Models
    recommend: RecommendSettings
    experiments: Annotated[dict[Name, ExperimentSettings], Field(max_length=8)]
    holdout: HoldoutSettings
    metrics: MetricsSettings
    serve: ServeSettings
    supervisor: SupervisorSettings
    logs: LogSettings
    embedded: Embedded
