"""Which broker tests run on: the embedded one, or a real Kafka with ``AFTERGLOW_TEST_KAFKA=1``."""

from __future__ import annotations

import os
from typing import Final

import pytest

from dataflows.embedded import EmbeddedBroker
from dataflows.local_kafka import LocalKafka, missing

Broker = EmbeddedBroker | LocalKafka
REAL: Final = os.environ.get("AFTERGLOW_TEST_KAFKA", "") not in ("", "0")

needs_kafka = pytest.mark.skipif(bool(missing()), reason=f"a real Kafka: {missing()}")
"""For tests of what only a real Kafka has: transactions, compaction, lookup by time."""


def new_broker(partitions: int = 4) -> Broker:
    """A broker of a test's own, to be used as a context manager."""
    return LocalKafka(partitions=partitions) if REAL else EmbeddedBroker(partitions)
