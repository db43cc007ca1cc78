"""Lists of items, the rules over them, and what is tried on a part of the users."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dataflows.sections.values import (
    LongSpan,
    Millis,
    Moment,
    Name,
    OptionalMoment,
    Options,
    Section,
    Span,
    Whole,
)
from state.times import HOUR_MS


def _to_arm(value: Any) -> Any:
    """A bare weight stands for an arm that changes nothing."""
    is_weight = isinstance(value, int | float) and not isinstance(value, bool)
    return {"weight": value} if is_weight else value


class SourceSettings(Section):
    """What each source of candidates weighs; 0 switches one off."""

    covisits: Annotated[float, Field(ge=0)]
    reminders: Annotated[float, Field(ge=0)]
    together: Annotated[float, Field(ge=0)]
    similar: Annotated[float, Field(ge=0)]
    category: Annotated[float, Field(ge=0)]
    popular: Annotated[float, Field(ge=0)]
    trending: Annotated[float, Field(ge=0)]
    segment: Annotated[float, Field(ge=0)]
    sessions: Annotated[float, Field(ge=0)]
    cosine: Annotated[float, Field(ge=0)]


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
    trend: Annotated[LongSpan, Field(ge=HOUR_MS)]
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
    segment: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,62})?$")]
    per_category: Annotated[Whole, Field(ge=0)]
    session_count: Annotated[Whole, Field(ge=100, le=10_000_000)]
    session_sample: Annotated[Whole, Field(ge=1, le=10_000)]
    session_neighbours: Annotated[Whole, Field(ge=1, le=5_000)]
    adaptive: bool
    ranked: bool
    click_window: LongSpan
    rank_least: Annotated[Whole, Field(ge=1)]
    weights: dict[str, Annotated[float, Field(gt=0)]]
    sources: SourceSettings
    rules: Annotated[dict[Name, RuleSettings], Field(default={})]


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
