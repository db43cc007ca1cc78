"""What installing compiles is all that a demo calls: its first start waits for no compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import CLEAN

pytestmark = [pytest.mark.servers, pytest.mark.slow]
ROOT = Path(__file__).parents[2]


def run(*command, kept_in):
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**CLEAN, "NUMBA_CACHE_DIR": str(kept_in)},
        check=True,
        capture_output=True,
        timeout=300,
        text=True,
    ).stdout


def test_a_demo_compiles_nothing(tmp_path):
    assert "compiled in" in run("dataflows.warm", kept_in=tmp_path)
    compiled = set(tmp_path.rglob("*.nbc"))
    assert len(compiled) > 100
    said = run("cli.main", "demo", "--plain", "--seconds", "15", kept_in=tmp_path)
    assert "exact:" in said
    more = {os.path.relpath(file, tmp_path) for file in set(tmp_path.rglob("*.nbc")) - compiled}
    assert not more
