"""``docs/events.md``: its examples are events, or are refused as it says; its tables are whole."""

import json
import re
import tomllib
from pathlib import Path

import msgpack
import msgspec
import numpy as np
import pytest

from events.batch import Read, Span
from events.decode import Decoder, headers
from events.schema import REASONS, RESERVED, TYPES, EventRules, Message

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/events.md").read_text("utf-8")
SHIPPED = tomllib.loads((ROOT / "afterglow.toml").read_text("utf-8"))["events"]
SENT_MS = 1_790_000_100_000
NEEDED = {"add_to_cart": "item_id", "remove_from_cart": "item_id"}
NEEDED |= {"purchase": "amount", "refund": "amount"}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def rows(head):
    """The cells of the table under a heading row that begins so."""
    table = PAGE.partition(f"\n| {head} |")[2].partition("\n\n")[0]
    return [line[2:-1].rstrip().split(" | ") for line in table.splitlines()[2:]]


def decoded(*payloads, **rules):
    n = len(payloads)
    spans = [Span(0, 0, n)]
    sent_ms = np.full(n, SENT_MS)
    read = Read("events", list(payloads), sent_ms, np.zeros(n, np.int32), np.arange(n), spans)
    return Decoder(EventRules(**rules))(read)


def test_the_examples_are_events_one_of_each_type():
    lines = blocks("jsonl")[0].encode().splitlines()
    batch, letters = decoded(*lines)
    assert letters == []
    assert [TYPES[code] for code in batch.type] == list(TYPES)
    assert [json.loads(line)["event_id"] for line in lines] == batch.event_ids.tolist()
    assert np.all(np.diff(batch.ts_ms) == 5_000)
    spend = batch.amount_minor[[TYPES.index("purchase"), TYPES.index("refund")]].tolist()
    assert spend == [1990, 995]
    assert f"`lifetime.spend` is `{spend[0] - spend[1]}`" in PAGE


def test_the_first_example_is_an_event():
    (line,) = blocks("json")
    batch, letters = decoded(line.encode())
    assert (len(batch), letters) == (1, [])


def test_what_a_type_needs_is_needed():
    for line in blocks("jsonl")[0].splitlines():
        event = json.loads(line)
        required = {"event_id", "user_id", "type", "ts", *filter(None, [NEEDED.get(event["type"])])}
        for name in event:
            left = {key: value for key, value in event.items() if key != name}
            _, letters = decoded(json.dumps(left).encode())
            assert [letter.path for letter in letters] == [f"$.{name}"] * (name in required)
    by_field = {row[0].strip("`"): row[3] for row in rows("field")}
    for kind, name in NEEDED.items():
        assert f"`{kind}`" in by_field[name]
    always = {name for name, needed in by_field.items() if needed == "always"}
    assert always == {field.name for field in msgspec.structs.fields(Message) if field.required}


def test_every_field_and_type_is_described():
    fields = {field.name for field in msgspec.structs.fields(Message)}
    assert {row[0].strip("`") for row in rows("field")} == fields
    for name in RESERVED:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("field", msgspec.structs.fields(Message), ids=lambda field: field.name)
def test_bounds_of_texts_are_those_of_the_code(field):
    (bounds,) = (row[2] for row in rows("field") if row[0] == f"`{field.name}`")
    most = re.search(r"(\d+) characters", bounds)
    if most is None:
        return
    event = json.loads(blocks("json")[0]) | {field.name: "x" * int(most[1])}
    _, letters = decoded(json.dumps(event).encode())
    assert letters == []
    _, (letter,) = decoded(json.dumps(event | {field.name: event[field.name] + "x"}).encode())
    assert (letter.reason, letter.path) == ("invalid", f"$.{field.name}")


def test_sizes_are_those_that_ship():
    assert f"at most {SHIPPED['max_bytes']} bytes" in PAGE
    assert SHIPPED["max_ahead"] == "5m"
    assert "more than five minutes ahead" in PAGE
    assert tomllib.loads((ROOT / "afterglow.toml").read_text("utf-8"))["dedup"]["window"] == "10m"


def test_every_reason_is_listed_with_an_example_that_is_refused_for_it():
    found = rows("reason")
    assert [row[0].strip("`") for row in found] == list(REASONS)
    by_hand = [row[0] for row in found if row[2].startswith("anything")]
    for reason, _, example in found:
        if reason in by_hand:
            continue
        rules = {"max_age_ms": 86_400_000} if reason == "`too_old`" else {}
        _, letters = decoded(example.strip("`").encode(), **rules)
        assert [f"`{letter.reason}`" for letter in letters] == [reason]
    assert by_hand == ["`too_large`"]
    _, (letter,) = decoded(b'{"event_id": "%s"}' % (b"x" * SHIPPED["max_bytes"]))
    assert letter.reason == "too_large"


def test_every_header_of_a_dead_letter_is_named():
    _, (letter,) = decoded(b"?")
    section = PAGE.partition("## Dead letters")[2].partition("\n| ")[0]
    for name, _ in headers(letter):
        assert f"`{name}`" in section


def test_ids_of_lines_are_the_same_each_time_and_tell_lines_apart():
    (made,) = (block for block in blocks("python") if "blake2b" in block)
    lines = [b"ann,view,1", b"ann,view,1", b"bob,view,1"]
    runs = []
    for _ in range(2):
        exec(made, around := {})
        runs.append([around["event_id"](line) for line in lines])
    assert runs[0] == runs[1]
    assert len(set(runs[0])) == 3
    assert all(0 < len(each) <= 64 for each in runs[0])


def test_messagepack_is_an_event_too():
    (made,) = [block for block in blocks("python") if "packb" in block]
    exec(made, around := {})
    batch, letters = decoded(around["message"], msgpack.packb({"x": 1}))
    assert batch.users.tolist() == ["ann"]
    assert [letter.reason for letter in letters] == ["missing"]
