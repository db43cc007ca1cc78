"""Explaining one user's offer: why it stands or not, what holds it back, and what silence does.

As with segments nothing is guessed: segments and offers are decided again, on a copy of what is
remembered of the user, at each time at which silence may change something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from state.explain import HORIZON_MS, MAX_LOOKS, Reading, duration, readings
from state.memberships import SegmentState
from state.offers import OfferError, OfferPlan, OfferSpec
from state.segments import Outcome, SegmentPlan
from state.table import Table
from state.times import FAR_MS
from state.view import View

_ONE: Final = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class OfferExplanation:
    """Why a user has, or does not have, an offer.

    Attributes:
        spec: the offer.
        now_ms: the time of the explanation.
        stands: whether the user has it.
        given: how often the user was given it.
        since_ms, until_ms: when it was given last, and when that ends or ended; None for never.
        readings: the tests of its condition.
        free_ms: until when cap and cool-down hold it back, ``FAR_MS`` for ever; None: they do not.
        instead: offers that stand in its place though it could be given.
        changes_ms: when silence ends it or brings it; None if it does not.
        looked_until_ms: where the search for that was given up; None where it was not.
    """

    spec: OfferSpec
    now_ms: int
    stands: bool
    given: int
    since_ms: int | None
    until_ms: int | None
    readings: tuple[Reading, ...]
    free_ms: int | None
    instead: tuple[str, ...]
    changes_ms: int | None
    looked_until_ms: int | None

    def to_text(self) -> str:
        """As lines for people."""
        spec = self.spec
        state = "has" if self.stands else "does not have"
        lines = [f"{state} the offer {spec.name} (priority {spec.priority}){self._times()}"]
        lines.append(f"when: {spec.when}")
        lines += [each.to_text() for each in self.readings]
        if self.free_ms == FAR_MS:
            lines.append(f"cap: not more than {spec.cap} in all")
        elif self.free_ms is not None:
            ahead = duration(self.free_ms - self.now_ms)
            lines.append(f"cool-down or cap: not before {ahead} from now")
        if self.instead:
            lines.append(f"held back by {', '.join(self.instead)}")
        lines.append(self._outlook())
        return "\n".join(lines)

    def _times(self) -> str:
        if self.since_ms is None or self.until_ms is None:
            return ""
        often = "once" if self.given == 1 else f"{self.given} times"
        if self.stands:
            return f" for {duration(self.now_ms - self.since_ms)}, given {often}"
        return f", given {often}, until {duration(self.now_ms - self.until_ms)} ago"

    def _outlook(self) -> str:
        if self.changes_ms is not None:
            verb = "ends" if self.stands else "is given"
            return f"{verb} in {duration(self.changes_ms - self.now_ms)} if silent"
        if self.looked_until_ms is not None:
            ahead = duration(self.looked_until_ms - self.now_ms)
            return f"nothing changes for {ahead} if silent; further was not looked"
        return "is not given by silence alone"


def explain_offer(
    segments: SegmentPlan,
    offers: OfferPlan,
    view_at: Callable[[int], View],
    now_ms: int,
    state: SegmentState,
    memory: Table,
    name: str,
) -> OfferExplanation:
    """Explain one user's offer.

    Args:
        segments: the compiled segments.
        offers: the compiled offers.
        view_at: gives the view of this one user, a single row, at a time in epoch ms.
        now_ms: the time to explain.
        state: the user's memberships, one row, as last decided.
        memory: what is remembered of the user's offers, one row; it is written to.
        name: of an offer.

    Raises:
        OfferError: for a name that is not in the plan.
    """
    names = [spec.name for spec in offers.specs]
    if name not in names:
        raise OfferError(f"there is no offer {name!r}; there are {', '.join(names) or 'none'}")
    place = names.index(name)
    user = _User(segments, offers, view_at, memory)
    outcome = user.decide(now_ms, state)
    spec, condition = offers.specs[place], offers.conditions[place]
    since_ms, until_ms, given = memory[spec.column][0].tolist()
    free_ms = offers.free_ms(place, memory, 0)
    stands = until_ms > now_ms
    able = not stands and free_ms <= now_ms and bool(outcome.on.truth(condition.test)[0])
    instead = user.standing(now_ms) if able else []
    if any(offers.specs[at].exclusive == spec.exclusive is not None for at in instead):
        instead = [at for at in instead if offers.specs[at].exclusive == spec.exclusive]
    changes_ms, looked_until_ms = user.foresee(outcome, spec, now_ms)
    return OfferExplanation(
        spec=spec,
        now_ms=now_ms,
        stands=stands,
        given=max(given, 0),
        since_ms=since_ms if given > 0 else None,
        until_ms=until_ms if given > 0 else None,
        readings=tuple(readings(outcome.on, "when", condition)),
        free_ms=None if stands or free_ms <= now_ms else free_ms,
        instead=tuple(names[at] for at in instead),
        changes_ms=changes_ms,
        looked_until_ms=looked_until_ms,
    )


class _User:
    """One user whose segments and offers are decided on a copy."""

    def __init__(
        self,
        segments: SegmentPlan,
        offers: OfferPlan,
        view_at: Callable[[int], View],
        memory: Table,
    ) -> None:
        self._segments, self._offers = segments, offers
        self._view_at, self._memory = view_at, memory

    def decide(self, at_ms: int, state: SegmentState) -> Outcome:
        """Decide everything at a time."""
        outcome = self._segments.evaluate(self._view_at(at_ms), state, self._offers.tests)
        # how many stand more than before is not asked here, so any time may stand for before
        self._offers.decide(outcome.on, self._memory, _ONE, _ONE, outcome.due_ms)
        return outcome

    def standing(self, at_ms: int) -> list[int]:
        """Places of the offers that stand."""
        ends = [int(self._memory[spec.column][0, 1]) for spec in self._offers.specs]
        return [place for place, end_ms in enumerate(ends) if end_ms > at_ms]

    def foresee(
        self, outcome: Outcome, spec: OfferSpec, now_ms: int
    ) -> tuple[int | None, int | None]:
        """When silence ends an offer or gives it, and where the search was given up."""
        held = self._memory[spec.column][0]
        stands, (since_ms, _, _) = bool(held[1] > now_ms), held.tolist()
        end_ms = now_ms + HORIZON_MS
        for _ in range(MAX_LOOKS):
            due_ms = int(outcome.due_ms[0])
            if due_ms == FAR_MS:
                return None, None
            if due_ms > end_ms:
                return None, end_ms
            outcome = self.decide(due_ms, outcome.state)
            if bool(held[1] > due_ms) != stands or held[0] != since_ms:
                return due_ms, None
        return None, due_ms
