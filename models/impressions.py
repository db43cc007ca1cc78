"""What was shown and what came of it: the examples that ranking is learned from.

An impression is parked with what was known of item and user when it was shown. When its window has
ended it becomes an example: true if the user has clicked the item by then (or put it into the cart,
or bought it). Both kinds are learned at the end of the window: to learn the true ones early would
make them look more frequent than they are. What is parked lives in memory only: a crash loses the
impressions of one window, which ranking can do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from state.keyed import KeyedTable
from state.queue import TimeQueue
from state.table import Column

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(slots=True, frozen=True)
class Shown:
    """Impressions whose outcome is known, n.

    Attributes:
        X: the inputs of ranking when they were shown, float32[n, k].
        plain: the fused score without ranking, float32[n].
        y: whether the user took it, bool[n].
    """

    X: F32
    plain: F32
    y: Bools

    def __len__(self) -> int:
        return len(self.y)

    def where(self, keep: Bools) -> Shown:
        """Only some of them, bool[n]."""
        return Shown(self.X[keep], self.plain[keep], self.y[keep])

    def pack(self) -> bytes:
        """As bytes.

        >>> some = Shown(np.ones((2, 3), np.float32), np.zeros(2, np.float32),
        ...     np.array([True, False]))
        >>> Shown.unpack(some.pack(), 3).y.tolist(), len(Shown.unpack(some.pack(), 4))
        ([True, False], 0)
        """
        parts = (self.X.shape[1], self.X.tobytes(), self.plain.tobytes(), self.y.tobytes())
        return msgspec.msgpack.encode(parts)

    @classmethod
    def unpack(cls, raw: bytes, inputs: int) -> Shown:
        """What ``pack`` gave; none where there were other inputs."""
        held, x, plain, y = msgspec.msgpack.decode(raw, type=tuple[int, bytes, bytes, bytes])
        if held != inputs:
            return cls.none(inputs)
        return cls(
            np.frombuffer(x, np.float32).reshape(-1, inputs),
            np.frombuffer(plain, np.float32),
            np.frombuffer(y, np.bool_),
        )

    @classmethod
    def none(cls, inputs: int) -> Shown:
        """None of them."""
        return cls(
            np.empty((0, inputs), np.float32), np.empty(0, np.float32), np.empty(0, np.bool_)
        )


class Impressions:
    """Impressions of a lane's users whose outcome is not known yet.

    Args:
        inputs: of ranking.
        window_ms: how long a user has to take what was shown.
        most: how many may wait; more are not taken.
    """

    def __init__(self, inputs: int, window_ms: int, most: int = 200_000) -> None:
        self._inputs, self._window_ms, self._most = inputs, window_ms, most
        self._entries = KeyedTable(
            [
                Column("ends_ms", "i8"),
                Column("taken", "?"),
                Column("plain", "f4"),
                Column("x", "f4", 0.0, (inputs,)),
            ],
            listed=False,
        )
        self._queue = TimeQueue()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._entries)

    def show(self, rows: I64, items: U64, ts_ms: I64, X: F32, plain: F32) -> None:
        """Park impressions: whose, of what, when, its inputs float32[n, k], and its fused score.

        What is shown again before its window has ended begins anew.
        """
        room = max(self._most - len(self), 0)
        self.refused += max(len(rows) - room, 0)
        rows, items, ts_ms = rows[:room], items[:room], ts_ms[:room]
        if not len(rows):
            return
        entries = self._entries
        slots = entries.find_or_add(rows, items)
        entries["ends_ms"][slots], entries["taken"][slots] = ts_ms + self._window_ms, False
        entries["plain"][slots], entries["x"][slots] = plain[:room], X[:room]
        entries.settle()
        self._queue.push(entries["ends_ms"][slots], slots)

    def take(self, rows: I64, items: U64, ts_ms: I64) -> None:
        """Users took items, which may have been shown to them."""
        slots = self._entries.find(rows, items)
        ts_ms, slots = ts_ms[slots >= 0], slots[slots >= 0]
        in_time = ts_ms <= self._entries["ends_ms"][slots]
        self._entries["taken"][slots[in_time]] = True

    def forget(self, rows: I64) -> None:
        """What was shown to users who leave has no outcome."""
        if len(self._entries):
            self._entries.delete(self._entries.of(rows)[0])
            self._entries.settle()

    def end(self, clock_ms: int) -> Shown:
        """The examples of those whose window has ended, in the order of their times."""
        if self._queue.min_ms() >= clock_ms:
            return Shown.none(self._inputs)
        times, slots = self._queue.pop_until(clock_ms - 1)
        entries = self._entries
        slots = slots[entries.in_use(slots) & (entries["ends_ms"][slots] == times)]
        _, first = np.unique(slots, return_index=True)
        slots = slots[np.sort(first)]
        out = Shown(entries["x"][slots], entries["plain"][slots], entries["taken"][slots])
        entries.delete(slots)
        entries.settle()
        return out
