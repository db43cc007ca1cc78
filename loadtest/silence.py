"""``python -m loadtest.silence``: what many users cost while nothing happens.

Bytes per user in the engine and in the store, the time a new engine needs to load them, and the
CPU of a second without events: the empty reads that a quiet source sends, the timers they fire,
the commits they lead to. The clock is simulated, so seconds of silence pass as fast as they can be
worked. Filling and loading are processes of their own, so that memory is what that work holds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

import numpy as np
import psutil  # type: ignore[import-untyped]
import redis
from rich.console import Console

from dataflows import plans
from dataflows.embedded import EmbeddedStore
from dataflows.engine import prepare, settle_memory
from dataflows.settings import load
from events.batch import Read, Span
from events.decode import Decoder
from loadtest.inside import EVERYTHING, open_lane
from loadtest.stream import SHOP, Load
from operators.file_source import FileReader
from operators.source import SourceSpec
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store

_HOUR_MS: Final = 3_600_000
START_MS: Final = 497_000 * _HOUR_MS + _HOUR_MS // 6
"""When the first event happens: ten minutes past a full hour."""

_TICK_MS: Final = round(1_000 * SourceSpec().tick_s)
_TICKS: Final = 1_000 // _TICK_MS
_HEARTBEAT_TICKS: Final = 5 * _TICKS
_QUIET_S: Final = 20
_BATCH: Final = 5_000


@dataclass(slots=True, frozen=True)
class Held:
    """What one process held and spent.

    Attributes:
        users: how many it held.
        own_bytes: resident memory beyond that before it had any, but for pages of files: how much
            of a library the kernel maps says nothing of users.
        table_bytes, ids_bytes: of the lane's columns; of the event ids against duplicates.
        seconds: wall time until they were there.
        silence_s: CPU seconds of each second of silence.
        hour_s: the same around a full hour, when scores are looked at again.
    """

    users: int
    own_bytes: int
    table_bytes: int
    ids_bytes: int
    seconds: float
    silence_s: list[float]
    hour_s: list[float]


def fill(url: str, users: int, start_ms: int = START_MS) -> Held:
    """Take in two events for each user, the second one's user drawn at random."""
    store, lane, checkpoint = _open(url)
    before = _own_bytes()
    start_s = time.monotonic()
    checkpoint.open()
    uniform = Load(users=users, zipf=0.0, shares=SHOP)
    lines = chain(uniform.before(start_ms), uniform.lines(users, start_ms))
    decoder = Decoder(plans.event_rules(load(env={})))
    for read in reads(lines):
        batch, _letters = decoder(read)
        lane.apply(batch)
        store.outbox.trim([(done.shard, done.seq) for done in checkpoint.commit()])  # as published
    return _held(lane, before, start_s, [], [])


def reload(url: str, quiet_s: int) -> Held:
    """Load everything from the store, then let nothing happen."""
    _store, lane, checkpoint = _open(url)
    before = _own_bytes()
    start_s = time.monotonic()
    checkpoint.open()
    settle_memory()
    held = _held(lane, before, start_s, [], [])
    prepare(lane).join()  # which the engine does beside its work
    silence = Silence(lane, checkpoint)
    now_ms = lane.clock.now_ms + 10_000
    quiet = [silence.second(now_ms + 1_000 * s) for s in range(quiet_s)]
    hour_ms = (now_ms // _HOUR_MS + 1) * _HOUR_MS - 1_000
    around = [silence.second(hour_ms + 1_000 * s) for s in range(quiet_s)]
    return replace(held, silence_s=quiet, hour_s=around)


class Silence:
    """Empty reads, as a source that has read everything sends them."""

    def __init__(self, lane: Lane, checkpoint: Checkpoint) -> None:
        self._lane, self._checkpoint = lane, checkpoint
        self._decoder = Decoder(plans.event_rules(load(env={})))
        self._at = lane.positions.of(lane.shards[0]).get(0, 0)
        self._ticks = 0

    def second(self, wall_ms: int) -> float:
        """CPU seconds of one second of silence that begins at ``wall_ms``."""
        start_s = time.process_time()
        for tick in range(_TICKS):
            span = Span(0, self._at, self._at, at_end=True)
            batch, _letters = self._decoder(empty(span))
            self._lane.apply(batch, wall_ms + tick * _TICK_MS)
            self._ticks += 1
            self._checkpoint.commit(heartbeat=self._ticks % _HEARTBEAT_TICKS == 0)
        return time.process_time() - start_s


def _open(url: str) -> tuple[Store, Lane, Checkpoint]:
    store, lane = Store(url), open_lane(EVERYTHING)
    return store, lane, Checkpoint(lane, store)


def _held(
    lane: Lane, before: int, start_s: float, silence_s: list[float], hour_s: list[float]
) -> Held:
    return Held(
        users=lane.table.size,
        own_bytes=_own_bytes() - before,
        table_bytes=lane.table.bytes_held(),
        ids_bytes=lane.dedup.bytes_held(),
        seconds=time.monotonic() - start_s,
        silence_s=silence_s,
        hour_s=hour_s,
    )


def reads(lines: Iterable[bytes]) -> Iterable[Read]:
    """Messages as a source reads them."""
    reader = FileReader("load", iter(lines), 1, _BATCH)
    while True:
        try:
            yield from reader.next_batch()
        except StopIteration:
            return


def empty(span: Span) -> Read:
    """A read that found nothing."""
    none = np.empty(0, dtype=np.int64)
    return Read("load", [], none, none.astype(np.int32), none, [span])


def _own_bytes() -> int:
    held = psutil.Process(os.getpid()).memory_info()
    return int(held.rss - held.shared)


def main() -> None:
    """Fill, load, wait, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--quiet", type=int, default=_QUIET_S, help="seconds of silence")
    chosen = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with (
        EmbeddedStore() as embedded,
        ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool,
        redis.Redis.from_url(embedded.url) as client,
    ):
        empty = int(client.info("memory")["used_memory"])
        filled = pool.submit(fill, embedded.url, chosen.users).result()
        stored = int(client.info("memory")["used_memory"]) - empty
        loaded = pool.submit(reload, embedded.url, chosen.quiet).result()
    Console().print(_text(filled, loaded, stored))


def _text(filled: Held, loaded: Held, stored: int) -> str:
    lines = [f"{filled.users:,} users, two events each"]
    for name, held in (("filled", filled), ("loaded", loaded)):
        lines.append(
            f"engine, {name}: {held.own_bytes / held.users:,.0f} B of memory per user, of which "
            f"columns {held.table_bytes / held.users:,.0f} B and event ids "
            f"{held.ids_bytes / held.users:,.0f} B; after {held.seconds:.1f} s"
        )
    lines.append(f"store: {stored / filled.users:,.0f} B per user")
    for name, seconds in (("quiet", loaded.silence_s), ("around the hour", loaded.hour_s)):
        spent_ms = np.array(seconds) * 1000
        lines.append(
            f"a second of silence, {name}: {np.median(spent_ms):.0f} ms of CPU in the median, "
            f"{spent_ms.max():.0f} ms at most"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
