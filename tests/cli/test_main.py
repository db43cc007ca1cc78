"""The command as a whole: what it offers, and how it refuses."""

import re
import subprocess
import sys
from typing import get_type_hints
from urllib.parse import urlsplit

import pytest
import redis

from cli.common import guard
from cli.main import app
from tests.cli.running import CLEAN, ROOT, afterglow, right, wrong

COMMANDS = {command.name or command.callback.__name__ for command in app.registered_commands}
HEAVY = {"numpy", "pydantic", "bytewax", "confluent_kafka", "redis", "river", "msgspec"}


def test_help_lists_every_command():
    text = right("--help")
    named = ("demo", "run", "publish", "replay", "profile", "explain", "changes", "export")
    others = ("settings", "verify", "recommend", "experiments", "serve", "doctor")
    assert {*named, *others} == COMMANDS
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", text)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_settings(name):
    text = right(name, "--help")
    assert "--set" in text
    assert "--config" in text


def each_command(typer_app=app, path=()):
    """Every command there is: its words, and what it is made of."""
    for command in typer_app.registered_commands:
        yield (*path, command.name or command.callback.__name__), command.callback
    for group in typer_app.registered_groups:
        yield from each_command(group.typer_instance, (*path, group.typer_instance.info.name))


def bare(text):
    """A text without spaces, line breaks, frames, and what makes a bracket a bracket."""
    return re.sub(r"[\s│\\]", "", text)


@pytest.mark.parametrize(
    ("words", "callback"),
    [pytest.param(*each, id=" ".join(each[0])) for each in each_command()],
)
def test_help_says_all_that_was_written(words, callback):
    shown = bare(right(*words, "--help"))
    for paragraph in callback.__doc__.split("\n\n"):
        assert bare(paragraph) in shown
    hints = get_type_hints(callback, include_extras=True).values()
    for told in (part.help for hint in hints for part in getattr(hint, "__metadata__", ())):
        assert bare(told) in shown


def test_help_loads_nothing_heavy():
    code = "import sys, cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("name", ["run", "publish x.csv", "changes"])
def test_a_command_that_needs_a_broker_says_so(name):
    (line,) = wrong(*name.split())
    assert line.startswith("afterglow: KAFKA_BOOTSTRAP must name the broker")


@pytest.mark.parametrize("name", ["run", "profile ann", "explain ann vip", "export"])
def test_a_command_that_needs_a_store_says_so(name):
    (line,) = wrong(*name.split(), env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert line.startswith("afterglow: REDIS_URL must name the store")


def test_a_broker_that_is_down_is_one_line_that_says_where(tmp_path):
    file = tmp_path / "events.jsonl"
    file.write_text("{}\n")
    (line,) = wrong("publish", file, env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert line.startswith("afterglow: the broker does not answer: ")
    assert line.endswith(". Check KAFKA_BOOTSTRAP and that one runs at 127.0.0.1:1")


NEEDS_BROKER = [
    "publish FILE",
    "changes",
    "verify",
    "catalog show a",
    "catalog publish FILE",
    "run",
]


@pytest.mark.parametrize("name", [*NEEDS_BROKER, "run --workers 2", "serve"])
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("securty.protocol", '"SSL"', 'No such configuration property: "securty.protocol"'),
        ("security.protocol", '"SSLL"', 'Invalid value "SSLL" for configuration property'),
        ("linger.ms", '"x"', "Invalid value for configuration property"),
    ],
)
def test_a_kafka_option_that_cannot_be_is_one_line(tmp_path, name, option, value, said):
    (file := tmp_path / "events.jsonl").write_text("{}\n")
    words = [file if word == "FILE" else word for word in name.split()]
    around = {"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1/0"}
    sets = ("--set", f'kafka.options={{"{option}"={value}}}', "--set", "kafka.catalog=items")
    (line,) = wrong(*words, *sets, env=around)
    assert line.startswith(f"settings: kafka.options.{option}: {said}")


def test_kafka_options_that_do_not_go_together_are_one_line(tmp_path):
    (file := tmp_path / "events.jsonl").write_text("{}\n")
    sets = 'kafka.options={"security.protocol"="SSL","ssl.ca.location"="/not/there.pem"}'
    (line,) = wrong("publish", file, "--set", sets, env={"KAFKA_BOOTSTRAP": "127.0.0.1:1"})
    assert line.startswith("settings: kafka.options: Failed to create producer: ssl.ca.location")


@pytest.mark.parametrize("name", ["profile ann", "explain ann vip", "export"])
def test_a_store_that_is_down_is_one_line(name):
    (line,) = wrong(*name.split(), env={"REDIS_URL": "redis://127.0.0.1:1/0"})
    assert line.startswith("afterglow: no answer from the store: ")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("redis://127.0.0.1:{port}/99", "DB index is out of range"),
        ("redis://ann:wrong@127.0.0.1:{port}/0", "invalid username-password pair or user is "),
    ],
)
def test_what_a_store_answers_is_said_and_not_that_it_is_silent(store_url, place, said):
    url = place.format(port=urlsplit(store_url).port)
    (line,) = wrong("profile", "ann", env={"REDIS_URL": url})
    assert line.startswith(f"afterglow: the store answers, but refuses: {said}")
    assert line.endswith(". Check the user, the password and the database number in REDIS_URL")
    assert ".." not in line
    assert "wrong" not in line


@pytest.mark.parametrize("name", ["demo", "run", "settings", "replay x.csv", "profile ann"])
def test_wrong_settings_are_said_before_anything_else(name):
    lines = wrong(*name.split(), "--set", "rfm.basis=weekly", "--set", "nope=1")
    assert [line.partition(", ")[0] for line in lines] == [
        "settings: rfm.basis: input should be 'decayed'",
        "settings: nope: there is no such setting",
    ]


def test_a_segment_that_means_nothing_is_said_with_its_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[segments.vip]\nenter = "rfm.q == 5"\n')
    lines = wrong("settings", "--config", file)
    assert lines[0].startswith(f"settings: segments ({file}): segment 'vip', enter: there is no")
    assert lines[1:] == ["settings:   rfm.q == 5", "settings:   ^"]


def test_wrong_use_is_no_traceback():
    done = afterglow("profile")
    assert done.code == 2
    assert "Missing argument 'user'" in done.err.replace("USER", "user")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_whoever_reads_may_stop_reading(unbuffered):
    with subprocess.Popen(
        [sys.executable, "-m", "cli.main", "settings"],
        cwd=ROOT,
        env={**CLEAN, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("name", ["profile {}", "explain {} vip", "recommend {}"])
def test_an_argument_that_is_no_utf8_is_said(name, begun_url):
    (line,) = wrong(*name.format("\udcff\udcfe").split(), env={"REDIS_URL": begun_url})
    assert line == "afterglow: arguments must be UTF-8, but '\\udcff\\udcfe' came"


def test_who_closes_the_output_sees_no_traceback():
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m cli.main profile ann >&-"],
        env={**CLEAN, "REDIS_URL": "redis://127.0.0.1:1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("afterglow: no answer from the store")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.ConnectionError("Connection refused"), "no answer from the store: Connection ref"),
        (redis.ResponseError("LOADING"), "the store answers, but refuses: LOADING"),
    ],
)
def test_an_error_of_the_store_is_no_traceback(error, said, capsys):
    def command():
        raise error

    with pytest.raises(SystemExit) as end:
        guard(command)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"afterglow: {said}")
