"""A file as a log: its events dealt round-robin to pretended partitions, for replays.

Nothing here reads a clock, and a record has no timestamp of its own, so a replay of the same file
is the same replay, whenever it runs.

An error must not pass through Bytewax, which prints its own fright before it hands the error on. So
a file that cannot be read to its end is at its end where it breaks, and the source keeps the error
for whoever runs the dataflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from events.batch import Read, Span
from operators.stop import Stop

Payloads = Callable[[], Iterator[bytes]]


class FileSource(FixedPartitionedSource[Read, None]):
    """One log from one file.

    Args:
        name: shown as the topic.
        payloads: opens the file and gives its messages.
        partitions: message i goes to partition ``i % partitions``.
        rows: most messages in one read.
        stop: ends the input before the next read when it is raised.

    Attributes:
        error: what ended the reading before the file's end; None if nothing did.
    """

    def __init__(
        self,
        name: str,
        payloads: Payloads,
        *,
        partitions: int = 1,
        rows: int = 5_000,
        stop: Stop | None = None,
    ) -> None:
        self._name, self._payloads = name, payloads
        self._partitions, self._rows = partitions, rows
        self._stop = stop
        self.error: Exception | None = None

    def list_parts(self) -> list[str]:
        """One reader, however many partitions it pretends."""
        return ["file"]

    def build_part(self, _step_id: str, _part: str, _resume: None, /) -> FileReader:
        """Open the file."""
        return FileReader(self._name, self._readable(), self._partitions, self._rows, self._stop)

    def _readable(self) -> Iterator[bytes]:
        """The messages up to the end, or to what cannot be read."""
        try:
            yield from self._payloads()
        except Exception as error:
            self.error = error


class FileReader(StatefulSourcePartition[Read, None]):
    """Reads one file to its end: a hello, the messages, and a last read that says so."""

    def __init__(
        self,
        name: str,
        payloads: Iterator[bytes],
        partitions: int,
        rows: int,
        stop: Stop | None = None,
    ) -> None:
        self._name, self._payloads = name, payloads
        self._partitions, self._rows = partitions, rows
        self._stop = stop or Stop()
        self._sent = 0
        self._greeted = self._ended = False

    def next_batch(self) -> Sequence[Read]:
        """The next read; ``StopIteration`` after the last."""
        if self._ended or self._stop.requested:
            raise StopIteration
        if not self._greeted:
            self._greeted = True
            return [self._read([], at_end=False)]
        payloads = list(islice(self._payloads, self._rows))
        self._ended = len(payloads) < self._rows
        return [self._read(payloads, at_end=self._ended)]

    def reads(self) -> Iterator[Read]:
        """All reads, for whoever needs no dataflow."""
        while not self._ended:
            yield from self.next_batch()

    def snapshot(self) -> None:
        """Nothing: a replay begins at the beginning."""

    def _read(self, payloads: list[bytes], *, at_end: bool) -> Read:
        before, n = self._sent, len(payloads)
        self._sent += n
        number = np.arange(before, before + n, dtype=np.int64)
        return Read(
            topic=self._name,
            payloads=payloads,
            record_ts_ms=np.full(n, -1, dtype=np.int64),
            partition=(number % self._partitions).astype(np.int32),
            offset=number // self._partitions,
            spans=[
                Span(p, self._count(before, p), self._count(before + n, p), at_end=at_end)
                for p in range(self._partitions)
            ],
            more=not at_end,
        )

    def _count(self, sent: int, partition: int) -> int:
        """How many of the first ``sent`` messages went to a partition."""
        return (sent - partition + self._partitions - 1) // self._partitions
