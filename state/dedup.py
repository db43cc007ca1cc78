"""Deduplication: an event id counts once, as long as the first one is remembered.

Ids are remembered for a **window** of event time behind the newest event, in **buckets** by event
time, because what is stored can then be dropped bucket by bucket. An id is looked up in all buckets
at once: an event that was sent again with another time is a duplicate too.

Whether an event is within the window is judged against the highest event time up to and including
itself, in log order. So a batch is judged as its events would be one by one, and cutting the log
into other batches after a restart changes nothing. An event that is older cannot be checked: it
passes, and is counted by the caller. When there are more ids than the cap, the oldest bucket is
forgotten whole and the window is shorter for a while.

The time before which nothing is checked is the **floor**. It is kept for each shard, because a
crash in the middle of a commit leaves some shards behind the others: what they take in again must
be judged as it was the first time, when nobody had seen the times that are ahead of it.

How a bucket lies in the store: ``state.id_blocks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from events.compiled import compiled
from state.groups import begins
from state.idset import LEAST_HASH, MOST_TAGS, IdSet
from state.times import NEVER_MS

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]
U64 = NDArray[np.uint64]

_NEVER_OLD: Final = np.int64(2**62)


@dataclass(slots=True, frozen=True)
class Taken:
    """New ids of one bucket.

    Attributes:
        bucket: the time at which it begins.
        shard: of each, ascending, int64[n].
        hashes: uint64[n].
    """

    bucket: int
    shard: I64
    hashes: U64


class Dedup:
    """The ids of a lane's recent events.

    Args:
        shards: the shards of the lane; each one's ids are stored by themselves.
        window_ms: how far behind the newest event duplicates are found.
        bucket_ms: length of a bucket, see ``bucket_length_ms``.
        cap: how many ids at most; a bucket at the busiest time must be well below it.

    A bucket is named by its first millisecond.

    >>> dedup = Dedup([0, 1], window_ms=600, bucket_ms=60, cap=1_000)
    >>> hashes, ts_ms = np.array([7, 8, 7], np.uint64), np.array([900, 1_000, 900])
    >>> fresh, unchecked = dedup.check(hashes, ts_ms, np.array([0, 1, 0]), newest_ms=0)
    >>> fresh.tolist(), [(each.bucket, each.hashes.tolist()) for each in dedup.taken()]
    ([True, True, False], [(900, [7]), (960, [8])])
    """

    def __init__(self, shards: Sequence[int], window_ms: int, bucket_ms: int, cap: int) -> None:
        slots = -(-window_ms // bucket_ms) + 1  # buckets that a window can touch
        if slots * len(shards) > MOST_TAGS:
            raise ValueError(
                f"a lane's shards times its buckets must be at most {MOST_TAGS}, but "
                f"{len(shards)} shards have {slots} buckets each: make the buckets longer "
                f"than {bucket_ms} ms, or the window shorter than {window_ms} ms"
            )
        self._window_ms, self._bucket_ms, self._cap = window_ms, bucket_ms, cap
        self._shards = np.array(shards, dtype=np.int64)
        self._lane_shard = np.zeros(max(shards, default=0) + 1, dtype=np.int64)
        self._lane_shard[self._shards] = np.arange(len(shards))
        self._ids = IdSet()
        self._floors = np.full(len(shards), NEVER_MS)  # by place; the lowest is by itself, too
        self._floor_ms = NEVER_MS
        self._is_known = np.zeros(len(shards), dtype=np.bool_)
        self._loaded: list[tuple[int, int, U64]] = []
        # which bucket each slot holds, and how many ids
        self._bucket_of = np.full(slots, NEVER_MS)
        self._count_of = np.zeros(slots, dtype=np.int64)
        # new since the last commit, as it came; then by bucket, with the places of their shards
        self._new: list[tuple[U64, U16]] = []
        self._untaken: dict[int, tuple[I64, U64]] = {}
        # the buckets in the store, oldest first, and which places of shards have each
        self._stored: I64 = np.empty(0, dtype=np.int64)
        self._has: Bools = np.empty((0, len(shards)), dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def floor_ms(self) -> int:
        """Events before this time are not checked, whichever shard they are of."""
        return self._floor_ms

    def bytes_held(self) -> int:
        """Bytes of the ids in memory, and of those that are not committed or not come to yet."""
        new = sum(hashes.nbytes + tags.nbytes for hashes, tags in self._new)
        new += sum(at.nbytes + hashes.nbytes for at, hashes in self._untaken.values())
        new += sum(hashes.nbytes for _, _, hashes in self._loaded)
        return self._ids.bytes_held() + new

    # -- events -------------------------------------------------------------------------------

    def check(
        self,
        hashes: U64,
        ts_ms: I64,
        shards: I64,
        newest_ms: int,
        seen_ms: I64 | None = None,
    ) -> tuple[Bools, Bools]:
        """Which events of a batch are new, and which could not be checked and pass as new.

        The new ones are remembered. Of an id that comes twice in the batch the first one is new.

        Args:
            hashes: of user id and event id, uint64[n], in log order.
            ts_ms: event times, int64[n].
            shards: the shard of each, all of the lane, int64[n].
            newest_ms: the highest event time that the lane has seen before this batch.
            seen_ms: the highest up to each event, int64[n], where these are not all there were.

        Returns:
            fresh bool[n], unchecked bool[n]; what is unchecked is fresh.
        """
        fresh, unchecked = np.ones(len(hashes), np.bool_), np.zeros(len(hashes), np.bool_)
        if len(hashes) == 0:
            return fresh, unchecked
        seen_ms = ts_ms if seen_ms is None else seen_ms
        before_ms, floors = newest_ms, (self._floors, self._lane_shard)
        newest_ms, oldest_ms = _judge(
            ts_ms, seen_ms, shards, newest_ms, self._window_ms, *floors, unchecked
        )
        asked: I64 | slice = slice(None)
        ids, times, owners = _usable(hashes), ts_ms, shards
        if unchecked.any():
            asked = np.flatnonzero(~unchecked)
            ids, times, owners = ids[asked], ts_ms[asked], shards[asked]
        floor_ms = max(newest_ms - self._window_ms, self._floor_ms)
        ends = self._gone(floor_ms).any() or not self._is_alive(oldest_ms, floor_ms)
        if ends or (self._loaded and self._loaded[-1][1] <= newest_ms):
            highest = np.maximum(np.maximum.accumulate(seen_ms), before_ms)[asked]
            fresh[asked] = self._remember_in_turn(ids, times, owners, highest)
        else:  # no bucket ends with this batch or was waited for, as mostly
            fresh[asked] = self._remember(ids, times, owners)
        self._raise_floor(floor_ms)
        self._keep_cap()
        return fresh, unchecked

    # -- commit -------------------------------------------------------------------------------

    def taken(self) -> list[Taken]:
        """New ids since each shard's last commit, by bucket: what a commit appends."""
        self._sort_out()
        return [
            Taken(bucket, self._shards[places], hashes)
            for bucket, (places, hashes) in self._untaken.items()
            if self._holds(bucket)
        ]

    def ended(self, shards: Sequence[int]) -> dict[int, list[int]]:
        """Of some shards the stored buckets that are out of the window: what a commit deletes."""
        over = self._stored + self._bucket_ms <= self._floor_ms
        if not over.any():
            return {}
        places, buckets = self._places(shards), self._stored[over]
        ended = ((s, buckets[self._has[over, at]]) for s, at in zip(shards, places, strict=True))
        return {shard: mine.tolist() for shard, mine in ended if len(mine)}

    def listed(self, shards: Sequence[int]) -> list[bytes]:
        """The buckets of some shards as they will be stored after a commit, for its record."""
        buckets, _, then = self._committed()
        mine = then[:, self._places(shards)]
        if not (mine == mine[:, :1]).all():
            return [_listing(buckets[each]) for each in mine.T]
        return [_listing(buckets[mine[:, 0]])] * len(shards) if len(shards) else []

    def floors(self, shards: Sequence[int], newest_ms: int) -> list[bytes]:
        """Of some shards the time before which nothing is checked, for their commits' records.

        Args:
            shards: which.
            newest_ms: the highest event time that the lane has seen.
        """
        floors = np.maximum(
            self._floors[self._places(shards)], newest_ms - self._window_ms
        ).tolist()
        said = {ms: str(ms).encode() for ms in set(floors)}
        return [said[ms] for ms in floors]

    def settle(self, shards: Sequence[int]) -> None:
        """The shards' commits are written: what was taken is stored, what had ended is gone."""
        places = self._places(shards)
        buckets, has, then = self._committed()
        has[:, places] = then[:, places]
        kept = has.any(axis=1)
        self._stored, self._has = buckets[kept], has[kept]
        done = np.zeros(len(self._shards), dtype=np.bool_)
        done[places] = True
        left = {b: (at[~done[at]], ids[~done[at]]) for b, (at, ids) in self._untaken.items()}
        self._untaken = {b: part for b, part in left.items() if len(part[0])}

    def remembered(self, shard: int) -> dict[int, U64]:
        """All ids of a shard by bucket, for a store that lost some; new ones are among them."""
        hashes, tags = self._ids.listed()
        slot, at = np.divmod(tags, len(self._shards))
        mine = at == self._lane_shard[shard]
        hashes, slot = hashes[mine], slot[mine]
        found = {int(self._bucket_of[s]): hashes[slot == s] for s in np.unique(slot)}
        for of, bucket, ids in self._loaded:
            if of == shard:
                found[bucket] = np.concatenate([found.get(bucket, ids[:0]), ids])
        return found

    def load(self, shard: int, bucket: int, hashes: U64) -> None:
        """Take in one stored bucket of a shard; ``hashes`` uint64[n] as ``unpack_ids`` gives them.

        Buckets may come in any order. The length of a bucket may have been another. ``restored``
        must follow the last one.
        """
        at = int(np.searchsorted(self._stored, bucket))
        if bucket not in self._stored[at : at + 1]:
            self._stored = np.insert(self._stored, at, bucket)
            self._has = np.insert(self._has, at, False, axis=0)
        self._has[at, self._lane_shard[shard]] = True
        self._loaded.append((shard, bucket, hashes))

    def restore(self, shard: int, floor_ms: int) -> None:
        """A shard's last commit has this floor; one of which that is not said has the highest."""
        self._floors[self._lane_shard[shard]] = floor_ms
        self._is_known[self._lane_shard[shard]] = True

    def restored(self) -> None:
        """All shards are loaded; buckets that are ahead of the others come in when time does."""
        starts = [bucket - self._window_ms for _, bucket, _ in self._loaded]
        self._floors[~self._is_known] = max([int(self._floors.max()), *starts])
        self._floor_ms = int(self._floors.min())
        self._loaded.sort(key=itemgetter(1), reverse=True)
        self._come_to(self._floor_ms + self._window_ms)
        self._keep_cap()

    # -- within -------------------------------------------------------------------------------

    def _places(self, shards: Sequence[int]) -> I64:
        """The places of some shards in the lane."""
        return self._lane_shard[np.array(shards, dtype=np.int64)]

    def _committed(self) -> tuple[I64, Bools, Bools]:
        """Which places of shards have which buckets.

        Returns:
            buckets: the oldest first, int64[k].
            now: in the store, bool[k, shards].
            then: after a commit of all shards, bool[k, shards].
        """
        self._sort_out()
        buckets, now = self._stored, self._has.copy()
        if new := self._untaken.keys() - set(buckets.tolist()):
            buckets = np.sort(np.array([*buckets.tolist(), *new], dtype=np.int64))
            now = np.zeros((len(buckets), len(self._shards)), dtype=np.bool_)
            now[np.searchsorted(buckets, self._stored)] = self._has
        then = now.copy()
        for bucket, (places, _) in self._untaken.items():
            then[np.searchsorted(buckets, bucket), places] = True
        then &= (buckets + self._bucket_ms > self._floor_ms)[:, None]
        return buckets, now, then

    def _holds(self, bucket: int) -> bool:
        """Whether a bucket, of any length, is not over."""
        return bucket + self._bucket_ms > self._floor_ms

    def _is_alive(self, ts_ms: Any, floor_ms: int) -> Any:
        """Whether the bucket of a time, or of each, is not wholly before ``floor_ms``."""
        return (ts_ms // self._bucket_ms + 1) * self._bucket_ms > floor_ms

    def _gone(self, floor_ms: int) -> Bools:
        """The slots whose ids are all before ``floor_ms``, bool[slots]."""
        return (self._count_of > 0) & (self._bucket_of + self._bucket_ms <= floor_ms)

    def _remember_in_turn(self, hashes: U64, ts_ms: I64, shards: I64, highest_ms: I64) -> Bools:
        """Add ids as if they came one by one; which were new, bool[n].

        Args:
            hashes: uint64[n].
            ts_ms: int64[n].
            shards: int64[n].
            highest_ms: the newest time that was seen up to each, int64[n].
        """
        new = np.empty(len(hashes), dtype=np.bool_)
        floors = np.maximum(highest_ms - self._window_ms, self._floor_ms)
        bounds = [*begins(floors // self._bucket_ms).tolist(), len(hashes)]
        for start, stop in pairwise(bounds):  # with the first of each, buckets end
            self._raise_floor(int(floors[stop - 1]))
            self._come_to(int(highest_ms[stop - 1]))
            part = slice(start, stop)
            new[part] = self._remember(hashes[part], ts_ms[part], shards[part])
        return new

    def _come_to(self, newest_ms: int) -> None:
        """Remember what was loaded of buckets that time has reached."""
        while self._loaded and self._loaded[-1][1] <= newest_ms:
            shard, bucket, hashes = self._loaded.pop()
            if self._is_alive(bucket, self._floor_ms):
                ids = _usable(hashes)
                self._remember(ids, np.full(len(ids), bucket), np.full(len(ids), shard))
                self._new.pop()  # the store has them

    def _remember(self, hashes: U64, ts_ms: I64, shards: I64) -> Bools:
        """Add ids, all in the window; which were new, bool[n]."""
        tags, each = np.empty(len(hashes), dtype=np.uint16), len(self._shards)
        _tag(ts_ms, shards, self._bucket_ms, self._lane_shard, each, self._bucket_of, tags)
        new = self._ids.add(hashes, tags)
        if _count(tags, new, each, self._count_of) < len(hashes):
            hashes, tags = hashes[new], tags[new]
        self._new.append((hashes, tags))
        return new

    def _raise_floor(self, floor_ms: int) -> None:
        """Check nothing before ``floor_ms``, and forget the buckets that are wholly before it."""
        self._floor_ms = max(self._floor_ms, floor_ms)
        np.maximum(self._floors, floor_ms, out=self._floors)
        gone = self._gone(self._floor_ms)
        if not gone.any():
            return
        self._sort_out()  # while a slot still tells the bucket
        if (gone == (self._count_of > 0)).all():
            self._ids = IdSet()
        else:
            for slot in np.flatnonzero(gone).tolist():
                self._ids.drop(slot * len(self._shards), (slot + 1) * len(self._shards))
        self._count_of[gone] = 0

    def _keep_cap(self) -> None:
        while len(self._ids) > self._cap:
            oldest = int(self._bucket_of[self._count_of > 0].min())
            self._raise_floor(oldest + self._bucket_ms)

    def _sort_out(self) -> None:
        """Put what is new to its shard and bucket."""
        if not self._new:
            return
        hashes = np.concatenate([part for part, _ in self._new])
        tags = np.concatenate([part for _, part in self._new])
        self._new.clear()
        order = np.argsort(tags, kind="stable")  # 16 bits: a radix sort
        hashes, tags = hashes[order], tags[order]
        slots, places = np.divmod(tags, np.uint16(len(self._shards)))
        for start, stop in pairwise([*begins(slots).tolist(), len(slots)]):
            bucket = int(self._bucket_of[slots[start]])
            part = places[start:stop].astype(np.int64), hashes[start:stop]
            held = self._untaken.get(bucket)
            self._untaken[bucket] = part if held is None else _together(held, part)


def bucket_length_ms(window_ms: int) -> int:
    """How long a bucket is for a window, so that a window has about ten of them."""
    return max(window_ms // 10, 1)


@compiled
def _judge(
    ts_ms: I64,
    seen_ms: I64,
    shards: I64,
    newest_ms: int,
    window_ms: int,
    floors: I64,
    lane_shard: I64,
    unchecked: Bools,
) -> Any:
    """Tell what is too old to be checked; the newest time, and the oldest that is checked."""
    oldest_ms = _NEVER_OLD
    for i in range(len(ts_ms)):
        newest_ms = max(newest_ms, seen_ms[i])
        floor_ms = floors[lane_shard[shards[i]]]
        unchecked[i] = ts_ms[i] < max(newest_ms - window_ms, floor_ms)
        if not unchecked[i]:
            oldest_ms = min(oldest_ms, ts_ms[i])
    return newest_ms, oldest_ms


@compiled
def _tag(
    ts_ms: I64,
    shards: I64,
    bucket_ms: int,
    lane_shard: I64,
    each: int,
    bucket_of: I64,
    tags: U16,
) -> None:
    """Slot of the bucket and shard of each id as one number; slots get the bucket they hold."""
    for i in range(len(ts_ms)):
        bucket = ts_ms[i] // bucket_ms
        slot = bucket % len(bucket_of)
        bucket_of[slot] = bucket * bucket_ms
        tags[i] = slot * each + lane_shard[shards[i]]


@compiled
def _count(tags: U16, new: Bools, each: int, count_of: I64) -> int:
    """Count what is new in its slot; how many."""
    count = 0
    for i in range(len(tags)):
        if new[i]:
            count_of[tags[i] // each] += 1
            count += 1
    return count


def _together(first: tuple[I64, U64], then: tuple[I64, U64]) -> tuple[I64, U64]:
    """Ids of one bucket in the order of their shards."""
    places, hashes = (np.concatenate(pair) for pair in zip(first, then, strict=True))
    order = np.argsort(places, kind="stable")
    return places[order], hashes[order]


def _listing(buckets: I64) -> bytes:
    return " ".join(map(str, buckets.tolist())).encode()


def _usable(hashes: U64) -> U64:
    """Hashes that ``IdSet`` takes; two of 2^64 are the same as a third."""
    return np.maximum(hashes, LEAST_HASH)
