"""The plan of a lane: everything the settings say about measuring and deciding, compiled once."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from state.declared import DecayedSpec, PanesSpec
from state.definition_set import DefinitionSet
from state.experiment_plan import ExperimentsPlan
from state.local_time import Zone
from state.offers import OfferSpec
from state.rfm import RfmSpec
from state.segments import FamilySpec, SegmentSpec
from state.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS


@dataclass(slots=True, frozen=True)
class LanePlan:
    """What a lane measures, decides and keeps. Durations in milliseconds.

    Attributes:
        shards: into how many shards all users are split.
        rfm: basis and cuts.
        decayed, panes: declared features.
        segments, families: definitions.
        paused: names of those whose members stay as they are.
        offers, max_offers: what users are given, and how many at a time.
        lateness_ms: how much later than the newest event another may still come.
        wall_delay_ms: how far the clock of a lane that has caught up stays behind the wall.
        session_gap_ms, return_gap_ms: what ends a session; what makes the next one a return.
        order_keep_ms: how long after its last touch an order can still be found by a line or a
            refund; the window of RFM if that is longer.
        cart_ttl_ms, cart_lines: how long a cart line lives, and how many a cart holds.
        dedup_window_ms, dedup_cap: how far back, and how many, event ids are kept.
        cuts_every_ms: least time between two measurements of the population.
        apart_ms: events of a user that are further apart are decided one after another.
        timer_step_ms: how finely time moves for timers and sweeps.
        timer_budget: most timers fired at a step; the oldest first.
        sweep_every_ms: least time between two steps of the sweep that checks users against new
            cuts; each leads to a commit.
        sweep_rows: users checked at a step.
        redefined_rows: silent users who go over to new definitions at a step.
        poll_ms: how often conditions without closed form are looked at.
        zone: in which time zone hours and weekdays are.
        experiments: what is tried, on whom.
        retention_ms: how long after the last event a user is remembered; 0 for ever.
        retention_every_ms: least time between two steps that forget users.
        retention_rows: users forgotten at a step.
    """

    shards: int = 64
    rfm: RfmSpec = field(default_factory=RfmSpec)
    decayed: Sequence[DecayedSpec] = ()
    panes: Sequence[PanesSpec] = ()
    segments: Sequence[SegmentSpec] = ()
    families: Sequence[FamilySpec] = ()
    paused: Sequence[str] = ()
    offers: Sequence[OfferSpec] = ()
    max_offers: int = 3
    lateness_ms: int = 5 * SECOND_MS
    wall_delay_ms: int = 500
    session_gap_ms: int = 30 * MINUTE_MS
    return_gap_ms: int = 30 * DAY_MS
    order_keep_ms: int = 0
    cart_ttl_ms: int = 30 * DAY_MS
    cart_lines: int = 50
    dedup_window_ms: int = 15 * MINUTE_MS
    dedup_cap: int = 5_000_000
    cuts_every_ms: int = 10 * SECOND_MS
    apart_ms: int = 10 * SECOND_MS
    timer_step_ms: int = 100
    timer_budget: int = 50_000
    sweep_every_ms: int = 200
    sweep_rows: int = 4_000
    redefined_rows: int = 2_000
    poll_ms: int = HOUR_MS
    zone: Zone = field(default_factory=Zone)
    experiments: ExperimentsPlan = field(default_factory=ExperimentsPlan)
    retention_ms: int = 0
    retention_every_ms: int = MINUTE_MS
    retention_rows: int = 1_000

    @property
    def mark(self) -> int:
        """Of all that says what is measured: with another, the same events have other values."""
        measured = (
            (self.rfm, *self.decayed, *self.panes, self.session_gap_ms, self.return_gap_ms),
            (self.order_keep_ms, self.cart_ttl_ms, self.cart_lines, self.poll_ms),
            self.zone.offsets.tolist(),
        )
        return zlib.crc32(repr(measured).encode())

    @property
    def definitions(self) -> DefinitionSet:
        """The definitions of segments as one value."""
        return DefinitionSet(self.segments, self.families, self.paused)
