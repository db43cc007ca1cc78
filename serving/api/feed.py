"""The change topic, shared by all who follow it.

One consumer reads the topic; the last few thousand changes are remembered. A follower's place is
one offset for each partition, which is what an event's ``id`` says, so that it can come back to any
server, after any restart, and go on where it was. Who comes back from further away than is
remembered reads the topic itself up to where memory begins (``catching_up.py``).

Not every offset is a change: a transaction ends with a marker. So a place moves with changes and
with the end of the log, wherever that is; two places with nothing but markers between them are the
same place, and whoever has the lower one finds that out by reading.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final, Protocol

import msgspec

from afterglow_client.errors import UNREADABLE
from serving.api.follower import Follower, Record, Wanted

Message = tuple[int, int, bytes]
"""Partition, offset, value."""
_UNSET: Final = "-"
_GAP: Final = (
    b"event: gap\ndata: "
    b'{"reason":"the change topic does not hold this place any more: '
    b'read memberships anew (GET /v1/segments/{segment}/members), then go on from here"}\n'
    b"id: %b\n\n"
)


class PlaceError(ValueError):
    """A ``Last-Event-ID`` that is none of this API."""


class LogGone(Exception):
    """The topic does not hold a place any more."""


class PastReader(Protocol):
    """Reads the topic from a place on, for one follower; blocking."""

    @property
    def places(self) -> Mapping[int, int]:
        """What comes next, by partition, also beyond what is no change."""

    def read(self) -> list[Message]:
        """What comes next, perhaps nothing yet.

        Raises:
            LogGone: the place is not there any more.
        """

    def close(self) -> None:
        """End reading."""


class Topic(Protocol):
    """Where the past can be read."""

    def past(self, places: Mapping[int, int]) -> PastReader:
        """A reader from these places on."""


class _Named(msgspec.Struct, gc=False):
    user_id: str = ""
    segment: str = ""


_names: Final = msgspec.json.Decoder(_Named)


class Feed:
    """What is remembered of the changes, and who follows them; for one event loop.

    Args:
        history: changes that are remembered.
        waiting: changes that may wait for one follower.
        topic: where what is not remembered can be read.

    Attributes:
        begun: it is known where the topic ends, or that no one will ask any more.
        turns: how often another log came in place of the one that was read.
    """

    def __init__(self, history: int, waiting: int, topic: Topic | None = None) -> None:
        self._ring: deque[Record] = deque()
        self._history, self._waiting = history, waiting
        self._first: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._followers: set[Follower] = set()
        self.topic = topic
        self.begun, self.turns = asyncio.Event(), 0
        self.trouble = "the change topic has not been read yet"
        self.closed = False

    def __len__(self) -> int:
        return len(self._followers)

    @property
    def here(self) -> str:
        """The place up to which the topic was read, as an ``id``."""
        return encode_place(self._next)

    @property
    def partitions(self) -> frozenset[int]:
        """Those that are read."""
        return frozenset(self._next)

    def begin(self, places: Mapping[int, int]) -> None:
        """Partitions that are read from a place on."""
        for partition, offset in places.items():
            self._first.setdefault(partition, offset)
            self._next.setdefault(partition, offset)
        self.trouble = ""
        self.begun.set()

    def begin_anew(self, places: Mapping[int, int]) -> None:
        """The log is not the one that was read any more: tell a gap, go on from these places.

        All that was remembered is forgotten, because its ids name places of the old log.
        """
        self._ring.clear()
        self._first, self._next = dict(places), dict(places)
        self.turns += 1
        for follower in self._followers:
            follower.tell(gap(self.here))

    def reach(self, ends: Mapping[int, int]) -> None:
        """Partitions were read to an end, which may lie beyond their last change."""
        for partition, offset in ends.items():
            self._next[partition] = max(offset, self._next.get(partition, 0))

    def take(self, messages: Iterable[Message]) -> None:
        """Changes as they come from the topic."""
        records = []
        for message in messages:
            partition, offset, _ = message
            self._first.setdefault(partition, offset)
            self._next[partition] = offset + 1
            records.append(framed(message, self.here))
        self._ring.extend(records)
        while len(self._ring) > self._history:
            gone = self._ring.popleft()
            self._first[gone.partition] = gone.offset + 1
        for follower in self._followers:
            follower.offer(records)

    def remembers(self, places: Mapping[int, int]) -> bool:
        """Whether everything from these places on is in memory.

        A partition without a place came after it: all of it is asked for.
        """
        return all(places.get(p, 0) >= first for p, first in self._first.items())

    def follow(self, wanted: Wanted, places: Mapping[int, int] | None = None) -> Follower:
        """A new follower, from now or from places that are remembered on."""
        backlog = [] if places is None else list(self._from(places))
        follower = Follower(self._waiting, wanted, backlog)
        self._followers.add(follower)
        if self.closed:
            follower.end("closing")
        return follower

    def _from(self, places: Mapping[int, int]) -> Iterator[Record]:
        """What is remembered from some places on, each with the place after it for who was there.

        Who was ahead in one partition stays ahead there, whenever it was read here.
        """
        at = dict(places)
        for record in self._ring:
            if record.offset >= at.get(record.partition, 0):
                at[record.partition] = record.offset + 1
                _, _, rest = record.frame.partition(b"\n")
                yield replace(record, frame=b"id: %b\n%b" % (encode_place(at).encode(), rest))

    def leave(self, follower: Follower) -> None:
        """Forget a follower."""
        self._followers.discard(follower)

    def knows(self, places: Mapping[int, int]) -> bool:
        """Whether the topic was read as far as these places, which may be of another topic."""
        return all(offset <= self._next.get(p, -1) for p, offset in places.items())

    def close(self) -> None:
        """End all followers, and those to come."""
        self.closed = True
        self.begun.set()
        for follower in self._followers:
            follower.end("closing")


def framed(message: Message, place: str) -> Record:
    """A change as a server-sent event, which also says the place after it."""
    partition, offset, value = message
    try:
        named = _names.decode(value)
    except UNREADABLE:
        named = _Named()
    if not value.isascii():
        value = value.decode(errors="replace").encode()  # a stream of events is UTF-8
    data = value.replace(b"\r", b" ").replace(b"\n", b" ")
    frame = b"id: %b\nevent: change\ndata: %b\n\n" % (place.encode(), data)
    return Record(partition, offset, named.user_id, named.segment, frame)


def gap(place: str) -> bytes:
    """The event that changes are missing here, and the place to go on from."""
    return _GAP % place.encode()


def encode_place(places: Mapping[int, int]) -> str:
    """One offset for each partition.

    >>> encode_place({0: 7, 2: 5})
    '7.-.5'
    """
    if not places:
        return _UNSET
    return ".".join(str(places.get(p, _UNSET)) for p in range(max(places) + 1))


def decode_place(text: str) -> dict[int, int]:
    """The way back.

    >>> decode_place("7.-.5")
    {0: 7, 2: 5}

    Raises:
        PlaceError: it was not made by ``encode_place``.
    """
    places = {}
    for partition, part in enumerate(text.split(".")):
        if part == _UNSET:
            continue
        if not (part.isascii() and part.isdigit() and len(part) < 19):
            raise PlaceError(
                f"an id is offsets with dots between them, such as 12.0.7, not {text!r:.80}"
            )
        places[partition] = int(part)
    return places
