"""Examples: what models learn from, as columns, and their form in the store.

An example is a snapshot of a user whose outcome is known: when it was taken, what the user looked
like, what was foretold then, and what came of it. It names no user. A snapshot that was only just
taken travels the same way (``SEEN``): clusters and the watch on inputs need no outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.runs import in_order

Bools = NDArray[np.bool_]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

SEEN: Final = 255
"""The task of an example that has no outcome yet."""


@dataclass(slots=True, frozen=True)
class Examples:
    """Some examples, n.

    Attributes:
        task: place of the task in the plan, or ``SEEN``, uint8[n].
        ts_ms: when the snapshot was taken, int64[n].
        y: what came of it, bool[n].
        p: what was foretold then, float32[n]; NaN where nothing was.
        X: all inputs, float32[n, k].
    """

    task: U8
    ts_ms: I64
    y: Bools
    p: F32
    X: F32

    def __len__(self) -> int:
        return len(self.ts_ms)

    @classmethod
    def empty(cls, inputs: int) -> Examples:
        """None of them."""
        return cls(
            np.empty(0, np.uint8),
            np.empty(0, np.int64),
            np.empty(0, np.bool_),
            np.empty(0, np.float32),
            np.empty((0, inputs), np.float32),
        )

    @classmethod
    def joined(cls, parts: Iterable[Examples], inputs: int) -> Examples:
        """All of them in the order they came."""
        held = [part for part in parts if len(part)] or [cls.empty(inputs)]
        columns = [(e.task, e.ts_ms, e.y, e.p, e.X) for e in held]
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def of_task(self, task: int) -> I64:
        """Where those of one task are, in the order of their times, equal ones as they came.

        >>> some = Examples(np.array([1, 0, 1], np.uint8), np.array([9, 8, 7]),
        ...     np.zeros(3, np.bool_), np.zeros(3, np.float32), np.zeros((3, 2), np.float32))
        >>> some.of_task(1).tolist()
        [2, 0]
        """
        own = np.flatnonzero(self.task == task)
        return own[in_order(self.ts_ms[own])]

    def take(self, index: NDArray[np.integer] | Bools) -> Examples:
        """Some of them."""
        return Examples(
            self.task[index], self.ts_ms[index], self.y[index], self.p[index], self.X[index]
        )

    def inputs_at(self, index: I64, places: I64) -> F64:
        """Some inputs of some examples, float64[len(index), len(places)]."""
        out = np.empty((len(index), len(places)))
        _gather(self.X, index, places, out)
        return out

    def pack(self, fingerprint: int) -> bytes:
        """As bytes, with a number that says which plan they are of (``ModelPlan.fingerprint``).

        >>> some = Examples(np.array([0], np.uint8), np.array([7]), np.array([True]),
        ...     np.array([0.5], np.float32), np.ones((1, 2), np.float32))
        >>> again = Examples.unpack(some.pack(9), 9, inputs=2)
        >>> again.ts_ms.tolist(), again.X.tolist()
        ([7], [[1.0, 1.0]])
        >>> len(Examples.unpack(some.pack(9), 8, inputs=2))
        0
        """
        out = np.empty(len(self), dtype=_record(self.X.shape[1]))
        out["task"], out["ts"], out["y"] = self.task, self.ts_ms, self.y
        out["p"], out["x"] = self.p, self.X
        return fingerprint.to_bytes(_MARK, "little") + out.tobytes()

    @classmethod
    def unpack(cls, block: bytes, fingerprint: int, inputs: int) -> Examples:
        """What ``pack`` gave; none of another plan, whose inputs mean something else."""
        if int.from_bytes(block[:_MARK], "little") != fingerprint:
            return cls.empty(inputs)
        held = np.frombuffer(block, dtype=_record(inputs), offset=_MARK)
        return cls(held["task"], held["ts"].astype(np.int64), held["y"], held["p"], held["x"])


_MARK: Final = 4


@compiled
def _gather(X: F32, index: I64, places: I64, out: F64) -> None:
    for i in range(len(index)):
        for j in range(len(places)):
            out[i, j] = X[index[i], places[j]]


def _record(inputs: int) -> np.dtype[np.void]:
    return np.dtype(
        [("task", "u1"), ("y", "?"), ("ts", "<i8"), ("p", "<f4"), ("x", "<f4", (inputs,))]
    )
