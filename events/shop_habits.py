"""How the generated shop is set up: its size, its pace and the ways of its customers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CATEGORIES: Final = (
    *("garden.tools", "garden.plants", "kitchen.cook", "kitchen.coffee", "home.light"),
    *("home.textile", "toys.outdoor", "toys.board", "books.novel", "books.travel", "sport.run"),
    *("sport.bike",),
)
COUNTRIES: Final = ("DE", "FR", "PL", "ES", "IT", "NL", "SE", "GB", "US", "JP")
DEVICES: Final = ("mobile", "desktop", "tablet")

STEPS_PER_VISIT: Final = 6.4
"""Mean length of a visit with all that follows, measured; it turns a rate into arrivals."""

_MOST_VISITS_AT_ONCE: Final = 20_000


@dataclass(slots=True, frozen=True)
class Habits:
    """How the shop and its customers behave; times in seconds, shares from 0 to 1.

    Attributes:
        users, items: how many there are.
        zipf: exponent of the users' activity; 0 makes all alike.
        rate_per_s: events per second.
        pace_s: mean time for one item of a visit; None chooses 15 s, or less where so many
            visits would be open at once that hardly any user were left to come.
        late_share: visits that are delivered late, by ``late_s`` in the mean (None: 20 paces).
        follow_up_s: mean time from a purchase to its refund or rating (None: 20 paces).
        drift_share: users who stay away for two fifths of every ``drift_period_s``.
    """

    users: int = 10_000
    items: int = 2_000
    zipf: float = 1.2
    rate_per_s: float = 1_000.0
    pace_s: float | None = None
    late_share: float = 0.02
    late_s: float | None = None
    follow_up_s: float | None = None
    drift_share: float = 0.3
    drift_period_s: float = 60 * 86_400.0

    def __post_init__(self) -> None:
        needs = {"users": self.users >= 1, "items": self.items >= len(CATEGORIES)}
        needs |= {"zipf": self.zipf >= 0, "rate_per_s": self.rate_per_s > 0}
        needs |= {"pace_s": self.pace_s is None or self.pace_s > 0}
        needs |= {"drift_period_s": self.drift_period_s > 0}
        for name, holds in needs.items():
            if not holds:
                raise ValueError(
                    f"the shop's {name} must be positive (zipf may be 0, items at least "
                    f"{len(CATEGORIES)}), but {getattr(self, name)!r} came: choose another"
                )

    @property
    def pace_ms(self) -> float:
        """Mean time for one item of a visit, in milliseconds."""
        if self.pace_s is not None:
            return 1000 * self.pace_s
        open_at_once = min(_MOST_VISITS_AT_ONCE, max(self.users / 20, 50))
        visits_per_ms = self.rate_per_s / STEPS_PER_VISIT / 1000
        return min(15_000.0, open_at_once / visits_per_ms / 3)

    def or_paces(self, seconds: float | None, paces: float) -> float:
        """A time in milliseconds that defaults to so many paces."""
        return paces * self.pace_ms if seconds is None else 1000 * seconds
