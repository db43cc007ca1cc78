"""Definitions compiled over the features of a lane."""

from __future__ import annotations

from collections.abc import Mapping

from state.definition_set import DefinitionSet
from state.features import Feature
from state.offers import OfferPlan
from state.plan import LanePlan
from state.segments import SegmentPlan


def compile_definitions(
    plan: LanePlan, features: Mapping[str, Feature], definitions: DefinitionSet
) -> tuple[SegmentPlan, OfferPlan | None]:
    """Segments, and the plan's offers over them.

    Raises:
        SegmentError, OfferError: with what is wrong.
    """
    kinds = {name: feature.kind for name, feature in features.items()}
    segments = SegmentPlan.compile(
        definitions.segments,
        definitions.families,
        kinds,
        poll_ms=plan.poll_ms,
        paused=definitions.paused,
    )
    if not plan.offers:
        return segments, None
    offers = OfferPlan.compile(plan.offers, plan.max_offers, kinds, segments, poll_ms=plan.poll_ms)
    return segments, offers
