"""VMIS-kNN: what came in the most similar of the latest sessions.

Sessions that share items with the latest items of this one are its neighbours; the later an item
came in this session, the more it counts. Of the sessions found the ``sessions`` latest are looked
at, the ``neighbours`` most similar of them vote for their items, and rare items count more.

The paper finds the latest sessions with a heap while it goes through the lists of the items. What
stays in that heap is the latest of all that the lists hold, each with the whole of its similarity,
so here all are collected and the latest kept: the same result, and no order to get wrong. How
recent a session is, is the number of its latest event in the log, so no two are equal; where
similarities are, the later session goes first, and where scores of items are, the lower number.

An index of linked lists holds for each item its sessions, the latest first, and can learn event by
event. Retrained now and then it is the same index, which learns what has gathered since.

Kersbergen, Sprangers and Schelter, "Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale", SIGMOD 2022.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import allocating, compiled, step
from loadtest.evaluate.recommend.protocol import F64, I64

I32 = NDArray[np.int32]
_NONE: Final = -1
_NODES, _EVENTS, _ASKED = range(3)
_OF_NODES: Final = ("session", "item", "older", "newer", "after")


class VmisKnn:
    """Nearest neighbours among sessions.

    Args:
        users, items: how many there are; a user is a session.
        latest: events of a session that are looked at, 9 at most.
        sessions: how many of the latest sessions are looked at (``m`` in the paper).
        neighbours: how many of them vote (``k``).
        every_ms: the index learns when this time has gone round, counted from 1970 on: a day is at
            midnight UTC; 0 is after every event.
        own: whether a session may be its own neighbour, which then recommends what it had.

    >>> vmis = VmisKnn(users=3, items=4)
    >>> for user, item in ((0, 1), (0, 2), (1, 1), (1, 3), (2, 1)):
    ...     vmis.observe(user, item, ts_ms=0)
    >>> vmis.recommend(user=2, ts_ms=0, count=2).tolist()
    [2, 3]
    """

    def __init__(
        self,
        users: int,
        items: int,
        latest: int = 8,
        sessions: int = 1_500,
        neighbours: int = 500,
        every_ms: int = 0,
        own: bool = False,
        name: str = "VMIS-kNN",
    ) -> None:
        if not 1 <= latest <= 9:
            raise ValueError(f"latest must be 1 to 9, but it is {latest}")
        self.name = name
        self._latest, self._sessions, self._neighbours = latest, sessions, neighbours
        self._every_ms, self._own = every_ms, own
        self._index = _empty(users, items)
        self._history: list[list[int]] = [[] for _ in range(users)]
        self._waiting: list[tuple[int, int]] = []
        self._trained = 0

    def observe(self, user: int, item: int, ts_ms: int, weight: float = 1.0) -> None:  # noqa: ARG002
        """Extend a session; the index learns it when its time has come."""
        self._train(ts_ms)
        self._history[user].append(item)
        self._waiting.append((user, item))
        if not self._every_ms:
            self.train()

    def recommend(self, user: int, ts_ms: int, count: int) -> I64:
        """The items that neighbours vote for."""
        self._train(ts_ms)
        recent = np.array(self._history[user][-self._latest :], np.int64)
        excluded = _NONE if self._own else user
        sizes = self._sessions, self._neighbours, count
        found: I64 = _vote(recent, excluded, *sizes, self._index)
        return found

    def train(self) -> None:
        """Learn all that waits."""
        if self._waiting:
            events = np.array(self._waiting, np.int64)
            self._waiting.clear()
            self._index = _roomy(self._index, len(events))
            _learn(events, self._index)

    def _train(self, ts_ms: int) -> None:
        if self._every_ms and ts_ms // self._every_ms != self._trained:
            self._trained = ts_ms // self._every_ms
            self.train()


class _Index(NamedTuple):
    """Sessions of items, and items of sessions.

    A node is one item of one session. ``older`` and ``newer`` lead through the sessions of its
    item, ``after`` through the items of its session.

    Attributes:
        counts: how many nodes, events, and times asked, int64[3].
        session, item, older, newer, after: of each node, int32[room].
        newest, sessions_of: of each item, its latest node and how many it has, int32[items].
        first, recency: of each session, its first node, int32[users], and latest event.
        found_at, similarity: of each session, the last time it was found, and how similar it was.
        voted_at, score, seen_at, place: of each item, the last times it got votes and stood in the
            session that was asked for, with how many, and how far back.
    """

    counts: I64
    session: I32
    item: I32
    older: I32
    newer: I32
    after: I32
    newest: I32
    sessions_of: I32
    first: I32
    recency: I64
    found_at: I64
    similarity: F64
    voted_at: I64
    score: F64
    seen_at: I64
    place: I64


def _empty(users: int, items: int) -> _Index:
    return _Index(
        counts=np.zeros(3, np.int64),
        session=np.empty(0, np.int32),
        item=np.empty(0, np.int32),
        older=np.empty(0, np.int32),
        newer=np.empty(0, np.int32),
        after=np.empty(0, np.int32),
        newest=np.full(items, _NONE, np.int32),
        sessions_of=np.zeros(items, np.int32),
        first=np.full(users, _NONE, np.int32),
        recency=np.zeros(users, np.int64),
        found_at=np.zeros(users, np.int64),
        similarity=np.zeros(users),
        voted_at=np.zeros(items, np.int64),
        score=np.zeros(items),
        seen_at=np.zeros(items, np.int64),
        place=np.zeros(items, np.int64),
    )


def _roomy(index: _Index, events: int) -> _Index:
    """With room for as many new nodes."""
    need, room = int(index.counts[_NODES]) + events, len(index.session)
    if need <= room:
        return index
    more = np.empty(max(need, 2 * room, 1_024) - room, np.int32)
    return index._replace(**{name: np.append(getattr(index, name), more) for name in _OF_NODES})


@compiled
def _learn(events: I64, index: _Index) -> None:
    """Put events (session, item) into the index; their sessions become the latest of all."""
    for row in range(len(events)):
        session, item = events[row]
        node = index.first[session]
        while node != _NONE and index.item[node] != item:
            node = index.after[node]
        if node == _NONE:
            _add(session, item, index)
        index.counts[_EVENTS] += 1
        index.recency[session] = index.counts[_EVENTS]
        node = index.first[session]
        while node != _NONE:
            if index.newer[node] != _NONE:
                _to_front(node, index)
            node = index.after[node]


@step
def _add(session: int, item: int, index: _Index) -> None:
    """A new node, in front of both of its lists."""
    node = index.counts[_NODES]
    index.counts[_NODES] += 1
    index.session[node], index.item[node] = session, item
    index.after[node], index.first[session] = index.first[session], node
    index.older[node], index.newer[node] = index.newest[item], _NONE
    if index.newest[item] != _NONE:
        index.newer[index.newest[item]] = node
    index.newest[item] = node
    index.sessions_of[item] += 1


@step
def _to_front(node: int, index: _Index) -> None:
    """Make a node that is not it the newest of its item."""
    index.older[index.newer[node]] = index.older[node]
    if index.older[node] != _NONE:
        index.newer[index.older[node]] = index.newer[node]
    newest = index.newest[index.item[node]]
    index.older[node], index.newer[node] = newest, _NONE
    index.newer[newest] = node
    index.newest[index.item[node]] = node


@allocating
def _vote(recent: I64, excluded: int, m: int, k: int, count: int, index: _Index) -> I64:
    """Items by the votes of the nearest sessions, best first."""
    index.counts[_ASKED] += 1
    near = _neighbours(_found(recent, excluded, m, index), m, k, index)
    items = _voted(near, index)
    if len(recent):
        items = items[items != recent[-1]]
    items.sort()
    scores = np.floor(index.score[items] * 1e9 + 0.5)  # sums of the same votes may differ by a bit
    if len(items) > count:
        kept = scores >= np.partition(scores, len(items) - count)[len(items) - count]
        items, scores = items[kept], scores[kept]
    return items[np.argsort(-scores, kind="mergesort")][:count]


@step
def _found(recent: I64, excluded: int, m: int, index: _Index) -> I64:
    """Sessions that share an item with this one, with their similarity."""
    now, length, unique = index.counts[_ASKED], len(recent), 0
    for back in range(1, length + 1):
        item = recent[length - back]
        if index.seen_at[item] != now:
            index.seen_at[item], index.place[item] = now, back
            unique += 1
    found, many = np.empty(unique * m, np.int64), 0
    for back in range(1, length + 1):
        item, looked = recent[length - back], 0
        if index.place[item] != back:
            continue
        node = index.newest[item]
        while node != _NONE and looked < m:
            session = index.session[node]
            if session != excluded:
                looked += 1
                if index.found_at[session] != now:
                    index.found_at[session], index.similarity[session] = now, 0.0
                    found[many] = session
                    many += 1
                index.similarity[session] += (length - back + 1) / unique
            node = index.older[node]
    return found[:many]


@step
def _neighbours(found: I64, m: int, k: int, index: _Index) -> I64:
    """The most similar of the latest of these sessions, of equals the latest, best first."""
    latest = found[np.argsort(-index.recency[found])][:m]
    return latest[np.argsort(-index.similarity[latest], kind="mergesort")][:k]


@step
def _voted(near: I64, index: _Index) -> I64:
    """Items that get votes, with their scores."""
    now, items, many = index.counts[_ASKED], np.empty(len(index.score), np.int64), 0
    pairs = float(index.counts[_NODES])
    for session in near:
        back, node = 10, index.first[session]
        while node != _NONE:
            item = index.item[node]
            if index.seen_at[item] == now:
                back = min(back, index.place[item])
            node = index.after[node]
        vote, node = (1.0 - 0.1 * back) * index.similarity[session], index.first[session]
        while node != _NONE:
            item = index.item[node]
            if index.voted_at[item] != now:
                index.voted_at[item], index.score[item] = now, 0.0
                items[many] = item
                many += 1
            index.score[item] += vote * np.log(pairs / index.sessions_of[item])
            node = index.after[node]
    return items[:many]
