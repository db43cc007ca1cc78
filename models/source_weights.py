"""What each source of candidates is worth, learned from what users went on to.

The settings say how much each source says for an item. But in one shop people come back to what
they had, in another all want the same, and the best weights differ a hundredfold. So for some of
the interactions the list is made that the user might have had just before, and the weights move
such that what came stands higher in it: a conditional logit over the candidates (McFadden, 1974),
by gradient steps of Adagrad (Duchi, Hazan and Singer, JMLR 2011) in the logarithms of the weights,
so that none becomes negative and a source that is off stays off.

Of somebody with one item behind them, the items that go with it say little; of a regular, much. So
besides the weights for everybody there are some for each **acquaintance**: for users of whom one
item is known, a few, or more. In force for each are those that have put what came highest, by the
mean of one over its place in the latest lists, so lists are not worse for it than by the settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from models.candidates import UNRANKED, Candidates
from models.item_plan import SOURCES

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

_RATE: Final = 0.05
_FADES: Final = 1.0 - 1.0 / 2_000
"""Of an example, by each that comes after it, where the two orders are compared."""
_LEAST: Final = 500
"""Examples before learned weights may be in force."""
_KNOWN: Final = np.array([2, 5])
"""Items behind a user from which the next acquaintance begins."""
_GROUPS: Final = len(_KNOWN) + 1
_LOWEST: Final = -12.0
"""Logarithm of the smallest weight, so that no source is lost for ever."""
_HIGHEST: Final = 6.0


def acquaintance(recent: I64) -> I64:
    """How well users are known, int64[n]: 0 by one item at most, 1 by a few, 2 by more.

    Args:
        recent: the items behind each, -1 where there is none, int64[n, k].

    >>> acquaintance(np.array([[7, -1, -1, -1, -1], [7, 8, -1, -1, -1], [7, 8, 9, 6, 5]])).tolist()
    [0, 1, 2]
    """
    group: I64 = np.searchsorted(_KNOWN, np.count_nonzero(recent >= 0, axis=1), side="right")
    return group


@dataclass(slots=True, frozen=True)
class Sought:
    """What came, n times, and the candidates that it was among.

    Attributes:
        ranks: of k candidates by source, first those of the one that came, uint8[n, k, sources];
            ``UNRANKED`` by all sources where there are fewer.
        group: acquaintance of each user, uint8[n].
        reached: one over its place by the weights of the settings, by those learned of everybody
            and by those learned of the acquaintance, as they were by then; 0 where it came too
            late for a list, float64[n, 3].
    """

    ranks: U8
    group: U8
    reached: F64

    def __len__(self) -> int:
        return len(self.ranks)

    def pack(self) -> bytes:
        """As bytes.

        >>> some = Sought(np.zeros((2, 3, 6), np.uint8), np.ones(2, np.uint8), np.ones((2, 3)))
        >>> again = Sought.unpack(some.pack())
        >>> again.ranks.shape, again.group.tolist(), again.reached.shape
        ((2, 3, 6), [1, 1], (2, 3))
        """
        held = self.ranks.tobytes(), self.group.tobytes(), self.reached.tobytes()
        return msgspec.msgpack.encode((self.ranks.shape, *held))

    @classmethod
    def unpack(cls, raw: bytes) -> Sought:
        """What ``pack`` gave; none where there were other sources, or of a former version."""
        try:
            parts = msgspec.msgpack.decode(
                raw, type=tuple[tuple[int, int, int], bytes, bytes, bytes]
            )
            shape, ranks, group, reached = parts
            if shape[2] == len(SOURCES) and len(group) == shape[0]:
                return cls(
                    np.frombuffer(ranks, np.uint8).reshape(shape),
                    np.frombuffer(group, np.uint8),
                    np.frombuffer(reached).reshape(-1, 3),
                )
        except (msgspec.DecodeError, ValueError):
            pass
        nothing = np.empty((0, 0, len(SOURCES)), np.uint8)
        return cls(nothing, np.empty(0, np.uint8), np.empty((0, 3)))


class SourceWeights:
    """The weights of the settings, the learned ones, and which are in force.

    Args:
        settings: weight of each source, float64[sources]; one that is 0 stays so.
        offset: what is added to ranks before their reciprocals are fused.
        length: of lists; what stands further back counts as not there.

    Attributes:
        learned: examples that were learned.

    >>> weights = SourceWeights(np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.5]), 0.5, length=20)
    >>> weights.current[2].tolist(), weights.in_force
    ([1.0, 0.0, 0.0, 0.0, 0.0, 0.5], False)
    """

    def __init__(self, settings: F64, offset: float, length: int) -> None:
        self._settings, self._offset, self._length = settings.copy(), offset, length
        self._is_on = settings > 0.0
        self._says = np.zeros(UNRANKED + 1)
        self._says[:UNRANKED] = 1.0 / (offset + np.arange(UNRANKED) + 1.0)
        logs = np.log(np.where(self._is_on, self._settings, 1.0))
        # the first row is of everybody, then one for each acquaintance
        self._logs = np.tile(np.clip(logs, _LOWEST, _HIGHEST), (1 + _GROUPS, 1))
        self._squares = np.zeros((1 + _GROUPS, len(self._settings)))
        self._count = np.zeros(1 + _GROUPS, dtype=np.int64)
        self._sums = np.zeros((_GROUPS, 4))  # of examples and of what they reached, faded

    @property
    def learned(self) -> int:
        """Examples that were learned."""
        return int(self._count[0])

    def rare(self, least: int) -> I64:
        """The acquaintances of which fewer examples were learned."""
        return np.flatnonzero(self._count[1:] < least)

    @property
    def everything(self) -> F64:
        """A weight of 1 for each source that is on: candidates of all of them, float64[sources]."""
        return self._is_on.astype(np.float64)

    @property
    def in_force(self) -> bool:
        """Whether learned weights have been the better ones lately, of any acquaintance."""
        return bool(self._best().any())

    @property
    def current(self) -> F64:
        """The weights in force by acquaintance, float64[acquaintances, sources].

        Learned ones add up to what those of the settings do.
        """
        return self._choices()[np.arange(_GROUPS), self._best()]

    def seek(self, lists: Candidates, came: I64, group: I64) -> Sought:
        """Look for what came in lists that were made with ``everything``.

        Args:
            lists: of n users.
            came: row of the item that each went on to, int64[n].
            group: acquaintance of each, int64[n].

        Returns:
            The examples of those lists that hold it.
        """
        place = (lists.item == came[:, None]).argmax(axis=1)
        held = np.flatnonzero((came >= 0) & (lists.item[np.arange(len(came)), place] == came))
        ranks, place, group = lists.ranks[held], place[held], group[held]
        at = np.arange(len(held))
        ranks[at, place], ranks[:, 0] = ranks[:, 0].copy(), ranks[at, place]
        says, choices = self._says[ranks], self._choices()[group]
        reached = np.empty((len(held), 3))
        for choice in range(3):
            reached[:, choice] = self._reached(says, choices[:, choice])
        return Sought(ranks, group.astype(np.uint8), reached)

    def learn(self, some: Sought) -> None:
        """Learn examples in their order."""
        if not len(some):
            return
        _learn(some.ranks, some.group, self._says, self._is_on, self._logs, self._squares)
        for group in np.unique(some.group).tolist():
            reached = some.reached[some.group == group]
            fades = _FADES ** np.arange(len(reached) - 1, -1, -1)
            self._sums[group] *= _FADES ** len(reached)
            self._sums[group] += fades.sum(), *(fades @ reached)
            self._count[[0, 1 + group]] += len(reached)

    def quality(self) -> dict[str, float | None]:
        """How well both orders do on the latest examples, and the weights in force.

        Over all acquaintances, each by how many examples there were of it.
        """
        counts, best = self._sums[:, 0], self._best()
        count, at = counts.sum(), np.arange(_GROUPS)
        shares = counts / count if count else np.full(_GROUPS, 1.0 / _GROUPS)
        weights = zip(SOURCES, (shares @ self.current).tolist(), strict=True)
        return {
            "examples": float(self.learned),
            "mrr": float(self._sums[at, 1 + best].sum() / count) if count else None,
            "mrr_settings": float(self._sums[:, 1].sum() / count) if count else None,
            "in_force": float(shares @ (best > 0)),
            **{f"weight_{name}": weight for name, weight in weights},
        }

    def to_state(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sources": list(SOURCES),
            "known": _KNOWN.tolist(),
            "settings": self._settings.tolist(),
            "offset": self._offset,
            "logs": self._logs.tolist(),
            "squares": self._squares.tolist(),
            "sums": self._sums.tolist(),
            "count": self._count.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``to_state`` gave, unless it was learned from other settings."""
        now = list(SOURCES), _KNOWN.tolist(), self._settings.tolist(), self._offset
        if tuple(state.get(name) for name in ("sources", "known", "settings", "offset")) != now:
            return
        self._logs, self._squares = np.array(state["logs"]), np.array(state["squares"])
        self._sums, self._count = np.array(state["sums"]), np.array(state["count"])

    def _choices(self) -> F64:
        """For each acquaintance: settings, of everybody, its own, float64[groups, 3, sources]."""
        weights = np.where(self._is_on, np.exp(self._logs), 0.0)
        totals = weights.sum(axis=1, keepdims=True)
        weights *= self._settings.sum() / np.where(totals > 0.0, totals, 1.0)
        settings, everybody = (np.tile(w, (_GROUPS, 1)) for w in (self._settings, weights[0]))
        return np.stack([settings, everybody, weights[1:]], axis=1)

    def _best(self) -> I64:
        """Which of the three has been the best of late for each acquaintance, int64[groups]."""
        reached = self._sums[:, 1:].copy()
        reached[:, 1] *= self._count[0] >= _LEAST
        reached[:, 2] *= self._count[1:] >= _LEAST
        best: I64 = reached.argmax(axis=1)
        return best

    def _reached(self, says: F64, weights: F64) -> F64:
        """One over the place of the first of some candidates, if that is in a list; float64[n]."""
        scores = (says @ weights[:, :, None])[:, :, 0]
        place = np.count_nonzero(scores > scores[:, :1], axis=1)
        out: F64 = np.where(place < self._length, 1.0 / (1.0 + place), 0.0)
        return out


@compiled
def _learn(ranks: U8, group: U8, says: F64, is_on: Bools, logs: F64, squares: F64) -> None:
    """Two steps for each example: for everybody, and for its acquaintance."""
    many, sources = ranks.shape[1], ranks.shape[2]
    score, weights, slope = np.empty(many), np.empty(sources), np.empty(sources)
    for i in range(len(ranks)):
        for row in (0, 1 + group[i]):
            for s in range(sources):
                weights[s] = np.exp(logs[row, s]) if is_on[s] else 0.0
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
                    squares[row, s] += slope[s] * slope[s]
                    logs[row, s] += _RATE * slope[s] / np.sqrt(squares[row, s] + 1e-9)
                    logs[row, s] = min(max(logs[row, s], _LOWEST), _HIGHEST)
