"""``afterglow demo``: what it refuses, and that nothing stays behind when it ends."""

import signal
import subprocess
import sys

import pytest

from tests.cli.running import CLEAN, ROOT, afterglow, until

SMALL = ("--plain", "--rate", "50", "--users", "100", "--set", "models.enabled=false")


@pytest.mark.parametrize(
    "option",
    [
        *("demo --rate 0", "demo --users 0", "demo --seed -1", "demo --seconds -1"),
        *("demo --kill-every -1", "publish x.csv --rate -1", "changes --seconds -1"),
        "segments diff --from -1",
    ],
)
def test_a_number_that_makes_no_sense_is_refused_in_words(option):
    done = afterglow(*option.split())
    assert done.code == 2
    assert f"Invalid value for '{option.split()[-2]}'" in done.err
    assert "Traceback" not in done.err


def demo(directory, *arguments):
    """A demo whose every file stands in one directory."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "demo", *SMALL, *arguments],
        cwd=ROOT,
        env={**CLEAN, "TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_check_and_nothing_stays_behind(number, tmp_path):
    addresses = tmp_path / "demo.env"
    with demo(tmp_path, "--addresses", str(addresses)) as process:
        try:
            until(lambda: addresses.exists() or process.poll() is not None, 120)
            assert any("afterglow-demo-" in path.name for path in tmp_path.iterdir())
            process.send_signal(number)
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert "\nexact: " in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.servers
def test_its_end_takes_the_addresses_away_and_its_lines_are_whole(tmp_path):
    with demo(tmp_path, "--addresses", str(tmp_path / "demo.env"), "--seconds", "1") as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    lines = [line for line in out.splitlines() if " published  " in line]
    assert lines
    assert all(" changes  " in line for line in lines)  # which stands at the end
    assert list(tmp_path.iterdir()) == []
