"""What is foretold of users, and by which models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dataflows.sections.values import LongSpan, Name, Section, Whole


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
