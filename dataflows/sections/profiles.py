"""What is kept of each user and decided about him: RFM, sessions, features, segments, offers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from dataflows.sections.values import (
    Four,
    LongSpan,
    Millis,
    Name,
    OptionalMillis,
    Section,
    Span,
    Version,
    Whole,
)

_LONGEST_VALUE: Final = 500


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
