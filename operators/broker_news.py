"""What a Kafka client says of its brokers, as events of the engine's log.

The client writes a flood of lines when a broker is away: one for each try and partition. So they
are left out, and what they are about comes as ``broker_error``, at once and then every ten seconds
at most. ``broker_back`` is said only after all brokers were away, because one that others stand in
for may be away for long while messages come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError

log = structlog.get_logger()

_EVERY_S: Final = 10.0
_QUEUED_S: Final = 1.0
"""How long what came before the brokers went away may still be handed over."""
SILENT: Final[dict[str, Any]] = {"log_level": 2}
"""For a client that others speak for: it says nothing of brokers."""


class BrokerNews:
    """The news of one client.

    Args:
        client: which, for the log.
        clock: seconds that only rise.
    """

    def __init__(self, client: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._told_s = -math.inf
        self._away_s: float | None = None

    @property
    def config(self) -> dict[str, Any]:
        """What the client must be given; it tells its trouble while it is polled."""
        return {**SILENT, "error_cb": self.trouble}

    @property
    def is_away(self) -> bool:
        """Whether no broker could be reached when one was heard of last."""
        return self._away_s is not None

    def trouble(self, error: KafkaError) -> None:
        """Something is wrong with a broker."""
        now_s = self._clock()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self._away_s is None:
            self._away_s = now_s
        if now_s - self._told_s >= _EVERY_S:
            self._told_s = now_s
            log.warning("broker_error", client=self._client, error=error.str())

    def well(self) -> None:
        """A broker has answered."""
        if self._away_s is not None and self._clock() - self._away_s >= _QUEUED_S:
            self._away_s, self._told_s = None, -math.inf
            log.info("broker_back", client=self._client)
