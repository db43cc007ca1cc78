"""The examples, run as they stand against a running engine."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from afterglow_client import NotAfterglow, Reader
from tests.cli.running import CLEAN, until

pytestmark = pytest.mark.servers
EXAMPLES = Path(__file__).parents[1] / "examples"


def command(name, *arguments):
    return [sys.executable, str(EXAMPLES / name), *arguments]


def around(live):
    """The environment of an example; the client is found without having been installed."""
    client = str(EXAMPLES.parent / "serving")
    return {**os.environ, **live, "PYTHONPATH": client}


def output(live, name, *arguments):
    return subprocess.run(
        command(name, *arguments),
        env=around(live),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def test_a_cart_is_filled_seen_by_the_edge_and_announced(live):
    until(lambda: known(live))
    assert output(live, "edge.py", "eve") == "nothing is known of 'eve'\n"
    output(live, "producer.py", "eve")
    until(lambda: "'items': 3" in output(live, "edge.py", "eve"))
    with subprocess.Popen(
        command("consumer.py"),
        env=around(live),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as consumer:
        line = next(line for line in consumer.stdout if "eve entered high_intent" in line)
        cause = consumer.stdout.readline()
        consumer.send_signal(signal.SIGINT)
        _, said = consumer.communicate(timeout=30)
    assert (consumer.returncode, said) == (0, "")
    assert line == "eve entered high_intent\n"
    assert "'kind': 'event'" in cause
    assert "'thresholds': {'intent': 8" in cause


def known(live):
    """Whether the engine has written what a reader needs."""
    with Reader(live["REDIS_URL"]) as reader, suppress(NotAfterglow):
        reader.ping()
        return True
    return False


@pytest.mark.parametrize(
    ("name", "env", "line"),
    [
        ("consumer.py", {}, "KAFKA_BOOTSTRAP must name the broker"),
        ("producer.py", {}, "KAFKA_BOOTSTRAP must name the broker"),
        ("edge.py", {}, "REDIS_URL must name the store"),
        ("producer.py", {"KAFKA_BOOTSTRAP": "x"}, "say who: examples/producer.py ann"),
        ("edge.py", {"REDIS_URL": "x"}, "say who: examples/edge.py ann"),
    ],
)
def test_an_example_says_what_it_needs(name, env, line):
    done = subprocess.run(
        command(name),
        env={**CLEAN, **env, "PYTHONPATH": str(EXAMPLES.parent / "serving")},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line + "\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("consumer.py", "the broker does not answer as it should: "),
        ("producer.py ann", "no broker answers at 127.0.0.1:1: has the demo ended?"),
        ("edge.py ann", "no usable answer from the store at redis://127.0.0.1:1"),
    ],
)
def test_an_example_that_finds_nobody_says_so(name, line):
    nowhere = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}
    done = subprocess.run(
        command(*name.split()), env=around(nowhere), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len([line for line in path.read_text().splitlines() if line]) <= 15
