"""Session neighbours: what came in those of the latest sessions that are most like a user's own.

VMIS-kNN, event by event: sessions that share items with a user's session are like it, the more the
later its user had those. Of each of the user's items its latest sessions are looked at, of all of
them the latest again; the most similar of these vote for their items, and what is in few sessions
counts more. Of the user's own items, at place 1 for the latest up to L:

- similarity of a session: the sum of L + 1 - place over the items by which it was found;
- its vote for each of its items: similarity * (10 - the lowest of those places);
- an item's score: the sum of its votes * log(pairs of session and item / sessions with the item).

Similarities and votes are whole numbers, so sums do not depend on an order. A session is as recent
as its latest event, of equals by its name; of equally similar ones the later vote; of items with
one score that of the later session goes first.

Memory is bounded: so many sessions are remembered, each with its last items, and the one that began
first makes room for the next. Nothing of it is stored: after a restart it fills again.

Kersbergen, Sprangers and Schelter, "Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale", SIGMOD 2022.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled, step
from models.sums import add_amount

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

LONGEST: Final = 16
"""Items of a session that are remembered, the last ones."""
PLACES: Final = 9
"""Items of a user that are looked at, the last ones; the paper's weights end there."""
_NONE: Final = -1
_BEGUN, _PAIRS, _ASKED = range(3)
_MOST_SIMILAR: Final = PLACES * (PLACES + 1) // 2
_LATEST_MS: Final = 1 << 42
_NAME_BITS: Final = 20


class SessionIndex(NamedTuple):
    """Sessions of items, and items of sessions.

    A node is one item of one session; those of session s are ``s * LONGEST`` and up. ``older`` and
    ``newer`` lead through the sessions of its item, as they last had an event.

    Attributes:
        sample: sessions that are looked at.
        neighbours: most of them that vote.
        counts: sessions begun, nodes in use, and lists asked for, int64[3].
        key, recency, added: of each session, its name, when it was last active, and how many items
            were put into it, uint64, int64 and int64[sessions].
        bucket, chain: of names, the first session, and of sessions the next with a like name,
            int32[a power of two] and int32[sessions].
        item, older, newer: of each node, int32[sessions * LONGEST].
        newest, sessions_of: of each item, its latest node and how many it has, int32[items].
        found_at, similarity, nearest: of each session, when it was found last, how similar it was
            then, and the place of the latest item that it shares, int64[sessions].
        found: the sessions that were, int32[m].
        found_recency: when they were last active, int64[m].
        so_similar: how many sessions are as similar as that, int64[_MOST_SIMILAR + 1], or none.
    """

    sample: int
    neighbours: int
    counts: I64
    key: U64
    recency: I64
    added: I64
    bucket: I32
    chain: I32
    item: I32
    older: I32
    newer: I32
    newest: I32
    sessions_of: I32
    found_at: I64
    similarity: I64
    nearest: I64
    found: I32
    found_recency: I64
    so_similar: I64


class SessionNeighbours:
    """The latest sessions of all users.

    Args:
        sessions: how many are remembered; 0 to learn nothing.
        sample: so many of the latest that share an item are looked at (``m`` in the paper).
        neighbours: so many of them vote (``k``).

    Attributes:
        index: of them.

    >>> near = SessionNeighbours(sessions=2, sample=10, neighbours=5)
    >>> names = np.array([5, 5, 6, 7], np.uint64)
    >>> near.learn(np.array([0, 1, 1, 3]), names, np.array([1, 2, 3, 4]), items=4)
    >>> len(near), near.index.sessions_of.tolist()  # the first session has made room for the third
    (2, [0, 1, 0, 1])
    """

    def __init__(self, sessions: int, sample: int, neighbours: int) -> None:
        nodes = sessions * LONGEST
        buckets = 1 << max(sessions - 1, 0).bit_length()
        most_found = min(sessions, PLACES * sample)
        self.index = SessionIndex(
            sample=sample,
            neighbours=neighbours,
            counts=np.zeros(3, np.int64),
            key=np.zeros(sessions, np.uint64),
            recency=np.zeros(sessions, np.int64),
            added=np.zeros(sessions, np.int64),
            bucket=np.full(buckets, _NONE, np.int32),
            chain=np.full(sessions, _NONE, np.int32),
            item=np.full(nodes, _NONE, np.int32),
            older=np.full(nodes, _NONE, np.int32),
            newer=np.full(nodes, _NONE, np.int32),
            newest=np.empty(0, np.int32),
            sessions_of=np.empty(0, np.int32),
            found_at=np.zeros(sessions, np.int64),
            similarity=np.zeros(sessions, np.int64),
            nearest=np.zeros(sessions, np.int64),
            found=np.empty(most_found, np.int32),
            found_recency=np.empty(most_found, np.int64),
            so_similar=np.empty(_MOST_SIMILAR + 1 if sessions else 0, np.int64),
        )

    def __len__(self) -> int:
        return min(int(self.index.counts[_BEGUN]), len(self.index.key))

    def learn(self, rows: I64, sessions: U64, ts_ms: I64, items: int) -> None:
        """Learn events in their order.

        Args:
            rows: of the items, int64[n]; -1 for unknown ones, which say nothing.
            sessions: names, uint64[n]; 0 for none.
            ts_ms: int64[n].
            items: how many there are.
        """
        missing = items - len(self.index.newest)
        if missing > 0:
            more = max(missing, len(self.index.newest))
            self.index = self.index._replace(
                newest=np.append(self.index.newest, np.full(more, _NONE, np.int32)),
                sessions_of=np.append(self.index.sessions_of, np.zeros(more, np.int32)),
            )
        _learn(rows, sessions, ts_ms, self.index)

    def renumber(self, moved: I64, rows: int) -> None:
        """Items have new numbers, -1 for those that are gone; there are ``rows`` then."""
        index = self.index
        known = min(len(moved), len(index.newest))
        kept = np.flatnonzero(moved[:known] >= 0)
        newest, sessions_of = np.full(rows, _NONE, np.int32), np.zeros(rows, np.int32)
        newest[moved[kept]] = index.newest[kept]
        sessions_of[moved[kept]] = index.sessions_of[kept]
        held = np.flatnonzero(index.item >= 0)
        index.item[held] = moved[index.item[held]]
        gone = held[index.item[held] < 0]
        index.older[gone] = index.newer[gone] = _NONE
        index.counts[_PAIRS] = len(held) - len(gone)
        self.index = index._replace(newest=newest, sessions_of=sessions_of)

    def bytes_held(self) -> int:
        """Bytes of all of it."""
        return sum(part.nbytes for part in self.index if isinstance(part, np.ndarray))


# -- learning -------------------------------------------------------------------------------------


@compiled
def _learn(rows: I64, sessions: U64, ts_ms: I64, index: Any) -> None:
    for k in range(len(rows)):
        row, key = rows[k], sessions[k]
        if row < 0 or key == 0:
            continue
        session = _session_of(key, index)
        if session == _NONE:
            session = _begin(key, index)
        ms = min(max(ts_ms[k], 0), _LATEST_MS)
        recency = (ms << _NAME_BITS) | np.int64(key & np.uint64((1 << _NAME_BITS) - 1))
        index.recency[session] = max(index.recency[session], recency)
        first, known = session * LONGEST, False
        for node in range(first, first + LONGEST):
            known |= index.item[node] == row
        if not known:
            _add(first + index.added[session] % LONGEST, row, index)
            index.added[session] += 1
        for node in range(first, first + LONGEST):
            if index.newer[node] != _NONE:
                _to_front(node, index)


@step
def _bucket_of(key: Any, index: Any) -> Any:
    return np.int64(key & np.uint64(len(index.bucket) - 1))


@step
def _session_of(key: Any, index: Any) -> int:
    """The place of a session; none for an unknown one."""
    session: int = index.bucket[_bucket_of(key, index)]
    while session != _NONE and index.key[session] != key:
        session = index.chain[session]
    return session


@step
def _begin(key: Any, index: Any) -> int:
    """Give a new session the place of the one that began first; that place."""
    session: int = index.counts[_BEGUN] % len(index.key)
    if index.counts[_BEGUN] >= len(index.key):
        _end(session, index)
    index.counts[_BEGUN] += 1
    index.key[session], index.recency[session], index.added[session] = key, 0, 0
    bucket = _bucket_of(key, index)
    index.chain[session], index.bucket[bucket] = index.bucket[bucket], session
    return session


@step
def _end(session: int, index: Any) -> None:
    """Forget a session."""
    for node in range(session * LONGEST, (session + 1) * LONGEST):
        _remove(node, index)
    bucket = _bucket_of(index.key[session], index)
    before = index.bucket[bucket]
    if before == session:
        index.bucket[bucket] = index.chain[session]
        return
    while index.chain[before] != session:
        before = index.chain[before]
    index.chain[before] = index.chain[session]


@step
def _add(node: int, row: int, index: Any) -> None:
    """Let a node stand for an item, as the newest of it."""
    _remove(node, index)
    index.item[node] = row
    newest = index.newest[row]
    index.older[node], index.newer[node] = newest, _NONE
    if newest != _NONE:
        index.newer[newest] = node
    index.newest[row] = node
    index.sessions_of[row] += 1
    index.counts[_PAIRS] += 1


@step
def _remove(node: int, index: Any) -> None:
    """Take a node out of the list of its item, if it stands for one."""
    row = index.item[node]
    if row < 0:
        return
    older, newer = index.older[node], index.newer[node]
    if older != _NONE:
        index.newer[older] = newer
    if newer != _NONE:
        index.older[newer] = older
    else:
        index.newest[row] = older
    index.item[node] = index.older[node] = index.newer[node] = _NONE
    index.sessions_of[row] -= 1
    index.counts[_PAIRS] -= 1


@step
def _to_front(node: int, index: Any) -> None:
    """Make a node that is not it the newest of its item."""
    older, newer, row = index.older[node], index.newer[node], index.item[node]
    index.older[newer] = older
    if older != _NONE:
        index.newer[older] = newer
    newest = index.newest[row]
    index.older[node], index.newer[node] = newest, _NONE
    index.newer[newest] = node
    index.newest[row] = node


# -- voting ---------------------------------------------------------------------------------------


@step
def add_votes(
    own: I64, places: int, key: Any, index: Any, blocked: Bools, slots: U64, near: Any, given: int
) -> int:
    """Sum up what like sessions say of items; how many spots are given then.

    Args:
        own: rows of a user's items, the newest first, -1 for unknown ones.
        places: so many of them are of the session.
        key: its name; it does not vote.
        index: of all sessions.
        blocked: what is never recommended.
        slots: of the board that sums stand on.
        near: its spots.
        given: how many of them are.
    """
    first = given
    many = _most_similar(_latest(_find(own, places, key, index), index), index)
    for session in index.found[:many]:
        place = index.nearest[session]
        vote = np.float32((PLACES + 1 - place) * index.similarity[session])
        for node in range(session * LONGEST, (session + 1) * LONGEST):
            if index.item[node] >= 0:
                row, because = index.item[node], own[place - 1]
                given = add_amount(row, vote, because, blocked, slots, near, given)
    pairs = float(index.counts[_PAIRS])
    for spot in range(first, given):
        if near[spot].sum >= 0.0:
            rare = np.log(pairs / index.sessions_of[near[spot].row])
            near[spot].sum = np.float32(near[spot].sum * rare)
    return given


@step
def _find(own: I64, places: int, key: Any, index: Any) -> int:
    """Sessions that share items with the user's, by their similarity; how many."""
    length, many = min(places, len(own), PLACES), 0
    running = _session_of(key, index) if key != 0 else _NONE
    index.counts[_ASKED] += 1
    now = index.counts[_ASKED]
    for place in range(1, length + 1):
        row, looked = own[place - 1], 0
        if row < 0 or row >= len(index.newest):
            continue
        node = index.newest[row]
        while node != _NONE and looked < index.sample:
            session = node // LONGEST
            node = index.older[node]
            if session == running:
                continue
            looked += 1
            if index.found_at[session] != now:
                index.found_at[session], index.nearest[session] = now, place
                index.similarity[session] = 0
                index.found[many] = session
                many += 1
            index.similarity[session] += length + 1 - place
    return many


@step
def _latest(many: int, index: Any) -> int:
    """The latest of the sessions found, in order; how many.

    By a heap of its own, the oldest on top: to compile numpy's ``partition`` and ``argsort`` takes
    as long as all else that makes lists.
    """
    found, recency, kept = index.found, index.found_recency, min(many, index.sample)
    for k in range(many):
        recency[k] = index.recency[found[k]]
    for top in range(kept // 2 - 1, -1, -1):
        _put(found[top], recency[top], top, kept, found, recency)
    for k in range(kept, many):
        if recency[k] > recency[0]:
            _put(found[k], recency[k], 0, kept, found, recency)
    for last in range(kept - 1, 0, -1):
        session, when = found[last], recency[last]
        found[last], recency[last] = found[0], recency[0]
        _put(session, when, 0, last, found, recency)
    return int(kept)


@step
def _put(session: int, when: int, at: int, stop: int, found: I32, recency: I64) -> None:
    """Put a session where another is on a heap, or below: what is older comes up."""
    top, child = at, 2 * at + 1
    while child < stop:  # down to the end first: most go there
        child += child + 1 < stop and recency[child + 1] < recency[child]
        found[at], recency[at] = found[child], recency[child]
        at, child = child, 2 * child + 1
    while at > top and recency[(at - 1) // 2] > when:
        found[at], recency[at] = found[(at - 1) // 2], recency[(at - 1) // 2]
        at = (at - 1) // 2
    found[at], recency[at] = session, when


@step
def _most_similar(many: int, index: Any) -> int:
    """Those that vote, the most similar and of equals the first, in the same order; how many."""
    most = index.neighbours
    if many <= most:
        return many
    counts = index.so_similar
    counts[:] = 0
    for session in index.found[:many]:
        counts[index.similarity[session]] += 1
    least, above = _MOST_SIMILAR, 0
    while above + counts[least] < most:
        above += counts[least]
        least -= 1
    equals, kept = most - above, 0
    for k in range(many):
        session = index.found[k]
        similarity = index.similarity[session]
        if similarity > least or (similarity == least and equals > 0):
            equals -= similarity == least
            index.found[kept] = session
            kept += 1
    return kept
