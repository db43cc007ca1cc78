"""Parquet in and out is the same as JSON lines in and out."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.rows import read_messages
from events.shop import BROKEN, Habits, Shop
from tests.cli.running import afterglow, right, until, wrong

pytestmark = pytest.mark.servers
COUNT = 6_000
TEXTS = (
    *("event_id", "user_id", "type", "source", "item_id", "category", "currency", "order_id"),
    *("session_id", "device", "country"),
)


@pytest.fixture(scope="module")
def events():
    """Good events of a shop, some of them twice, with contexts."""
    shop = Shop(3, 1_790_000_000_000, Habits(users=300), duplicate_share=0.03)
    block = shop.block(COUNT)
    sent = zip(block.payloads, block.kind, strict=True)
    return [json.loads(payload) for payload, kind in sent if kind != BROKEN]


@pytest.fixture(scope="module")
def files(events, tmp_path_factory):
    """The same events as JSON lines and as Parquet, in types that warehouses have."""
    folder = tmp_path_factory.mktemp("parquet")
    lines, table = folder / "events.jsonl", folder / "events.parquet"
    lines.write_text("".join(json.dumps(event) + "\n" for event in events))
    columns = {
        name: pa.array([event.get(name) for event in events]).dictionary_encode() for name in TEXTS
    }
    moments = [datetime.fromtimestamp(event["ts"] / 1000, UTC) for event in events]
    columns["ts"] = pa.array(moments, pa.timestamp("us", tz="UTC"))
    amounts = [event.get("amount") for event in events]
    columns["amount"] = pa.array(
        [None if a is None else round(Decimal(str(a)), 2) for a in amounts], pa.decimal128(12, 2)
    )
    for name in ("quantity", "value"):
        columns[name] = pa.array([event.get(name) for event in events])
    columns["context"] = pa.array([event.get("context") for event in events])
    pq.write_table(pa.table(columns), table, row_group_size=1_000)
    return lines, table


@pytest.fixture(scope="module")
def replayed(files, tmp_path_factory):
    """What each file comes to: (profiles, changes), by form."""
    folder, found = tmp_path_factory.mktemp("replayed"), {}
    for file in files:
        profiles, changes = folder / f"{file.name}.jsonl", folder / f"{file.name}.changes"
        said = right("replay", file, "--export", profiles, "--changes", changes)
        found[file.suffix] = (
            said.splitlines()[0].split(" in ")[0],
            sorted(profiles.read_text().splitlines()),
            changes.read_text().splitlines(),
        )
    return found


def test_a_replay_of_parquet_is_the_replay_of_json_lines(replayed, events):
    counts, profiles, changes = replayed[".parquet"]
    assert len(profiles) > 100
    assert len(changes) > 100
    assert any(json.loads(profile)["lifetime"]["spend"] for profile in profiles)
    assert (counts, profiles) == replayed[".jsonl"][:2]
    epochless = [strip(change) for change in changes]
    assert epochless == [strip(change) for change in replayed[".jsonl"][2]]


def strip(line):
    """A change without what tells one run from another."""
    change = json.loads(line)
    return {name: value for name, value in change.items() if name not in ("id", "epoch")}


def test_contexts_come_through(files):
    """No profile shows them today, so that its being equal says nothing of them."""
    lines, table = (
        [json.loads(message).get("context") for message in read_messages(file)] for file in files
    )
    assert any(lines)
    assert table == lines


def test_profiles_are_exported_as_a_table(files, replayed, tmp_path):
    out = tmp_path / "profiles.parquet"
    right("replay", files[0], "--export", out)
    rows = pq.read_table(out).to_pylist()
    assert sorted(row["document"] for row in rows) == replayed[".jsonl"][1]
    for row in rows:
        profile = json.loads(row["document"])
        assert row["user_id"] == profile["user_id"]
        assert row["lifetime"] == profile["lifetime"]
        assert row["decayed"] == profile["decayed"]
        for name in ("as_of", "first_seen", "last_seen", "last_order"):
            moment = row[name]
            assert (moment and round(moment.timestamp() * 1000)) == profile[name]
        assert row["rfm"] == {name: profile["rfm"][name] for name in row["rfm"]}
        assert dict(row["features"])["intent"] == profile["intent"]
        assert {name for name, _ in row["segments"]} == set(profile["segments"])
        for name, held in row["segments"]:
            since = round(held["since"].timestamp() * 1000)
            assert since == profile["segments"][name]["since"]
            assert held["version"] == profile["segments"][name]["version"]
        known = {name: score for name, score in profile["scores"].items() if score is not None}
        assert dict(row["scores"]) == known
    assert not list(tmp_path.glob(".*")), "nothing is left beside the file"


def test_a_file_of_parquet_is_published_and_profiles_exported(live, tmp_path):
    file, out = tmp_path / "events.parquet", tmp_path / "profiles.parquet"
    ts = pa.array([1_790_000_000_000] * 3, pa.timestamp("ms", tz="UTC"))
    table = {"id": ["p1", "p2", "p3"], "who": ["pia"] * 3, "type": ["page_view"] * 3, "ts": ts}
    pq.write_table(pa.table(table), file)
    maps = ("--map", "event_id=id", "--map", "user_id=who")
    assert "3 published to events, 0 failed\n" in right("publish", file, *maps, env=live)
    until(lambda: afterglow("profile", "pia", env=live).code == 0, 60)
    assert "profiles written to" in right("export", "--out", out, env=live)
    (row,) = [row for row in pq.read_table(out).to_pylist() if row["user_id"] == "pia"]
    assert row["lifetime"]["events"] == 3


def test_a_wrong_column_is_one_line(tmp_path):
    file = tmp_path / "events.parquet"
    naive = pa.array([1], pa.timestamp("ms"))
    rows = {"event_id": ["e"], "user_id": ["ann"], "type": ["page_view"], "ts": naive}
    pq.write_table(pa.table(rows), file)
    lines = wrong("replay", file)
    assert "times with a zone" in lines[-1]
