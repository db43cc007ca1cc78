"""VMIS-kNN as the paper has it: dictionaries, a heap of the latest sessions, one step at a time.

Kersbergen, Sprangers and Schelter, "Serenade", SIGMOD 2022, algorithm 2. What the paper leaves open
is set as in ``loadtest/evaluate/recommend/vmis.py``: of equal neighbours the later session, of
equal items the lower number.
"""

from collections.abc import Callable, Mapping, Sequence
from heapq import heappush, heapreplace
from math import log


def vmis(
    evolving: Sequence[int],
    sessions: Mapping[int, Sequence[int]],
    recency: Mapping[int, int],
    m: int,
    k: int,
    counts: tuple[int, Mapping[int, int]] | None = None,
    tie: Callable[[int], float] = float,
) -> list[int]:
    """All items that get a vote, best first.

    Args:
        evolving: the latest items of the session, the latest last.
        sessions: items of the sessions of the past.
        recency: when each of these was last active.
        m: sessions that are looked at.
        k: neighbours of them.
        counts: how many items all sessions have, and in how many sessions each item is, if not
            those of the sessions that are given.
        tie: what decides between items of equal score.
    """
    index: dict[int, list[int]] = {}
    for session in sorted(sessions, key=lambda session: -recency[session]):
        for item in set(sessions[session]):
            index.setdefault(item, []).append(session)
    pairs, holders = counts or (
        sum(len(of_item) for of_item in index.values()),
        {item: len(of_item) for item, of_item in index.items()},
    )
    similarity = _similarities(evolving, index, recency, m)
    ranked = sorted(similarity, key=lambda one: (-similarity[one], -recency[one]))
    scores: dict[int, float] = {}
    for session in ranked[:k]:
        back = next(
            back for back, item in enumerate(reversed(evolving), 1) if item in sessions[session]
        )
        for item in set(sessions[session]):
            vote = (1.0 - 0.1 * back) * similarity[session] * log(pairs / holders[item])
            scores[item] = scores.get(item, 0.0) + vote
    scores.pop(evolving[-1], None)
    return sorted(scores, key=lambda item: (-round(scores[item], 9), tie(item)))


def _similarities(
    evolving: Sequence[int],
    index: Mapping[int, Sequence[int]],
    recency: Mapping[int, int],
    m: int,
) -> dict[int, float]:
    similarity: dict[int, float] = {}
    latest: list[tuple[int, int]] = []
    done: set[int] = set()
    for place, item in reversed(list(enumerate(evolving, 1))):
        if item in done:
            continue
        done.add(item)
        decay = place / len(set(evolving))
        for session in index.get(item, [])[:m]:
            if session in similarity:
                similarity[session] += decay
            elif len(similarity) < m:
                similarity[session] = decay
                heappush(latest, (recency[session], session))
            elif recency[session] > latest[0][0]:
                _, gone = heapreplace(latest, (recency[session], session))
                del similarity[gone]
                similarity[session] = decay
            else:
                break
    return similarity
