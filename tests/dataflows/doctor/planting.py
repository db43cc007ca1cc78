"""A world that is well, into which a test plants one fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from dataflows.doctor.examine import examine, wall_ms
from dataflows.doctor.findings import Finding
from dataflows.doctor.machine import gather_machine
from dataflows.settings import load


@dataclass
class World:
    """Addresses, and how the doctor is asked about them.

    Attributes:
        env: the environment.
        sets: settings.
        now_ms: this machine's clock.
    """

    env: dict[str, str]
    sets: list[str] = field(default_factory=lambda: ["metrics.address="])
    now_ms: Callable[[], float] = wall_ms

    def client(self) -> Any:
        """A client of the store, as its administrator."""
        return redis.Redis.from_url(self.env["REDIS_URL"], decode_responses=True)

    def findings(self, *sets: str) -> list[Finding]:
        """All that the doctor finds."""
        settings = load(sets=[*self.sets, *sets], env=self.env)
        return examine(settings, gather_machine(()), self.now_ms).findings

    def fault(self, *sets: str) -> Finding:
        """The one fault that there is."""
        found = [f for f in self.findings(*sets) if f.level == "fault"]
        assert len(found) == 1, found
        return found[0]
