"""What ``afterglow recommend`` prints."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.recommend import _print
from tests.cli.running import afterglow, right, wrong


def test_ids_are_printed_as_they_are_and_are_no_markup(capsys):
    items = [
        {"item_id": "[/red]", "score": 1.5, "source": "reminders", "because": "[/red]"},
        {"item_id": "[bold]b", "score": 0.5, "source": "covisits", "because": "[/red]"},
        {"item_id": "商品", "score": 0.1, "source": "popular", "because": None},
    ]
    _print({"user_id": "[u]", "as_of": 0, "valid_to": 1_000, "items": items})
    said = capsys.readouterr().out
    for text in ("[u], as of 1970-01-01", "outlived", "[/red]", "[bold]b", "商品", "popular"):
        assert text in said
    assert "seen together with [/red]" in said


def test_a_log_without_a_good_event_fails_and_says_why(tmp_path):
    columns = {"event_id": ["1"], "user_id": ["ann"], "type": ["veiw"], "ts": [5]}
    pq.write_table(pa.table(columns), file := tmp_path / "log.parquet")
    done = afterglow("recommend", "evaluate", file)
    assert (done.code, done.out) == (1, "")
    line, first, hint = done.err.splitlines()
    assert line.startswith(
        f"afterglow: {file} holds no good event: all 1 messages are dead letters"
    )
    assert first.startswith("  unknown_type, row 1, type: must be one of ")
    assert hint == "--type FROM=TO gives a type of the file a name of these"


def test_a_log_without_an_interaction_is_said_with_what_was_refused(tmp_path):
    good = '{"event_id":"1","user_id":"ann","type":"search","ts":5}\n'
    (file := tmp_path / "log.jsonl").write_text(good)
    (line,) = wrong("recommend", "evaluate", file)
    assert line.startswith("afterglow: log.jsonl has no interaction to learn from: ")
    assert line.endswith("each needs an item_id")
    file.write_text(good + "x\n")
    line, first = wrong("recommend", "evaluate", file)
    assert line.endswith("an item_id. Dead letters: 1 not_a_map. The first of each:")
    assert first.startswith("  not_a_map, line 2: a JSON object or a MessagePack map is needed")


HOUR_MS = 3_600_000


def log_of(path, *events):
    """A file of events: (type, hour) each, all of one customer and one item."""
    rows = (f"e{n},ann,{name},{hour * HOUR_MS},tv\n" for n, (name, hour) in enumerate(events))
    path.write_text("event_id,user_id,type,ts,item_id\n" + "".join(rows))
    return path


def test_what_of_a_log_was_refused_is_told(tmp_path):
    file = log_of(tmp_path / "log.csv", ("view", 1), ("purchase", 2), ("click", 3), ("view", 4))
    done = afterglow("recommend", "evaluate", file, "--type", "vieew=product_view")
    assert done.code == 0
    lines = done.out.splitlines()
    assert "dead letters: 2 unknown_type, 1 missing. The first of each:" in lines
    (first,) = [line for line in lines if line.startswith("  unknown_type, line 2, type: must be")]
    assert first.endswith(", but 'view' came")
    (line,) = done.err.splitlines()
    assert line.startswith("warning: --type vieew=product_view renamed nothing")


def test_a_rate_of_no_lists_is_not_known(tmp_path):
    file = log_of(tmp_path / "log.csv", ("product_view", 1))
    rows = [line for line in right("recommend", "evaluate", file).splitlines() if "│" in line]
    assert [[cell.strip() for cell in row.split("│")][2:5] for row in rows] == [["0", "–", "–"]] * 2


def test_a_log_that_is_not_in_order_of_time_is_said(tmp_path):
    hours = [("product_view", hour) for hour in (1, 2, 5, 2, 4, 6)]
    done = afterglow("recommend", "evaluate", file := log_of(tmp_path / "log.csv", *hours))
    assert done.code == 0
    assert done.err == (
        f"warning: {file} must be in order of time, but 2 of 6 interactions come after a later "
        "one, by up to 3 h: lists rest on what was to come. Sort it by ts\n"
    )
    assert right("recommend", "evaluate", log_of(file, *sorted(hours)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate",), "evaluate needs a log, but none came: name the file, `afterglow recommend"),
        (("evaluate", "log.csv", "--json"), "--json is for a customer's list, but evaluate came"),
        (("ann", "tv", "--json"), "--json is for the whole list, but the item 'tv' came: give one"),
        (("ann", "--map", "a=b"), "--map and --type are for files, but a customer came: leave"),
        (("ann", "tv", "--type", "a=b"), "--map and --type are for files, but a customer came"),
    ],
)
def test_options_that_do_not_apply_are_refused(words, said):
    (line,) = wrong("recommend", *words)
    assert line.startswith(f"afterglow: {said}")
