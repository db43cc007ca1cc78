"""What of a live profile is held against the log, and against the segments' sets.

Everything that follows from a user's own events alone: times, lifetime, window and decaying sums,
the session, the cart, and declared sums that decay and have no condition. RFM scores follow from
all users at the moment of the cuts, and scores, offers and when a segment was entered from what
went before: they are not recomputed. Of segments it is compared that profile and sets agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dataflows import reference
from dataflows.sections.profiles import DecayedFeature
from dataflows.settings import Settings

Document = dict[str, Any]
_PLACES: Final = (
    *("first_seen", "last_seen", "last_order", "lifetime", "window", "decayed", "session"),
)


@dataclass(slots=True, frozen=True)
class Difference:
    """One value of one user that is not what it must be.

    Attributes:
        user: the id.
        path: where in the profile; empty for all of it.
        live: what stands there.
        expected: what must.
        by: by what.
    """

    user: str
    path: str
    live: Any
    expected: Any
    by: str = "recomputed"


def reference_settings(settings: Settings) -> reference.Settings:
    """What the reference needs to know of the settings."""
    sums = {
        name: (feature.weights, feature.half_life)
        for name, feature in settings.features.items()
        if isinstance(feature, DecayedFeature) and not feature.where
    }
    return reference.Settings(
        window_ms=settings.rfm.window,
        half_life_ms=settings.rfm.half_life,
        session_gap_ms=settings.session.gap,
        return_gap_ms=settings.session.return_gap,
        cart_ttl_ms=settings.cart.ttl,
        sums=sums,
    )


def compare(
    user: str, live: Document, events: list[reference.Event], settings: reference.Settings
) -> Difference | None:
    """The first value of a profile that is not what the user's events make of it."""
    if not events:
        return Difference(user, "", "a profile", "no event")
    truth = reference.profile(events, live["as_of"], settings)
    for name in (*_PLACES, *settings.sums):
        found = _differs(live[name], truth[name], name)
        if found is not None:
            return Difference(user, *found)
    lines = {line["item_id"]: line["added"] for line in live["cart"]["lines"]}
    if lines != truth["cart"]["lines"]:
        return Difference(user, "cart.lines", lines, truth["cart"]["lines"])
    return None


def compare_sets(user: str, live: Document, held: set[str]) -> Difference | None:
    """Whether a profile names other segments than those in whose sets the user is."""
    if live["segments"].keys() == held:
        return None
    return Difference(user, "segments", sorted(live["segments"]), sorted(held), "by the sets")


def _differs(live: Any, truth: Any, path: str) -> tuple[str, Any, Any] | None:
    if isinstance(truth, Mapping):
        for name in truth:
            found = _differs(live.get(name), truth[name], f"{path}.{name}")
            if found is not None:
                return found
        return None
    if isinstance(truth, float) and isinstance(live, float | int):
        close = math.isclose(live, truth, rel_tol=1e-9, abs_tol=1e-9)
        return None if close else (path, live, truth)
    return None if live == truth else (path, live, truth)
