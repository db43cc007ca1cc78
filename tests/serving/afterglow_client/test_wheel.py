"""The client as it ships: a wheel built from its own folder, used without the engine."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.serving.afterglow_client.stores import fill

ROOT = Path(__file__).parents[3]
SERVING = ROOT / "serving"

USE = """
import sys
import afterglow_client, afterglow_client.changes
assert afterglow_client.__file__.startswith(sys.argv[2]), afterglow_client.__file__
with afterglow_client.Reader(sys.argv[1]) as reader:
    print(*reader.segments(sys.argv[3]))
engine = {"events", "state", "models", "operators", "dataflows", "cli", "serving", "loadtest"}
assert not engine & {name.partition(".")[0] for name in sys.modules}
assert "numpy" not in sys.modules
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    source.mkdir()
    shutil.copy(SERVING / "pyproject.toml", source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SERVING / "afterglow_client", source / "afterglow_client", ignore=ignored)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        str(source),
        "-w",
        str(home),
    ]
    built = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if "setuptools" in built.stderr and "No matching distribution" in built.stderr:
        pytest.skip("building a wheel needs setuptools from the package registry")
    assert built.returncode == 0, built.stderr
    (found,) = home.glob("*.whl")
    return found


def test_it_holds_the_client_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {path.name for path in (SERVING / "afterglow_client").glob("*.py")}
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"afterglow_client", "afterglow_client-0.1.0.dist-info"}
    assert {n.partition("/")[2] for n in names if n.startswith("afterglow_client/")} == {
        *modules,
        "py.typed",
        "README.md",
    }


@pytest.mark.servers
def test_it_works_without_the_engine(wheel, store_url, tmp_path):
    filled = fill(store_url, users=20, events=300)
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    user = next(user for user, document in filled.profiles.items() if document["segments"])
    where = str(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-P", "-c", USE, store_url, where, user],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_it_needs_what_the_engine_installs_too():
    """One ``pip install -e .`` gives both."""

    def names(wanted):
        return {part.split(">")[0].split("=")[0].split("[")[0] for part in wanted}

    client = tomllib.loads((SERVING / "pyproject.toml").read_text())["project"]
    engine = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*client["dependencies"], *client["optional-dependencies"]["consumer"]]
    assert names(wanted) <= names(engine["dependencies"])
    assert names(client["dependencies"]) == {"msgspec", "redis"}
