"""``python -m loadtest.recovery``: how long after kill -9 does a large engine commit again?

The store is filled with users first; then the engine runs with its workers over a real Kafka (or
with ``--embedded`` over the built-in broker) while events come in, and all its workers are killed
again and again. What is measured is the wall time from the kill to the first new commit: noticing,
starting Python anew, finding each other, loading every user, reading, deciding, committing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import numpy as np
import redis
from rich.console import Console

from dataflows.embedded import EmbeddedStore
from loadtest import silence
from loadtest.chaos.world import Scale, opened_on

_BEFORE_MS: Final = 10 * 60 * 1000
_LAST_S: Final = 0.3
"""What was sent before a kill may be committed after it; nothing starts again so soon."""
_SHARDS: Final = 64


def main() -> None:
    """Fill, run, kill, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rate", type=int, default=2_000, help="events per second")
    parser.add_argument("--embedded", action="store_true", help="the broker without transactions")
    chosen = parser.parse_args()
    scale = Scale(chosen.workers, chosen.rate, 50_000, 0 if chosen.embedded else 1)
    spawn = multiprocessing.get_context("spawn")
    with EmbeddedStore() as server:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            start_ms = time.time_ns() // 1_000_000 - _BEFORE_MS
            pool.submit(silence.fill, server.url, chosen.users, start_ms).result()
        _forget_positions(server.url)
        with opened_on(scale, server, ["metrics.address="]) as world:
            # Everybody was filled in without lists of items, so all are written once more.
            behind = "everybody to be written once more"
            world.until(lambda: world.traffic.sent - world.taken() < scale.rate, behind, 600)
            took_s: list[float] = []
            for _ in range(chosen.kills):
                time.sleep(5)
                killed_s = time.monotonic()
                for worker in world.workers():
                    worker.kill()
                time.sleep(_LAST_S)
                world.until_commits()
                took_s.append(time.monotonic() - killed_s)
            verdict = world.finish()
    Console().print(
        f"{chosen.users:,} users, {chosen.workers} workers, {chosen.kills} kills: "
        f"{np.median(took_s):.1f} s to the next commit in the median, {max(took_s):.1f} s at most; "
        f"{verdict.lost} events lost"
    )


def _forget_positions(url: str) -> None:
    """The users are there, and the log begins anew."""
    with redis.Redis.from_url(url) as client:
        for shard in range(_SHARDS):
            client.hdel(f"ag:commit:{{{shard:02d}}}", "positions")


if __name__ == "__main__":
    main()
