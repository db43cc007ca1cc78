"""Files that a command is asked to write: what is wrong with them is said before it begins."""

import os

import pytest

from cli.common import UserError, writable
from tests.cli.running import wrong

COMMANDS = [("export", "--out"), ("demo", "--addresses")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        (".", "is a directory"),
        ("none/file", "there is no directory"),
        ("file/file", "is no directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(command, name, why, tmp_path):
    (tmp_path / "file").touch()
    (line,) = wrong(*command, tmp_path / name)
    assert line.startswith(f"afterglow: {command[1]} must be a file that can be written, but ")
    assert why in line


def test_what_this_user_may_not_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root
    with pytest.raises(UserError, match="this user may not write there"):
        writable(tmp_path / "file", "--out")


def test_a_file_is_neither_made_nor_emptied(tmp_path):
    (kept := tmp_path / "kept").write_text("kept")
    assert writable(kept, "--out") == kept
    assert writable(tmp_path / "fresh", "--out") == tmp_path / "fresh"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "kept"
