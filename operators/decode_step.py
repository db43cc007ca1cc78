"""Decode, dead letters and lanes, fused into one operator over whole reads.

A read leaves this step only after its dead letters are acknowledged (so a crash can repeat a dead
letter, never lose one), and it reaches **every** lane, empty or not, with all the spans it covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from events.batch import Batch, DeadLetter, Read
from events.decode import Decoder
from events.hashing import shard_of
from operators.metrics import Metrics


class DeadLetterTarget(Protocol):
    """Where dead letters go; ``write`` returns when they are safe."""

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters, or raise."""


class DecodeStep:
    """Turns reads into one batch per lane.

    Args:
        decoder: bytes to columns.
        dead_letters: where the bad ones go.
        lane_keys: the name of each lane; a user's lane is ``shard % lanes``.
        shards: into how many shards users are split.
        metrics: where to count.
    """

    def __init__(
        self,
        decoder: Decoder,
        dead_letters: DeadLetterTarget,
        lane_keys: Sequence[str],
        shards: int,
        metrics: Metrics,
    ) -> None:
        self._decoder = decoder
        self._dead_letters = dead_letters
        self._lane_keys = lane_keys
        self._shards = shards
        self._metrics = metrics

    def __call__(self, reads: list[Read]) -> Iterable[tuple[str, Batch]]:
        """One batch per read and lane, in the order of the reads."""
        out: list[tuple[str, Batch]] = []
        for read in reads:
            with self._metrics.step("decode"):
                batch, letters = self._decoder(read)
            if letters:
                self._dead_letters.write(letters)
                self._metrics.count_dead(letters)
            out += self._to_lanes(batch)
        return out

    def _to_lanes(self, batch: Batch) -> Iterable[tuple[str, Batch]]:
        if len(self._lane_keys) == 1:
            return [(self._lane_keys[0], batch)]
        lane = shard_of(batch.users, self._shards) % len(self._lane_keys)
        batch.seen_ms = batch.seen()  # by all lanes, so that each finds the same duplicates
        return [(key, batch.where(lane == place)) for place, key in enumerate(self._lane_keys)]


DecodeFactory = Callable[[], DecodeStep]
