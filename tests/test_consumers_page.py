"""``docs/consumers.md``: its lines run, and its table is that of the code."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from afterglow_client.news import Reason
from tests.cli.running import CLEAN, until

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/consumers.md").read_text()


def test_every_reason_is_explained():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(get_args(Reason))


@pytest.mark.servers
def test_the_lines_run_and_go_on_where_they_stopped(live, tmp_path):
    text = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
    text = text.replace("127.0.0.1:9092", live["KAFKA_BOOTSTRAP"]).replace("5.0", "3.0")
    client = str(ROOT / "serving")
    around = {**CLEAN, **live, "PYTHONPATH": client}

    def run(*command):
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=around,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    run("-c", text)
    assert (tmp_path / "newsletter.state").exists()
    run(str(ROOT / "examples/producer.py"), "pat")
    line = "pat entered ('high_intent',) left () is in ['high_intent']"
    until(lambda: line in run("-c", text), 60)  # the engine may have just begun
    assert "pat" not in run("-c", text)
