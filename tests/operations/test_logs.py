"""What the engine says is documented, one name for one thing, as text and as JSON."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
import structlog

from dataflows.logs import configure
from tests.operations.plant import HAS_API, ROOT, until

LAYERS = ("operators", "dataflows", "cli", "serving")
OF_THE_API = {"request_failed", "follower_cut_off", "changes_begin_anew"}
LEVELS = ("debug", "info", "warning", "error")


def events():
    """(event, level, names of values) of every line that the sources write."""
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                called = node.func if isinstance(node, ast.Call) else None
                if (
                    isinstance(called, ast.Attribute)
                    and called.attr in LEVELS
                    and isinstance(called.value, ast.Name)
                    and called.value.id.lower() in ("log", "_log")
                ):
                    yield path, node, called.attr


def described():
    page = (ROOT / "docs/operations.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| [^|]+ \|$", page, re.MULTILINE)
    return {
        name: (level, set(re.findall(r"`(\w+)`", values)))
        for name, level, values in rows
        if level in LEVELS
    }


def test_every_event_is_named_and_described():
    found = {}
    for path, node, level in events():
        (name,) = node.args
        assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the name must be fixed"
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name.value), f"{path}:{node.lineno}"
        levels, values = found.setdefault(name.value, (set(), set()))
        levels.add(level)
        values |= {keyword.arg for keyword in node.keywords if keyword.arg}
    page = described()
    if not HAS_API:
        page = {name: row for name, row in page.items() if name not in OF_THE_API}
    assert set(found) == set(page)
    for name, (levels, values) in found.items():
        level, told = page[name]
        assert levels == {level}, name
        assert values - {"exc_info"} <= told, name


@pytest.fixture
def unconfigured():
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("unconfigured")
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_holds_time_level_event_and_values(capsys, form):
    configure("info", form)
    log = structlog.get_logger()
    log.debug("not_said")
    log.warning("topic_not_made", topic="a b", error='says "no"', tries=3)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    if form == "json":
        said = json.loads(line)
        assert said.pop("at").endswith("Z")
        expected = {"level": "warning", "event": "topic_not_made", "topic": "a b"}
        assert said == expected | {"error": 'says "no"', "tries": 3}
    else:
        assert re.fullmatch(
            r"at=\S+Z level=warning event=topic_not_made "
            r'topic="a b" error="says \\"no\\"" tries=3',
            line,
        )


@pytest.mark.usefixtures("unconfigured")
def test_a_level_leaves_out_what_is_below(capsys):
    configure("error", "text")
    structlog.get_logger().warning("topic_not_made")
    structlog.get_logger().error("engine_failed")
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["level=error"]


TALKS = """
import structlog
from dataflows.logs import configure
configure("info", "json")
for number in range(1_000):
    structlog.get_logger().info("partitions_assigned", number=number)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_processes_that_share_a_log_break_no_line(tmp_path, unbuffered):
    path = tmp_path / "log"
    with path.open("w") as log:
        talkers = [
            subprocess.Popen(
                [sys.executable, "-c", TALKS],
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            )
            for _ in range(3)
        ]
        assert [talker.wait(timeout=120) for talker in talkers] == [0, 0, 0]
    numbers = [json.loads(line)["number"] for line in path.read_text().splitlines()]
    assert sorted(numbers) == sorted(3 * list(range(1_000)))


@pytest.mark.servers
@pytest.mark.slow
def test_a_plant_says_what_it_does_in_json(running):
    def said():
        lines = [line for line in running.log().splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines]

    until(lambda: sum(line["event"] == "lane_opened" for line in said()) >= 2, 60, running.log)
    names = [line["event"] for line in said()]
    assert names[0] == "workers_starting"
    assert names.count("engine_started") >= 2
    assert set(names) <= set(described())
    for line in running.log().splitlines():
        assert line.startswith(("{", "worker ", "%")), line
