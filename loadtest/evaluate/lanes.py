"""One, four and eight lanes that learn together through a real store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dataflows.embedded import EmbeddedStore
from dataflows.evaluating import evaluate
from loadtest.evaluate.logs import DAY_MS, Log
from loadtest.evaluate.predictions import Quality, quality, scored
from state.store import Store


def shared(log: Log, lanes: int, step_ms: int = DAY_MS) -> Quality:
    """The quality of what so many lanes said of a log's first task."""
    settings = log.load()
    with TemporaryDirectory() as folder, EmbeddedStore(Path(folder)) as embedded:
        opened: list[Store] = []

        def store() -> Store:
            opened.append(Store(embedded.url, "t", settings.redis.shards))
            return opened[-1]

        run = evaluate(settings, log.name, log.messages(), step_ms, lanes=lanes, store=store)
        for each in opened:
            each.close()
    foretold = run.tasks[0]
    asked = scored(foretold, log.first_scored_day)
    examples = foretold.examples
    return quality(f"{lanes} lanes", examples.p[asked].astype(np.float64), examples.y[asked])


def compared(log: Log, counts: Iterable[int] = (1, 4, 8), step_ms: int = DAY_MS) -> list[Quality]:
    """The same for several numbers of lanes."""
    return [shared(log, lanes, step_ms) for lanes in counts]
