"""Which servers tests run on: the embedded ones, or real ones (``AFTERGLOW_TEST_KAFKA=1``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from dataflows.embedded import EmbeddedBroker
from dataflows.local_kafka import LocalKafka, missing

Broker = EmbeddedBroker | LocalKafka
REAL: Final = os.environ.get("AFTERGLOW_TEST_KAFKA", "") not in ("", "0")

needs_kafka = pytest.mark.skipif(bool(missing()), reason=f"a real Kafka: {missing()}")
"""For tests of what only a real Kafka has: transactions, compaction, lookup by time."""

REDIS: Final = Path("/usr/bin/redis-server")
needs_redis = pytest.mark.skipif(not REDIS.exists(), reason=f"Debian's redis-server: {REDIS}")
"""For tests of an older server, and of TLS, which the embedded one does not have."""


def new_broker(partitions: int = 4) -> Broker:
    """A broker of a test's own, to be used as a context manager."""
    return LocalKafka(partitions=partitions) if REAL else EmbeddedBroker(partitions)
