"""What the user has had most often: for groceries it is hard to beat.

Li, Jullien, Ariannezhad and de Rijke, "A next basket recommendation reality check", TOIS 2023.
"""

from __future__ import annotations

import numpy as np

from loadtest.evaluate.recommend.protocol import I64


class OwnFrequent:
    """The user's own items by how often they came, of equals the latest first.

    >>> own = OwnFrequent()
    >>> for item in (4, 5, 4, 6):
    ...     own.observe(user=0, item=item, ts_ms=0)
    >>> own.recommend(user=0, ts_ms=0, count=9).tolist()
    [4, 6, 5]
    """

    def __init__(self, name: str = "own items by frequency") -> None:
        self.name = name
        self._had: dict[int, dict[int, float]] = {}

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:  # noqa: ARG002
        """Learn one event."""
        had = self._had.setdefault(user, {})
        had[item] = had.pop(item, 0.0) + weight  # the latest stands last

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:  # noqa: ARG002
        """The user's own items."""
        latest = reversed(self._had.get(user, {}).items())
        ranked = sorted(latest, key=lambda each: -each[1])
        return np.array([item for item, _ in ranked[:count]], np.int64)
