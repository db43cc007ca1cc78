"""What the engine says first: whether this start takes longer, and the next ones too."""

import pytest

from events import compiled_place
from tests.cli.running import afterglow


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What a start says of compiled loops that lie in this folder; the store is nowhere."""
    monkeypatch.setattr(compiled_place.tempfile, "tempdir", str(tmp_path / "nowhere"))

    def said(folder):
        env = {
            "KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "REDIS_URL": "redis://127.0.0.1:1",
            "NUMBA_CACHE_DIR": str(folder),
        }
        done = afterglow("run", "--set", "metrics.address=", env=env)
        assert done.code == 1
        first = done.err.splitlines()[0].partition(" ")[2]
        return "" if "engine_started" in first else first

    return said


def test_a_start_that_compiles_says_so(said, tmp_path):
    assert said(tmp_path) == f"level=info event=compiling_loops folder={tmp_path}"
    (tmp_path / compiled_place.kept_in().name / "events_1").mkdir(parents=True)
    (tmp_path / compiled_place.kept_in().name / "events_1" / "scan.nbi").touch()
    assert said(tmp_path) == ""


def test_starts_that_always_will_say_so(said, tmp_path):
    (tmp_path / "file").touch()
    wrong = tmp_path / "file" / "folder"
    assert said(wrong) == f"level=warning event=loops_not_kept folder={wrong}"
