"""``afterglow demo``: what it refuses, and that nothing stays behind when it ends."""

import re
import signal
import subprocess
import sys

import psutil
import pytest

from cli.demo import latencies, quantile
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
def test_a_store_that_dies_is_said_in_words(tmp_path):
    addresses = tmp_path / "demo.env"
    with demo(tmp_path, "--addresses", str(addresses), "--seconds", "8") as process:
        try:
            until(lambda: addresses.exists() or process.poll() is not None, 120)
            children = psutil.Process(process.pid).children()
            (store,) = [child for child in children if "valkey" in child.name()]
            store.kill()
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert (process.returncode, err) == (1, "")
    assert "NOT exact: the profiles of shard 0 could not be read: the store says" in " ".join(
        out.split()
    )
    assert "Traceback" not in out


@pytest.mark.servers
def test_its_end_takes_the_addresses_away_and_its_lines_are_whole(tmp_path):
    with demo(tmp_path, "--addresses", str(tmp_path / "demo.env"), "--seconds", "1") as process:
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    lines = [line for line in out.splitlines() if " published  " in line]
    assert lines
    assert all(" changes  " in line for line in lines)  # which stands at the end
    assert list(tmp_path.iterdir()) == []


def test_latencies_are_those_since_the_look_before_or_a_new_start():
    name = "afterglow_event_to_commit_seconds_bucket"

    def look(*counts):
        return dict(
            zip((f"{name}0.1", f"{name}1.0", f"{name}+Inf"), map(float, counts), strict=True)
        )

    inf = float("inf")
    assert latencies({}, look(3, 4, 5)) == [(0.1, 3), (1.0, 4), (inf, 5)]
    assert latencies(look(3, 4, 5), look(4, 5, 6)) == [(0.1, 1), (1.0, 1), (inf, 1)]
    assert latencies(look(30, 40, 50), look(0, 1, 1)) == [(0.1, 0), (1.0, 1), (inf, 1)]
    assert quantile(latencies(look(0, 0, 9), look(5, 6, 15)), 0.5) == "≤ 100 ms"
    assert quantile(latencies(look(3, 4, 5), look(3, 4, 5)), 0.5) == "–"


@pytest.mark.servers
@pytest.mark.slow
def test_the_lag_goes_back_after_a_kill_which_is_told_once(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cli.main", "demo", "--plain", "--seconds", "26"),
            *("--kill-every", "12", "--rate", "300", "--users", "500"),
        ],
        cwd=ROOT,
        env={**CLEAN, "TMPDIR": str(tmp_path)},
        capture_output=True,
        timeout=200,
        text=True,
        check=True,
    )
    status, _, _ = done.stdout.partition("exact:")
    kills = status.count("kill -9 of")
    assert kills >= 2
    assert kills == 2 * len(set(re.findall("kill -9 of [0-9]+", status)))  # live, and at the end
    between = status.split("kill -9 of")[1]  # its last line is that of the next kill
    lags = [int(each.replace(",", "")) for each in re.findall(r"  lag ([\d,]+)  ", between)]
    assert lags[-2] < 300
