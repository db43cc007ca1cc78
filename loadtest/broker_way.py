"""From the broker to committed profiles: the whole engine as a child process, everything on.

The engine is frozen while the log is filled, then let go; what its process spends until a commit
covers the log is what it costs, and then what it spends until the lists of items have followed. The
embedded broker and store run outside it.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]
from confluent_kafka import Producer

from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore
from loadtest.lists import Awaited
from loadtest.stream import user_key
from state.store import Store

_PARTITIONS = 16
"""The embedded broker keeps 5 MiB of each, so a long log needs many."""

_PATIENCE_S = 180.0

_LISTS_S = 60.0
"""So long at most lists may take to follow the last profile."""


@dataclass(slots=True)
class Running:
    """An engine at work.

    Attributes:
        broker: where its events come from.
        embedded: the server of its profiles.
        store: the same, to read from.
        child: the engine.
        processes: of its workers.
    """

    broker: EmbeddedBroker
    embedded: EmbeddedStore
    store: Store
    child: Engine
    processes: list[psutil.Process]
    sent: int = 0

    def publish(self, lines: Iterable[bytes]) -> None:
        """Send everything and wait for the broker's word."""
        producer = Producer(
            {
                "bootstrap.servers": self.broker.bootstrap,
                "compression.type": "zstd",
                "linger.ms": 20,
                "queue.buffering.max.messages": 500_000,
            }
        )
        for line in lines:
            while True:
                try:
                    producer.produce("events", line, user_key(line))
                    break
                except BufferError:
                    producer.poll(0.05)
            self.sent += 1
        if left := producer.flush(60):
            raise RuntimeError(f"the embedded broker must take every event, but {left} are left")

    def committed(self) -> int:
        """Events that the last commit of every lane covers.

        It covers them for the shards whose users did something. The others follow with a heartbeat,
        seconds later, and to wait for it would count an engine that has nothing to do.
        """
        found = self.store.record_fields(["positions"])
        each = [Counter(msgspec.json.decode(raw or b"{}", type=dict[int, int])) for (raw,) in found]
        lanes = len(self.processes)
        newest = [reduce(or_, each[lane::lanes]) for lane in range(lanes)]
        return reduce(and_, newest).total()

    def wait(self) -> None:
        """Until everything that was sent is committed."""
        until(self._is_done, "the engine to commit everything sent")

    def _is_done(self) -> bool:
        if (code := self.child.exit_code()) is not None:
            raise RuntimeError(
                f"the engine must not end before it is told to, but ended with {code}"
            )
        return self.committed() >= self.sent

    def cpu_s(self) -> float:
        """CPU seconds the engine has spent."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def freeze(self) -> None:
        """Let the engine stand still."""
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for process in self.processes:
            process.send_signal(signal.SIGCONT)


def until(holds: Callable[[], bool], what: str, every_s: float = 0.02) -> None:
    """Wait for something."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"waited {_PATIENCE_S:.0f} s in vain for {what}")
        time.sleep(every_s)


@contextmanager
def engine(
    sets: Iterable[str] = (), partitions: int = _PARTITIONS, workers: int = 0
) -> Iterator[Running]:
    """Broker, store and engine (supervised, if it has a number of workers); ended at the end."""
    options = ["--workers", str(workers)] if workers else []
    options += [part for text in (*sets, "metrics.address=") for part in ("--set", text)]
    with (
        tempfile.TemporaryDirectory(prefix="afterglow-load-") as directory,
        EmbeddedStore() as embedded,
        EmbeddedBroker(partitions) as broker,
    ):
        broker.create("events", "events.dead", "segment-changes")
        log = Path(directory) / "engine.log"
        addresses = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": embedded.url}
        child = Engine(options, addresses, log)
        child.start()
        try:
            store = Store(embedded.url)
            assert child.pid is not None
            top = psutil.Process(child.pid)
            if workers:
                until(lambda: len(top.children()) == workers, "the workers to start")
            yield Running(broker, embedded, store, child, top.children() if workers else [top])
        except Exception as error:
            error.add_note(f"the engine's log ends: {log.read_text(errors='replace')[-2000:]}")
            raise
        finally:
            child.kill()


@dataclass(slots=True, frozen=True, order=True)
class Cost:
    """What a log took.

    Attributes:
        engine_s: CPU seconds of the engine until a commit covered the log.
        store_s: of the store.
        lists_s: of the engine from then on until all lists of items had followed, nothing else
            to do and so with its idle looks for news; 0 where lists are not waited for.
        events: of the log.
    """

    engine_s: float
    store_s: float
    lists_s: float
    events: int


def run(
    warm: Path, file: Path, batch: int, workers: int = 0, sets: Iterable[str] = (), *, lists: bool
) -> Cost:
    """What one file takes, once another has brought the engine to its steady state.

    Args:
        warm: what comes before.
        file: what is counted.
        batch: most messages in a read.
        workers: of a supervised engine; 0 for one without a supervisor.
        sets: settings of the engine.
        lists: whether lists of items are waited for, too.
    """
    with engine([f"kafka.fetch_max={batch}", *sets], workers=workers) as running:
        _commit(running, warm, lists=lists)
        running.freeze()
        before, url = running.sent, running.embedded.url
        running.publish(_lines(file))
        awaited = Awaited(_lines(file) if lists else ())
        server = psutil.Process(running.embedded.pid)
        spent_s, server_s = running.cpu_s(), sum(server.cpu_times()[:2])
        running.thaw()
        running.wait()
        engine_s, store_s = running.cpu_s() - spent_s, sum(server.cpu_times()[:2]) - server_s
        _follow(awaited, url)
        lists_s = running.cpu_s() - spent_s - engine_s if lists else 0.0
        return Cost(engine_s, store_s, lists_s, running.sent - before)


def _commit(running: Running, file: Path, *, lists: bool) -> None:
    running.publish(_lines(file))
    running.wait()
    if lists:
        _follow(Awaited(_lines(file)), running.embedded.url)


def _follow(awaited: Awaited, url: str) -> None:
    if not awaited.wait(url, _LISTS_S):
        raise RuntimeError(
            f"lists of items must follow profiles, but {awaited.left:,} of {awaited.users:,} users "
            f"have none of after what they did, {_LISTS_S:.0f} s after the last profile"
        )


def _lines(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from map(bytes.rstrip, lines)
