"""The file in which a demo says where its servers are, for a shell to read."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cli.common import UserError, writable

_LINE: Final = re.compile(r"export (?:KAFKA_BOOTSTRAP|REDIS_URL)=\S*?([\w.]+):(\d+)\S*")


def lines(servers: Mapping[str, str]) -> str:
    """What stands in the file."""
    return "".join(f"export {name}={value}\n" for name, value in servers.items())


def cleared(file: Path) -> Path:
    """The file, out of the way if a demo that is over has left it.

    Raises:
        UserError: it is something else, or of a demo that still runs.
    """
    writable(file, "--addresses")
    if not file.exists():
        return file
    found = [_LINE.fullmatch(line) for line in file.read_text(errors="replace").splitlines()]
    places = [(match[1], int(match[2])) for match in found if match]
    if not found or len(places) < len(found):
        raise UserError(
            f"--addresses must be a new file, or one that a demo has written, but {file} holds "
            "something else, which would be lost. Name another"
        )
    if any(map(_answers, places)):
        raise UserError(
            f"--addresses must be a file that no demo is using, but the servers that {file} names "
            "still answer. Name another, or end that demo"
        )
    file.unlink()
    return file


def _answers(place: tuple[str, int]) -> bool:
    with suppress(OSError), socket.create_connection(place, timeout=1):
        return True
    return False
