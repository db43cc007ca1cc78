"""What a lane counts about itself; plain numbers that only rise, read by whoever shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Since the lane was made.

    Attributes:
        events: good events applied.
        duplicates: events whose id had been seen.
        unchecked: events older than the ids that are kept, applied without a check.
        late: events whose time the clock had passed.
        decided: evaluations of users.
        committed: profiles written.
        forgotten: users who were silent for too long.
        changes: changes by cause.
    """

    events: int = 0
    duplicates: int = 0
    unchecked: int = 0
    late: int = 0
    decided: int = 0
    committed: int = 0
    forgotten: int = 0
    changes: Counter[str] = field(default_factory=Counter)
