"""``docs/files.md``: what stands beside an export of a replay is what the page says."""

import json
import re
from dataclasses import fields

import pytest

from state.rfm import Cuts
from tests.cli.running import ROOT, right

PAGE = (ROOT / "docs/files.md").read_text("utf-8")
EVENT = '{"event_id":"%d","user_id":"u%d","type":"purchase","ts":1790000000000,"amount":5}\n'


@pytest.mark.servers
def test_the_cuts_of_a_replay_are_those_of_the_page(tmp_path):
    (log := tmp_path / "log.jsonl").write_text("".join(EVENT % (n, n) for n in range(9)))
    right("replay", log, "--export", tmp_path / "profiles.jsonl")
    cuts = json.loads((tmp_path / "profiles.cuts.json").read_text())
    table = PAGE.partition("## Cuts beside a replay")[2]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert named == set(cuts) == {field.name for field in fields(Cuts)}
    profile = json.loads((tmp_path / "profiles.jsonl").read_text().splitlines()[0])
    assert profile["rfm"]["cuts_version"] == cuts["version"] > 0
    assert cuts["users"] == 9
