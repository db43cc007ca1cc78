"""What is wrong with this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import Final

from dataflows.doctor.findings import Finding, fault, warning
from dataflows.doctor.machine import Machine, Package, Port

_PYTHON: Final = ((3, 11), (3, 13))
_BASE_BYTES: Final = 256 << 20
"""An engine without users, its loops compiled."""
_BYTES_PER_USER: Final = 1000
_MIB: Final = 1 << 20


def check_imports(machine: Machine) -> Iterator[Finding]:
    """What must be right before anything else can be looked at."""
    low, high = _PYTHON
    if not low <= machine.python < high:
        yield fault(
            "machine.python",
            "this Python cannot run the engine",
            "Python 3.11 or 3.12",
            ".".join(map(str, machine.python)),
            "Make the environment with one of them: make venv PYTHON=python3.12",
        )
    for package in machine.packages:
        yield from _check_package(package)


def check_memory(machine: Machine, users: int) -> Iterator[Finding]:
    """Whether the users of the store find room beside the engine.

    Args:
        machine: to run on.
        users: to be loaded; 0 where an engine has loaded them already.
    """
    needed = _BASE_BYTES + users * _BYTES_PER_USER
    if machine.free_bytes is not None and machine.free_bytes < needed:
        yield fault(
            "machine.memory",
            f"too little memory is free for an engine with {users:,} users",
            f"{needed // _MIB:,} MiB",
            f"{machine.free_bytes // _MIB:,} MiB",
            "Raise the limit of the container or process, or share the users among the workers "
            "of more machines (afterglow run --addresses)",
        )


def check_loops(machine: Machine) -> Iterator[Finding]:
    """Whether compiled loops are kept for the next start."""
    if machine.unkept_loops:
        yield warning(
            "machine.loops",
            "loops are compiled at every start, which takes some 30 s",
            "a folder that can be written to",
            machine.unkept_loops,
            "Set NUMBA_CACHE_DIR to a folder that this user may write to, and that stays",
        )


def check_port(address: str, port: Port) -> Iterator[Finding]:
    """Whether metrics can be served."""
    if port.error:
        yield fault(
            "machine.metrics",
            "metrics cannot be served",
            f"a free port at metrics.address {address}",
            port.error,
            "Set metrics.address to a free host:port, or to an empty text for none",
        )


def _check_package(package: Package) -> Iterator[Finding]:
    install = "Install what constraints.txt names: make venv"
    if package.error:
        yield fault(
            "machine.package",
            f"the module {package.name} does not work here",
            "one that can be imported",
            package.error,
            f"{install}. A compiled module must be built for this platform and this Python",
        )
    elif package.needed and not fits(package.found, package.needed):
        yield fault(
            "machine.package",
            f"the package {package.name} does not fit",
            f"{package.name}{package.needed}",
            package.found or "none",
            install,
        )


def fits(found: str, needed: str) -> bool:
    """Whether a version is one of those asked for; only of plain numbers, as here.

    >>> [fits("1.10", ">=1.9"), fits("0.26.1", ">=0.26,<0.27"), fits("2.0", "==2.1"), fits("", "")]
    [True, True, False, False]
    """
    if not found:
        return False
    for part in filter(None, needed.split(",")):
        match = re.fullmatch(r"\s*(==|>=|<=|<|>|!=)\s*(\S+)\s*", part)
        if match is None:
            continue
        order, sign = _compare(found, match[2]), match[1]
        held = {"==": order == 0, ">=": order >= 0, "<=": order <= 0, "<": order < 0}
        if not (held | {">": order > 0, "!=": order != 0})[sign]:
            return False
    return True


def _compare(one: str, other: str) -> int:
    for a, b in zip_longest(re.findall(r"\d+", one), re.findall(r"\d+", other), fillvalue="0"):
        if int(a) != int(b):
            return 1 if int(a) > int(b) else -1
    return 0
