"""How far each lane is in the log, said for readers in other processes; no lane starts from it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from state.servers import TROUBLE, Servers


class LanePlaces:
    """One key beside the shards: a field for each lane.

    Args:
        servers: where it is.
        key: its name.
    """

    def __init__(self, servers: Servers, key: str) -> None:
        self._servers, self._key = servers, key

    def say(self, lane: int, positions: Mapping[int, int]) -> None:
        """How far a lane is in each partition; lost without answer."""
        with suppress(*TROUBLE):
            self._servers.client.hset(self._key, str(lane), msgspec.json.encode(positions))

    def forget(self, lane: int) -> None:
        """A lane begins: what was said of it before does not hold; lost without answer."""
        with suppress(*TROUBLE):
            self._servers.client.hdel(self._key, str(lane))

    def said(self) -> dict[int, dict[int, int]] | None:
        """How far lanes said they are; None without answer."""
        try:
            held = self._servers.client.hgetall(self._key)
        except TROUBLE:
            return None
        kind = dict[int, int]
        return {int(lane): msgspec.json.decode(raw, type=kind) for lane, raw in held.items()}
