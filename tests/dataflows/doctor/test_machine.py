"""Faults planted in the machine."""

from __future__ import annotations

import resource
import socket
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from dataflows.doctor.machine import Machine, Package, gather_machine, look_at_port
from dataflows.doctor.machine_checks import (
    check_imports,
    check_loops,
    check_memory,
    check_port,
    fits,
)
from operators.metrics import Metrics


def test_a_machine_that_is_well() -> None:
    machine = gather_machine()
    assert list(check_imports(machine)) == []
    assert list(check_memory(machine, 0)) == []
    assert list(check_loops(machine)) == []
    assert len([p for p in machine.packages if p.needed]) > 10


def test_a_native_module_that_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "from broken_hiredis_core import nothing\n"
    (tmp_path / "hiredis.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hiredis", raising=False)
    (found,) = check_imports(gather_machine(("hiredis",)))
    assert (found.check, "make venv" in found.fix) == ("machine.package", True)
    assert "No module named 'broken_hiredis_core'" in found.came


def test_a_package_of_another_version() -> None:
    machine = Machine((3, 11), [Package("bytewax", "==0.21.1", "0.21.0"), Package("river", ">=1")])
    first, second = check_imports(machine)
    assert (first.expected, first.came) == ("bytewax==0.21.1", "0.21.0")
    assert (second.expected, second.came) == ("river>=1", "none")


def test_another_python() -> None:
    (found,) = check_imports(Machine((3, 13)))
    assert (found.check, found.came) == ("machine.python", "3.13")


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
def test_too_little_memory() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    room = psutil.Process().memory_info().vms + (100 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, hard))
    try:
        machine = gather_machine(())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    (found,) = check_memory(machine, 0)
    assert (found.check, "Raise the limit" in found.fix) == ("machine.memory", True)
    (found,) = check_memory(Machine((3, 11), (), 1 << 30), 2_000_000)
    assert (found.expected, found.came) == ("2,163 MiB", "1,024 MiB")


def test_loops_that_nobody_can_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "folder"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    (found,) = check_loops(gather_machine(()))
    assert (found.check, found.level) == ("machine.loops", "warning")
    assert found.came == str(tmp_path / "file" / "folder")


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        taken.settimeout(0.1)
        (found,) = check_port(address, look_at_port(address))
    assert (found.check, "free host:port" in found.fix) == ("machine.metrics", True)
    assert look_at_port("").error == look_at_port("127.0.0.1:0").error == ""


def test_a_port_that_an_engine_holds_already() -> None:
    server = Metrics().serve("127.0.0.1:0")
    try:
        port = look_at_port(f"127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
    assert port.ours
    assert list(check_port("127.0.0.1:9109", port)) == []


_numbers = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda n: ".".join(map(str, n)))
_parts = st.tuples(st.sampled_from(["==", ">=", "<=", "<", ">", "!="]), _numbers).map("".join)


@given(_numbers, st.lists(_parts, max_size=3).map(",".join))
def test_versions_fit_as_installers_think(found: str, needed: str) -> None:
    assert fits(found, needed) == SpecifierSet(needed).contains(found)
