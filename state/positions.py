"""Where each shard stands in the log: for every source partition the offset that comes next.

Every read reaches every lane with the spans it covers, so a shard's positions move on even while
its users are silent. After a restart shards stand at different places, the source starts at the
lowest, and each shard skips what its own position covers. A span that starts beyond a shard's
position would be a hole in its history: that ends the lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.batch import Span

I64 = NDArray[np.int64]

UNKNOWN: Final = -1


class GapError(Exception):
    """Events between a shard's position and the next span are missing."""


class Positions:
    """The positions of a lane's shards.

    >>> p = Positions([3, 7])
    >>> p.restore(3, {0: 10})
    >>> p.restore(7, {0: 4})
    >>> spans = [Span(0, 4, 12)]
    >>> p.fresh(spans, lambda: np.array([3, 7]), np.array([0, 0]), np.array([9, 9])).tolist()
    [False, True]
    >>> p.advance(spans)
    >>> p.of(3), p.of(7)
    ({0: 12}, {0: 12})
    """

    def __init__(self, shards: Sequence[int]) -> None:
        self._place = {shard: i for i, shard in enumerate(shards)}
        self._next: I64 = np.full((len(shards), 0), UNKNOWN, dtype=np.int64)
        self._place_of: I64 = np.full(max(shards, default=-1) + 1, UNKNOWN, dtype=np.int64)
        for shard, place in self._place.items():
            self._place_of[shard] = place

    def restore(self, shard: int, positions: Mapping[int, int]) -> None:
        """Take over a shard's committed positions."""
        for partition, offset in positions.items():
            self._know(partition)
            self._next[self._place[shard], partition] = offset

    def of(self, shard: int) -> dict[int, int]:
        """A shard's known positions by partition."""
        return _known(self._next[self._place[shard]])

    def fresh(
        self,
        spans: Iterable[Span],
        shard_of: Callable[[], I64],
        partition: NDArray[np.int32],
        offset: I64,
    ) -> NDArray[np.bool_] | None:
        """Which events no position covers yet, bool[n]; None when that is all of them.

        Args:
            spans: what was read.
            shard_of: gives the shard of each event, int64[n]; asked only when it matters.
            partition: int32[n].
            offset: int64[n].

        Raises:
            GapError: a span starts beyond the position of one of the shards.
        """
        covered = False
        for span in spans:
            self._know(span.partition)
            known = self._next[:, span.partition]
            high = int(known.max())
            low = int(known.min(where=known != UNKNOWN, initial=high))
            if high != UNKNOWN and span.start > low:
                raise GapError(
                    f"partition {span.partition}: the next span must start at offset {low} or "
                    f"before, where the last commit ended, but starts at {span.start}; ending, so "
                    "that a restart reads from the committed positions again"
                )
            covered |= high > span.start
        if not covered:
            return None
        return offset >= self._next[self._place_of[shard_of()], partition]

    def advance(self, spans: Iterable[Span]) -> None:
        """All shards have taken these spans."""
        for span in spans:
            known = self._next[:, span.partition]
            np.maximum(known, span.stop, out=known)

    def encoded(self, shards: Sequence[int]) -> list[bytes]:
        """The positions of some shards for their commit records; mostly all stand alike."""
        held = self._next[self._place_of[np.array(shards, dtype=np.int64)]]
        if (held == held[:1]).all():
            return [msgspec.json.encode(_known(each)) for each in held[:1]] * len(shards)
        return [msgspec.json.encode(_known(each)) for each in held]

    @staticmethod
    def decode(raw: bytes | None) -> dict[int, int]:
        """What ``encode`` wrote."""
        return msgspec.json.decode(raw, type=dict[int, int]) if raw else {}

    def _know(self, partition: int) -> None:
        missing = partition + 1 - self._next.shape[1]
        if missing > 0:
            more = np.full((self._next.shape[0], missing), UNKNOWN, dtype=np.int64)
            self._next = np.concatenate([self._next, more], axis=1)


def _known(offsets: I64) -> dict[int, int]:
    return {p: offset for p, offset in enumerate(offsets.tolist()) if offset != UNKNOWN}
