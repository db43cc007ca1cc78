"""``afterglow replay`` with files that are not as they should be, and outputs that may not be."""

import gzip
import json
import os
import signal
import subprocess
import sys

import pytest

from cli.interrupts import Interrupts
from state.store import Store
from tests.cli.running import CLEAN, ROOT, afterglow, right, until, wrong

START_MS = 1_790_000_000_000
HEADER = "event_id,user_id,type,ts\n"
ROWS = HEADER + "".join(f"e{n},u{n % 7},page_view,{START_MS + n}\n" for n in range(9_000))
CUT = gzip.compress(ROWS.encode(), 1)[:-20_000]


def lines_of(path):
    return path.read_text().splitlines()


@pytest.fixture
def log(tmp_path):
    """Nine thousand good events."""
    (path := tmp_path / "log.csv").write_text(ROWS)
    return path


def messages(path, *changes, count=5):
    """A file of page views, each with something changed."""
    good = [
        {"event_id": f"e{n}", "user_id": "ann", "type": "page_view", "ts": START_MS + n}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(one | dict(changes)) + "\n" for one in good))
    return path


# -- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "held", "maps", "said"),
    [
        ("a.csv", ROWS.encode(), ["--map", "user_id=who"], "there is no column 'who'"),
        ("a.csv", b"user_id,type,ts\n", [], "a column 'event_id' is needed"),
        ("a.csv", b"user_id,ts\n", [], "columns 'event_id' and 'type' are needed"),
        ("a.csv", b"", [], "must begin with a line of column names, but is empty"),
        ("a.csv", ROWS.replace(",", ";").encode(), [], "must be separated by commas"),
        ("a.json", b'[{"event_id":"1"},{}]', [], "must hold one JSON object a line"),
        ("a.jsonl", b'{"id":1,"ts":2}', ["--map", "user_id=who"], "no line has a key 'who'"),
        ("a.txt", b"", [], "must be .csv, .jsonl, .json, .ndjson, perhaps with .gz, or .parquet"),
        ("a.csv", ROWS.encode("utf-16"), [], "must be UTF-8"),
        ("a.csv.gz", b"no gzip", [], "cannot be read to its end"),
    ],
    ids=[
        *("map", "no id", "no two", "empty", "semicolons", "array", "no key", "text", "utf-16"),
        "no gzip",
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(name, held, maps, said, tmp_path, capfd):
    (path := tmp_path / name).write_bytes(held)
    (line,) = wrong("replay", path, *maps)
    assert line.startswith(f"afterglow: {path}: ")
    assert said in line
    assert capfd.readouterr().err == "", "Bytewax has printed its fright"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--type", "buy=purchas"), "--type buy=purchas: the contract has no type 'purchas'; did "),
        (("--type", "buy=purchase", "--type", "buy=click"), "--type buy= must be given once, but"),
        (("--map", "ts=at", "--map", "ts=time"), "--map ts= must be given once, but --map ts=at"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said, log):
    for command in (("replay",), ("models", "evaluate"), ("recommend", "evaluate")):
        (line,) = wrong(*command, log, *options)
        assert line.startswith(f"afterglow: {said}")


def test_of_a_file_that_cannot_be_read_nothing_is_published(tmp_path):
    (path := tmp_path / "a.csv").write_text("user_id,type,ts\nann,click,5\n")
    (line,) = wrong("publish", path, env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert line.startswith(f"afterglow: {path}: a column 'event_id' is needed")


@pytest.mark.servers
def test_a_file_that_breaks_off_is_told_after_the_flow_has_ended(tmp_path, capfd):
    (path := tmp_path / "cut.csv.gz").write_bytes(CUT)
    done = afterglow("replay", path, "--changes", changes := tmp_path / "changes.jsonl")
    assert (done.code, done.out) == (2, "")
    partial, why = done.err.splitlines()
    assert partial == f"afterglow: {changes} holds only what came until then"
    assert why.startswith(f"afterglow: {path}: cannot be read to its end: ")
    assert capfd.readouterr().err == ""


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["unknown", "mistyped"])
def test_a_replay_without_a_good_event_fails_and_says_why(kind, tmp_path):
    path = messages(tmp_path / "log.jsonl", ("type", "veiw"))
    options = ("--type", "view=product_view") if kind == "mistyped" else ()
    done = afterglow("replay", path, *options)
    assert done.code == 1
    *warnings, line, first, hint = done.err.splitlines()
    assert line == (
        f"afterglow: {path} holds no good event: all 5 messages are dead letters: 5 unknown_type. "
        "The first of each (--dead-letters FILE writes all of them):"
    )
    assert first.startswith("  unknown_type, line 1, type: must be one of ")
    assert first.endswith(", but 'veiw' came")
    assert hint == "--type FROM=TO gives a type of the file a name of these"
    assert len(warnings) == (kind == "mistyped")
    assert "dead letters" not in done.out


@pytest.mark.servers
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_first_dead_letter_of_each_reason_is_shown_where_it_stands(partitions, tmp_path):
    path = messages(tmp_path / "log.jsonl")
    good = path.read_text()
    bad = (good.replace('"ann"', "7"), "\n\n", good.replace("user_id", "visitor"), '{"event_id"\n')
    path.write_text(good + "".join(bad))
    said = right("replay", path, "--partitions", partitions, "--dead-letters", tmp_path / "dead")
    assert [line for line in said.splitlines() if line.startswith(("dead", "  "))] == [
        f"dead letters: 5 invalid, 5 missing, 1 malformed. The first of each (all are in "
        f"{tmp_path / 'dead'}):",
        "  invalid, line 6, user_id: must be a text, but 7 came",
        "  missing, line 13, user_id: `user_id` is required, but is absent",
        "  malformed, line 18: Input data was truncated",
    ]
    assert len(lines_of(tmp_path / "dead")) == 11


@pytest.mark.servers
def test_where_a_field_is_missing_the_keys_that_are_there_are_named(tmp_path):
    path = messages(tmp_path / "log.jsonl")
    path.write_text(path.read_text().replace("user_id", "visitor"))
    done = afterglow("replay", path)
    assert done.code == 1
    assert done.err.splitlines()[1:] == [
        "  missing, line 1, user_id: `user_id` is required, but is absent",
        "--map FIELD=KEY takes a missing field from another; that message has event_id, visitor, "
        "type, ts",
    ]


@pytest.mark.servers
@pytest.mark.parametrize("end", [str(START_MS // 1000), "2026-01-01T00:00:00Z"])
def test_an_end_before_all_events_fails_and_says_when_they_were(end, tmp_path):
    path, export = messages(tmp_path / "log.jsonl"), tmp_path / "profiles.jsonl"
    done = afterglow("replay", path, "--until", end, "--export", export)
    assert done.code == 1
    *warnings, why, nothing = done.err.splitlines()
    assert why.startswith(f"afterglow: all 5 events of {path} lie at or after --until, ")
    assert "from 2026-09-21 14:13:20 to 2026-09-21 14:13:20 UTC. Give a later --until" in why
    assert nothing == f"afterglow: nothing is exported to {export}"
    assert not export.exists()
    assert len(warnings) == end.isdigit()
    for warning in warnings:
        assert warning.startswith("warning: --until must be epoch milliseconds, but seconds seem")
        assert warning.endswith("1970-01-21 17:13:20. Multiply --until by 1000, and begin again")


@pytest.mark.parametrize("end", ["soon", "2026-01-01T00:00:00", "²", "9" * 14])
def test_an_end_that_is_no_time_is_refused(end, log):
    (line,) = wrong("replay", log, "--until", end)
    assert line.startswith("afterglow: --until must be epoch milliseconds or RFC 3339")


def test_a_directory_is_none_of_files(tmp_path):
    (line,) = wrong("replay", tmp_path)
    assert line == f"afterglow: {tmp_path}: must be a file, but is a directory; name a file in it"


@pytest.mark.servers
def test_a_file_without_a_message_fails(tmp_path):
    (path := tmp_path / "log.csv").write_text(HEADER)
    done = afterglow("replay", path)
    assert (done.code, "holds no message" in done.err) == (1, True)


@pytest.mark.servers
def test_types_that_never_came_are_said_and_others_are_not(tmp_path):
    path = messages(tmp_path / "log.jsonl", ("type", "view"))
    options = ("--type", "view=product_view", "--type", "cart=add_to_cart")
    done = afterglow("replay", path, *options)
    assert done.code == 0
    (line,) = done.err.splitlines()
    assert line.startswith("warning: --type cart=add_to_cart renamed nothing")


@pytest.mark.servers
def test_the_summary_says_when_the_events_were_and_how_many_could_not_be_checked(tmp_path):
    path = messages(tmp_path / "log.jsonl")
    old = {"event_id": "old", "user_id": "ann", "type": "page_view", "ts": START_MS - 3_600_000}
    with path.open("a") as file:
        file.write((json.dumps(old) + "\n") * 2 + json.dumps(old | {"event_id": "e1"}) + "\n")
    counts, times, *_ = right("replay", path).splitlines()
    assert counts.startswith("8 events of 1 users in ")
    assert "0 duplicates, 3 too old to tell (dedup.window), 0 at or after the end" in counts
    assert times == "events from 2026-09-21 13:13:20 to 2026-09-21 14:13:20 UTC"


@pytest.mark.servers
def test_seconds_for_milliseconds_are_said(tmp_path):
    path = messages(tmp_path / "log.jsonl", ("ts", START_MS // 1000))
    done = afterglow("replay", path)
    assert done.code == 0
    assert "events from 1970-01-21 17:13:20 to 1970-01-21" in done.out
    assert "ts must be epoch milliseconds, but seconds seem to have come" in done.err


@pytest.mark.servers
def test_a_quote_that_is_not_closed_is_said_with_its_line(tmp_path):
    header = HEADER.replace("\n", ",item_id\n")
    row = f"ann,product_view,{START_MS},"
    (path := tmp_path / "log.csv").write_text(
        f'{header}1,{row}tv\n2,{row}"17 in\n3,{row}tv\n4,{row}20"\n5,{row}"of\ntwo"\n'
    )
    commands = (("replay",), ("models", "evaluate"), ("recommend", "evaluate"))
    for command in commands:
        done = afterglow(*command, path)
        assert done.code == 0
        (line,) = done.err.splitlines()
        assert line == (
            f"warning: {path}: lines 3 to 5 are one row, for a cell in quotes goes over them; "
            "there are 2 such rows. If no text of several lines is meant, a quote is not closed in "
            "line 3, and the rows up to the next quote are lost"
        )


# -- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--export", "--changes", "--dead-letters"])
@pytest.mark.parametrize("place", ["none/out.jsonl", "log.csv/out.jsonl"])
def test_outputs_are_looked_at_before_anything_is_done(option, place, log, tmp_path):
    (line,) = wrong("replay", log, option, tmp_path / place)
    assert line.startswith(f"afterglow: {option} must be a file that can be written")


@pytest.mark.parametrize("option", ["--export", "--changes", "--dead-letters"])
@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symbolic", "hard"])
def test_what_is_read_is_never_written(option, link, tmp_path):
    log = messages(tmp_path / "log.jsonl")
    out = log
    if link:
        link(log, out := tmp_path / "out.jsonl")
    (line,) = wrong("replay", log, option, out)
    assert line.startswith(
        f"afterglow: the file to be replayed and {option} must be two files, but {log} and {out}"
    )
    assert len(lines_of(log)) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--export", "a.jsonl", "--changes", "a.jsonl"), "--export and --changes"),
        (("--changes", "a", "--dead-letters", "./a"), "--changes and --dead-letters"),
        (("--export", "a.json", "--changes", "a.cuts.json"), "the cuts beside --export and"),
    ],
)
def test_two_outputs_are_two_files(options, said, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (line,) = wrong("replay", log, *options)
    assert said in line
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("name", ["out.csv", "out", "out.jsonl.gz", "out.xlsx"])
def test_an_export_is_called_what_it_is(name, log, tmp_path):
    (line,) = wrong("replay", log, "--export", tmp_path / name)
    assert line.startswith("afterglow: --export must end in .jsonl, .json, .ndjson (JSON lines) or")
    (line,) = wrong("export", "--out", tmp_path / name)
    assert line.startswith("afterglow: --out must end in .jsonl, .json, .ndjson (JSON lines) or")


@pytest.mark.servers
def test_a_pipe_may_take_several_outputs(log, tmp_path):
    nowhere = ("--changes", "/dev/null", "--dead-letters", "/dev/null")
    assert "9,000 events" in right("replay", log, "--export", tmp_path / "out.ndjson", *nowhere)
    assert len(lines_of(tmp_path / "out.ndjson")) == 7


@pytest.mark.servers
def test_a_full_disk_is_one_line(tmp_path):
    path = messages(tmp_path / "log.jsonl", ("type", "veiw"))
    done = afterglow("replay", path, "--dead-letters", "/dev/full")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith("afterglow: a file cannot be written to its end: [Errno 28]")


# -- signals ------------------------------------------------------------------------------------


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_replay_and_what_is_left_is_said(number, tmp_path):
    rows = (f"e{n},u{n % 7},page_view,{START_MS + n}\n" for n in range(300_000))
    (path := tmp_path / "log.csv").write_text(HEADER + "".join(rows))
    changes, export = tmp_path / "changes.jsonl", tmp_path / "profiles.jsonl"
    outputs = ("--changes", changes, "--export", export)
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "replay", path, *outputs],
        cwd=ROOT,
        env=CLEAN,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until(changes.exists)  # the flow begins
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "")
    cut_short, partial = err.splitlines()
    assert cut_short.startswith("afterglow: interrupted after ")
    assert partial == f"afterglow: {changes} holds only what came until then"
    assert not export.exists()


@pytest.mark.servers
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_export_that_is_interrupted_is_not_there(suffix, log, tmp_path, monkeypatch):
    profiles = Store.profiles

    def interrupted(store, shard):
        yield from profiles(store, shard)
        if shard == 30:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Store, "profiles", interrupted)
    done = afterglow("replay", log, "--export", tmp_path / f"profiles{suffix}")
    assert done.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_the_first_signal_raises_a_flag_and_the_second_ends():
    with Interrupts() as interrupts:
        assert (interrupts.requested, interrupts.code) == (False, 0)
        signal.raise_signal(signal.SIGINT)
        assert (interrupts.requested, interrupts.code) == (True, 130)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
