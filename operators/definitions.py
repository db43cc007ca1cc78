"""Following the definitions of segments: each lane takes over what was applied, when it may.

A lane looks about once a second, after a commit. Before other definitions are put in force they
are weighed, some users at a step, between which the lane goes on with its work: what a guard does
not let pass is paused by a revision of its own, which all lanes follow. Then the lane takes the new
ones over, and its users follow when they act or in a sweep. Nothing is taken over before all that
guards have stopped in the flow is written down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import structlog

from state.definition_set import DefinitionSet
from state.definition_store import DefinitionStore
from state.definitions import SegmentError
from state.expressions import ExpressionError
from state.foreseeing import Weighing
from state.lane import Lane
from state.offers import OfferError
from state.revisions import Revision, follow
from state.store_errors import StoreUnavailable

log = structlog.get_logger("afterglow.segments")

GUARD: Final = "guard"
"""The author of revisions that pause what a guard does not let pass."""
_LOOK_S: Final = 1.0
_WEIGHED_AT_ONCE: Final = 4_000


class DefinitionFollower:
    """Keeps one lane at the revision in force.

    Args:
        lane: loaded, with the definitions of ``revision``.
        revisions: where they are.
        revision: the one that the lane was made with.

    Attributes:
        revision: the one that the lane is at.
    """

    def __init__(self, lane: Lane, revisions: DefinitionStore, revision: Revision) -> None:
        self.revision = revision
        self._lane, self._revisions = lane, revisions
        self._weighing: Iterator[None] | None = None
        self._untold: dict[str, str] = {}
        self._looked_s = time.monotonic()

    def step(self, wall_ms: int) -> None:
        """Go on; everything decided so far is committed."""
        if not self._report_tripped(wall_ms):
            return
        if self._weighing is not None:
            if next(self._weighing, self) is self:
                self._weighing = None
            return
        now_s = time.monotonic()
        if self._lane.redefiner.left or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        with suppress(StoreUnavailable):  # whoever commits waits for the store
            count = self._revisions.count()
            found = self._revisions.at(count) if count != self.revision.number else None
            if found is not None:
                self._weighing = self._follow(found, wall_ms)

    def _follow(self, found: Revision, wall_ms: int) -> Iterator[None]:
        lane = self._lane
        try:
            segments, _ = lane.compiled(found.definitions)
            if found.definitions.mark != lane.redefiner.mark:
                weighing = Weighing(lane, segments, found.exempt)
                yield from weighing.steps(_WEIGHED_AT_ONCE)
                if heavy := weighing.too_heavy():
                    while not self._pause(found, heavy, wall_ms):
                        yield
                    paused = sorted({*found.paused, *heavy})
                    lane.adopt(DefinitionSet(found.segments, found.families, paused))
                else:
                    lane.adopt(found.definitions)
            elif segments.paused != lane.decider.plan.paused:
                # a guard's pause was taken back before the lane has followed it: it does so first,
                # and then finds other definitions than those its users were decided by
                paused = sorted(lane.decider.plan.paused)
                lane.adopt(DefinitionSet(found.segments, found.families, paused))
                return
        except (SegmentError, ExpressionError, OfferError) as error:
            log.error("definitions_refused", revision=found.number, error=str(error))
        else:
            log.info(
                "definitions_adopted",
                revision=found.number,
                author=found.author,
                users=lane.redefiner.left,
            )
        self.revision = found

    def _report_tripped(self, wall_ms: int) -> bool:
        """Tell the other lanes what guards have stopped in this one; whether nothing is untold."""
        guarding = self._lane.decider.guarding
        tripped = guarding.tripped()
        if not tripped:
            return True
        if not self._pause(self.revision, tripped, wall_ms):
            return False
        guarding.told(tripped)
        self._weighing = None  # of definitions without this pause
        return True

    def _pause(self, last: Revision, why: dict[str, str], wall_ms: int) -> bool:
        """Write a pause down; false if the store did not take it, and it must be tried again."""
        now_s = time.monotonic()
        if why == self._untold and now_s - self._looked_s < _LOOK_S:
            return False
        note = "; ".join(f"{unit} {reason}" for unit, reason in why.items())
        try:
            while True:
                live = self._revisions.live() or last
                if not set(why) & live.units.keys() - set(live.paused):
                    break
                paused = {*live.paused, *why}
                then = follow(
                    live, at_ms=wall_ms, author=GUARD, note=note, source=live.source, paused=paused
                )
                if self._revisions.publish(then):
                    break
        except StoreUnavailable as error:
            self._untold, self._looked_s = why, now_s
            log.warning("pause_not_written", segments=sorted(why), error=str(error))
            return False
        for unit, reason in why.items():
            log.error("segment_paused", segment=unit, reason=reason)
        return True
