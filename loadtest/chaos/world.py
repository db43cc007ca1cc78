"""The world that chaos happens in: broker, store, traffic, and the engine under its supervisor."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import psutil  # type: ignore[import-untyped]

from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore
from dataflows.embedded_cluster import EmbeddedCluster
from dataflows.local_kafka import LocalKafka
from loadtest.chaos.books import Traffic
from loadtest.chaos.clients import NO_ANSWER, open_client
from loadtest.chaos.judge import Evidence, Tail, Verdict, judge

_SHARDS: Final = 64
_PATIENCE_S: Final = 180.0
_LOOK_S: Final = 0.05
TOPICS: Final = ("events", "events.dead", "segment-changes")
_SETS: Final = ("metrics.address=", "segments.away.enter=age(last_seen) >= 5s")


Env = Callable[[Path], dict[str, str]]


class Stuck(Exception):
    """Something that must happen did not."""


@dataclass(slots=True, frozen=True)
class Scale:
    """How large the world is.

    Attributes:
        workers: of the engine.
        rate: events per second.
        users: customers.
        brokers: of a real Kafka; 0 for the embedded broker.
        kills: of scenarios that kill.
        seed: of all chance.
        events: at least so many are sent; 0 for as many as the scenario lasts.
        minutes: of a soak.
    """

    workers: int = 2
    rate: int = 2_000
    users: int = 5_000
    brokers: int = 1
    kills: int = 5
    seed: int = 1
    events: int = 0
    minutes: float = 1.0


@dataclass(slots=True)
class World:
    """Everything, running; actions for scenarios to hurt it.

    Attributes:
        recoveries_s: from each hurt to the first commit after it.
        was_set_back: see ``Evidence``.
        notes: what a scenario found worth saying.
        extra_env: what the engine's processes are told beside addresses.
    """

    scale: Scale
    broker: EmbeddedBroker | LocalKafka
    server: EmbeddedStore | EmbeddedCluster
    engine: Engine
    traffic: Traffic
    directory: Path
    client: Any
    chance: random.Random
    tail: Tail | None = None
    recoveries_s: list[float] = field(default_factory=list)
    was_set_back: bool = False
    notes: list[str] = field(default_factory=list)
    extra_env: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What leads an engine to the servers, and what else its processes are told."""
        servers = {"KAFKA_BOOTSTRAP": self.broker.bootstrap, "REDIS_URL": self.server.url}
        return {**servers, **self.extra_env}

    @property
    def store(self) -> EmbeddedStore:
        """The one server, for what only that can do."""
        assert isinstance(self.server, EmbeddedStore)
        return self.server

    @property
    def cluster(self) -> EmbeddedCluster:
        """The cluster, for what only that can do."""
        assert isinstance(self.server, EmbeddedCluster)
        return self.server

    @property
    def mock(self) -> EmbeddedBroker:
        """The embedded broker, for what only that can do."""
        assert isinstance(self.broker, EmbeddedBroker)
        return self.broker

    @property
    def kafka(self) -> LocalKafka:
        """The real Kafka, for what only that can do."""
        assert isinstance(self.broker, LocalKafka)
        return self.broker

    # -- looking ------------------------------------------------------------------------------

    def workers(self) -> list[psutil.Process]:
        """The engine's worker processes."""
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.engine.pid).children())
        return []

    def commits(self) -> int:
        """How many commits there were, of all shards; -1 without answer."""
        try:
            pipe = self.client.pipeline(transaction=False)
            for shard in range(_SHARDS):
                pipe.hget(f"ag:commit:{{{shard:02d}}}", "seq")
            return sum(int(seq or 0) for seq in pipe.execute())
        except NO_ANSWER:
            return -1

    def taken(self) -> int:
        """How many messages every shard has taken, all partitions summed; -1 without answer."""
        try:
            pipe = self.client.pipeline(transaction=False)
            for shard in range(_SHARDS):
                pipe.hget(f"ag:commit:{{{shard:02d}}}", "positions")
            found = [msgspec.json.decode(raw) if raw else {} for raw in pipe.execute()]
        except NO_ANSWER:
            return -1
        partitions = set().union(*found)
        return sum(min(positions.get(p, 0) for positions in found) for p in partitions)

    def until(self, holds: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S) -> float:
        """Wait for something; the seconds it took."""
        begun_s = time.monotonic()
        while not holds():
            if time.monotonic() - begun_s > patience_s:
                raise Stuck(f"waited in vain for {what}; {self.log_end()}")
            time.sleep(_LOOK_S)
        return time.monotonic() - begun_s

    def until_commits(self, before: int | None = None) -> float:
        """Wait for a commit after now, or after there were so many; the seconds it took."""
        before = self.commits() if before is None else before
        return self.until(lambda: self.commits() > before, "a commit")

    def recover(self, before: int | None = None) -> None:
        """Note how long it takes from now to the next commit, or to more than there were."""
        self.recoveries_s.append(self.until_commits(before))

    def pause(self, most_s: float) -> None:
        """A moment of random length."""
        time.sleep(self.chance.uniform(0, most_s))

    def log_end(self) -> str:
        """The end of the engine's log."""
        text = self.engine.log.read_text(errors="replace") if self.engine.log.exists() else ""
        return f"the engine's log ends: …{text[-1500:]}"

    # -- hurting ------------------------------------------------------------------------------

    def kill_worker(self) -> None:
        """Kill -9 one worker; the supervisor must start all again."""
        running = self.workers()
        if running:
            with suppress(psutil.NoSuchProcess):
                self.chance.choice(running).kill()

    def kill_engine(self) -> None:
        """Kill -9 the supervisor, and with it all workers; start it again."""
        self.engine.kill()
        self.engine.start()

    def new_engine(self, workers: int, name: str, sets: Sequence[str] = ()) -> Engine:
        """Another engine on the same servers, perhaps with more settings, not started yet."""
        log = self.directory / f"{name}.log"
        return _engine(workers, self.env, log, (*_SETS, *sets))

    def copy_store(self) -> Path:
        """A copy of the store's file as it is now."""
        copy = self.directory / f"copy-{self.chance.randrange(10**9)}"
        shutil.copytree(self.store.directory, copy)
        return copy

    def set_back_store(self, copy: Path) -> None:
        """Kill the store, and start it on an older file."""
        self.store.kill()
        shutil.rmtree(self.store.directory)
        shutil.copytree(copy, self.store.directory)
        self.store.start()

    # -- the end ------------------------------------------------------------------------------

    def finish(self) -> Verdict:
        """Send no more, let all of it be taken, drain, judge."""
        if self.scale.events:
            self.until(lambda: self.traffic.sent >= self.scale.events, "traffic", 3_600)
        self.traffic.close()
        self.until(lambda: self.taken() >= self.traffic.sent, "everything to be committed", 600)
        code = self.engine.stop(60)
        if code:
            raise Stuck(f"the engine ended with {code} at its drain; {self.log_end()}")
        real = isinstance(self.broker, LocalKafka)
        evidence = Evidence(self.broker.bootstrap, self.server.url, real, self.was_set_back)
        return judge(evidence, self.traffic.accounts, self.tail)


@contextmanager
def opened(
    scale: Scale, *, cluster: bool = False, disk_mb: int = 0, env: Env = lambda _: {}
) -> Iterator[World]:
    """A running world with a store of its own; everything in it ends with it.

    Args:
        scale: how large.
        cluster: the store is a cluster.
        disk_mb: the store has a disk of its own of this size; needs root.
        env: what the engine's processes are told, from the world's directory.
    """
    with TemporaryDirectory(prefix="afterglow-store-") as name, ExitStack() as stack:
        directory = Path(name) / "store"
        directory.mkdir()
        if disk_mb:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(directory)]
            subprocess.run(mount, check=True)
            stack.callback(subprocess.run, ["umount", str(directory)], check=True)
        server: EmbeddedStore | EmbeddedCluster
        server = EmbeddedCluster() if cluster else EmbeddedStore(directory)
        stack.enter_context(server)
        yield stack.enter_context(opened_on(scale, server, env=env))


@contextmanager
def opened_on(
    scale: Scale,
    server: EmbeddedStore | EmbeddedCluster,
    sets: Sequence[str] = _SETS,
    partitions: int = 4,
    env: Env = lambda _: {},
) -> Iterator[World]:
    """A running world on a store that runs already; everything else in it ends with it."""
    with TemporaryDirectory(prefix="afterglow-chaos-") as name:
        directory = Path(name)
        broker: EmbeddedBroker | LocalKafka = (
            LocalKafka(scale.brokers, partitions) if scale.brokers else EmbeddedBroker(partitions)
        )
        with broker:
            broker.create(*TOPICS)
            addresses = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": server.url}
            extra = env(directory)
            log = directory / "engine.log"
            engine = _engine(scale.workers, {**addresses, **extra}, log, sets)
            traffic = Traffic(broker.bootstrap, "events", scale.rate, scale.users, scale.seed)
            client = open_client(server.url)
            chance = random.Random(scale.seed)
            world = World(
                scale, broker, server, engine, traffic, directory, client, chance, extra_env=extra
            )
            if isinstance(broker, EmbeddedBroker):
                world.tail = Tail(broker.bootstrap)
                world.tail.start()
            engine.start()
            traffic.start()
            try:
                world.until_commits()
                yield world
            finally:
                engine.kill()
                with suppress(RuntimeError):
                    traffic.close()
                client.close()


def _engine(workers: int, env: dict[str, str], log: Path, sets: Sequence[str] = _SETS) -> Engine:
    options = ["--workers", str(workers)]
    options += [part for text in sets for part in ("--set", text)]
    return Engine(options, env, log)
