"""The README's way for newcomers, typed as it stands there."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.running import CLEAN, until

pytestmark = [pytest.mark.servers, pytest.mark.slow]
ROOT = Path(__file__).parents[1]
ENV = ROOT / "demo.env"


def blocks(section):
    """What a section of the README says to type, terminal by terminal."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def terminal(commands, log):
    """A shell that types them, one after the other, until one fails."""
    with log.open("wb") as out:
        return subprocess.Popen(
            ["bash", "-e", "-c", commands],
            cwd=ROOT,
            env=CLEAN,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process):
    """Ctrl-C, as a terminal gives it: to all that the shell has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        return process.wait(90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


@pytest.mark.skipif(
    not (ROOT / ".venv/bin/afterglow").exists(), reason="needs .venv, as `make venv` makes it"
)
def test_a_newcomer_ends_with_a_consumer_that_works(tmp_path):
    first, second = blocks("A consumer in five minutes")
    logs = tmp_path / "demo.log", tmp_path / "mine.log"
    ENV.unlink(missing_ok=True)
    demo = terminal(first, logs[0])
    mine = None
    try:
        until(lambda: ENV.exists() or demo.poll() is not None, 240)
        assert demo.poll() is None, logs[0].read_text()
        mine = terminal(second, logs[1])
        until(lambda: "ann entered high_intent" in said(mine, logs[1]), 60)
        text = said(mine, logs[1])
        assert "ann is in high_intent" in text
        assert "because {'kind': 'event'" in text
        assert re.search(r"^u\d+ entered ", text, re.MULTILINE), "the shop's customers, too"
        time.sleep(1)
        assert "missed" not in said(mine, logs[1])
    finally:
        codes = [end(process) for process in (mine, demo) if process is not None]
        left = ENV.exists()
        ENV.unlink(missing_ok=True)
    assert codes[1] == 0, logs[0].read_text()
    assert "\nexact: " in logs[0].read_text()
    assert codes[0] in (0, -signal.SIGINT, 128 + signal.SIGINT)  # the shell's, after Ctrl-C
    assert "Traceback" not in logs[1].read_text()
    assert not left, "the demo takes its addresses away"


def said(process, log):
    """What a shell has said, which must go on."""
    assert process.poll() is None, log.read_text()
    return log.read_text()
