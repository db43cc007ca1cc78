"""A seeded shop that publishes events: the input of the demo, the load test and many tests.

Three parts, each in its own file: visits are simulated (``shop_sessions``), written as messages
(``shop_messages``), and here laid on a clock and soiled. Visits decide only the *order* of events
and how late each comes; event ``k`` reaches the log at ``start_ms + k / rate``, or, for a live
run, within the interval that ends at the caller's ``now_ms``. Its event time lies its delay before
that. A retrying producer sends some messages twice, byte for byte, and a careless one sends broken
ones; the shop knows which, so that a test can hold the engine's counts against the truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.shop_habits import Habits
from events.shop_messages import DAMAGES, Messages, user_id
from events.shop_sessions import STEP, Simulation, Steps

__all__ = ["BROKEN", "DAMAGES", "DUPLICATE", "GOOD", "Habits", "Shop", "ShopBlock"]

I8 = NDArray[np.int8]
I64 = NDArray[np.int64]

GOOD: Final = 0
DUPLICATE: Final = 1
BROKEN: Final = 2

_SENT: Final = np.dtype(
    [("step", STEP), ("kind", "i1"), ("damage", "i1"), ("copy_of", "i4"), ("follows", "i4")]
)
"""A step as sent; ``copy_of``: sent so many messages ago; ``follows``: its order began as many."""

_MEMORY: Final = 1_024
_FARTHEST_COPY: Final = 32


@dataclass(slots=True, frozen=True)
class ShopBlock:
    """Messages in log order, and the truth about each.

    Attributes:
        payloads: message values, n.
        users: the user of each, the Kafka key, n; what was meant where the message is broken.
        log_ms: when each reached the log, int64[n], never falling.
        kind: ``GOOD``, ``DUPLICATE`` or ``BROKEN``, int8[n].
        damage: index into ``DAMAGES`` of the broken ones, else -1, int8[n].
    """

    payloads: list[bytes]
    users: list[str]
    log_ms: I64
    kind: I8
    damage: I8

    def __len__(self) -> int:
        return len(self.payloads)


class Shop:
    """Publishes an endless, repeatable stream of events.

    The same seed, habits and clock give the same bytes, in blocks of any size. Not a model of any
    real shop's numbers: proportions are plausible, nothing is fitted.

    Args:
        seed: of all chance.
        start_ms: when the first event reaches the log, epoch ms UTC.
        habits: how many users and items, how fast, how late; see ``Habits``.
        duplicate_share, broken_share: share of messages sent twice, or damaged.
        packed: MessagePack instead of JSON.

    >>> shop = Shop(seed=7, start_ms=1_790_000_000_000, habits=Habits(users=50))
    >>> print(shop.payloads(2)[1].decode())  # doctest: +ELLIPSIS
    {"event_id":"7-1","user_id":"u0000...","type":"...","source":"...","device":...
    >>> block = shop.block(10_000)
    >>> bool((block.kind == DUPLICATE).mean() < 0.03)
    True
    """

    def __init__(
        self,
        seed: int,
        start_ms: int,
        habits: Habits | None = None,
        *,
        duplicate_share: float = 0.01,
        broken_share: float = 0.005,
        packed: bool = False,
    ) -> None:
        self.habits = habits or Habits()
        visits, soiling = np.random.SeedSequence(seed).spawn(2)
        self._rng = np.random.default_rng(soiling)
        self._visits = Simulation(np.random.default_rng(visits), self.habits)
        self._shares = duplicate_share, broken_share
        self._messages = Messages(
            f"{seed}-", self._visits.country, self.habits.items, packed=packed
        )
        self._waiting = np.empty(0, dtype=_SENT)
        self._sent = 0
        self._start_ms = start_ms
        self._recent = [b""] * _MEMORY
        self._recent_ms = np.full(_MEMORY, start_ms, dtype=np.int64)

    def payloads(self, n: int, now_ms: int | None = None) -> list[bytes]:
        """The next ``n`` message values; see ``block``."""
        return self.block(n, now_ms).payloads

    def block(self, n: int, now_ms: int | None = None) -> ShopBlock:
        """The next ``n`` messages with the truth about them.

        Args:
            n: how many.
            now_ms: the caller's clock, for a live run: the block's events are spread up to it.
                Without it the shop's own clock runs on by ``n / rate``. Give it always or never.
        """
        sent = self._take(n)
        log_ms = self._clock(n, now_ms)
        known_ms = np.concatenate([self._recent_ms, log_ms])
        place = np.arange(_MEMORY, _MEMORY + n)
        steps = sent["step"]
        ts_ms = known_ms[place - sent["follows"]] - steps["delay_ms"].astype(np.int64)
        payloads = self._write(sent, steps, np.maximum(ts_ms, 0))
        self._recent_ms = known_ms[n:]
        self._sent += n
        users = list(map(user_id, steps["user"].tolist()))
        return ShopBlock(payloads, users, log_ms, sent["kind"].copy(), sent["damage"].copy())

    def _write(self, sent: Steps, steps: Steps, ts_ms: I64) -> list[bytes]:
        serial = self._sent + np.arange(len(sent))
        payloads = self._messages.write(steps, serial, ts_ms) if len(sent) else []
        broken = np.flatnonzero(sent["kind"] == BROKEN)
        damaged = self._messages.write_broken(
            steps[broken], serial[broken], ts_ms[broken], sent["damage"][broken]
        )
        for i, payload in zip(broken.tolist(), damaged, strict=True):
            payloads[i] = payload
        known = self._recent + payloads
        for i in np.flatnonzero(sent["kind"] == DUPLICATE).tolist():
            known[_MEMORY + i] = known[_MEMORY + i - int(sent["copy_of"][i])]
        self._recent = known[-_MEMORY:]
        return known[_MEMORY:]

    def _clock(self, n: int, now_ms: int | None) -> I64:
        """When each of the next ``n`` messages reaches the log."""
        each_ms = 1000 / self.habits.rate_per_s
        if now_ms is None:
            return self._start_ms + ((self._sent + np.arange(n)) * each_ms).astype(np.int64)
        last = int(self._recent_ms[-1])
        begin = now_ms - n * each_ms
        spread = np.linspace(begin, now_ms, n + 1)[1:].astype(np.int64)
        return np.maximum(spread, min(last, now_ms) if self._sent else 0)

    def _take(self, n: int) -> Steps:
        parts, have = [self._waiting], len(self._waiting)
        while have < n:
            parts.append(self._soil(self._visits.next_steps()))
            have += len(parts[-1])
        held = np.concatenate(parts) if len(parts) > 1 else self._waiting
        self._waiting = held[n:]
        return held[:n]

    def _soil(self, steps: Steps) -> Steps:
        """Put duplicates and broken messages between the steps of one simulated block."""
        rng, n = self._rng, len(steps)
        twice = np.flatnonzero(rng.random(n) < self._shares[0])
        model = np.flatnonzero(rng.random(n) < self._shares[1])
        lag = rng.integers(1, _FARTHEST_COPY + 1, len(twice))
        source = np.concatenate([np.arange(n), twice, model])
        key = np.concatenate([np.arange(n), np.minimum(twice + lag, n) - 0.5, model - 0.3])
        order = np.argsort(key, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        out = np.zeros(len(order), dtype=_SENT)
        out["step"] = steps[source[order]]
        out["damage"] = -1
        copies, broken = place[n : n + len(twice)], place[n + len(twice) :]
        out["kind"][copies] = DUPLICATE
        out["copy_of"][copies] = copies - place[twice]
        out["kind"][broken] = BROKEN
        out["damage"][broken] = rng.integers(0, len(DAMAGES), len(broken))
        originals = np.arange(n)
        out["follows"][place[:n]] = place[:n] - place[originals - steps["line"]]
        return out
