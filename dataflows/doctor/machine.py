"""Facts of this machine: Python, packages, memory, ports. Imports nothing that may be missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import socket
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from events.compiled_place import is_kept, kept_in

NATIVE: Final = (
    *("bytewax", "confluent_kafka", "hiredis", "msgpack", "msgspec", "numba", "numpy", "psutil"),
    *("pydantic", "redis", "structlog"),
)
"""Modules without which nothing runs; most of them are compiled for one platform."""
_PROJECT: Final = "afterglow"
_CGROUP: Final = Path("/sys/fs/cgroup")
_SCRAPE_S: Final = 2.0


@dataclass(slots=True, frozen=True)
class Package:
    """A package that the engine needs.

    Attributes:
        name: as it is installed.
        needed: the version that was asked for, such as ``==0.21.1``; empty for any.
        found: the version that is there; empty for none.
        error: why its module cannot be imported; empty if it can.
    """

    name: str
    needed: str = ""
    found: str = ""
    error: str = ""


@dataclass(slots=True, frozen=True)
class Machine:
    """What the engine would run on.

    Attributes:
        python: version of the interpreter.
        packages: what is needed.
        free_bytes: memory that this process may still take; None if that cannot be told.
        unkept_loops: the folder where compiled loops would be kept, if they cannot be.
    """

    python: tuple[int, int]
    packages: Sequence[Package] = field(default_factory=tuple)
    free_bytes: int | None = None
    unkept_loops: str = ""


def gather_machine(modules: Sequence[str] = NATIVE) -> Machine:
    """Look at this machine."""
    packages = [*_installed(), *map(_importable, modules)]
    unkept = "" if is_kept() else str(kept_in().parent)
    return Machine(sys.version_info[:2], packages, _free_bytes(), unkept)


@dataclass(slots=True, frozen=True)
class Port:
    """An address that metrics are to be served on.

    Attributes:
        error: why they cannot be; empty if they can, or are.
        ours: whether an engine serves them there already.
    """

    error: str = ""
    ours: bool = False


def look_at_port(address: str) -> Port:
    """Whether an address ``host:port`` is free; an empty one needs no port."""
    if not address:
        return Port()
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, int(port)), family=family):
            return Port()
    except (OSError, OverflowError) as error:
        with suppress(OSError, ValueError):
            page = urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=_SCRAPE_S).read()
            if b"afterglow_" in page:
                return Port(ours=True)
        return Port(str(error))


def _installed() -> Iterator[Package]:
    """What the project asks for, beside what is installed."""
    with suppress(importlib.metadata.PackageNotFoundError):
        for text in importlib.metadata.requires(_PROJECT) or ():
            if ";" in text:
                continue
            end = next((i for i, c in enumerate(text) if c in "=<>!~[ "), len(text))
            name, needed = text[:end], text[end:].partition("]")[2] or text[end:].strip()
            try:
                found = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found = ""
            yield Package(name, needed, found)


def _importable(module: str) -> Package:
    try:
        importlib.import_module(module)
    except Exception as error:  # a compiled module may fail in any way
        return Package(module, error=f"{type(error).__name__}: {error}")
    return Package(module)


def _free_bytes() -> int | None:
    """The least that any limit leaves: of the machine, of its container, of this process."""
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None
    left = [int(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError):  # "max" is no limit
        limit = int((_CGROUP / "memory.max").read_text())
        left.append(limit - int((_CGROUP / "memory.current").read_text()))
    with suppress(ImportError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            left.append(soft - int(psutil.Process().memory_info().vms))
    return max(min(left), 0)
