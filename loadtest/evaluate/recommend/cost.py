"""What items and lists cost: CPU per interaction and per list, step by step, and bytes per item."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataflows import plans
from dataflows.settings import load
from events.schema import ADD_TO_CART, PRODUCT_VIEW, PURCHASE
from events.texts import Texts
from loadtest.evaluate.recommend.made import batch
from state.groups import group
from state.table import Table

_USERS: Final = 200_000
_ITEMS: Final = 50_000
_KINDS: Final = np.array([PRODUCT_VIEW] * 6 + [ADD_TO_CART, PURCHASE], dtype=np.int8)
_START_MS: Final = 1_700_000_000_000


@dataclass(slots=True, frozen=True)
class Cost:
    """Of one size of batch.

    Attributes:
        rows: events in a batch.
        learn_us: CPU microseconds per interaction: remember, pair, learn.
        gather_us, write_us: per list: find and fuse candidates; make the document.
        lists: lists per interaction.
        item_bytes: memory of the item table, by item.
    """

    rows: int
    learn_us: float
    gather_us: float
    write_us: float
    lists: float
    item_bytes: float


def measured(rows: int, batches: int, warm: int = 10) -> Cost:
    """Run batches of events: users and items by Zipf, half of the items near others."""
    rng = np.random.default_rng(1)
    lane = plans.recommender(load(env={}), keeps=True, shares=False)
    assert lane is not None
    table = Table(lane.columns())
    table.grow(_USERS)
    items = Texts.of([f"item-{item:07d}" for item in range(_ITEMS)])
    users = Texts.of([f"user-{user:08d}" for user in range(_USERS)])
    wanted, active = _zipf(_ITEMS, 1.0), _zipf(_USERS, 0.6)
    spent, events, lists = np.zeros(3), 0, 0
    for step in range(batches + warm):
        near = rng.choice(_ITEMS, rows, p=wanted)
        far = (near * 7919 + rng.integers(0, 30, rows)) % _ITEMS
        chosen = np.where(rng.random(rows) < 0.5, far, near)
        times = _START_MS + 1_000 * step + np.arange(rows) // 20
        some = batch(items.take(chosen), rng.choice(_KINDS, rows), times)
        who = group(rng.choice(_USERS, rows, p=active))
        clock = _laps()
        next(clock)
        lane.observe(table, who, some)
        learn = next(clock)
        asked = lane.due(None)
        now_ms = np.full(len(asked), times[-1])
        found = lane.listing.candidates(table, asked, now_ms)
        gather = next(clock)
        lane.listing.documents(found, users.take(asked), now_ms)
        write = next(clock)
        if step >= warm:
            spent += learn, gather, write
            events, lists = events + rows, lists + len(asked)
    learn_us, gather_us, write_us = 1e6 * spent / (events, lists, lists)
    held = lane.items.bytes_held() / len(lane.items)
    return Cost(rows, learn_us, gather_us, write_us, lists / events, held)


def _zipf(n: int, exponent: float) -> NDArray[np.float64]:
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _laps() -> Iterator[float]:
    """Seconds of CPU since the last time."""
    last = time.process_time()
    for _ in count():
        now = time.process_time()
        yield now - last
        last = now
