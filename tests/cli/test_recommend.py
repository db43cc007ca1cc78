"""What ``afterglow recommend`` prints."""

import pyarrow as pa
import pyarrow.parquet as pq

from cli.recommend import _print
from tests.cli.running import afterglow, wrong


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
