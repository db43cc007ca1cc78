"""The judge: reads the store and the topics as a customer would, and counts what is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]
import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from loadtest.chaos.books import Account
from loadtest.chaos.clients import open_client

_AT_ONCE: Final = 10_000
_SHARDS: Final = 64
_FOLLOWED: Final = ("segment-changes", "memberships")


class Change(msgspec.Struct):
    """What a consumer needs of a change."""

    id: str
    user_id: str
    segment: str
    action: str
    epoch: int
    n: int
    segments: list[str]


_changes = msgspec.json.Decoder(Change)


@dataclass(slots=True)
class Verdict:
    """What is wrong; all of it should be 0.

    Attributes:
        events, users, changes: how many there were.
        lost, doubled: events that profiles have too few and too many.
        wrong: users whose profile is not as booked.
        gaps: users whose changes do not count up by one.
        copies: changes that a consumer saw twice.
        missing: changes that profiles count and nobody saw.
        strayed: users whose folded changes are not what the store says of their segments, in the
            profile, in the sets, or on the memberships topic.
    """

    events: int = 0
    users: int = 0
    changes: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    gaps: int = 0
    copies: int = 0
    missing: int = 0
    strayed: int = 0

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong."""
        return not (
            self.lost
            or self.doubled
            or self.wrong
            or self.gaps
            or self.copies
            or self.missing
            or self.strayed
        )


@dataclass(slots=True, frozen=True)
class Evidence:
    """How to look.

    Attributes:
        bootstrap, url: where.
        committed: read what is committed only; else drop copies by their id, as consumers of a
            broker without transactions must.
        was_set_back: the store has lost commits whose changes were published, so counts within an
            epoch are gap-free, and need not go on from one epoch to the next.
    """

    bootstrap: str
    url: str
    committed: bool
    was_set_back: bool = False


def judge(evidence: Evidence, accounts: Mapping[str, Account], tail: Tail | None = None) -> Verdict:
    """Compare everything with everything; what ``tail`` has seen instead of the topics."""
    profiles, members = _stored(evidence.url)
    verdict = Verdict(events=sum(a.events for a in accounts.values()), users=len(accounts))
    _judge_values(verdict, profiles, accounts)
    if tail is not None:
        tail.close()
    seen_on = {
        topic: tail.records[topic] if tail else _read(evidence, topic) for topic in _FOLLOWED
    }
    changes = [_changes.decode(raw) for _, raw in seen_on["segment-changes"]]
    seen: dict[str, Change] = {}
    for change in changes:
        if change.id in seen and evidence.committed:
            verdict.copies += 1
        seen.setdefault(change.id, change)
    verdict.changes = len(seen)
    told = dict(seen_on["memberships"])
    _judge_changes(verdict, list(seen.values()), profiles, members, told, evidence)
    return verdict


class Tail(threading.Thread):
    """Follows the topics of changes and memberships from their beginning on.

    The embedded broker keeps little of a partition, so who wants to see everything must follow.

    Attributes:
        records: (key, value) by topic, each partition's in its order.
    """

    def __init__(self, bootstrap: str) -> None:
        super().__init__(daemon=True)
        self.records: dict[str, list[tuple[bytes, bytes]]] = {topic: [] for topic in _FOLLOWED}
        self._address = bootstrap
        self._quiet_s = 0.0
        self._closed = threading.Event()

    def run(self) -> None:
        """Follow until closed."""
        consumer = _consumer(self._address, "read_uncommitted")
        try:
            known: dict[str, int] = {}
            while not self._closed.is_set():
                if len(known) < len(_FOLLOWED):
                    known = self._assign(consumer, known)
                for message in consumer.consume(_AT_ONCE, 0.2):
                    if message.error() is None:
                        record = (message.key() or b"", message.value() or b"")
                        self.records[message.topic() or ""].append(record)
                        self._quiet_s = time.monotonic()
        finally:
            consumer.close()

    def close(self, quiet_s: float = 2.0) -> None:
        """End when nothing has come for a while."""
        self._quiet_s = max(self._quiet_s, time.monotonic())
        while time.monotonic() - self._quiet_s < quiet_s:
            time.sleep(0.1)
        self._closed.set()
        self.join()

    @staticmethod
    def _assign(consumer: Consumer, before: dict[str, int]) -> dict[str, int]:
        topics = consumer.list_topics(timeout=30).topics
        known = {topic: len(topics[topic].partitions) for topic in _FOLLOWED if topic in topics}
        if known != before:
            new = {topic: count for topic, count in known.items() if topic not in before}
            places = [
                TopicPartition(t, p, OFFSET_BEGINNING) for t, n in new.items() for p in range(n)
            ]
            consumer.incremental_assign(places)
        return known


def _judge_values(
    verdict: Verdict, profiles: Mapping[str, dict[str, Any]], accounts: Mapping[str, Account]
) -> None:
    for user in profiles.keys() | accounts.keys():
        booked = accounts.get(user, Account())
        profile = profiles.get(user)
        held = profile["lifetime"]["events"] if profile else 0
        verdict.lost += max(0, booked.events - held)
        verdict.doubled += max(0, held - booked.events)
        verdict.wrong += int(
            profile is None
            or profile["lifetime"] != booked.lifetime()
            or profile["first_seen"] != booked.first_ms
            or profile["last_seen"] != booked.last_ms
        )


def _judge_changes(
    verdict: Verdict,
    changes: list[Change],
    profiles: Mapping[str, dict[str, Any]],
    members: Mapping[str, set[str]],
    told: Mapping[bytes, bytes],
    evidence: Evidence,
) -> None:
    folded: dict[str, set[str]] = {}
    last: dict[str, Change] = {}
    counts: dict[str, int] = {}
    broken: set[str] = set()
    for change in changes:
        user, before = change.user_id, last.get(change.user_id)
        counts[user] = counts.get(user, 0) + 1
        follows = change.n == (before.n + 1 if before else 1)
        new_epoch = evidence.was_set_back and (before is None or change.epoch > before.epoch)
        if not follows and not new_epoch:
            broken.add(user)
        held = folded.setdefault(user, set())
        if new_epoch:
            held.clear()
            held.update(change.segments)
        elif change.action == "entered":
            held.add(change.segment)
        else:
            held.discard(change.segment)
        if held != set(change.segments):
            broken.add(user)
        last[user] = change
    verdict.gaps = len(broken)
    for user in profiles.keys() | folded.keys() | members.keys():
        profile = profiles.get(user, {"segments": (), "changes": 0})
        truth = set(profile["segments"])
        if not evidence.was_set_back:
            verdict.missing += max(0, profile["changes"] - counts.get(user, 0))
        raw = told.get(user.encode())
        membership = set(msgspec.json.decode(raw)["segments"]) if raw else set()
        strays = truth != folded.get(user, set()) or truth != members.get(user, set())
        verdict.strayed += int(strays or truth != membership)


def _stored(url: str) -> tuple[dict[str, dict[str, Any]], dict[str, set[str]]]:
    profiles: dict[str, dict[str, Any]] = {}
    members: dict[str, set[str]] = {}
    with closing(open_client(url)) as client:
        for shard in range(_SHARDS):
            for raw in client.hvals(f"ag:profile:{{{shard:02d}}}"):
                profile = msgpack.unpackb(raw)
                profiles[profile["user_id"]] = profile
        for key in client.scan_iter("ag:members:*", count=1_000):
            segment = key.decode().rpartition(":")[2]
            for user in client.smembers(key):
                members.setdefault(user.decode(), set()).add(segment)
    return profiles, members


def _read(evidence: Evidence, topic: str) -> list[tuple[bytes, bytes]]:
    """All (key, value) records of a topic, each partition's in its order."""
    isolation = "read_committed" if evidence.committed else "read_uncommitted"
    consumer = _consumer(evidence.bootstrap, isolation)
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        out: list[tuple[bytes, bytes]] = []
        at_end: set[int] = set()
        while len(at_end) < len(partitions):
            for message in consumer.consume(_AT_ONCE, 1.0):
                error = message.error()
                if error is None:
                    out.append((message.key() or b"", message.value() or b""))
                elif error.code() == KafkaError._PARTITION_EOF:
                    at_end.add(message.partition() or 0)
        return out
    finally:
        consumer.close()


def _consumer(bootstrap: str, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "judge",
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "fetch.wait.max.ms": 10,
            "log_level": 0,
        }
    )
