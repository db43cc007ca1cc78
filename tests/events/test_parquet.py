"""Parquet rows are the messages that JSON lines would be; what cannot be is said in words."""

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.row_columns import RowError
from events.rows import read_messages

REQUIRED = {
    "event_id": ["e1", "e2"],
    "user_id": ["ann", "bob"],
    "type": ["purchase", "page_view"],
    "ts": [1_790_000_000_123, 1_790_000_000_456],
}
MOMENT = datetime(2026, 9, 21, 14, 13, 20, 123_456, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    """Write columns; the path."""

    def write(**columns):
        path = tmp_path / "events.parquet"
        pq.write_table(pa.table({**REQUIRED, **columns}), path)
        return path

    return write


def rows(path, columns=None, types=None):
    return [json.loads(message) for message in read_messages(path, columns, types)]


def test_nulls_are_absent_and_unknown_columns_are_left(file):
    found = rows(file(item_id=["mug", None], amount=[None, 2.5], colour=["red", "blue"]))
    assert found[0] == {name: values[0] for name, values in REQUIRED.items()} | {"item_id": "mug"}
    assert found[1] == {name: values[1] for name, values in REQUIRED.items()} | {"amount": 2.5}


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["ann", "bob"]),
        pa.array(["ann", "bob"], pa.large_string()),
        pa.array(["ann", "bob"]).dictionary_encode(),
        pa.array([b"ann", b"bob"]),
        pa.array(["ann", "bob"]).cast(pa.string_view()),
    ],
    ids=["string", "large", "dictionary", "bytes", "view"],
)
def test_texts_come_in_many_forms(file, array):
    assert [row["user_id"] for row in rows(file(user_id=array))] == ["ann", "bob"]


def test_ids_may_be_numbers(file):
    assert [row["user_id"] for row in rows(file(user_id=[7, 8]))] == ["7", "8"]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+05:30"])
def test_times_with_a_zone_are_epoch_milliseconds(file, unit, zone):
    before = datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    exact = pa.array([MOMENT, before], pa.timestamp("us", tz="UTC"))
    array = exact.cast(pa.timestamp(unit, tz="UTC"), safe=False).cast(pa.timestamp(unit, tz=zone))
    found = [row["ts"] for row in rows(file(ts=array))]
    whole_s = unit == "s"  # a file cannot hold more; what a second is cut to is the writer's choice
    assert found[0] == (1_790_000_000_000 if whole_s else 1_790_000_000_123)
    assert found[1] in ((0, -1000) if whole_s else (-1,))


def test_times_may_be_texts_or_floats(file):
    text = ["2026-09-21T14:13:20Z", None]
    assert rows(file(ts=text))[0]["ts"] == text[0]
    assert [row["ts"] for row in rows(file(ts=[1.79e12, 1.5]))] == [1_790_000_000_000, 1.5]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            pa.array([Decimal("19.90"), Decimal("-0.005")], pa.decimal128(12, 3)),
            ["19.900", "-0.005"],
        ),
        (pa.array([Decimal("1e30"), None], pa.decimal256(60, 2)), ["1" + "0" * 30 + ".00", None]),
        (pa.array([19.9, float("nan")]), [19.9, "nan"]),
        (pa.array([20, 5], pa.int8()), [20, 5]),
        (pa.array(["19.90", "x"]), ["19.90", "x"]),
    ],
    ids=["decimal", "large decimal", "float", "int", "text"],
)
def test_amounts_are_exact(file, array, expected):
    assert [row.get("amount") for row in rows(file(amount=array))] == expected


def test_whole_numbers_may_come_as_floats(file):
    found = rows(file(quantity=[2.0, 2.5], value=[float("inf"), -1.25]))
    assert [row["quantity"] for row in found] == [2, 2.5]
    assert isinstance(found[0]["quantity"], int)
    assert [row["value"] for row in found] == ["inf", -1.25]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(
            [{"a": 1, "b": {"c": "x", "d": None}, "e": [1, 2]}, {"a": None, "b": None, "e": None}]
        ),
        pa.array(['{"a": 1, "b": {"c": "x"}, "e": [1, 2]}', "{}"]),
    ],
    ids=["struct", "JSON"],
)
def test_context_is_an_object(file, array):
    found = [row["context"] for row in rows(file(context=array))]
    assert found == [{"a": 1, "b": {"c": "x"}, "e": [1, 2]}, {}]


def test_context_may_be_a_map_and_hold_what_json_has_no_word_for(file):
    array = pa.array([[("a", "1")], None], pa.map_(pa.string(), pa.string()))
    found = rows(file(context=array))
    assert found[0]["context"] == {"a": "1"}
    assert "context" not in found[1]
    inside = pa.array([{"at": MOMENT, "day": MOMENT.date(), "x": float("nan")}, None])
    context = rows(file(context=inside))[0]["context"]
    assert datetime.fromisoformat(context["at"]) == MOMENT
    assert (context["day"], context["x"]) == ("2026-09-21", "nan")


def test_a_text_that_is_no_object_is_left_to_the_engine(file):
    assert [row["context"] for row in rows(file(context=["{", "[1]"]))] == ["{", [1]]


def test_columns_and_types_are_renamed(file):
    path = file(basket=["b1", None])
    found = rows(path, {"order_id": "basket"}, {"page_view": "product_view"})
    assert found[0]["order_id"] == "b1"
    assert [row["type"] for row in found] == ["purchase", "product_view"]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"ts": pa.array([1, 2], pa.timestamp("ms"))}, "'ts', must hold times with a zone"),
        ({"ts": pa.array([1, 2], pa.date32())}, "'ts', must hold times with a zone"),
        ({"user_id": [["a"], ["b"]]}, "'user_id', must hold texts, but holds list<"),
        ({"user_id": [1.5, 2.5]}, "'user_id', must hold texts, but holds double"),
        ({"quantity": [True, False]}, "'quantity', must hold whole numbers, but holds bool"),
        ({"amount": [{"x": 1}, None]}, "'amount', must hold decimals, numbers or texts"),
        ({"context": [1, 2]}, "'context', must hold a struct, a map, or texts"),
    ],
)
def test_a_column_that_can_never_be_right_is_said(file, columns, says):
    with pytest.raises(RowError, match=says) as error:
        rows(file(**columns))
    assert "--map" in str(error.value)


def test_missing_and_doubled_columns_are_said(tmp_path):
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"event_id": ["e"], "who": ["ann"]}), path)
    with pytest.raises(
        RowError, match=r"columns 'user_id', 'type' and 'ts' are needed.*event_id, who"
    ):
        rows(path)
    with pytest.raises(RowError, match="there is no column 'whom'; there are event_id, who"):
        rows(path, {"user_id": "whom"})
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["event_id", "event_id"])
    pq.write_table(twice, path)
    with pytest.raises(RowError, match="there are 2 columns 'event_id'"):
        rows(path)


def test_bytes_that_are_no_text_are_said(file):
    with pytest.raises(RowError, match="must be UTF-8"):
        rows(file(user_id=[b"ann", b"\xff"]))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\xff" * 40 + b"PAR1"]
)
def test_a_file_that_is_no_parquet_is_said(tmp_path, content):
    path = tmp_path / "events.parquet"
    path.write_bytes(content)
    with pytest.raises(RowError, match=r"events\.parquet: is not a Parquet file"):
        rows(path)


def test_compressed_outside_is_said(tmp_path):
    path = tmp_path / "events.parquet.gz"
    path.write_bytes(b"x")
    with pytest.raises(RowError, match="unpack it first"):
        read_messages(path)


def outcome(path):
    """How many messages came, or that it was said why none could."""
    try:
        return len(rows(path))
    except RowError as error:
        return "words" if str(error).startswith(str(path)) else str(error)


def test_damaged_files_give_messages_or_an_error_in_words(tmp_path):
    """Whatever byte is wrong; a file cut short is never taken for a whole one."""
    path, chance = tmp_path / "events.parquet", random.Random(5)
    table = pa.table({name: values * 500 for name, values in REQUIRED.items()})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
    whole = path.read_bytes()
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        outcomes.add(outcome(path))
        path.write_bytes(whole[: chance.randrange(len(whole))])
        with pytest.raises(RowError):
            rows(path)
    assert outcomes == {"words", 1000}


def test_progress_reaches_the_end_of_the_file(file):
    path, told = file(), []
    assert len(list(read_messages(path, on_bytes=told.append))) == 2
    assert told == [path.stat().st_size]


VALUE = {
    "event_id": st.text(min_size=1, max_size=20),
    "user_id": st.text(min_size=1, max_size=20),
    "type": st.sampled_from(["purchase", "page_view"]),
    "ts": st.integers(0, 2**41),
    "item_id": st.none() | st.text(max_size=10),
    "quantity": st.none() | st.integers(0, 10**6),
    "value": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "amount": st.none() | st.decimals(0, 10**6, places=2),
}


@settings(max_examples=60)
@given(st.lists(st.fixed_dictionaries(VALUE), min_size=1, max_size=30))
def test_rows_come_back_as_they_went_in(tmp_path_factory, written):
    """Surrogates aside, which are no text in either form."""
    path = tmp_path_factory.mktemp("rows") / "events.parquet"
    kinds = {"amount": pa.decimal128(12, 2), "quantity": pa.int64(), "value": pa.float64()}
    kinds |= {"ts": pa.timestamp("ms", tz="UTC")}
    fields = [(name, kinds.get(name, pa.string())) for name in VALUE]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    table = [row | {"ts": epoch + timedelta(milliseconds=row["ts"])} for row in written]
    pq.write_table(pa.Table.from_pylist(table, schema=pa.schema(fields)), path)
    for row in written:
        row["amount"] = None if row["amount"] is None else f"{row['amount']:.2f}"
    expected = [{name: v for name, v in row.items() if v is not None} for row in written]
    assert rows(path) == expected
