"""What may stand in the settings: a typed section each, frozen, with nothing unknown in it.

Defaults are not here but in ``afterglow.toml``, where each has its comment.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dataflows.sections.engine import (
    DedupSettings,
    Embedded,
    Events,
    Kafka,
    LaneSettings,
    LogSettings,
    MetricsSettings,
    Redis,
    RetentionSettings,
    ServeSettings,
    SupervisorSettings,
)
from dataflows.sections.items import ExperimentSettings, HoldoutSettings, RecommendSettings
from dataflows.sections.models import Models
from dataflows.sections.profiles import (
    CartSettings,
    ContextSettings,
    FamilySettings,
    FeatureSettings,
    OfferRules,
    OfferSettings,
    OrderSettings,
    Rfm,
    Segment,
    SessionSettings,
)
from dataflows.sections.values import Name, Section


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
