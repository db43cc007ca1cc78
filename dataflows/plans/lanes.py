"""What events may be, and what a lane measures of them and decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dataflows.experiments import experiments_plan
from dataflows.plans.types import check_types
from dataflows.retention import retention_ms
from dataflows.sections.profiles import DecayedFeature, FamilySettings, Segment
from dataflows.settings import Settings, SettingsError
from dataflows.zones import zone
from events.schema import EventRules
from state.declared import DecayedSpec, PanesSpec
from state.definition_set import DefinitionSet
from state.definitions import FamilySpec, Guard, SegmentSpec
from state.expressions import ExpressionError
from state.filters import EventFilter
from state.offers import OfferSpec
from state.plan import LanePlan
from state.rfm import Cuts, RfmSpec

_TAKEN: Final = frozenset(
    (
        *("v", "user_id", "as_of", "commit", "changes", "first_seen", "last_seen", "last_order"),
        *("returned_at", "lifetime", "window", "decayed", "rfm", "session", "cart", "segments"),
        *("scores", "offers", "experiment", "consent", "attributes"),
    )
)
"""Names in a profile that a declared feature would hide."""


def event_rules(settings: Settings, salt: int = 0) -> EventRules:
    """What an event may be.

    Args:
        settings: in force.
        salt: of the store that the events' profiles are kept in.
    """
    chosen = settings.events
    check_types("events.types", chosen.types)
    return EventRules(
        types=frozenset(chosen.types),
        currency=chosen.currency,
        minor_digits=chosen.minor_digits,
        max_ahead_ms=chosen.max_ahead,
        max_age_ms=chosen.max_age,
        max_bytes=chosen.max_bytes,
        salt=salt,
    )


def lane_plan(settings: Settings) -> LanePlan:
    """What a lane measures and decides."""
    lane, dedup = settings.lane, settings.dedup
    definitions = definition_set(settings.segments, settings.families)
    decayed, panes = _features(settings)
    return LanePlan(
        shards=settings.redis.shards,
        rfm=_rfm(settings),
        decayed=decayed,
        panes=panes,
        segments=definitions.segments,
        families=definitions.families,
        offers=_offers(settings),
        max_offers=settings.offer_rules.max_offers,
        lateness_ms=lane.lateness,
        wall_delay_ms=lane.wall_delay,
        session_gap_ms=settings.session.gap,
        return_gap_ms=settings.session.return_gap,
        order_keep_ms=settings.orders.keep or 0,
        cart_ttl_ms=settings.cart.ttl,
        cart_lines=settings.cart.max_lines,
        # an event that is ahead of its log moves the window; it must not cut it short for others
        dedup_window_ms=dedup.window + settings.events.max_ahead,
        dedup_cap=dedup.cap,
        cuts_every_ms=settings.rfm.cuts_every,
        apart_ms=lane.apart,
        timer_step_ms=lane.timer_step,
        timer_budget=lane.timer_budget,
        poll_ms=lane.poll,
        zone=zone(settings.context.timezone),
        experiments=experiments_plan(settings),
        retention_ms=retention_ms(settings),
        retention_every_ms=settings.retention.every,
        retention_rows=settings.retention.at_once,
    )


def definition_set(
    segments: Mapping[str, Segment], families: Mapping[str, FamilySettings]
) -> DefinitionSet:
    """Definitions of segments as the layers below take them."""
    return DefinitionSet(
        [
            SegmentSpec(
                name, s.enter, s.exit, s.min_dwell, s.cooldown, s.version, s.max_flips, _guard(s)
            )
            for name, s in segments.items()
        ],
        [
            FamilySpec(name, list(f.labels.items()), f.version, _guard(f))
            for name, f in families.items()
        ],
    )


def _guard(chosen: Segment | FamilySettings) -> Guard | None:
    guard = chosen.guard
    return None if guard is None else Guard(guard.share, guard.within, guard.least)


def _rfm(settings: Settings) -> RfmSpec:
    rfm = settings.rfm
    fixed = None
    if rfm.cuts is not None:
        cuts = rfm.cuts
        fixed = Cuts(1, 0, cuts.recency_days, cuts.frequency, cuts.monetary)
    return RfmSpec(rfm.basis, rfm.half_life, rfm.window, rfm.ties, fixed)


def _offers(settings: Settings) -> list[OfferSpec]:
    return [
        OfferSpec(
            name=name,
            when=offer.when,
            lasts_ms=offer.lasts,
            priority=offer.priority,
            cap=offer.cap,
            cap_window_ms=offer.cap_window,
            cooldown_ms=offer.cooldown,
            exclusive=offer.exclusive,
            value=offer.value,
        )
        for name, offer in settings.offers.items()
        if offer.enabled
    ]


def _features(settings: Settings) -> tuple[list[DecayedSpec], list[PanesSpec]]:
    decayed, panes = [], []
    for name, spec in settings.features.items():
        if name in _TAKEN:
            raise SettingsError(f"features.{name}: the profile has {name!r} already; rename it")
        _check_filter(f"features.{name}.where", spec.where)
        if isinstance(spec, DecayedFeature):
            check_types(f"features.{name}.weights", spec.weights)
            decayed.append(DecayedSpec(name, spec.half_life, spec.weights, spec.where))
            continue
        check_types(f"features.{name}.types", spec.types)
        if spec.window % spec.panes:
            raise SettingsError(
                f"features.{name}.panes: must divide the window of {spec.window} ms evenly, but "
                f"{spec.panes} came"
            )
        panes.append(PanesSpec(name, spec.window, spec.panes, spec.types, spec.where))
    return decayed, panes


def _check_filter(path: str, where: str) -> None:
    try:
        EventFilter(where)
    except ExpressionError as error:
        raise SettingsError(f"{path}: {error}") from error
