"""The supervisor: the workers of one cluster as child processes, started and ended together.

A worker begins as a copy of the supervisor, so what this has loaded (modules, compiled loops) no
start waits for again. A copy shares nothing: what happens to it does not happen to the others.

A cluster lives and dies as a whole. Whatever happens to one worker (it ends, it is killed, it falls
silent), all are ended and all start again from the committed positions, after a pause that grows
while they keep failing. Three ends are final: everybody was asked to stop, another engine owns the
data now, or the settings are wrong; and so is failing again and again.
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.context import ForkProcess
from typing import Final

import structlog

from dataflows.embedded import die_with_parent, free_port, name_process
from operators.stop import Stop

log = structlog.get_logger()

Work = Callable[[int, Sequence[str], int], int]
"""What a worker does in a process of its own, until it ends with an exit code.

It is given its number, the addresses of all, and the descriptor for heartbeats. A signal raises the
supervisor's flag in every copy, so whoever works looks at that one.
"""

_fork: Final = multiprocessing.get_context("fork")

_LOOK_S: Final = 0.2
_OTHERS_S: Final = 1.0
"""How long the others may take to notice that one has ended, so that all exit codes are known."""


@dataclass(slots=True, frozen=True)
class Patience:
    """How long the supervisor waits for what.

    Attributes:
        start_s: for a worker's first heartbeat: until all have found each other and begun to load.
        watchdog_s: between two heartbeats, before a worker counts as frozen.
        drain_s: for workers that were asked to end.
        failures: so many in a row and it gives up; a cluster that ran for ``steady_s`` is well.
        steady_s: see there.
        pause_s: from one start to the next in a row, doubles up to ``longest_pause_s``; and what is
            waited for at least.
        longest_pause_s: see there.
    """

    start_s: float = 120.0
    watchdog_s: float = 60.0
    drain_s: float = 60.0
    failures: int = 20
    steady_s: float = 60.0
    pause_s: float = 0.2
    longest_pause_s: float = 10.0


@dataclass(slots=True)
class Worker:
    """One child process."""

    number: int
    process: ForkProcess
    pipe: int
    heard_s: float
    has_beaten: bool = False


@dataclass(slots=True)
class Supervisor:
    """Runs a cluster until it is asked to stop, or cannot go on.

    Args:
        workers: how many.
        work: what each one does.
        stop: raised when all should drain and end.
        patience: how long to wait for what.
        final: exit codes after which nothing is started again.
        say: told in words what happens.
        load: called once, while the first workers start: loads what later starts need.
    """

    workers: int
    work: Work
    stop: Stop
    patience: Patience = field(default_factory=Patience)
    final: Sequence[int] = ()
    say: Callable[[str], None] = print
    load: Callable[[], None] = lambda: None
    _running: list[Worker] = field(default_factory=list)

    def run(self) -> int:
        """Start, watch, start again; the exit code when it ends for good."""
        failures = 0
        for start in count():
            began_s = time.monotonic()
            try:
                self._start()
                if not start:
                    self.load()
                why = self._watch()
            finally:
                codes = self._end()
            if self.stop.requested:
                # one that was still starting knows no other way to end at a signal
                return max(0 if code == -signal.SIGTERM else abs(code) for code in codes)
            final = [code for code in codes if code in self.final]
            if final:
                self.say(f"{why}; that is final (exit code {final[0]}): nothing starts again")
                return final[0]
            ran_s = time.monotonic() - began_s
            failures = 1 if ran_s > self.patience.steady_s else failures + 1
            if failures >= self.patience.failures:
                self.say(
                    f"{why}; that was failure {failures} in a row without "
                    f"{self.patience.steady_s:.0f} s of work between, so this gives up. Nothing is "
                    "lost: what is wrong stands above; mend it and start again"
                )
                return 1
            pause_s = self._pause(failures, ran_s)
            self.say(f"{why}; all {self.workers} start again in {pause_s:.1f} s")
            if self._stopped_within(pause_s):
                break
        return 0

    # -- inside -------------------------------------------------------------------------------

    def _start(self) -> None:
        log.info("workers_starting", workers=self.workers)  # before any of them says something
        addresses = [f"127.0.0.1:{free_port()}" for _ in range(self.workers)]
        for number in range(self.workers):
            reading, writing = os.pipe()
            begin = (number, addresses, writing, [w.pipe for w in self._running] + [reading])
            process = _fork.Process(target=self._begin, args=begin)
            try:
                process.start()
            finally:
                os.close(writing)
            self._running.append(Worker(number, process, reading, time.monotonic()))

    def _begin(
        self, number: int, addresses: Sequence[str], writing: int, others: Sequence[int]
    ) -> None:
        """In the worker."""
        die_with_parent()
        name_process(f"afterglow-{number}")
        for pipe in others:
            os.close(pipe)
        sys.exit(self.work(number, addresses, writing))

    def _watch(self) -> str:
        """Until something ends the cluster; says what."""
        asked_s = 0.0
        with selectors.DefaultSelector() as selector:
            for worker in self._running:
                os.set_blocking(worker.pipe, False)
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            while True:
                for key, _ in selector.select(_LOOK_S):
                    self._hear(key.data, selector)
                now_s = time.monotonic()
                if self.stop.requested and not asked_s:
                    asked_s = now_s
                    for worker in self._running:
                        worker.process.terminate()
                ended = [w for w in self._running if w.process.exitcode is not None]
                if asked_s:
                    if len(ended) == len(self._running):
                        return "all workers have drained"
                    if now_s - asked_s > self.patience.drain_s:
                        return f"workers did not drain within {self.patience.drain_s:.0f} s"
                elif ended:
                    return self._ending(ended[0])
                else:
                    silent = self._silent(now_s)
                    if silent:
                        return silent

    def _hear(self, worker: Worker, selector: selectors.DefaultSelector) -> None:
        with suppress(OSError):
            if os.read(worker.pipe, 4096):
                worker.heard_s, worker.has_beaten = time.monotonic(), True
            else:
                selector.unregister(worker.pipe)  # its end is closed: the process is ending

    def _silent(self, now_s: float) -> str:
        for worker in self._running:
            limit_s = self.patience.watchdog_s if worker.has_beaten else self.patience.start_s
            if now_s - worker.heard_s > limit_s:
                return (
                    f"worker {worker.number} (process {worker.process.pid}) has given no sign of "
                    f"life for {limit_s:.0f} s"
                )
        return ""

    def _ending(self, worker: Worker) -> str:
        """All others end with it; waits a little, so that the one with a reason can be named."""
        self._await(self.workers, _OTHERS_S)
        codes = {w.number: w.process.exitcode for w in self._running}
        final = [w for w in self._running if codes[w.number] in self.final]
        killed = [w for w in self._running if (codes[w.number] or 0) < 0]
        worker = [*final, *killed, worker][0]
        code = codes[worker.number] or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended ({code})"
        return f"worker {worker.number} (process {worker.process.pid}) {how}"

    def _await(self, count: int, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            if sum(w.process.exitcode is not None for w in self._running) >= count:
                return
            time.sleep(0.02)

    def _end(self) -> list[int]:
        """Kill whatever still runs; all exit codes."""
        codes = []
        for worker in self._running:
            if worker.process.exitcode is None:
                worker.process.kill()
            worker.process.join()
            codes.append(worker.process.exitcode or 0)
            worker.process.close()
            os.close(worker.pipe)
        self._running.clear()
        return codes

    def _pause(self, failures: int, ran_s: float) -> float:
        """What is left of the time from start to start: who ran for that long waits no longer."""
        patience = self.patience
        apart_s: float = patience.pause_s * 2 ** (failures - 1)
        return max(min(apart_s, patience.longest_pause_s) - ran_s, patience.pause_s)

    def _stopped_within(self, seconds: float) -> bool:
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            if self.stop.requested:
                return True
            time.sleep(0.05)
        return False
