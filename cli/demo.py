"""``afterglow demo``: everything on this machine, watched live.

The broker and the store are embedded in this process and its children; the engine is a child of its
own, so that it can be killed for real. A ledger books what was published and is held against the
profiles at the end and after every kill.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.request import urlopen

import msgspec
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from cli import demo_addresses
from cli.changes import line, open_changes
from cli.common import QUIET, wide_console
from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore, free_port
from dataflows.ledger import Ledger
from dataflows.settings import Settings
from events.shop import GOOD, Habits, Shop
from state.changes import Change
from state.store import Store
from state.store_errors import StoreError

_STEP_S: Final = 0.1
_CATCH_UP_S: Final = 60.0


def run_demo(
    settings: Settings,
    config: Path | None,
    sets: list[str],
    seconds: float,
    rate: int,
    users: int,
    kill_every: float,
    seed: int,
    plain: bool,
    addresses: Path | None = None,
) -> int:
    """Run the demo until time is up, Ctrl-C or SIGTERM; 0 if the profiles are exact at the end."""
    console = wide_console()
    if addresses is not None:
        demo_addresses.cleared(addresses)
    arguments = [*(["--config", str(config)] if config else [])]
    for text in sets:
        arguments += ["--set", text]
    with (
        _ended_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="afterglow-demo-") as directory,
        EmbeddedStore() as embedded,
        EmbeddedBroker(settings.embedded.partitions) as broker,
    ):
        scene = Scene(settings, broker, embedded, arguments, Path(directory), users, rate, seed)
        try:
            scene.start()
            if addresses is not None:
                scene.tell(addresses)
            _watch(scene, console, seconds, kill_every, plain or not sys.stdout.isatty())
        except KeyboardInterrupt:
            console.print("ending …")
        finally:
            if addresses is not None:
                scene.forget(addresses)
        return scene.finish(console)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C, the first time; then everything is ending already."""

    def end(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Scene:
    """The shop, the engine and what is known of them."""

    def __init__(
        self,
        settings: Settings,
        broker: EmbeddedBroker,
        embedded: EmbeddedStore,
        arguments: list[str],
        directory: Path,
        users: int,
        rate: int,
        seed: int,
    ) -> None:
        kafka = settings.kafka
        broker.create(kafka.events, kafka.dead, kafka.changes)
        self._config = {"bootstrap.servers": broker.bootstrap, **QUIET}
        self._address = f"127.0.0.1:{free_port()}"
        self.engine = Engine(
            [*arguments, "--set", f"metrics.address={self._address}"],
            {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": embedded.url},
            directory / "engine.log",
        )
        self._servers = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": embedded.url}
        self.store = Store(embedded.url, settings.redis.prefix, settings.redis.shards)
        self.changes = ChangeTail(self._config, kafka.changes)
        self.shop = ShopThread(self._config, kafka.events, users, rate, seed)
        self.kills, self.has_guests = 0, False
        self.notes: deque[str] = deque(maxlen=4)
        self.unsaid: list[str] = []
        self.metrics: dict[str, float] = {}
        self.before: dict[str, float] = {}

    def start(self) -> None:
        """Open the doors."""
        self.engine.start()
        self.changes.start()
        self.shop.start()

    def tell(self, file: Path) -> None:
        """Write where the servers are, for a shell to read, once the engine is at work."""
        self.has_guests = True
        deadline_s = time.monotonic() + _CATCH_UP_S
        while not any(self.store.positions().values()) and time.monotonic() < deadline_s:
            if self.engine.exit_code() is not None:
                return
            time.sleep(0.1)
        fresh = file.with_name(file.name + ".new")
        try:
            fresh.write_text(self._told)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)

    def forget(self, file: Path) -> None:
        """Nobody is to come any more; a file that another demo has written meanwhile stays."""
        with suppress(FileNotFoundError):
            if file.read_text() == self._told:
                file.unlink()

    @property
    def _told(self) -> str:
        return demo_addresses.lines(self._servers)

    def look(self) -> None:
        """Read the engine's metrics; they stay as they were while it is down.

        Those of the look before stay too: both count from the engine's start.
        """
        try:
            with urlopen(f"http://{self._address}/metrics", timeout=1) as answer:
                text = answer.read().decode()
        except OSError:
            return
        labels = ("le", "step", "reason", "partition")
        self.before, self.metrics = (
            self.metrics,
            {
                sample.name + "".join(sample.labels.get(k, "") for k in labels): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            },
        )

    def kill_and_check(self) -> None:
        """Kill the engine with signal 9, start it again, and hold it against the ledger."""
        pid, before = self.engine.pid, self._epoch()
        self.engine.kill()
        self.kills += 1
        start_s = time.monotonic()
        self.engine.start()
        with self.shop.paused():
            exact, text = self.compare(after_epoch=before)
        took = time.monotonic() - start_s
        verdict = "exact" if exact else "NOT exact"
        note = f"kill -9 of {pid}: back and {verdict} after {took:.1f} s ({text})"
        self.notes.append(note)
        self.unsaid.append(note)

    def _epoch(self) -> int:
        """How often the shard that is loaded last has been taken over by an engine."""
        return int(self.store.record(self.store.shards - 1).get("epoch", b"0"))

    def compare(self, after_epoch: int = 0) -> tuple[bool, str]:
        """Wait until the engine has caught up, then compare every profile with the ledger.

        Args:
            after_epoch: wait first for an engine that took over after this epoch.
        """
        ledger, deadline = self.shop.ledger, time.monotonic() + _CATCH_UP_S
        while True:
            events, wrong = ledger.compare(self.store, strangers=self.has_guests)
            loaded = self._epoch() > after_epoch
            if (loaded and not wrong) or time.monotonic() > deadline:
                break
            if self.engine.exit_code() is not None:
                break
            time.sleep(0.1)
        text = f"{events:,} of {ledger.events:,} events in {len(ledger.accounts):,} profiles"
        if wrong:
            text += f"; {len(wrong):,} profiles differ, such as {wrong[0]}"
        return loaded and not wrong, text

    def finish(self, console: Console) -> int:
        """Close the doors, check everything once more, say what came of it."""
        self.shop.stop()
        try:
            exact, text = self.compare()
        except StoreError as error:
            exact, text = False, str(error)
        code = self.engine.stop()
        self.changes.stop()
        for note in self.notes:
            console.print(note)
        console.print(
            f"{'exact' if exact else 'NOT exact'}: {text}; {self.changes.count:,} changes; "
            f"{self.shop.broken:,} broken and {self.shop.duplicates:,} duplicate messages sent"
        )
        if code:
            console.print(f"the engine ended with {code}:")
            console.print(self.engine.log.read_text()[-2000:], markup=False)
        return 0 if exact and not code else 1


class ShopThread:
    """Publishes the shop's events at their rate and books them."""

    def __init__(
        self, config: dict[str, Any], topic: str, users: int, rate: int, seed: int
    ) -> None:
        self._producer = Producer({**config, "compression.type": "zstd", "linger.ms": 2})
        self._topic, self._rate = topic, rate
        habits = Habits(users=users, rate_per_s=rate)
        self._shop = Shop(seed, time.time_ns() // 1_000_000, habits)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop, self._gate = threading.Event(), threading.Lock()
        self.ledger = Ledger()
        self.published = self.broken = self.duplicates = 0

    def start(self) -> None:
        """Open."""
        self._thread.start()

    def stop(self) -> None:
        """Close, and wait until everything sent is acknowledged."""
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is published meanwhile."""
        with self._gate:
            self._producer.flush(10)
            yield

    def _run(self) -> None:
        due_s, owed = time.monotonic(), 0.0
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + _STEP_S, time.monotonic() - 1)
            owed += self._rate * _STEP_S
            with self._gate:
                self._publish(int(owed))
            owed -= int(owed)

    def _publish(self, count: int) -> None:
        block = self._shop.block(count, time.time_ns() // 1_000_000)
        for payload, user, kind in zip(block.payloads, block.users, block.kind, strict=True):
            key = user.encode() if isinstance(user, str) else None
            self._producer.produce(self._topic, payload, key)
            if kind == GOOD:
                self.ledger.enter(payload)
            elif kind == 1:
                self.duplicates += 1
            else:
                self.broken += 1
        self.published += count
        self._producer.poll(0)


class ChangeTail:
    """Follows the change topic: the latest changes and the size of every segment."""

    def __init__(self, config: dict[str, Any], topic: str) -> None:
        self._consumer = open_changes(config, topic, beginning=True)
        self._decoder = msgspec.json.Decoder(Change)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = threading.Event()
        self._seen: set[str] = set()
        self.latest: deque[Change] = deque(maxlen=8)
        self.sizes: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.count = 0

    def start(self) -> None:
        """Follow."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for message in self._consumer.consume(500, 0.1):
                value = message.value()
                if message.error() is None and value is not None:
                    with suppress(msgspec.DecodeError):  # a guest may publish anything there
                        self._take(self._decoder.decode(value))

    def _take(self, change: Change) -> None:
        if change.id in self._seen:
            return  # published again after a crash: same id
        self._seen.add(change.id)
        self.count += 1
        self.latest.append(change)
        self.causes[change.cause.kind] += 1
        self.sizes[change.segment] += 1 if change.action == "entered" else -1


def _watch(scene: Scene, console: Console, seconds: float, kill_every: float, plain: bool) -> None:
    """Show the scene until time is up or Ctrl-C."""
    start_s = time.monotonic()
    next_kill_s = start_s + kill_every if kill_every else float("inf")
    rates = _Rate()
    every_s = 2.0 if plain else 0.5
    live = Live(console=console, refresh_per_second=4, transient=False)
    with live if not plain else _nothing():
        while not seconds or time.monotonic() - start_s < seconds:
            time.sleep(every_s)
            if scene.engine.exit_code() is not None:
                return
            if time.monotonic() >= next_kill_s:
                scene.kill_and_check()
                next_kill_s = time.monotonic() + kill_every
            scene.look()
            rate = rates.per_second(scene.metrics.get("afterglow_events_total", 0.0))
            if plain:
                console.print(_plain(scene, rate), highlight=False)
            else:
                live.update(_screen(scene, rate))


def _plain(scene: Scene, rate: float) -> str:
    sizes = " ".join(f"{name}={size}" for name, size in scene.changes.sizes.most_common(5))
    text = f"{_numbers(scene, rate)}  {sizes}"
    while scene.unsaid:
        text += f"\n  {scene.unsaid.pop(0)}"
    if scene.changes.latest:
        text += f"\n  {line(scene.changes.latest[-1])}"
    return text


def _numbers(scene: Scene, rate: float) -> str:
    metrics = scene.metrics
    fresh = latencies(scene.before, metrics)
    return (
        f"{scene.shop.published:,} published  {rate:,.0f} events/s  lag {_lag(scene):,.0f}  "
        f"p50 {quantile(fresh, 0.5)}  p99 {quantile(fresh, 0.99)}  "
        f"{metrics.get('afterglow_rows', 0):,.0f} profiles  {scene.changes.count:,} changes"
    )


def _lag(scene: Scene) -> float:
    """Messages that the engine has not read, as it said last; all, before it has read any."""
    if not scene.kills and not scene.metrics.get("afterglow_events_total"):
        return scene.shop.published
    return sum(each for name, each in scene.metrics.items() if name.startswith("afterglow_lag"))


def latencies(before: dict[str, float], now: dict[str, float]) -> list[tuple[float, float]]:
    """How many events were committed within each bound, since the look before or a new start."""
    name = "afterglow_event_to_commit_seconds_bucket"
    bounds = sorted((float(key.removeprefix(name)), key) for key in now if key.startswith(name))
    total = f"{name}+Inf"
    old = before if before.get(total, 0.0) <= now.get(total, 0.0) else {}
    return [(bound, now[key] - old.get(key, 0.0)) for bound, key in bounds]


def quantile(buckets: list[tuple[float, float]], share: float) -> str:
    """The bound that a share of the events lies below.

    >>> quantile([(0.1, 7), (1.0, 9), (float("inf"), 10)], 0.5)
    '≤ 100 ms'
    """
    if not buckets or not buckets[-1][1]:
        return "–"
    bound = next(le for le, count in buckets if count >= share * buckets[-1][1])
    return f"≤ {bound * 1000:.0f} ms" if bound < 1e6 else "> 60 s"


def _screen(scene: Scene, rate: float) -> Group:
    sizes = Table("segment", "members", box=None, title="segments")
    for name, size in scene.changes.sizes.most_common():
        sizes.add_row(name, f"{size:,}")
    latest = "\n".join(line(change) for change in reversed(scene.changes.latest))
    notes = "\n".join(scene.notes) or "Ctrl-C ends; --kill-every 10 kills the engine for real"
    return Group(
        Panel(_numbers(scene, rate), title="afterglow"),
        sizes,
        Panel(latest or "…", title="latest changes: who, what, why (value and threshold)"),
        Panel(notes, title=f"kills: {scene.kills}"),
    )


class _Rate:
    def __init__(self) -> None:
        self._at_s, self._total = time.monotonic(), 0.0

    def per_second(self, total: float) -> float:
        """Since it was last asked."""
        now_s = time.monotonic()
        rate = max(total - self._total, 0.0) / max(now_s - self._at_s, 1e-3)
        self._at_s, self._total = now_s, total
        return rate


@contextmanager
def _nothing() -> Iterator[None]:
    yield
