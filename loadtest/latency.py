"""``python -m loadtest.latency``: how long after an event was due is its profile readable?

Open loop: event ``k`` is due at ``start + k / rate``, whatever became of those before it, and its
latency counts from when it was due, so a stall is charged to every event that waited behind it.
Among the load are markers, each the one event of a user of its own. Their profiles are asked for
until ``last_seen`` is the marker's time. The system is met from outside: a producer, a Redis
client, and the engine as a child process. One thread sends and asks in turn, every millisecond;
that is the resolution, and what is late by less counts as late by a whole round. When all is
committed, the lists of those who did something with an item in the last seconds are waited for:
each must come to be of that time.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import hiredis
import msgspec
import numpy as np
import redis
from confluent_kafka import Producer
from rich.console import Console

from events.hashing import shard_of
from events.texts import Texts
from loadtest.broker_way import Running, engine, until
from loadtest.lists import Awaited
from loadtest.stream import SHOP, Load, user_key

_SHARDS: Final = 64
_PARTITIONS: Final = 2
"""Few: for each fetch the embedded broker walks along all batches that it keeps of a partition.
With four that was nearly half of the load's own CPU, with sixteen it fell behind."""

_ROUND_S: Final = 0.001
_GENERATING_S: Final = 15e-6
"""Generous time to write one event."""

_DRAIN_S: Final = 10.0
_RECENT_S: Final = 2
_LISTS_S: Final = 10.0
"""So long may lists take to follow the last profile."""


class _Profile(msgspec.Struct):
    last_seen: int


@dataclass(slots=True, frozen=True)
class Marker:
    """An event whose profile is waited for.

    Attributes:
        question: what asks for its profile, as it travels.
        ts_ms: its event time.
        due_s: when it was due, seconds since the epoch.
    """

    question: bytes
    ts_ms: int
    due_s: float


@dataclass(slots=True, frozen=True)
class Event:
    """A message, its key and when it is due; ``marker`` if its profile is waited for."""

    line: bytes
    key: bytes
    due_s: float
    marker: Marker | None = None


def plan(load: Load, n: int, every: int, start_ms: int) -> Iterator[Event]:
    """The load, and a marker after every so many of its events."""
    for k, line in enumerate(load.lines(n, start_ms)):
        due_s = start_ms / 1000 + k / load.rate_per_s
        yield Event(line, user_key(line), due_s)
        if k % every == every - 1:
            yield _marker(k // every, due_s)


def _marker(number: int, due_s: float) -> Event:
    user, ts_ms = f"m{number:06d}", int(due_s * 1000)
    key = f"ag:profile:{{{int(shard_of(Texts.of([user]), _SHARDS)[0]):02d}}}"
    line = (
        f'{{"event_id":"m{number}","user_id":"{user}","type":"product_view","ts":{ts_ms},'
        '"item_id":"i00001","category":"c01","country":"DE"}'
    )
    question = hiredis.pack_command(("HGET", key, user))  # type: ignore[arg-type]
    return Event(line.encode(), user.encode(), due_s, Marker(question, ts_ms, due_s))


class Prober:
    """Waits for the profiles of markers; asks in few calls, to leave the cores to what is measured.

    Attributes:
        latencies_ms: of those that came.
        waiting: those that did not come yet.
    """

    def __init__(self, url: str) -> None:
        self._connection = redis.Redis.from_url(url).connection_pool.get_connection()
        self._profile = msgspec.msgpack.Decoder(_Profile)
        self.latencies_ms: list[float] = []
        self.waiting: list[Marker] = []

    def look(self) -> None:
        """Ask once for all that is waited for."""
        if not self.waiting:
            return
        self._connection.send_packed_command(  # type: ignore[no-untyped-call]
            [b"".join(m.question for m in self.waiting)]
        )
        documents = [self._connection.read_response() for _ in self.waiting]
        now_s = time.time()
        left = []
        for marker, document in zip(self.waiting, documents, strict=True):
            if document and self._profile.decode(document).last_seen == marker.ts_ms:
                self.latencies_ms.append((now_s - marker.due_s) * 1000)
            else:
                left.append(marker)
        self.waiting = left


def measure(running: Running, events: deque[Event]) -> tuple[list[float], float, int]:
    """Send everything when it is due.

    Returns:
        the markers' latencies in ms, how late in ms the latest event was sent, markers missed.
    """
    producer = Producer({"bootstrap.servers": running.broker.bootstrap, "linger.ms": 2})
    prober = Prober(running.embedded.url)
    worst_s, end_s = 0.0, events[-1].due_s + _DRAIN_S
    while events or (prober.waiting and time.time() < end_s):
        now_s = time.time()
        while events and events[0].due_s <= now_s:
            event = events.popleft()
            producer.produce("events", event.line, event.key)
            worst_s = max(worst_s, now_s - event.due_s)
            if event.marker is not None:
                prober.waiting.append(event.marker)
        producer.poll(0)
        prober.look()
        time.sleep(max(0.0, now_s + _ROUND_S - time.time()))
    producer.flush(10)
    return prober.latencies_ms, worst_s * 1000, len(prober.waiting)


def _rewrites(url: str) -> bool:
    """Whether the store is rewriting its file, which takes a core for seconds.

    It does so because of what was loaded before the measurement.
    """
    return bool(redis.Redis.from_url(url).info("persistence")["aof_rewrite_in_progress"])


def main() -> None:
    """Run the load and print the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20_000, help="events per second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--markers", type=float, default=100, help="per second")
    parser.add_argument("--set", action="append", default=[], help="a setting of the engine")
    chosen = parser.parse_args()
    load = Load(users=chosen.users, shares=SHOP, rate_per_s=chosen.rate)
    n, every = int(chosen.rate * chosen.seconds), max(int(chosen.rate / chosen.markers), 1)
    with engine(chosen.set, _PARTITIONS) as running:
        running.publish(load.before(int(time.time() * 1000)))
        running.wait()
        until(lambda: not _rewrites(running.embedded.url), "the store to rewrite its file")
        start_ms = int((time.time() + 1 + n * _GENERATING_S) * 1000)
        events = deque(plan(load, n, every, start_ms))
        recent = islice(reversed(events), int(chosen.rate * _RECENT_S))
        awaited = Awaited(each.line for each in recent if each.marker is None)
        gc.freeze()  # or looking for garbage among so many events holds up their sending
        time.sleep(max(0.0, start_ms / 1000 - time.time()))
        spent_s = running.cpu_s()
        latencies_ms, worst_ms, missed = measure(running, events)
        spent_s = running.cpu_s() - spent_s
        running.sent += n + n // every
        running.wait()
        done_s = time.monotonic()
        awaited.wait(running.embedded.url, _LISTS_S)
        done_s = time.monotonic() - done_s
    p50, p90, p99, most = np.percentile(latencies_ms, [50, 90, 99, 100])
    Console().print(
        f"{chosen.rate:,.0f} events/s for {chosen.seconds:.0f} s, {len(latencies_ms):,} markers, "
        f"{missed} missed\npublished → readable: p50 {p50:.1f} ms, p90 {p90:.1f} ms, "
        f"p99 {p99:.1f} ms, most {most:.1f} ms\nlatest sent {worst_ms:.1f} ms after it was due; "
        f"the engine used {spent_s / chosen.seconds:.0%} of a core\nof {awaited.users:,} "
        f"users who did something with an item in the last {_RECENT_S} s, {awaited.left:,} had a "
        f"list from before {done_s:.1f} s after the last profile"
    )


if __name__ == "__main__":
    main()
