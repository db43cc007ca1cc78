"""VMIS-kNN as the paper has it: dictionaries, a heap of the latest sessions, one step at a time.

Kersbergen, Sprangers and Schelter, "Serenade", SIGMOD 2022, algorithm 2. What the paper leaves open
is set as in ``loadtest/evaluate/recommend/vmis.py``: of equal neighbours the later session, of
equal items the lower number.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from heapq import heappush, heapreplace
from math import log


class Naive:
    """An index that is built once.

    Args:
        sessions: items of the sessions of the past.
        recency: when each of these was last active.
        held: in how many sessions each item is, if not in how many of these.
    """

    def __init__(
        self,
        sessions: Mapping[int, Sequence[int]],
        recency: Mapping[int, int],
        held: Counter[int] | None = None,
    ) -> None:
        self.sessions, self.recency = sessions, recency
        self.index: dict[int, list[int]] = {}
        for session in sorted(sessions, key=lambda session: -recency[session]):
            for item in set(sessions[session]):
                self.index.setdefault(item, []).append(session)
        self.held = held or Counter({item: len(of) for item, of in self.index.items()})

    def votes(
        self, evolving: Sequence[int], m: int, k: int, tie: Callable[[int], float] = float
    ) -> list[int]:
        """All items that get a vote, best first.

        Args:
            evolving: the latest items of the session, the latest last.
            m: sessions that are looked at.
            k: neighbours of them.
            tie: what decides between items of equal score.
        """
        similarity = self._similarities(evolving, m)
        ranked = sorted(similarity, key=lambda one: (-similarity[one], -self.recency[one]))
        pairs = self.held.total()
        scores: dict[int, float] = {}
        for session in ranked[:k]:
            items = set(self.sessions[session])
            back = next(back for back, item in enumerate(reversed(evolving), 1) if item in items)
            for item in items:
                vote = (1.0 - 0.1 * back) * similarity[session] * log(pairs / self.held[item])
                scores[item] = scores.get(item, 0.0) + vote
        scores.pop(evolving[-1], None)
        return sorted(scores, key=lambda item: (-round(scores[item], 9), tie(item)))

    def _similarities(self, evolving: Sequence[int], m: int) -> dict[int, float]:
        similarity: dict[int, float] = {}
        latest: list[tuple[int, int]] = []
        done: set[int] = set()
        for place, item in reversed(list(enumerate(evolving, 1))):
            if item in done:
                continue
            done.add(item)
            decay = place / len(set(evolving))
            for session in self.index.get(item, [])[:m]:
                if session in similarity:
                    similarity[session] += decay
                elif len(similarity) < m:
                    similarity[session] = decay
                    heappush(latest, (self.recency[session], session))
                elif self.recency[session] > latest[0][0]:
                    _, gone = heapreplace(latest, (self.recency[session], session))
                    del similarity[gone]
                    similarity[session] = decay
                else:
                    break
        return similarity
