"""Changes: one entry of a user into a segment, or one exit, with its cause.

A change is decided once, in the lane, and then only copied: into the outbox with the commit that
decided it, and from there to the change topic. Its id is its place in the commit, so a copy can
always be told from a new one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal[
    "event",
    "timer",
    "cuts",
    "definition",
    "model",
    "correction",
    "consent",
    "erasure",
    "merge",
    "retention",
    "recovery",
    "backfill",
]


Facts = dict[str, float | int | str | bool | None]


class Cause(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a membership changed.

    Attributes:
        kind: what brought the evaluation about.
        event_id: the event, where there was one.
        late: the event came after the clock had passed its time.
        values: what the definition's conditions measured.
        thresholds: what they compared it with.
    """

    kind: Kind
    event_id: str | None = None
    late: bool = False
    values: Facts = {}
    thresholds: Facts = {}


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry into or exit from a segment, as it stands on the change topic.

    Attributes:
        id: epoch, shard, commit sequence and place in it; unique, and equal on every copy.
        user_id: whose.
        segment: which segment or family member.
        action: what happened.
        ts: event time of the change, epoch milliseconds.
        decided_at: when it was decided, by the wall clock; in a replay by the events seen so far.
        version: of the definition.
        epoch: of the fence under which it was decided.
        n: count of the user's changes, rising by one within an epoch.
        segments: all of the user's memberships after it.
        cause: why.
    """

    id: str
    user_id: str
    segment: str
    action: Literal["entered", "exited"]
    ts: int
    decided_at: int
    version: int
    epoch: int
    n: int
    segments: list[str]
    cause: Cause

    def record(self) -> tuple[bytes, bytes]:
        """Its key and value on the change topic."""
        return self.user_id.encode(), _encoder.encode(self)


class Undated(msgspec.Struct, gc=False):
    """A change that is decided but not yet committed, so it has no id and no epoch yet."""

    row: int
    segment: str
    action: Literal["entered", "exited"]
    ts: int
    decided_at: int
    version: int
    n: int
    segments: list[str]
    cause: Cause

    def dated(self, user_id: str, epoch: int, shard: int, seq: int, place: int) -> Change:
        """The change as the commit ``seq`` of ``shard`` publishes it."""
        return Change(
            id=f"{epoch}-{shard:02d}-{seq}-{place}",
            user_id=user_id,
            segment=self.segment,
            action=self.action,
            ts=self.ts,
            decided_at=self.decided_at,
            version=self.version,
            epoch=epoch,
            n=self.n,
            segments=self.segments,
            cause=self.cause,
        )


class Gone(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user who was forgotten: an outbox entry says so to the memberships topic only.

    Attributes:
        gone: true; stands first, so that a record is known by its first bytes.
        user_id: whose.
        epoch, n: the place of the user's last change.
        ts: when, by the lane's clock.
        segments: none.
    """

    gone: bool = True
    user_id: str
    epoch: int
    n: int
    ts: int
    segments: tuple[str, ...] = ()

    def record(self) -> tuple[bytes, bytes]:
        """Its key and value in an outbox entry."""
        return self.user_id.encode(), _encoder.encode(self)


def is_gone(value: bytes) -> bool:
    """Whether a record of an outbox entry is no change, but says that a user was forgotten.

    >>> is_gone(Gone(user_id="ann", epoch=3, n=7, ts=5).record()[1])
    True
    """
    return value.startswith(b'{"gone":')


_encoder = msgspec.json.Encoder()
_records = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])


def encode_entry(records: list[tuple[bytes, bytes]]) -> bytes:
    """An outbox entry: (user id, change as JSON) for each, in order.

    >>> c = Undated(0, "vip", "entered", 5, 5, 1, 1, ["vip"], Cause(kind="event")).dated(
    ...     "ann", epoch=2, shard=7, seq=40, place=0)
    >>> [(key, value[:20]) for key, value in decode_entry(encode_entry([c.record()]))]
    [(b'ann', b'{"id":"2-07-40-0","u')]
    """
    return msgspec.msgpack.encode(records)


def decode_entry(raw: bytes) -> list[tuple[bytes, bytes]]:
    """The records of an outbox entry as (key, value) for the change topic."""
    return _records.decode(raw)
