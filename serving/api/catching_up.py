"""From the place of a client that comes back to where memory begins, read from the topic itself.

Two things must not happen. Memory moves on while the topic is read, so the client must take its
seat in the same step in which the feed says that it remembers the rest. And a place that the feed
has not come to yet may be a place of another topic, or only of a server that is faster by a moment:
that is waited for, and told as a gap if it does not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

from serving.api.feed import Feed, LogGone, PastReader, encode_place, framed
from serving.api.follower import Wanted

_LOOK_S: Final = 0.02
_AHEAD_S: Final = 2.0
"""A server may be behind another by so much."""


async def catch_up(
    feed: Feed,
    places: Mapping[int, int],
    wanted: Wanted,
    arrive: Callable[[Mapping[int, int]], None],
) -> AsyncGenerator[bytes]:
    """What comes after a place, until the rest is remembered; nothing more if the feed is closed.

    Args:
        feed: which has begun.
        places: of the client.
        wanted: which changes.
        arrive: called with the place up to which all was given, while the feed remembers the rest.

    Raises:
        LogGone: the topic does not hold the place.
        KafkaException: the topic cannot be read.
    """
    turns, at = feed.turns, dict(places)
    past: PastReader | None = None
    await _come_to(feed, at)
    try:
        while not feed.closed:
            if feed.turns != turns:
                raise LogGone("the log is another one now")
            if feed.remembers(at) and feed.knows(at):
                arrive(at)
                return
            if feed.remembers(at):  # this read has overtaken the feed
                await asyncio.sleep(_LOOK_S)
                continue
            if past is not None and feed.partitions - at.keys():
                narrow, past = past, None
                await asyncio.to_thread(narrow.close)
            if past is None:
                past = await _opened(feed, at)
            yield await _read(past, at, wanted)
    finally:
        if past is not None:
            await asyncio.to_thread(past.close)


async def _come_to(feed: Feed, places: Mapping[int, int]) -> None:
    """Wait until the feed has come to a place."""
    if not places:
        raise LogGone("this is no place")
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _AHEAD_S
    while not (feed.knows(places) or feed.closed):
        if loop.time() > until_s:
            raise LogGone("there is no such place")
        await asyncio.sleep(_LOOK_S)


async def _opened(feed: Feed, places: dict[int, int]) -> PastReader:
    """A reader of all partitions; of those that came after the place, from their beginning."""
    if feed.topic is None:
        raise LogGone("there is no topic to read it from")
    for partition in feed.partitions - places.keys():
        places[partition] = 0
    return await asyncio.to_thread(feed.topic.past, dict(places))


async def _read(past: PastReader, places: dict[int, int], wanted: Wanted) -> bytes:
    """What comes next, as events; the places move along."""
    out = []
    for message in await asyncio.to_thread(past.read):
        places[message[0]] = message[1] + 1
        record = framed(message, encode_place(places))
        if wanted(record):
            out.append(record.frame)
    for partition, offset in past.places.items():
        places[partition] = max(offset, places[partition])
    return b"".join(out) or b": \nid: %b\n\n" % encode_place(places).encode()
