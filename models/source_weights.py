"""What each source of candidates is worth, learned from what users went on to.

The settings say how much each source says for an item. But in one shop people come back to what
they had, in another all want the same, and the best weights differ a hundredfold. So for some of
the interactions the list is made that the user might have had just before, and the weights move
such that what came stands higher in it: a conditional logit over the candidates (McFadden, 1974),
by gradient steps of Adagrad (Duchi, Hazan and Singer, JMLR 2011) in the logarithms of the weights,
so that none becomes negative and a source that is off stays off.

Weights that were learned are in force only while they have put what came higher, by the mean of one
over its place in the latest lists, than those of the settings, so lists are never worse for them.
While examples are few they must have done so beyond doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import allocating
from models.candidates import UNRANKED, Candidates
from models.item_plan import SOURCES

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_RATE: Final = 0.4
_FADES: Final = 1.0 - 1.0 / 2_000
"""Of an example, by each that comes after it, where the two orders are compared."""
_LEAST: Final = 500
"""Examples before learned weights may be in force for being better at all."""
_SURELY: Final = 50
"""And before they may for being better beyond doubt: by so many standard errors."""
_ERRORS: Final = 4.0
_LOWEST: Final = -12.0
"""Logarithm of the smallest weight, so that no source is lost for ever."""
_HIGHEST: Final = 6.0


@dataclass(slots=True, frozen=True)
class Sought:
    """What came, n times, and the candidates that it was among.

    Attributes:
        ranks: of k candidates by source, first those of the one that came, uint8[n, k, sources];
            ``UNRANKED`` by all sources where there are fewer.
        learned, plain: one over its place by the weights that had been learned by then and by
            those of the settings, 0 where it came too late for a list, float64[n].
    """

    ranks: U8
    learned: F64
    plain: F64

    def __len__(self) -> int:
        return len(self.ranks)

    def pack(self) -> bytes:
        """As bytes.

        >>> some = Sought(np.zeros((2, 3, 10), np.uint8), np.ones(2), np.zeros(2))
        >>> again = Sought.unpack(some.pack())
        >>> again.ranks.shape, again.learned.tolist(), again.plain.tolist()
        ((2, 3, 10), [1.0, 1.0], [0.0, 0.0])
        """
        parts = self.ranks.shape, self.ranks.tobytes(), self.learned.tobytes(), self.plain.tobytes()
        return msgspec.msgpack.encode(parts)

    @classmethod
    def unpack(cls, raw: bytes) -> Sought:
        """What ``pack`` gave; none where there were other sources."""
        parts = msgspec.msgpack.decode(raw, type=tuple[tuple[int, int, int], bytes, bytes, bytes])
        shape, ranks, learned, plain = parts
        if shape[2] != len(SOURCES):
            return cls(np.empty((0, 0, len(SOURCES)), np.uint8), np.empty(0), np.empty(0))
        return cls(
            np.frombuffer(ranks, np.uint8).reshape(shape),
            np.frombuffer(learned),
            np.frombuffer(plain),
        )


class SourceWeights:
    """The weights of the settings, the learned ones, and which are in force.

    Args:
        settings: weight of each source, float64[sources]; one that is 0 stays so.
        offset: what is added to ranks before their reciprocals are fused.
        length: of lists; what stands further back counts as not there.

    Attributes:
        learned: examples that were learned.
        in_force: whether learned weights are.

    >>> weights = SourceWeights(np.full(len(SOURCES), 0.5), offset=0.5, length=20)
    >>> weights.current[0], weights.in_force
    (np.float64(0.5), False)
    """

    def __init__(self, settings: F64, offset: float, length: int) -> None:
        self._settings, self._offset, self._length = settings.copy(), offset, length
        self._is_on = settings > 0.0
        self._says = np.zeros(UNRANKED + 1)
        self._says[:UNRANKED] = 1.0 / (offset + np.arange(UNRANKED) + 1.0)
        self._reset()

    def _reset(self) -> None:
        logs = np.log(np.where(self._is_on, self._settings, 1.0))
        self._logs = np.clip(logs, _LOWEST, _HIGHEST)
        self._squares = np.zeros(len(self._settings))
        self._sums = np.zeros(4)
        self.learned = 0

    @property
    def everything(self) -> F64:
        """A weight of 1 for each source that is on: candidates of all of them, float64[sources]."""
        return self._is_on.astype(np.float64)

    @property
    def in_force(self) -> bool:
        """Whether learned weights have been the better ones lately."""
        if self.learned < _SURELY:
            return False
        count, learned, plain, squares = self._sums.tolist()
        better = (learned - plain) / count
        if self.learned >= _LEAST:
            return bool(better > 0.0)
        variance = max(squares / count - better**2, 0.0)
        return bool(better > _ERRORS * np.sqrt(variance / count))

    @property
    def current(self) -> F64:
        """The weights in force, float64[sources]; learned ones add up to what those set do."""
        return self._scaled() if self.in_force else self._settings

    def seek(self, lists: Candidates, came: I64) -> Sought:
        """Look for what came in lists that were made with ``everything``.

        Args:
            lists: of n users.
            came: row of the item that each went on to, int64[n].

        Returns:
            The examples of those lists that hold it.
        """
        place = (lists.item == came[:, None]).argmax(axis=1)
        held = np.flatnonzero((came >= 0) & (lists.item[np.arange(len(came)), place] == came))
        ranks, place = lists.ranks[held], place[held]
        at = np.arange(len(held))
        ranks[at, place], ranks[:, 0] = ranks[:, 0].copy(), ranks[at, place]
        return Sought(
            ranks, self._reached(ranks, self._scaled()), self._reached(ranks, self._settings)
        )

    def learn(self, some: Sought) -> None:
        """Learn examples in their order."""
        if not len(some):
            return
        _learn(some.ranks, self._says, self._is_on, self._logs, self._squares)
        fades = _FADES ** np.arange(len(some) - 1, -1, -1)
        self._sums *= _FADES ** len(some)
        squares = fades @ (some.learned - some.plain) ** 2
        self._sums += fades.sum(), fades @ some.learned, fades @ some.plain, squares
        self.learned += len(some)

    def quality(self) -> dict[str, float | None]:
        """How well both orders do on the latest examples, and the weights in force."""
        count, learned, plain, _ = self._sums.tolist()
        weights = zip(SOURCES, self.current.tolist(), strict=True)
        return {
            "examples": float(self.learned),
            "mrr": learned / count if count else None,
            "mrr_settings": plain / count if count else None,
            "in_force": float(self.in_force),
            **{f"weight_{name}": weight for name, weight in weights},
        }

    def to_state(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sources": list(SOURCES),
            "settings": self._settings.tolist(),
            "offset": self._offset,
            "logs": self._logs.tolist(),
            "squares": self._squares.tolist(),
            "sums": self._sums.tolist(),
            "learned": self.learned,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``to_state`` gave, unless it was learned from other settings."""
        now = list(SOURCES), self._settings.tolist(), self._offset
        if (state["sources"], state["settings"], state["offset"]) != now:
            return
        self._logs, self._squares = np.array(state["logs"]), np.array(state["squares"])
        self._sums, self.learned = np.array(state["sums"]), state["learned"]
        if len(self._sums) == 3:  # a former version: differences are 1 at most
            self._sums = np.append(self._sums, self._sums[0])

    def _scaled(self) -> F64:
        weights = np.where(self._is_on, np.exp(self._logs), 0.0)
        total = weights.sum()
        out: F64 = weights * (self._settings.sum() / total) if total > 0.0 else weights
        return out

    def _reached(self, ranks: U8, weights: F64) -> F64:
        """One over the place of the first of some candidates, if that is in a list; float64[n]."""
        scores = self._says[ranks] @ weights
        place = np.count_nonzero(scores > scores[:, :1], axis=1)
        out: F64 = np.where(place < self._length, 1.0 / (1.0 + place), 0.0)
        return out


@allocating
def _learn(ranks: U8, says: F64, is_on: Bools, logs: F64, squares: F64) -> None:
    many, sources = ranks.shape[1], ranks.shape[2]
    score, weights, slope = np.empty(many), np.empty(sources), np.empty(sources)
    for i in range(len(ranks)):
        for s in range(sources):
            weights[s] = np.exp(logs[s]) if is_on[s] else 0.0
        highest = 0.0
        for k in range(many):
            score[k] = 0.0
            for s in range(sources):
                score[k] += weights[s] * says[ranks[i, k, s]]
            highest = max(highest, score[k])
        total = 0.0
        for k in range(many):  # all scores but those of places without a candidate are above 0
            score[k] = np.exp(score[k] - highest) if score[k] > 0.0 else 0.0
            total += score[k]
        if total <= 0.0:
            continue
        for s in range(sources):
            slope[s] = says[ranks[i, 0, s]]
        for k in range(many):
            for s in range(sources):
                slope[s] -= score[k] / total * says[ranks[i, k, s]]
        for s in range(sources):
            if is_on[s]:
                slope[s] *= weights[s]
                squares[s] += slope[s] * slope[s]
                logs[s] += _RATE * slope[s] / np.sqrt(squares[s] + 1e-9)
                logs[s] = min(max(logs[s], _LOWEST), _HIGHEST)
