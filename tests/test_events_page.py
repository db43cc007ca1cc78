"""``docs/events.md``: dead letters of a running engine, read as the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.cli.running import CLEAN

pytestmark = pytest.mark.servers
PAGE = (Path(__file__).parents[1] / "docs/events.md").read_text("utf-8")


def test_a_dead_letter_is_read_with_its_headers(live):
    producer = Producer({"bootstrap.servers": live["KAFKA_BOOTSTRAP"]})
    producer.produce("events", b'{"event_id":"1","user_id":"page","type":"consent","ts":5}', "page")
    assert producer.flush(10) == 0
    (text,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        if "events.dead" in block
    )
    code = text.replace("127.0.0.1:9092", live["KAFKA_BOOTSTRAP"])
    code = code.replace('"dead-letters"', '"dead-letters-" + __import__("secrets").token_hex(4)')

    def said():
        """What the page's lines print; a group that is formed slowly may get nothing in time."""
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=CLEAN, capture_output=True, text=True, timeout=90, check=True
        )
        return [line for line in done.stdout.splitlines() if '"user_id":"page"' in line]

    (line,) = next(filter(None, (said() for _ in range(3))))
    assert "'reason': 'unsupported', 'path': '$.type'" in line
