"""A real Kafka on loopback, without containers: for trials, tests and chaos.

The jars come from Maven Central by the pinned pom in ``deploy/kafka`` and are kept under ``build``.
Brokers are child processes in KRaft mode, each broker and controller at once, that die with their
parent. They can be killed, frozen and started again, and keep their ports and their data.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from dataflows.embedded import EmbeddedError, die_with_parent, free_port

POM: Final = Path(__file__).parent.parent / "deploy" / "kafka" / "pom.xml"
_HOME: Final = Path(__file__).parent.parent / "build" / "kafka"
_ADMIN: Final = "admin"
_LOGIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"
_JAVA: Final = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_FETCH_S: Final = 600.0
_START_S: Final = 120.0


def missing() -> str:
    """What this machine lacks to run a real Kafka; empty if nothing."""
    if shutil.which("java") is None:
        return "java (17 or later) runs it, but is not on the PATH"
    if shutil.which("mvn") is None and not _fetched().is_dir():
        return "mvn gets its jars, but is not on the PATH"
    return ""


def jars() -> Path:
    """The folder with the broker's jars, fetched if they are not there yet.

    Raises:
        EmbeddedError: Java or Maven is missing, or the jars could not be fetched.
    """
    lacking = missing()
    if lacking:
        raise EmbeddedError(f"a local Kafka cannot run: {lacking}")
    home = _fetched()
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as name:
        part = Path(name) / "jars"
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
        arguments = ["-DincludeScope=runtime", f"-DoutputDirectory={part}"]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=_FETCH_S, check=False
        )
        if done.returncode or not any(part.glob("kafka_*.jar")):
            last = (done.stdout + done.stderr).strip()[-500:]
            raise EmbeddedError(f"the jars of Kafka could not be fetched by {POM}: {last}")
        with suppress(OSError):  # another process may have been faster
            part.rename(home)
    return home


class LocalKafka:
    """A cluster of real brokers; gone, with its data, when this object is closed.

    Args:
        brokers: how many; topics are replicated to all of them.
        partitions: of topics made without a number.
        settings: more broker properties.
        certificate: a PEM file with a key and a certificate that signs itself: clients must speak
            TLS and trust it.
        users: passwords of those that clients must come as, by name; they may do nothing until
            rights are given to them.

    Attributes:
        bootstrap: addresses of all brokers.
    """

    def __init__(
        self,
        brokers: int = 1,
        partitions: int = 4,
        settings: Mapping[str, str] | None = None,
        certificate: Path | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.partitions = partitions
        self._jars = jars()
        self._home = Path(tempfile.mkdtemp(prefix="afterglow-kafka-"))
        self._ports = {node: (free_port(), free_port()) for node in range(1, brokers + 1)}
        self._settings, self._certificate = dict(settings or {}), certificate
        self._users = {_ADMIN: uuid.uuid4().hex, **users} if users else {}
        self._inner = {node: free_port() for node in range(1, brokers + 1)}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())

    def __enter__(self) -> Self:
        try:
            self._format()
            for node in self._ports:
                self._spawn(node)
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all brokers and remove their data."""
        for node in list(self._processes):
            self.kill(node)
        shutil.rmtree(self._home, ignore_errors=True)

    def create(
        self, *topics: str, partitions: int | None = None, config: Mapping[str, str] | None = None
    ) -> None:
        """Make new topics, replicated to all brokers."""
        new = [
            NewTopic(
                topic,
                num_partitions=partitions or self.partitions,
                replication_factor=len(self._ports),
                config=dict(config or {}),
            )
            for topic in topics
        ]
        admin = self.admin()  # must live until the answers are there
        for topic, future in admin.create_topics(new, operation_timeout=30).items():
            try:
                future.result()
            except KafkaException as error:
                why = error.args[0].str()
                raise EmbeddedError(f"topic {topic!r} cannot be created: {why}") from error

    def delete(self, topic: str) -> None:
        """Remove a topic."""
        admin = self.admin()
        for future in admin.delete_topics([topic], operation_timeout=30).values():
            future.result()

    def add_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions, ``count`` in all."""
        admin = self.admin()
        asked = [NewPartitions(topic, count)]
        for future in admin.create_partitions(asked, operation_timeout=30).values():
            future.result()

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Remove what a partition holds before an offset, as retention would."""
        admin = self.admin()
        place = TopicPartition(topic, partition, before)
        for future in admin.delete_records([place], operation_timeout=30).values():
            future.result()

    def config(self, topic: str) -> dict[str, str]:
        """The settings of a topic."""
        asked = ConfigResource(ResourceType.TOPIC, topic)
        admin = self.admin()
        (future,) = admin.describe_configs([asked]).values()
        return {name: entry.value for name, entry in future.result().items()}

    def admin(self) -> AdminClient:
        """A client to administer it with."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2, **self.client()})

    def client(self, user: str = _ADMIN) -> dict[str, str]:
        """What clients must be told beside the address; one of ``users``, or who may do all."""
        if not self._is_secured:
            return {}
        told = {"security.protocol": self._protocol}
        if self._certificate is not None:
            told["ssl.ca.location"] = str(self._certificate)
        if self._users:
            told |= {"sasl.mechanism": "PLAIN", "sasl.username": user}
            told["sasl.password"] = self._users[user]
        return told

    def start(self, node: int = 1) -> None:
        """Start a broker again on its data; returns when it has caught up with the others.

        Whoever ends the next broker before that may take a partition's last complete copy away.
        """
        self._spawn(node)
        self._wait()

    def kill(self, node: int = 1) -> None:
        """End a broker at once, as a crash would."""
        process = self._processes.pop(node, None)
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self, node: int = 1) -> None:
        """Stop a broker's process where it stands."""
        self._processes[node].send_signal(signal.SIGSTOP)

    def thaw(self, node: int = 1) -> None:
        """Let a frozen broker go on."""
        self._processes[node].send_signal(signal.SIGCONT)

    # -- inside -------------------------------------------------------------------------------

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cluster = "A" + cluster[1:]  # the tool takes one that begins with a dash for an option
        for node in self._ports:
            file = self._home / f"{node}.properties"
            file.write_text("".join(f"{k}={v}\n" for k, v in self._properties(node).items()))
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file)]
            done = subprocess.run(self._command(tool), capture_output=True, text=True, check=False)
            if done.returncode:
                raise EmbeddedError(f"Kafka's storage could not be made: {done.stderr[-500:]}")

    def _properties(self, node: int) -> dict[str, str]:
        broker, controller = self._ports[node]
        voters = ",".join(f"{n}@127.0.0.1:{port}" for n, (_, port) in self._ports.items())
        copies = str(len(self._ports))
        return {
            "process.roles": "broker,controller",
            "node.id": str(node),
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": str(self._home / str(node)),
            "num.partitions": str(self.partitions),
            "default.replication.factor": copies,
            "min.insync.replicas": str(len(self._ports) // 2 + 1),
            "offsets.topic.replication.factor": copies,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": str(len(self._ports) // 2 + 1),
            "transaction.state.log.num.partitions": "4",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "6000",
            **self._secured(node),
            **self._settings,
        }

    @property
    def _is_secured(self) -> bool:
        return self._certificate is not None or bool(self._users)

    @property
    def _protocol(self) -> str:
        """What clients speak."""
        spoken = "SSL" if self._certificate is not None else "PLAINTEXT"
        return f"SASL_{spoken}" if self._users else spoken

    def _secured(self, node: int) -> dict[str, str]:
        """TLS and users for clients; brokers speak in plain text among themselves, as nobody."""
        if not self._is_secured:
            return {}
        broker, controller = self._ports[node]
        clients, inner = f"CLIENTS://127.0.0.1:{broker}", f"INNER://127.0.0.1:{self._inner[node]}"
        spoken = f"CLIENTS:{self._protocol},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT"
        out = {
            "listeners": f"{clients},{inner},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{clients},{inner}",
            "inter.broker.listener.name": "INNER",
            "listener.security.protocol.map": spoken,
        }
        if self._certificate is not None:
            out |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self._certificate)}
        if self._users:
            held = " ".join(f'user_{name}="{password}"' for name, password in self._users.items())
            out |= {
                "sasl.enabled.mechanisms": "PLAIN",
                "listener.name.clients.plain.sasl.jaas.config": f"{_LOGIN} required {held};",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": f"User:{_ADMIN};User:ANONYMOUS",
            }
        return out

    def _command(self, main: list[str]) -> list[str]:
        return ["java", *_JAVA, "-cp", f"{self._jars}/*", *main]

    def _spawn(self, node: int) -> None:
        if node in self._processes:
            raise EmbeddedError(f"Kafka broker {node} runs already")
        with self._log(node).open("ab") as log:
            self._processes[node] = subprocess.Popen(
                self._command(["kafka.Kafka", str(self._home / f"{node}.properties")]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
                preexec_fn=die_with_parent,
            )

    def _wait(self) -> None:
        """Until every broker that should run says that all of them hold what they should."""
        deadline_s = time.monotonic() + _START_S
        waiting = list(self._processes)
        while waiting and time.monotonic() < deadline_s:
            dead = [n for n, process in self._processes.items() if process.poll() is not None]
            if dead:
                waiting = dead
                break
            if self._is_in_sync(waiting[0]):
                waiting.pop(0)
            else:
                time.sleep(0.1)
        if waiting:
            node = waiting[0]
            tail = " | ".join(self._log(node).read_text(errors="replace").splitlines()[-3:])
            raise EmbeddedError(f"Kafka broker {node} did not start; its log ends: {tail}")

    def _is_in_sync(self, node: int) -> bool:
        """Whether a broker answers, and by its word every running one has all of its copies."""
        address = f"127.0.0.1:{self._ports[node][0]}"  # others may not have missed it yet
        client = AdminClient({"bootstrap.servers": address, "log_level": 2, **self.client()})
        try:
            known = client.list_topics(timeout=2)
        except KafkaException:
            return False
        running = set(self._processes)
        places = (p for topic in known.topics.values() for p in topic.partitions.values())
        return running <= set(known.brokers) and all(
            running & set(place.replicas) <= set(place.isrs) for place in places
        )

    def _log(self, node: int) -> Path:
        return self._home / f"{node}.log"


def _fetched() -> Path:
    """Where the jars of the present pom are kept."""
    return _HOME / hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
