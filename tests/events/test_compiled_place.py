"""Compiled loops are kept in one folder, or in a copy of it where it cannot be written to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from events import compiled_place as place

ROOT = Path(__file__).parents[2]
LOOP = """
from events.hashing import hash_texts
from events.compiled_place import is_filled, is_kept, kept_in
was = is_filled()
hash_texts(["a"])
print(kept_in(), is_kept(), was, is_filled())
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """An unfilled folder for what is compiled, and one for temporary files."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "base"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(place.tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "base"


@pytest.fixture
def read_only(base, monkeypatch):
    """The same, but whatever is in the folder, it cannot be written to: not even by root."""
    access = os.access
    monkeypatch.setattr(
        place.os, "access", lambda path, mode: Path(path) != base and access(path, mode)
    )
    return base


def fill(base, content="a loop"):
    file = base / place.kept_in().name / "events_1" / "scan.nbi"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    file.chmod(0o444)
    file.parent.chmod(0o555)
    return file


def test_the_folder_that_is_named_is_taken(base):
    assert place.kept_in().parent == base
    assert place.is_kept()
    assert not place.is_filled()
    fill(base)
    assert place.is_filled()
    assert not place.outdated()


def test_what_was_compiled_from_other_sources_is_outdated(base):
    (base / "0123456789abcdef").mkdir(parents=True)
    (base / "note").mkdir()
    assert place.outdated() == [base / "0123456789abcdef"]


def test_of_a_folder_that_cannot_be_written_to_a_copy_is_made_once(read_only, tmp_path):
    fill(read_only)
    copy = place.kept_in()
    assert copy.parent == tmp_path / "temporary" / f"afterglow-{os.getuid()}"
    assert place.is_kept()
    assert place.is_filled()
    (copy / "events_1" / "scan.nbi").write_text("compiled for this processor")
    assert place.kept_in() == copy
    assert (copy / "events_1" / "scan.nbi").read_text() == "compiled for this processor"
    assert [each.name for each in copy.parent.iterdir()] == [copy.name]


def test_nothing_is_taken_from_a_folder_that_others_may_write_to(read_only, tmp_path):
    home = tmp_path / "temporary" / f"afterglow-{os.getuid()}"
    home.mkdir()
    home.chmod(0o777)
    assert place.kept_in().parent == read_only
    assert not place.is_kept()
    home.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.symlink_to(tmp_path / "elsewhere")
    assert place.kept_in().parent == read_only


def test_without_a_place_for_temporary_files_nothing_is_kept(read_only, monkeypatch, tmp_path):
    monkeypatch.setattr(place.tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert place.kept_in().parent == read_only
    assert not place.is_kept()


def run(**env):
    ran = subprocess.run(
        [sys.executable, "-c", LOOP],
        cwd=ROOT,
        env={**os.environ, **env},
        check=True,
        capture_output=True,
        text=True,
    )
    folder, *facts = ran.stdout.split()
    return Path(folder), [fact == "True" for fact in facts]


def test_a_loop_is_kept_there_and_nowhere_else(tmp_path):
    before = set(ROOT.glob("events/__pycache__/*.nbi"))
    base = tmp_path / "base"
    folder, (kept, was_filled, is_filled) = run(NUMBA_CACHE_DIR=str(base))
    assert (folder.parent, kept, was_filled, is_filled) == (base, True, False, True)

    # a file where the folder should be: nobody can write there
    (tmp_path / "file").touch()
    wrong = tmp_path / "file" / "base"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    folder, facts = run(NUMBA_CACHE_DIR=str(wrong), TMPDIR=str(temporary))
    assert (folder.parent.parent, facts) == (temporary, [True, False, True])
    assert run(NUMBA_CACHE_DIR=str(wrong), TMPDIR=str(temporary)) == (folder, [True, True, True])

    folder.parent.chmod(0o777)
    folder, facts = run(NUMBA_CACHE_DIR=str(wrong), TMPDIR=str(temporary))
    assert (folder.parent, facts) == (wrong, [False, False, False])
    assert set(ROOT.glob("events/__pycache__/*.nbi")) == before
