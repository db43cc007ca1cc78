"""What was sent, booked per user by simple counting: the truth that profiles are held against."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from events.shop import GOOD, Habits, Shop

_STEP_S: Final = 0.02
_FLUSH_S: Final = 120.0


class _Line(msgspec.Struct):
    user_id: str
    type: str
    ts: int
    event_id: str
    amount: Decimal | None = None
    order_id: str | None = None


_decoder = msgspec.json.Decoder(_Line)


@dataclass(slots=True)
class Account:
    """One user: counts, sums in minor units, and times of what was sent."""

    events: int = 0
    gross: int = 0
    refunds: int = 0
    first_ms: int = 2**62
    last_ms: int = 0
    orders: set[str] = field(default_factory=set)

    def enter(self, line: _Line) -> None:
        """Book one event."""
        self.events += 1
        self.first_ms, self.last_ms = min(self.first_ms, line.ts), max(self.last_ms, line.ts)
        minor = int((line.amount or Decimal(0)) * 100)
        if line.type == "purchase":
            self.gross += minor
            self.orders.add(line.order_id or line.event_id)
        elif line.type == "refund":
            self.refunds += minor

    def lifetime(self) -> dict[str, int]:
        """As a profile must have it."""
        return {
            "events": self.events,
            "orders": len(self.orders),
            "spend": max(0, self.gross - self.refunds),
            "refunds": self.refunds,
        }


class Traffic(threading.Thread):
    """A shop that publishes in an open loop, and books what it sends.

    Args:
        bootstrap: the broker.
        topic: of the events.
        rate: events per second.
        users: customers.
        seed: of the shop.

    Attributes:
        accounts: per user, of the good events.
        good, sent: good events, and all messages.
        dialect: how good messages are written from now on; None for as the shop does.
    """

    def __init__(self, bootstrap: str, topic: str, rate: int, users: int, seed: int) -> None:
        super().__init__(daemon=True)
        config: dict[str, Any] = {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "enable.idempotence": True,
            "compression.type": "zstd",
            "log_level": 0,
        }
        self._producer = Producer(config)
        habits = Habits(users=users, rate_per_s=rate, zipf=0.8)
        self._shop = Shop(seed, _now_ms(), habits, duplicate_share=0.02)
        self._topic, self.rate = topic, rate
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._failed: KafkaError | None = None
        self.accounts: Mapping[str, Account] = defaultdict(Account)
        self.good = self.sent = 0
        self.dialect: Callable[[bytes], bytes] | None = None

    def run(self) -> None:
        """Publish until closed."""
        begun_s, held = time.monotonic(), 0
        while not self._closed.is_set():
            due = int((time.monotonic() - begun_s) * self.rate) - held
            if due > 0:
                due = min(due, 5_000)
                self._publish(due)
                held += due
            self._producer.poll(0)
            self._closed.wait(_STEP_S)

    def burst(self, count: int) -> None:
        """So many messages at once, beside the others."""
        for _ in range(0, count, 5_000):
            self._publish(min(count, 5_000))

    def poison(self, messages: Sequence[bytes]) -> None:
        """Messages that are no events, between the others."""
        with self._lock:
            for message in messages:
                self._produce(message, "poison")
                self.sent += 1

    def close(self) -> None:
        """Send no more; returns when all is in the log."""
        self._closed.set()
        self.join()
        waiting = self._producer.flush(_FLUSH_S)
        if waiting or self._failed:
            raise RuntimeError(f"{waiting} messages did not reach the log: {self._failed}")

    def _publish(self, count: int) -> None:
        with self._lock:
            self._publish_block(count)

    def _publish_block(self, count: int) -> None:
        block = self._shop.block(count, _now_ms())
        for payload, user, kind in zip(block.payloads, block.users, block.kind, strict=True):
            said = self.dialect(payload) if self.dialect and kind == GOOD else payload
            self._produce(said, user if isinstance(user, str) else None)
            if kind == GOOD:
                line = _decoder.decode(payload)
                self.accounts[line.user_id].enter(line)
                self.good += 1
            self.sent += 1

    def _produce(self, payload: bytes, key: str | None) -> None:
        while True:
            try:
                self._producer.produce(self._topic, payload, key, on_delivery=self._delivered)
                return
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed = error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
