"""What is printed into a pipe or a file: nothing is cut, and there is JSON for programs."""

import json
import subprocess
import sys

import pytest

from tests.cli.running import CLEAN, ROOT, right

pytestmark = pytest.mark.servers
LONG = "lifetime.orders >= 2 and age(last_order) >= 45d and " * 4 + "lifetime.spend >= 100_000"


@pytest.fixture
def env(begun_url):
    return {"REDIS_URL": begun_url}


def piped(env, *arguments):
    """The output of a command in a pipe, where nobody says how wide anything is."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=ROOT,
        env={**CLEAN, **env},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_long_definition_stands_in_one_line(env):
    found = piped(env, "segments", "list", "--set", f"segments.long.enter={LONG}")
    (line,) = (line for line in found.splitlines() if line.startswith("│ long "))
    assert LONG in line


def test_the_longest_rule_stands_in_one_line(env):
    rule = " or ".join(f'brand == "{n}"' for n in range(40))
    found = piped(env, "rules", "list", "--set", f"recommend.rules.long.exclude={rule}")
    assert rule in found


def test_the_list_is_there_for_programs(env):
    found = json.loads(right("segments", "list", "--json", env=env))
    assert (found["revision"], found["author"]) == (0, "settings")
    by_name = {each["segment"]: each for each in found["segments"]}
    assert by_name["high_intent"] == {
        "segment": "high_intent",
        "family": None,
        "version": 1,
        "members": 0,
        "enter": "intent >= 8",
        "exit": "intent < 4",
        "paused": False,
    }
    assert by_name["champions"]["family"] == "rfm"
    right("segments", "pause", "rfm", env=env)
    found = json.loads(right("segments", "list", "--json", env=env))
    assert found["revision"] == 2
    paused = {each["segment"] for each in found["segments"] if each["paused"]}
    assert paused == {name for name, each in by_name.items() if each["family"] == "rfm"}
