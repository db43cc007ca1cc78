"""Files as messages: held against the csv module, and against what real files do wrong."""

import csv
import gzip
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.decode import Decoder
from events.row_columns import FIELDS, REQUIRED, RowError, parse_pairs
from events.rows import places_of, read_messages
from events.schema import EventRules
from tests.events.test_decode import read_of

HEADER = "event_id,user_id,type,ts,item_id,amount,quantity,value,note\n"
ROW = 'e1,ann,purchase,1700000000000,"shoe, red",19.90,2,0.5,hi\n'
EVENT = {
    "event_id": "e1",
    "user_id": "ann",
    "type": "purchase",
    "ts": 1_700_000_000_000,
    "item_id": "shoe, red",
    "amount": "19.90",
    "quantity": 2,
    "value": 0.5,
}


def written(tmp_path, text, name="events.csv"):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def events(path, **options):
    return [json.loads(message) for message in read_messages(path, **options)]


@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz"])
def test_csv_numbers_are_numbers_and_unknown_columns_are_left(tmp_path, name):
    assert events(written(tmp_path, HEADER + ROW, name)) == [EVENT]


@pytest.mark.parametrize("name", ["e.jsonl", "e.ndjson", "e.json", "e.jsonl.gz"])
def test_json_lines_stay_byte_for_byte(tmp_path, name):
    lines = [b'{"ts" : 1}', b"not json", b'{"amount":1.10}']
    path = written(tmp_path, b"\n\n".join(lines) + b"\r\n", name)
    assert list(read_messages(path)) == lines


@pytest.mark.parametrize("options", [{}, {"columns": {"user_id": "who"}}])
def test_a_mark_that_windows_puts_before_json_lines_is_no_part_of_them(tmp_path, options):
    lines = b'\xef\xbb\xbf{"who":"ann","user_id":"ann"}\r\n{"who":"bob","user_id":"bob"}\r\n'
    users = [event["user_id"] for event in events(written(tmp_path, lines, "e.jsonl"), **options)]
    assert users == ["ann", "bob"]


def test_fields_come_from_other_columns_and_types_get_other_names(tmp_path):
    path = written(tmp_path, "id,who,what,when\n1,ann,view,5\n2,bob,purchase,6\n")
    columns = {"event_id": "id", "user_id": "who", "type": "what", "ts": "when"}
    assert events(path, columns=columns, types={"view": "product_view"}) == [
        {"event_id": "1", "user_id": "ann", "type": "product_view", "ts": 5},
        {"event_id": "2", "user_id": "bob", "type": "purchase", "ts": 6},
    ]


def test_json_is_mapped_too_and_what_is_no_object_stays(tmp_path):
    lines = '{"who":"ann","type":"view","n":123456789012345678901}\n[1]\n{"type":3}\n{"x\n'
    path = written(tmp_path, lines, "e.jsonl")
    messages = list(read_messages(path, {"user_id": "who"}, {"view": "product_view"}))
    first = {"who": "ann", "type": "product_view", "n": 123456789012345678901, "user_id": "ann"}
    assert json.loads(messages[0]) == first
    assert messages[1:] == [b"[1]", b'{"type":3}', b'{"x']


def test_columns_that_are_not_read_may_have_one_name(tmp_path):
    (event,) = events(
        written(tmp_path, "note,event_id,user_id,type,ts,note,,\nx,1,ann,click,5,y\n")
    )
    assert event == {"event_id": "1", "user_id": "ann", "type": "click", "ts": 5}


def test_one_column_may_serve_two_fields(tmp_path):
    path = written(tmp_path, "event_id,user_id,type,ts,session_id\n1,ann,purchase,5,s1\n")
    (event,) = events(path, columns={"order_id": "session_id"})
    assert (event["order_id"], event["session_id"]) == ("s1", "s1")


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    path = written(tmp_path, b"\xef\xbb\xbf" + (HEADER + ROW).encode())
    assert events(path) == [EVENT]


def test_blank_lines_are_left_and_short_rows_are_messages(tmp_path):
    path = written(tmp_path, f"{HEADER}\ne1\n\n{ROW}")
    assert events(path) == [{"event_id": "e1"}, EVENT]


@pytest.mark.parametrize(
    "text", ["²", "٣", "9" * 30, "-", "1_000", "nan", "inf", "1e999", "x", "3.5", "3.", ".0", " 5"]
)
def test_what_is_no_number_stays_a_text(tmp_path, text):
    path = written(tmp_path, f"event_id,user_id,type,ts,quantity\n1,ann,purchase,{text},{text}\n")
    (event,) = events(path)
    assert (event["ts"], event["quantity"]) == (text, text)


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    path = written(
        tmp_path, "event_id,user_id,type,ts,quantity\n1,ann,purchase,1700000000000.0,2.00\n"
    )
    (event,) = events(path)
    assert (event["ts"], event["quantity"]) == (1_700_000_000_000, 2)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "many"])
def test_a_value_that_is_not_finite_stays_a_text(tmp_path, text):
    (event,) = events(written(tmp_path, f"event_id,user_id,type,ts,value\n1,a,rating,5,{text}\n"))
    assert event["value"] == text


def test_the_decoder_takes_good_rows_and_names_bad_ones(tmp_path):
    path = written(tmp_path, HEADER + ROW + "e2,bob,search,soon\ne3\n")
    good, bad = Decoder(EventRules())(read_of(list(read_messages(path))))
    assert (good.ts_ms.tolist(), good.amount_minor.tolist()) == ([EVENT["ts"]], [1990])
    assert {(letter.offset, letter.path) for letter in bad} == {(1, "$.ts"), (2, "$.user_id")}


@given(
    st.lists(
        st.fixed_dictionaries({name: st.text(max_size=8) for name in (*REQUIRED, "category")}),
        max_size=8,
    )
)
def test_any_text_comes_through_a_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "events.csv"
    rows = [{name: value.replace("\r", "") for name, value in row.items()} for row in rows]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*REQUIRED, "category"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    found = events(path)
    expected = [{name: value for name, value in row.items() if value} for row in rows]
    assert [{name: str(value) for name, value in event.items()} for event in found] == [
        row | ({"ts": str(int(row["ts"]))} if is_integer(row.get("ts", "")) else {})
        for row in expected
    ]


def is_integer(text):
    return (
        bool(text)
        and all(letter in "0123456789" for letter in text.removeprefix("-"))
        and (text != "-")
    )


@pytest.mark.parametrize(
    ("name", "data", "options", "message"),
    [
        ("e.csv", b"", {}, "must begin with a line of column names, but is empty"),
        (
            "e.csv",
            b"id,user_id,type,ts\n",
            {},
            r"'event_id' is needed.*--map event_id=<one of id, user_id, type, ts>",
        ),
        (
            "e.csv",
            b"id,ts\n",
            {},
            r"columns 'event_id', 'user_id' and 'type' are needed; .* --map user_id=<column> "
            r"--map type=<column>, of id, ts$",
        ),
        (
            "e.csv",
            b"id,ts,type\n",
            {"columns": {"user_id": "who", "item_id": "what"}},
            r"--map user_id=who, --map item_id=what: there is no column 'who' or 'what'; there are "
            r"id, ts, type; a column 'event_id' is needed",
        ),
        ("e.csv", HEADER.replace(",", ";").encode(), {}, "by commas, but semicolons separate"),
        ("e.csv", HEADER.replace(",", "\t").encode(), {}, "by commas, but tabs separate"),
        (
            "e.csv",
            b"event_id,user_id,type,ts,amount,amount\n",
            {},
            "there are 2 columns .amount.; one is needed: rename or remove",
        ),
        (
            "e.csv",
            b"event_id,user_id,type,ts,who,who\n",
            {"columns": {"device": "who"}},
            "there are 2 columns .who.; one is needed",
        ),
        ("e.json", b'[{"event_id":"1"}]', {}, "one JSON object a line, but begins with a list"),
        ("e.json", b'\n [\n {"event_id":"1"}\n]', {}, "one JSON object a line, but begins with a"),
        (
            "e.csv",
            HEADER.encode(),
            {"columns": {"order_id": "order"}},
            "--map order_id=order: there is no column 'order'; there are event_id, user_id",
        ),
        (
            "e.csv",
            HEADER.encode(),
            {"columns": {"user": "note"}},
            "no field 'user'; did you mean 'user_id'",
        ),
        ("e.jsonl", b"{}", {"columns": {"xx": "a"}}, "no field 'xx'; there are event_id"),
        ("e.csv", HEADER.encode() + b"e1,\xff\n", {}, "must be UTF-8.*save it as UTF-8"),
        ("e.csv", (HEADER + "x" * 200_000).encode(), {}, "cannot be read to its end: field larger"),
        (
            "e.csv",
            (HEADER + ROW + 'e2,"17 in,click\n' + ROW.replace('"', "") * 3_000).encode(),
            {},
            r"field larger than field limit \(131072\) in the row that begins in line 3; is a "
            "quote not closed there",
        ),
        ("e.avro", b"", {}, r"must be \.csv, \.jsonl, \.json, \.ndjson, .*but is \.avro"),
        ("events", b"", {}, r"or \.parquet, but its name has no such ending"),
        (
            "e.jsonl",
            b'{"id":"ann"}\n7\n{"ts":"visiter"}\n',
            {"columns": {"user_id": "visiter", "event_id": "id", "ts": "when"}},
            "--map user_id=visiter, --map ts=when: no line has a key 'visiter' or 'when'; there "
            "are id, ts",
        ),
        ("e.jsonl", b"", {"types": {"buy": "purchas"}}, "no type 'purchas'; did you mean 'purc"),
        ("e.jsonl", b"", {"types": {"buy": "xx"}}, "no type 'xx'; there are page_view, product_"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, data, options, message):
    path = written(tmp_path, data, name)
    with pytest.raises(RowError, match=message):
        list(read_messages(path, **options))


def test_a_broken_gzip_is_said(tmp_path):
    cut = tmp_path / "e.csv.gz"
    cut.write_bytes(gzip.compress((HEADER + ROW * 99).encode())[:-20])
    none = tmp_path / "e.jsonl.gz"
    none.write_bytes(b"{}")
    for path in (cut, none):
        with pytest.raises(RowError, match="cannot be read to its end"):
            list(read_messages(path))


def test_a_missing_file_is_said_at_once(tmp_path):
    with pytest.raises(RowError, match="there is no such file"):
        read_messages(tmp_path / "none.csv")
    with pytest.raises(RowError, match="must be a file, but is a directory"):
        read_messages(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(RowError, match="must be a file, for it is read twice"):
        read_messages(tmp_path / "pipe.csv")


@pytest.mark.parametrize("name", ["e.jsonl", "e.jsonl.gz"])
@pytest.mark.parametrize("key", ['"who"', r'"\u0077ho"'], ids=["plain", "escaped"])
def test_a_key_may_come_late_and_be_written_in_any_way(tmp_path, name, key):
    path = written(tmp_path, '{"a":"who"}\n' * 500 + f"{{{key}:5}}\n", name)
    found = events(path, columns={"user_id": "who"})
    assert (len(found), found[-1]) == (501, {"who": 5, "user_id": 5})


def test_lines_none_of_which_is_an_object_are_messages(tmp_path):
    path = written(tmp_path, "[1]\n7\n", "e.jsonl")
    assert list(read_messages(path, {"user_id": "who"})) == [b"[1]", b"7"]


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz"])
def test_where_a_row_of_a_csv_begins_is_known(tmp_path, name):
    path = written(tmp_path, f'{HEADER}e1\n\n"e\n\n2",ann\n\n{ROW}', name)
    assert [event["event_id"] for event in events(path)] == ["e1", "e\n\n2", "e1"]
    assert places_of(path, {0, 1, 2, 9}) == {0: "line 2", 1: "line 4", 2: "line 8"}
    assert places_of(path, {1}) == {1: "line 4"}
    assert places_of(path, set()) == {}


def test_of_rows_that_go_over_several_lines_somebody_is_told(tmp_path):
    swallowed = 'e1,"17 in\n' + ROW.replace('"', "") + 'e2,20",x\n'
    path, told = written(tmp_path, f'{HEADER}\n{ROW}{swallowed}e3,"a\r\nb"\n{ROW}'), []
    assert sum(1 for _ in read_messages(path, on_lines=lambda *lines: told.append(lines))) == 4
    assert told == [(4, 6), (7, 8)]


def test_where_a_json_line_stands_is_known(tmp_path):
    path = written(tmp_path, "\n{}\n \n{}\r\n{}", "e.jsonl")
    assert places_of(path, {0, 1, 2}) == {0: "line 2", 1: "line 4", 2: "line 5"}
    assert places_of(tmp_path / "e.parquet", {1_499}) == {1_499: "row 1,500"}


@pytest.mark.parametrize("text", ["a", "=b", "a=", ""])
def test_options_are_pairs(text):
    with pytest.raises(RowError, match="must be of the form NAME=VALUE"):
        parse_pairs([text], "--map")


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(RowError, match="--map ts= must be given once, but --map ts=a and --map"):
        parse_pairs(["ts=a", "ts=b"], "--map")
    assert parse_pairs(["ts=a", "ts=a"], "--map") == {"ts": "a"}


def test_options_may_hold_more_equal_signs():
    assert parse_pairs(["a=b=c", "d=e"], "--type") == {"a": "b=c", "d": "e"}


def test_required_fields_are_fields():
    assert set(REQUIRED) <= set(FIELDS)


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.jsonl", "e.jsonl.gz"])
def test_progress_is_told_in_bytes_of_the_file(tmp_path, name):
    text = HEADER + ROW * 4_500 if ".csv" in name else '{"a": 1}\n' * 4_500
    path, told = written(tmp_path, text, name), []
    assert sum(1 for _ in read_messages(path, on_bytes=told.append)) == 4_500
    assert len(told) == 4
    assert told == sorted(told)
    assert 0 < told[-1] <= path.stat().st_size


def test_a_row_with_more_cells_than_the_header_is_a_dead_letter_with_its_line(tmp_path):
    row = "1,ann,purchase,1790000000000,teapot,"
    text = f"event_id,user_id,type,ts,item_id,amount\n\n{row}1,234.50\n{row}1.50,,\n"
    messages = list(read_messages(written(tmp_path, text)))
    good, (bad,) = Decoder(EventRules())(read_of(messages))
    assert good.amount_minor.tolist() == [150], "empty cells at the end say nothing"
    assert (bad.offset, bad.reason) == (0, "not_a_map")
    assert bad.detail.endswith(
        "the message is a text: 'line 3 has 7 cells, the header has 6; put a cell with a comma in "
        f"quotes: {row}1,234.50'"
    )
