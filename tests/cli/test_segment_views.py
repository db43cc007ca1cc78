"""What is said of segments over a store: what they are worth, and why somebody is in one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataflows.replay import replay
from dataflows.settings import load
from state.store import Store
from state.times import DAY_MS
from tests.cli.running import right, wrong
from tests.state.streams import START_MS

pytestmark = pytest.mark.servers

SETS = (
    "models.enabled=false",
    "recommend.enabled=false",
    'segments.twice.enter="lifetime.events >= 2"',
    'segments.nobody.enter="lifetime.orders >= 1000"',
)
OPTIONS = [part for text in SETS for part in ("--set", text)]


def bought_by_some() -> Iterator[bytes]:
    """A hundred who came twice and buy nothing, two hundred who came once, of whom 30 buy."""

    def event(number: int, user: int, kind: str, ts: int, **more: float) -> bytes:
        plain = {"event_id": f"e{number}", "user_id": f"u{user}", "type": kind, "ts": ts}
        return json.dumps(plain | more).encode()

    for number, user in enumerate([*range(300), *range(200, 300)]):
        yield event(number, user, "search", START_MS + number)
    for user in range(30):
        yield event(1000 + user, user, "purchase", START_MS + 2 * DAY_MS + user, amount=10.0)
    yield event(2000, 0, "search", START_MS + 3 * DAY_MS)


@pytest.fixture
def env(begun_url: str) -> dict[str, str]:
    """An environment with a store in which those are."""
    store = Store(begun_url)
    replay(load(sets=SETS, env={}), store, "log", bought_by_some)
    store.close()
    return {"REDIS_URL": begun_url}


def test_nothing_is_measured_of_nobody_and_nothing_falls_by_more_than_all(
    env: dict[str, str],
) -> None:
    found = json.loads(right("segments", "measure", "--over", "2d", "--json", *OPTIONS, env=env))
    lines = right("segments", "measure", "--over", "2d", *OPTIONS, env=env).splitlines()
    cells = {line.split("│")[1].strip(): line.split("│")[2:-1] for line in lines if "│" in line}
    shown = {name: [cell.strip() for cell in line] for name, line in cells.items()}
    assert shown["nobody"] == ["0", "–", "10.00%", "–", "– to –", "–", "1.00", "–"]
    assert found["nobody"]["conversion"]["lift"] is found["nobody"]["worth"]["lift"] is None
    assert found["nobody"]["conversion"]["difference"] is None
    assert found["twice"]["conversion"]["low"] < -found["twice"]["conversion"]["base"]
    users, buyers, rest, lift, interval, *_ = shown["twice"]
    assert (users, buyers, rest, lift) == ("100", "0.00%", "15.00%", "-100.0%")
    assert interval.startswith("-100.0% to -4")


def test_a_family_is_no_segment_but_its_labels_are(begun_url: str) -> None:
    (line,) = wrong("explain", "ann", "rfm", env={"REDIS_URL": begun_url})
    assert "'rfm' is a family; name one of its labels: champions, " in line


def test_what_if_without_an_edit_shows_two_equal_courses(
    env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "same.toml"
    right("segments", "export", file, *OPTIONS, env=env)
    options = ("--hours", "3", "--json", *OPTIONS)
    found = json.loads(right("segments", "what-if", file, *options, env=env))
    assert found["at_once"]["users"] == 300
    assert found["live"] == found["edited"]
    assert not any(line["entered"] for line in found["at_once"]["segments"].values())


def test_what_if_of_an_empty_store_is_nothing(begun_url: str, tmp_path: Path) -> None:
    env, file = {"REDIS_URL": begun_url}, tmp_path / "same.toml"
    right("segments", "export", file, env=env)
    found = json.loads(right("segments", "what-if", file, "--hours", "1", "--json", env=env))
    assert found["at_once"]["users"] == 0
