"""Items from files to the catalogue's topic, and what is wrong with them."""

import gzip
import json

import pytest

from tests.cli.running import afterglow, right, wrong

pytestmark = pytest.mark.servers


@pytest.fixture
def env(broker):
    return {"KAFKA_BOOTSTRAP": broker}


def topic(name):
    return ("--set", f"kafka.catalog={name}")


def test_a_csv_becomes_items(env, tmp_path):
    file = tmp_path / "items.csv.gz"
    file.write_bytes(
        gzip.compress(
            b"item_id,title,price,tags,available\nmug,A mug,9.50,new | blue,yes\ncup,,,,false\n"
        )
    )
    said = right("catalog", "publish", file, *topic("cli-csv"), env=env)
    assert said == "2 items published to cli-csv, 0 bad, 0 failed\n"
    mug, cup = (
        json.loads(right("catalog", "show", name, *topic("cli-csv"), env=env))
        for name in ("mug", "cup")
    )
    assert (mug["title"], mug["price"], mug["tags"]) == ("A mug", "9.50", ["new", "blue"])
    assert (mug["available"], cup["available"], cup["title"]) == (True, False, None)


def test_bad_lines_are_said_and_the_rest_goes_on(env, tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text('{"item_id": "a"}\n\n{"item_id": "b", "price": -1}\n{"title": "c"}\nno\n')
    done = afterglow("catalog", "publish", file, *topic("cli-bad"), env=env)
    assert (done.code, done.out) == (1, "1 items published to cli-bad, 3 bad, 0 failed\n")
    lines = done.err.splitlines()
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in lines] == ["3", "4", "5"]
    assert "$.price: must be a number of at least 0, but -1 came" in lines[0]


def test_a_row_with_more_cells_than_the_header_is_bad(env, tmp_path):
    (file := tmp_path / "items.csv").write_text("item_id,price\nmug,1,234.50\n\ncup,1.50,\n")
    done = afterglow("catalog", "publish", file, *topic("cli-cells"), env=env)
    assert (done.code, done.out) == (1, "1 items published to cli-cells, 1 bad, 0 failed\n")
    said = "line 2 has 3 cells, the header has 2; put a cell with a comma in quotes"
    assert done.err == f"{file}:2: {said}\n"


def test_a_quote_that_is_not_closed_is_said_with_its_line(env, tmp_path):
    (file := tmp_path / "items.csv").write_text('item_id,title\ntv,"17 in\nmug,A mug\ncup,"\n')
    done = afterglow("catalog", "publish", file, *topic("cli-quote"), env=env)
    assert (done.code, done.out) == (0, "1 items published to cli-quote, 0 bad, 0 failed\n")
    assert done.err.startswith(f"warning: {file}: lines 2 to 4 are one row, for a cell in quotes")


def test_a_byte_order_mark_is_no_part_of_the_first_name(env, tmp_path):
    for name, text in (("items.csv", "item_id,title\nmug,A mug\n"), ("i.json", '{"item_id":"a"}')):
        (file := tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        said = right("catalog", "publish", file, *topic("cli-mark"), env=env)
        assert said.startswith("1 items published")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"item_id;title\nmug;A mug\n", "columns must be separated by commas, but semicolons"),
        (b"item_id,title\nmug,Caf\xe9\n", "must be UTF-8, but is not: "),
        (b"", "must begin with a line of column names, but is empty"),
    ],
)
def test_a_csv_of_another_form_is_said(held, said, env, tmp_path):
    (file := tmp_path / "items.csv").write_bytes(held)
    (line,) = wrong("catalog", "publish", file, *topic("cli-form"), env=env)
    assert line.startswith(f"afterglow: {file}: {said}")


def test_words_that_say_neither_yes_nor_no_are_said(env, tmp_path):
    (file := tmp_path / "items.csv").write_text("item_id,available\nmug,maybe\ncup,YES \n")
    done = afterglow("catalog", "publish", file, *topic("cli-truths"), env=env)
    assert (done.code, done.out) == (1, "1 items published to cli-truths, 1 bad, 0 failed\n")
    assert done.err == (
        f"{file}:2: $.available: must be true, 1, yes, false, 0 or no, but 'maybe' came\n"
    )


def test_a_file_without_an_item_fails(env, tmp_path):
    for name, text in (("items.csv", "item_id,title\n"), ("items.jsonl", "\n")):
        (file := tmp_path / name).write_text(text)
        done = afterglow("catalog", "publish", file, *topic("cli-none"), env=env)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"afterglow: {file} holds no item, so there is nothing to publish\n"


def test_only_what_is_there_is_taken_out(env, tmp_path):
    (file := tmp_path / "items.jsonl").write_text('{"item_id": "mug"}\n')
    right("catalog", "publish", file, *topic("cli-out"), env=env)
    assert right("catalog", "remove", "mug", *topic("cli-out"), env=env) == "'mug' is taken out\n"
    for item in ("mug", "cup"):
        done = afterglow("catalog", "remove", item, *topic("cli-out"), env=env)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"the catalogue 'cli-out' says nothing of '{item}': check its id\n"


def test_what_is_no_catalogue_is_said(env, tmp_path):
    (line,) = wrong("catalog", "publish", tmp_path / "none.csv", env=env)
    assert "there is no such file" in line
    (line,) = wrong("catalog", "publish", tmp_path, env=env)
    assert line == f"afterglow: {tmp_path}: must be a file, but is a directory; name a file in it"
    (file := tmp_path / "items.csv").write_text("item,title\n")
    (line,) = wrong("catalog", "publish", file, env=env)
    assert "columns must be item_id and any of title, category" in line
    file.write_text("item_id,title,title\n")
    (line,) = wrong("catalog", "publish", file, env=env)
    assert line.startswith(f"afterglow: {file}: there are 2 columns 'title'; one is needed")
    (file := tmp_path / "items.txt").write_text("")
    (line,) = wrong("catalog", "publish", file, env=env)
    assert "must be .csv or .jsonl" in line
    (line,) = wrong("catalog", "show", "a", *topic(""), env=env)
    assert line == "afterglow: kafka.catalog must name the topic of the catalogue, but is empty"
