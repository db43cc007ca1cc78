"""The examples, run as they stand against a running engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import until

pytestmark = pytest.mark.servers
EXAMPLES = Path(__file__).parents[1] / "examples"


def command(name, *arguments):
    return [sys.executable, str(EXAMPLES / name), *arguments]


def output(live, name, *arguments):
    return subprocess.run(
        command(name, *arguments),
        env={**os.environ, **live},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout


def test_a_cart_is_filled_seen_by_the_edge_and_announced(live):
    assert output(live, "edge.py", "eve") == "nothing is known of 'eve'\n"
    output(live, "producer.py", "eve")
    until(lambda: "'items': 3" in output(live, "edge.py", "eve"))
    with subprocess.Popen(
        command("consumer.py"), env={**os.environ, **live}, stdout=subprocess.PIPE, text=True
    ) as consumer:
        line = next(line for line in consumer.stdout if " eve entered high_intent" in line)
        cause = consumer.stdout.readline()
        consumer.kill()
    assert line.endswith(" eve entered high_intent\n")
    assert "'kind': 'event'" in cause
    assert "'thresholds': {'intent': 8" in cause


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len([line for line in path.read_text().splitlines() if line]) <= 15
