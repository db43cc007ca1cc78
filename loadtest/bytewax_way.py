"""Plain RFM as Bytewax's documentation would have it: one item per event, one dict per user.

What a team writes first, and the yardstick beside the engine. It has a process of its own, with
nothing else in its memory for the garbage collector to walk::

    python -m loadtest.bytewax_way WARM FILE BATCH
"""

# mypy: disable-error-code="misc"
# Bytewax is untyped, so its classes are Any to mypy.
from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

User = dict[str, Any]


def measured(warm: Path, file: Path, batch: int) -> float:
    """CPU seconds for one file, in a new process."""
    command = [sys.executable, "-m", __spec__.name, str(warm), str(file), str(batch)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run(warm: Path, file: Path, batch: int) -> float:
    """CPU seconds for one file, after ``warm`` was taken in without being counted."""
    source = _Files(warm, file, batch)
    flow = Dataflow("plain")
    lines = op.input("lines", flow, source)
    events = op.map("parse", lines, msgspec.json.decode)
    keyed = op.key_on("user", events, _user_of)
    op.output("null", op.stateful_map("rfm", keyed, _update), _Null())
    cli_main(flow)
    return source.ended_s - source.started_s


def _user_of(event: dict[str, Any]) -> str:
    user: str = event["user_id"]
    return user


def _update(user: User | None, event: dict[str, Any]) -> tuple[User, User]:
    """Recency, frequency and spend of one user."""
    if user is None:
        user = {"recency": 0, "frequency": 0, "monetary": 0.0}
    if event["type"] == "purchase":
        user["recency"] = max(user["recency"], event["ts"])
        user["frequency"] += 1
        user["monetary"] += event["amount"]
    return user, user


class _Files(FixedPartitionedSource[bytes, None]):
    """Two files; the process's CPU times when the second one began, and when it was through.

    To let go of all users at the end costs half a second more, which no engine has to.
    """

    def __init__(self, warm: Path, file: Path, batch: int) -> None:
        self.warm, self.file, self.batch = warm, file, batch
        self.started_s = self.ended_s = 0.0

    def list_parts(self) -> list[str]:
        """One reader."""
        return ["files"]

    def build_part(self, _step_id: str, _part: str, _resume: None, /) -> _Reader:
        """Open both."""
        return _Reader(self)


class _Reader(StatefulSourcePartition[bytes, None]):
    def __init__(self, source: _Files) -> None:
        self._source = source
        self._warm, self._then = source.warm.open("rb"), source.file.open("rb")

    def next_batch(self) -> Sequence[bytes]:
        lines = list(islice(self._warm, self._source.batch))
        if lines:
            return lines
        if not self._source.started_s:
            self._source.started_s = time.process_time()
        lines = list(islice(self._then, self._source.batch))
        if not lines:
            self._source.ended_s = time.process_time()
            raise StopIteration
        return lines

    def snapshot(self) -> None:
        return

    def close(self) -> None:
        self._warm.close()
        self._then.close()


class _Null(DynamicSink[object]):
    def build(self, _step_id: str, _index: int, _count: int, /) -> _NullPart:
        """Nothing to open."""
        return _NullPart()


class _NullPart(StatelessSinkPartition[object]):
    def write_batch(self, _items: list[object]) -> None:
        """Nothing."""


if __name__ == "__main__":
    print(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
