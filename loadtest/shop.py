"""``python -m loadtest.shop``: a made-up shop that publishes events, until it is stopped.

For trying things out: the customers of ``docker compose up``, and of a first dashboard. Events come
in an open loop, in steps of a tenth of a second, some of them late, twice or broken.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from typing import Any, Final

from confluent_kafka import KafkaError, Message, Producer

from events.shop import Habits, Shop

_STEP_S: Final = 0.1
_FLUSH_S: Final = 10.0


def publish(
    bootstrap: str,
    topic: str,
    rate: int,
    users: int,
    seed: int,
    seconds: float,
    stop: threading.Event,
) -> tuple[int, int]:
    """Publish at a rate; how many messages were sent, and how many did not arrive.

    Args:
        bootstrap: the broker.
        topic: where to.
        rate: messages per second.
        users: customers of the shop.
        seed: of all chance.
        seconds: for so long; 0 until stopped.
        stop: ends it early.
    """
    failed = 0

    def delivered(error: KafkaError | None, _message: Message) -> None:
        nonlocal failed
        failed += error is not None

    config: dict[str, Any] = {"bootstrap.servers": bootstrap, "compression.type": "zstd"}
    producer = Producer({**config, "linger.ms": 5})
    begun_s = time.monotonic()
    habits = Habits(users=users, rate_per_s=rate)
    shop = Shop(seed, _now_ms(), habits, duplicate_share=0.01, broken_share=0.002)
    sent = 0
    while not stop.wait(_STEP_S):
        passed_s = time.monotonic() - begun_s
        due = int(rate * (min(passed_s, seconds) if seconds else passed_s)) - sent
        block = shop.block(due, _now_ms())
        for payload, user in zip(block.payloads, block.users, strict=True):
            producer.produce(topic, payload, user or None, on_delivery=delivered)
        sent += len(block)
        producer.poll(0)
        if seconds and passed_s >= seconds:
            break
    return sent, failed + producer.flush(_FLUSH_S)


def main() -> int:
    """The command; 0 if every message arrived."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="the broker, host:port")
    parser.add_argument("--topic", default="events")
    parser.add_argument("--rate", type=int, default=50, help="messages per second")
    parser.add_argument("--users", type=int, default=2_000, help="customers of the shop")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0, help="0 until it is stopped")
    chosen = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sent, failed = publish(
        *(chosen.bootstrap, chosen.topic, chosen.rate, chosen.users, chosen.seed),
        *(chosen.seconds, stop),
    )
    print(f"{sent:,} sent to {chosen.topic}, {failed:,} failed", file=sys.stderr)
    return 1 if failed else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
