"""How far a reader may be ahead of the lanes on other workers.

What a reader sends to another worker queues there without a bound, and Bytewax's own remedy, short
epochs, costs more than it gives: at the end of each, readers wait for each other in busy loops, and
for as long as their epochs began apart. So a run has one epoch, each lane says in the store how far
it is, a few times a second, and a reader stops while too much is on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

TOLD_S: Final = 0.25
"""How often lanes say, and readers ask, how far they are."""

Told = Callable[[], Sequence[Mapping[int, int]] | None]
"""What each lane of other workers said last, by partition the offset that it takes next; None
without answer."""


class Ahead:
    """What a reader may still read.

    Args:
        most: messages that may be on their way to a lane. Offsets are counted, so a gap in the log
            counts until lanes are behind it.
        told: where lanes are.

    >>> ahead = Ahead(100, lambda: [{0: 70}, {0: 50}])
    >>> ahead.room({0: 50}, now_s=0.0), ahead.room({0: 140}, now_s=0.1), ahead.room({0: 155}, 0.2)
    (100, 10, 0)
    """

    def __init__(self, most: int, told: Told) -> None:
        self._most, self._told = most, told
        self._starts: dict[int, int] = {}
        self._slowest: dict[int, int] = {}
        self._asked_s = float("-inf")

    def room(self, places: Mapping[int, int], now_s: float) -> int:
        """How many messages may be read.

        Args:
            places: of the reader in each of its partitions: the offset that comes next.
            now_s: monotonic.
        """
        for partition, place in places.items():
            self._starts.setdefault(partition, place)
        if now_s - self._asked_s >= TOLD_S:
            self._asked_s = now_s
            lanes = self._told()
            if lanes is not None:  # else it stands what they said before
                self._slowest = {
                    # what was said before this reader began may be of another life of the data
                    p: max(min(lane.get(p, start) for lane in lanes), start)
                    for p, start in self._starts.items()
                }
        on_their_way = sum(
            max(n - self._slowest.get(p, self._starts[p]), 0) for p, n in places.items()
        )
        return max(self._most - on_their_way, 0)
