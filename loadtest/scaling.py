"""``python -m loadtest.scaling``: what more workers cost, and how evenly they share the work.

The same log is committed by one worker and by several, each time by a supervised engine over the
embedded broker. Every event is decoded by one worker and applied by another, so what a second one
adds is the exchange of batches, twice the commits, and twice the small batches.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from events.batch import Read, Span
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from events.texts import Texts
from loadtest import broker_way
from loadtest.bench import Files
from loadtest.stream import SHOP, Load, user_key

_BATCH: Final = 5_000
_SHARDS: Final = 64
_EXCHANGES: Final = 50


def main() -> None:
    """Run with each number of workers, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="afterglow-scaling-") as name:
        load = Load(users=chosen.users, zipf=1.2, shares=SHOP)
        files = Files.write(Path(name), load, chosen.events)
        ratios = []
        for _ in range(chosen.rounds):
            spent = {n: _per_million(files, n) for n in (1, chosen.workers)}
            ratios.append(spent[chosen.workers] / spent[1])
            console.print(
                ", ".join(f"{n} workers {s:.2f}" for n, s in spent.items())
                + f" CPU s per million events: ratio {ratios[-1]:.2f}"
            )
        console.print(f"ratio in the median: {np.median(ratios):.2f}")
        _shares(console, files, chosen.workers)
        _exchange(console, files, chosen.workers)


def _per_million(files: Files, workers: int) -> float:
    cost = broker_way.run(files.warm, files.events, _BATCH, workers, lists=False)
    return cost.engine_s / cost.events * 1e6


def _exchange(console: Console, files: Files, workers: int) -> None:
    """What it costs to send events from one process to another."""
    with files.events.open("rb") as lines:
        payloads = [bytes.rstrip(line) for line in islice(lines, _BATCH)]
    n = len(payloads)
    zeros, spans = np.zeros(n, dtype=np.int32), [Span(0, 0, n)]
    read = Read("t", payloads, np.full(n, -1), zeros, np.arange(n), spans)
    batch, _ = Decoder(EventRules())(read)
    mine = shard_of(batch.users, _SHARDS) % workers == 0
    count, size = int(mine.sum()), 0
    begun_s = time.process_time()
    for _ in range(_EXCHANGES):
        sent = pickle.dumps(batch.where(mine), protocol=pickle.HIGHEST_PROTOCOL)
        pickle.loads(sent)
        size = len(sent)
    spent_s = time.process_time() - begun_s
    console.print(
        f"exchange: {spent_s / _EXCHANGES / count * 1e6:.2f} CPU s per million events that change "
        f"process, {size / count:.0f} bytes each"
    )


def _shares(console: Console, files: Files, workers: int) -> None:
    """How users and events spread over lanes."""
    for what, file in (("users", files.warm), ("events", files.events)):
        with file.open("rb") as lines:
            users = [user_key(line).decode() for line in lines]
        if what == "users":
            users = list(dict.fromkeys(users))
        lanes = Counter((shard_of(Texts.of(users), _SHARDS) % workers).tolist())
        least, most = min(lanes.values()), max(lanes.values())
        console.print(f"{what} per lane: {least:,} to {most:,}, {most / least - 1:.1%} apart")


if __name__ == "__main__":
    main()
