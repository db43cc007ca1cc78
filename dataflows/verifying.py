"""Holding live profiles against the log: everything recomputed by the slow reference.

Each shard is compared as of its own committed positions, so the engine may go on working: what it
has not committed yet is left out on both sides. What is compared stands in ``comparing.py``.
"""

from __future__ import annotations

import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import numpy as np

from dataflows import plans, reference
from dataflows.comparing import Difference, Document, compare, compare_sets, reference_settings
from dataflows.retention import retention_ms
from dataflows.settings import Settings
from events.batch import Batch, Read
from events.decode import Decoder
from events.schema import TYPES
from operators.source import EventReader, EventSource
from operators.stop import Stop
from state.dedup import bucket_length_ms
from state.naming import Naming
from state.positions import Positions
from state.store import Store
from state.times import NEVER_MS

_LOOKS: Final = 5


class LogIncomplete(Exception):
    """The log no longer holds its beginning, so there is nothing to verify against."""


class NothingCompared(Exception):
    """The store, or the share of it, holds nobody, and so it is not known whether it is right."""


@dataclass(slots=True)
class Report:
    """What verifying found.

    Attributes:
        events: good events of the log that the compared shards have taken; duplicates are not
            counted.
        users: how many were compared.
        differences: at most one for each user that differs.
    """

    events: int = 0
    users: int = 0
    differences: list[Difference] = field(default_factory=list)


@dataclass(slots=True)
class _Shard:
    positions: dict[int, int]
    clock_ms: int
    documents: dict[str, Document]
    memberships: dict[str, set[str]] | None


def verify(settings: Settings, store: Store, share: float = 1.0) -> Report:
    """Compare stored profiles with the events topic.

    Args:
        settings: the engine's.
        store: its store.
        share: of the users, chosen by a hash.

    Raises:
        LogIncomplete: retention has removed the beginning of the log.
        NothingCompared: nothing was committed, or nobody is in the share.
    """
    shards = {n: _look(store, n) for n in range(settings.redis.shards)}
    shards = {n: s for n, s in shards.items() if s.positions}
    if not shards:
        raise NothingCompared(
            f"no shard under {store.prefix!r} has committed anything: check REDIS_URL, its "
            "database number and redis.prefix"
        )
    wanted: dict[int, int] = defaultdict(int)
    for shard in shards.values():
        for partition, offset in shard.positions.items():
            wanted[partition] = max(wanted[partition], offset)
    report = Report()
    by_user: dict[str, list[reference.Event]] = defaultdict(list)
    window_ms = plans.lane_plan(settings).dedup_window_ms
    covered = _events(settings, store.meta.salt(), shards, wanted, share)
    for event in _distinct(covered, window_ms):
        by_user[event["user_id"]].append(event)
        report.events += 1
    chosen, after_ms = reference_settings(settings), retention_ms(settings)
    for shard in shards.values():
        for user, live in shard.documents.items():
            if _in_share(user, share):
                report.users += 1
                events = _present(by_user.pop(user, []), live, after_ms, shard.clock_ms)
                difference = compare(user, live, events, chosen)
                if difference is None and shard.memberships is not None:
                    difference = compare_sets(user, live, shard.memberships.get(user, set()))
                if difference is not None:
                    report.differences.append(difference)
    report.differences += [
        Difference(user, "", None, f"{len(events)} events")
        for user, events in by_user.items()
        if not _is_over(events, after_ms, shards[_shard_of(user, settings)].clock_ms)
    ]
    known = sum(len(shard.documents) for shard in shards.values())
    if known and not (report.users or report.differences):
        raise NothingCompared(
            f"none of {known:,} users is in a share of {share:g}: compare a larger one"
        )
    return report


def _look(store: Store, shard: int) -> _Shard:
    """The profiles and positions of one commit."""
    memberships: dict[str, set[str]] | None
    for _ in range(_LOOKS):
        before = store.record(shard)
        documents = {user: msgspec.msgpack.decode(raw) for user, raw in store.profiles(shard)}
        memberships = _memberships(store, shard, before, documents.values())
        if store.record(shard).get("seq") == before.get("seq"):
            break
    else:
        newest = max((int(d["commit"]) for d in documents.values()), default=0)
        if newest > int(before.get("seq", b"0")):
            raise LogIncomplete(
                f"shard {shard} is written faster than it can be read; verify while less comes in"
            )
        memberships = None  # the sets may be of a later commit than the profiles
    clock_ms = int(before.get("clock", NEVER_MS))
    return _Shard(Positions.decode(before.get("positions")), clock_ms, documents, memberships)


def _memberships(
    store: Store, shard: int, record: Mapping[str, bytes], documents: Iterable[Document]
) -> dict[str, set[str]]:
    """The segments of each user by the sets, of segments that are defined or in a profile."""
    names = {name for document in documents for name in document["segments"]}
    if "segments" in record:
        names.update(Naming.decode(record["segments"]).names)
    held: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for user in store.members(shard, name):
            held[user].add(name)
    return held


def _events(
    settings: Settings,
    salt: int,
    shards: Mapping[int, _Shard],
    wanted: Mapping[int, int],
    share: float,
) -> Iterator[dict[str, Any]]:
    """The events that the compared shards have taken, in the order in which they came."""
    decode, reached_ms = Decoder(plans.event_rules(settings, salt)), dict[int, int]()
    came_ms, ts_ms, taken = array("q"), array("q"), list[dict[str, Any] | None]()
    for read in _reads(settings, wanted):
        came = _came_ms(read, reached_ms)
        batch, _letters = decode(read)
        places = zip(batch.partition.tolist(), batch.offset.tolist(), strict=True)
        came_ms.extend(map(came.__getitem__, places))
        ts_ms.extend(batch.ts_ms.tolist())
        taken.extend(_taken(batch, settings.redis.shards, shards, share))
    order = np.argsort(came_ms, kind="stable")
    newest_ms = np.maximum.accumulate(np.array(ts_ms, np.int64)[order])
    for place, newest in zip(order.tolist(), newest_ms.tolist(), strict=True):
        event = taken[place]
        if event is not None:
            yield event | {"newest_ms": newest}


def _came_ms(read: Read, reached_ms: dict[int, int]) -> dict[tuple[int, int], int]:
    """When each message came, by partition and offset; within a partition it never falls.

    Here the partitions are read as they answer, and an engine that was there when they were written
    read them side by side.
    """
    out = {}
    messages = (read.partition.tolist(), read.offset.tolist(), read.record_ts_ms.tolist())
    for partition, offset, stamp_ms in zip(*messages, strict=True):
        out[partition, offset] = max(stamp_ms, reached_ms.get(partition, NEVER_MS))
        reached_ms[partition] = out[partition, offset]
    return out


def _reads(settings: Settings, wanted: Mapping[int, int]) -> Iterator[Read]:
    """The log from its beginning up to what is wanted."""
    config = {**plans.kafka_config(settings), "log_level": 2}
    spec = plans.source_spec(settings)
    source = EventSource(config, replace(spec, group="afterglow-verify"), dict, Stop())
    reader: EventReader = source.build_part("verify", source.list_parts()[0], None)
    at: dict[int, int] = {}
    try:
        while not at or any(at.get(p, 0) < offset for p, offset in wanted.items()):
            for read in reader.next_batch():
                for span in read.spans:
                    if span.partition not in at and span.start > 0:
                        raise LogIncomplete(
                            f"partition {span.partition} of {settings.kafka.events!r} begins at "
                            f"offset {span.start}: retention has removed what came before, so "
                            "profiles cannot be recomputed from it. Give the topic a longer "
                            "retention, and verify engines that have read all of it (the broker of "
                            "`afterglow demo` keeps 5 MiB of a partition)"
                        )
                    at[span.partition] = span.stop
                _check_reach(settings.kafka.events, read, wanted)
                yield read
    finally:
        reader.close()


def _check_reach(topic: str, read: Read, wanted: Mapping[int, int]) -> None:
    """Refuse a log that ends before what was committed."""
    ends = {span.partition: span.stop for span in read.spans if span.at_end}
    known = {span.partition for span in read.spans}
    for partition, offset in wanted.items():
        if partition not in known or ends.get(partition, offset) < offset:
            raise LogIncomplete(
                f"partition {partition} of {topic!r} must reach offset {offset}, which was "
                f"committed, but ends at {ends.get(partition, 0)}: it was recreated, or this is "
                "another broker or topic. Check KAFKA_BOOTSTRAP and kafka.events"
            )


def _taken(
    batch: Batch,
    shard_count: int,
    shards: Mapping[int, _Shard],
    share: float,
) -> Iterator[dict[str, Any] | None]:
    """The events that their shard's positions cover; None for each other."""
    devices, countries = batch.device.tolist(), batch.country.tolist()
    items = batch.item.tolist()
    columns = zip(
        batch.users.strings(),
        batch.event_ids.strings(),
        batch.type.tolist(),
        batch.ts_ms.tolist(),
        batch.amount_minor.tolist(),
        batch.order_hash.tolist(),
        batch.event_hash.tolist(),
        batch.partition.tolist(),
        batch.offset.tolist(),
        strict=True,
    )
    for i, (user, event, kind, ts, amount, order, own, partition, offset) in enumerate(columns):
        shard = shards.get(zlib.crc32(user.encode()) % shard_count)
        covered = shard is not None and offset < shard.positions.get(partition, 0)
        if not (covered and _in_share(user, share)):
            yield None
        else:
            yield {
                "user_id": user,
                "event_id": event,
                "type": TYPES[kind],
                "ts": ts,
                "amount_minor": amount,
                "order_id": order,
                "event_hash": own,
                "item_id": items[i],
                "device": devices[i],
                "country": countries[i],
            }


def _distinct(events: Iterable[dict[str, Any]], window_ms: int) -> Iterator[dict[str, Any]]:
    """Without the duplicates that an engine finds: those of ids within the window.

    What is older than the window is taken, whether it came before or not, and an id whose bucket is
    over is forgotten. An engine that caught up may have read its partitions in another order, so
    that at the very edge of the window it may have found another.
    """
    bucket_ms = bucket_length_ms(window_ms)
    seen: dict[int, int] = {}
    for event in events:
        own, floor_ms = event["event_hash"], event["newest_ms"] - window_ms
        if event["ts"] < floor_ms:  # not checked, and not remembered either
            yield event
        elif (seen.get(own, NEVER_MS) // bucket_ms + 1) * bucket_ms <= floor_ms:
            seen[own] = event["ts"]
            yield event


def _shard_of(user: str, settings: Settings) -> int:
    return zlib.crc32(user.encode()) % settings.redis.shards


def _is_over(events: Sequence[reference.Event], after_ms: int, clock_ms: int) -> bool:
    """Whether a user of these last events may be forgotten."""
    return after_ms > 0 and max(event["ts"] for event in events) + after_ms <= clock_ms


def _present(
    events: list[reference.Event], live: Document, after_ms: int, clock_ms: int
) -> list[reference.Event]:
    """Of all events of a user those since the user was forgotten last, if ever.

    Where an event came later than the user may be remembered, the user was forgotten before it.
    Where the clock came first, the profile says how many events it knows; it must have been time.
    """
    if not after_ms:
        return events
    begins, last = 0, NEVER_MS
    for place, event in enumerate(events):
        if last != NEVER_MS and last + after_ms <= event["ts"]:
            begins, last = place, event["ts"]
        last = max(last, event["ts"])
    known = len(events) - live["lifetime"]["events"]
    if known > begins and _is_over(events[begins:known], after_ms, clock_ms):
        begins = known
    return events[begins:]


def _in_share(user: str, share: float) -> bool:
    return share >= 1 or zlib.adler32(user.encode()) % 10_000 < share * 10_000
