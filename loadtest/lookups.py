"""``python -m loadtest.lookups``: how long does a lookup take while the engine is at work?

Open loop: lookup ``k`` is due at ``start + k / rate``, whatever became of those before it, and its
latency counts from when it was due, so a stall is charged to every lookup that waited behind it.
Another process publishes events at their own rate meanwhile. Users are asked for evenly, one in a
hundred is not known. Some clients, each a process with a connection, ask in turn, so that what is
slow holds up a few lookups and not all behind it. ``--awaited`` asks through the asynchronous
reader; ``--http`` starts ``afterglow serve`` beside the engine and asks that, over connections that
are kept. ``--nice`` lets the engine and the publisher give way where all of them share their cores.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import psutil  # type: ignore[import-untyped]
from confluent_kafka import Producer
from rich.console import Console

from afterglow_client import AsyncReader, Reader
from loadtest.broker_way import Running, engine, until
from loadtest.http_asking import HttpAsking
from loadtest.stream import SHOP, Load, user_key

_PARTITIONS = 4
_ROUND_S = 0.002
_STARTING_S, _GENERATING_S = 5.0, 30e-6
"""Generous times for the publisher to start and to write one event."""

_LATE_S = 1.0
"""A publisher that begins later than this measures bursts."""

_STRANGERS = 0.01
_IN_FLIGHT = 256
_PORT = 18_080


@dataclass
class Timed:
    """What came of the lookups.

    Attributes:
        latencies_ms: from when each was due to its answer.
        late_ms: how late each began.
        found: how many were known.
        spent_s: CPU seconds of the thread that asks.
    """

    latencies_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    found: int = 0
    spent_s: float = 0.0

    @classmethod
    def joined(cls, parts: Iterable[Timed]) -> Timed:
        """What came of all of them."""
        all_ = cls()
        for part in parts:
            all_.latencies_ms += part.latencies_ms
            all_.late_ms += part.late_ms
            all_.found += part.found
            all_.spent_s += part.spent_s
        return all_

    def note(self, due_s: float, began_s: float, is_found: bool) -> None:
        """One lookup has its answer."""
        self.latencies_ms.append((time.perf_counter() - due_s) * 1000)
        self.late_ms.append((began_s - due_s) * 1000)
        self.found += is_found


def wanted(load: Load, n: int) -> list[str]:
    """Who is asked for."""
    rng = np.random.default_rng(load.seed + 7)
    users = rng.integers(0, load.users, n).tolist()
    strange = (rng.random(n) < _STRANGERS).tolist()
    return [f"nobody{u}" if s else f"u{u:06d}" for u, s in zip(users, strange, strict=True)]


def publish(bootstrap: str, load: Load, n: int, start_ms: int) -> None:
    """Send events when they are due; the work of a process of its own."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "compression.type": "lz4"})
    lines = list(load.lines(n, start_ms))
    sent, start_s = 0, start_ms / 1000
    if time.time() > start_s + _LATE_S:
        raise RuntimeError("this machine is too busy: events could not be written in time")
    while sent < n:
        due = min(n, int((time.time() - start_s) * load.rate_per_s))
        try:
            for line in lines[sent : max(sent, due)]:
                producer.produce("events", line, user_key(line))
                sent += 1
        except BufferError:
            producer.poll(0.01)  # the broker falls behind
        producer.poll(0)
        time.sleep(_ROUND_S)
    producer.flush(30)


def ask_waiting(url: str, users: list[str], rate: float, start_s: float) -> Timed:
    """One thread, one lookup after the other."""
    timed, offset_s = Timed(), time.perf_counter() - time.time()
    with Reader(url) as reader:
        reader.ping()
        spent_s = time.thread_time()
        for k, user in enumerate(users):
            due_s = start_s + offset_s + k / rate
            began_s = _wait(due_s)
            timed.note(due_s, began_s, reader.get(user) is not None)
        timed.spent_s = time.thread_time() - spent_s
    return timed


def ask_in_turn(url: str, users: list[str], rate: float, start_s: float, clients: int) -> Timed:
    """Some clients, each a process of its own; every one asks for its share."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(clients, mp_context=spawn) as pool:
        shares = [
            pool.submit(ask_waiting, url, users[i::clients], rate / clients, start_s + i / rate)
            for i in range(clients)
        ]
        return Timed.joined(share.result() for share in shares)


async def ask_awaiting(
    ask: Callable[[str], Awaitable[bool]], users: list[str], rate: float, start_s: float
) -> Timed:
    """One task for each lookup."""
    timed, offset_s = Timed(), time.perf_counter() - time.time()
    free = asyncio.Semaphore(_IN_FLIGHT)

    async def one(user: str, due_s: float) -> None:
        async with free:
            began_s = time.perf_counter()
            timed.note(due_s, began_s, await ask(user))

    spent_s = time.thread_time()
    async with asyncio.TaskGroup() as group:
        for k, user in enumerate(users):
            due_s = start_s + offset_s + k / rate
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            group.create_task(one(user, due_s))
    timed.spent_s = time.thread_time() - spent_s
    return timed


async def ask_awaited(url: str, users: list[str], rate: float, start_s: float) -> Timed:
    """Through the asynchronous reader."""
    async with AsyncReader(url) as reader:
        await reader.ping()

        async def ask(user: str) -> bool:
            return await reader.get(user) is not None

        return await ask_awaiting(ask, users, rate, start_s)


async def ask_http(port: int, users: list[str], rate: float, start_s: float) -> Timed:
    """Over HTTP."""
    async with HttpAsking("127.0.0.1", port) as asking:
        return await ask_awaiting(asking.get, users, rate, start_s)


@contextmanager
def served(running: Running) -> Iterator[int]:
    """``afterglow serve`` over the engine's store, without tokens on loopback; its port."""
    child = subprocess.Popen(
        [
            *("env", f"REDIS_URL={running.embedded.url}", sys.executable, "-m", "cli.main"),
            *("serve", "--set", f"serve.address=127.0.0.1:{_PORT}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        if child.poll() is not None:
            raise RuntimeError(f"`afterglow serve` ended with code {child.returncode}")
        return bool({c.laddr.port for c in psutil.Process(child.pid).net_connections()} & {_PORT})

    try:
        until(answers, "afterglow serve to listen")
        yield _PORT
    finally:
        child.terminate()
        child.wait(10)


def main() -> None:
    """Run both loads and print the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=2_000, help="lookups per second")
    parser.add_argument("--events-per-s", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--clients", type=int, default=4, help="that ask, unless through one loop")
    parser.add_argument("--nice", type=int, default=0, help="of the engine and the publisher")
    parser.add_argument("--awaited", action="store_true", help="ask through AsyncReader")
    parser.add_argument("--http", action="store_true", help="ask `afterglow serve`")
    chosen = parser.parse_args()
    load = Load(users=chosen.users, shares=SHOP, rate_per_s=chosen.events_per_s)
    n = int(chosen.events_per_s * chosen.seconds)
    users = wanted(load, int(chosen.rate * chosen.seconds))
    with engine(partitions=_PARTITIONS) as running:
        running.publish(load.before(int(time.time() * 1000)))
        running.wait()
        start_ms = int((time.time() + _STARTING_S + n * _GENERATING_S) * 1000)
        context = multiprocessing.get_context("spawn")
        arguments = (running.broker.bootstrap, load, n, start_ms)
        publisher = context.Process(target=publish, args=arguments, daemon=True)
        publisher.start()
        for process in (psutil.Process(publisher.pid), *running.processes):
            for thread in process.threads():  # a priority is each thread's own
                os.setpriority(os.PRIO_PROCESS, thread.id, chosen.nice)
        url, start_s = running.embedded.url, start_ms / 1000 + 0.5
        engine_s = running.cpu_s()
        if chosen.http:
            with served(running) as port:
                timed = asyncio.run(ask_http(port, users, chosen.rate, start_s))
        elif chosen.awaited:
            timed = asyncio.run(ask_awaited(url, users, chosen.rate, start_s))
        else:
            timed = ask_in_turn(url, users, chosen.rate, start_s, chosen.clients)
        engine_s = running.cpu_s() - engine_s
        publisher.join(60)
        if publisher.exitcode:
            raise RuntimeError("events could not be published at their rate; see above")
        running.sent += n
        before_s = time.monotonic()
        running.wait()
        behind_s = time.monotonic() - before_s
    report(chosen, timed, engine_s, behind_s)


def report(chosen: argparse.Namespace, timed: Timed, engine_s: float, behind_s: float) -> None:
    """Say it."""
    p50, p90, p99, most = np.percentile(timed.latencies_ms, [50, 90, 99, 100])
    count = len(timed.latencies_ms)
    begun_ms = np.subtract(timed.latencies_ms, timed.late_ms)
    Console().print(
        f"{chosen.rate:,.0f} lookups/s beside {chosen.events_per_s:,.0f} events/s for "
        f"{chosen.seconds:.0f} s: {count:,} asked, {timed.found:,} known\n"
        f"due → answer: p50 {p50:.2f} ms, p90 {p90:.2f} ms, p99 {p99:.2f} ms, most {most:.1f} ms\n"
        f"begun → answer: p50 {np.median(begun_ms):.2f} ms, "
        f"p99 {np.percentile(begun_ms, 99):.2f} ms; asking used "
        f"{timed.spent_s / count * 1e6:.0f} µs of CPU for each, the engine "
        f"{engine_s / chosen.seconds:.0%} of a core; all was committed {behind_s:.1f} s after the "
        "last event"
    )


def _wait(due_s: float) -> float:
    """Until it is time; the time."""
    now_s = time.perf_counter()
    if now_s < due_s:
        time.sleep(due_s - now_s)
        now_s = time.perf_counter()
    return now_s


if __name__ == "__main__":
    main()
