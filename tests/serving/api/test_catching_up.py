"""Who comes back misses nothing that it is not told of, whatever comes while the past is read."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.changes import EventStream, choosing
from serving.api.feed import Feed, Message, decode_place
from serving.api.metrics import HttpMetrics
from serving.api.terms import Terms
from tests.serving.api.serving import change

EVERYTHING = choosing(frozenset(), frozenset())


class Topic:
    """A log in memory, of which more comes whenever its past is read or closed.

    Args:
        feed: that is told what comes.
        loop: of the feed.
        coming: what is not there yet, in the pieces in which it comes.
        at_once: messages of one read.
    """

    def __init__(
        self, feed: Feed, loop: asyncio.AbstractEventLoop, coming: list[list[Message]], at_once: int
    ) -> None:
        self.log: list[Message] = []
        self.pause_s = 0.0
        self.at_once, self.opened = at_once, 0
        self._feed, self._loop, self._coming = feed, loop, coming

    def past(self, places: Mapping[int, int]) -> Past:
        """A reader from these places on."""
        self.opened += 1
        return Past(self, places)

    def grow(self) -> None:
        """The next piece comes; for other threads than the loop's."""
        asyncio.run_coroutine_threadsafe(self._grow(), self._loop).result(10)

    async def _grow(self) -> None:
        if self._coming:
            self.take(self._coming.pop(0))

    def take(self, piece: list[Message]) -> None:
        """A piece comes."""
        self.log += piece
        self._feed.take(piece)


class Past:
    """A reader of it."""

    def __init__(self, topic: Topic, places: Mapping[int, int]) -> None:
        self._topic, self.places = topic, dict(places)

    def read(self) -> list[Message]:
        """What comes next."""
        self._topic.grow()
        time.sleep(self._topic.pause_s)
        found = [m for m in self._topic.log if m[1] >= self.places.get(m[0], 1 << 60)]
        found = found[: self._topic.at_once]
        self.places |= {p: offset + 1 for p, offset, _ in found}
        return found

    def close(self) -> None:
        """End reading, slowly."""
        self._topic.grow()


async def told(
    feed: Feed, places: Mapping[int, int], enough: Callable[[bytes], bool], seconds: float = 10
) -> list[tuple[str, str, int]]:
    """What a client gets until it is enough: kinds of events, their ids and numbers."""
    got, done = bytearray(), asyncio.Event()

    async def send(message: Mapping[str, bytes]) -> None:
        got.extend(message.get("body", b""))
        if enough(bytes(got)):
            done.set()

    async def receive() -> Mapping[str, str]:
        await done.wait()
        return {"type": "http.disconnect"}

    stream = EventStream(feed, EVERYTHING, places, Terms(heartbeat_s=0.1), HttpMetrics())
    try:
        async with asyncio.timeout(seconds):
            await stream({}, receive, send)  # type: ignore[arg-type]
    except TimeoutError:
        pytest.fail(f"only this came: {bytes(got[-500:])!r}")
    found = []
    for event in got.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
        if "event" in fields:
            data = json.loads(fields["data"])
            found.append((fields["event"], fields.get("id", ""), data.get("n", -1)))
    return found


def numbers(found: list[tuple[str, str, int]]) -> list[int]:
    assert {kind for kind, _, _ in found} <= {"change"}
    return [n for _, _, n in found]


def messages(first: int, count: int, partition: int = 0, at: int = 0) -> list[Message]:
    return [(partition, at + n, change(f"u{n}", "vip", first + n)) for n in range(count)]


def has(count: int) -> Callable[[bytes], bool]:
    return lambda got: got.count(b"event: ") >= count


def test_what_comes_while_the_past_is_closed_is_not_lost() -> None:
    """It is more than is remembered, so a seat taken only afterwards would begin too late."""

    async def run() -> list[int]:
        feed = Feed(100, 1000)
        rest = messages(300, 150, at=300)
        topic = Topic(feed, asyncio.get_running_loop(), [[], [], rest], at_once=150)
        feed.topic = topic
        feed.begin({0: 0})
        topic.take(messages(0, 300))
        return numbers(await told(feed, {0: 10}, has(440)))

    assert asyncio.run(run()) == list(range(10, 450))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_comes_meanwhile(data: st.DataObject) -> None:
    """For any history, place and pace, over three partitions of which one comes later."""
    partitions = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=60))
    at = {0: 0, 1: 0, 2: 0}
    log: list[Message] = []
    for n, p in enumerate(partitions):
        log.append((p, at[p], change("ann", "vip", n)))
        at[p] += 1 + n % 2  # with holes, as transactions leave them
    there = data.draw(st.integers(0, len(log)))
    held = data.draw(st.integers(0, there))
    sizes = data.draw(st.lists(st.integers(0, 8), min_size=10, max_size=10))
    history, at_once = data.draw(st.integers(1, 10)), data.draw(st.integers(1, 5))
    places = {p: offset + 1 for p, offset, _ in log[:held]}
    places = {0: 0, 1: 0} | places  # the third, if nothing had come there yet
    coming, first = [], there
    for size in sizes:
        coming.append(log[first : first + size])
        first += size
    expected = sorted(range(held, len(log)))

    async def run() -> list[int]:
        feed = Feed(history, 1000)
        topic = Topic(feed, asyncio.get_running_loop(), coming, at_once)
        feed.topic = topic
        feed.begin({0: 0, 1: 0, 2: 0})
        topic.take(log[:there])

        async def rest() -> None:
            await asyncio.sleep(0.05)
            for piece in [*coming, log[first:]]:
                topic.take(piece)
            coming.clear()

        later = asyncio.create_task(rest())
        found = await told(feed, places, has(len(expected)))
        await later
        return numbers(found)

    got = asyncio.run(run())
    assert set(got) == set(expected)
    assert sorted(got) == expected


def test_a_partition_that_came_after_the_place_is_told_from_its_beginning() -> None:
    async def run() -> list[int]:
        feed = Feed(100, 1000)
        feed.topic = topic = Topic(feed, asyncio.get_running_loop(), [], at_once=200)
        feed.begin({0: 0})
        topic.take(messages(0, 10))
        place = feed.here
        feed.begin({1: 0})
        topic.take(messages(10, 300, partition=1))
        return numbers(await told(feed, decode_place(place), has(300)))

    assert asyncio.run(run()) == list(range(10, 310))


def test_no_place_at_all_is_a_gap() -> None:
    """Servers gave such an id out while they did not know yet where the topic ends."""

    async def run() -> list[tuple[str, str, int]]:
        feed = Feed(100, 1000)
        feed.topic = topic = Topic(feed, asyncio.get_running_loop(), [], at_once=200)
        feed.begin({0: 500})
        topic.take(messages(0, 300, at=500))
        return await told(feed, decode_place("-"), has(1))

    assert asyncio.run(run()) == [("gap", "800", -1)]


def test_before_the_end_of_the_topic_is_known_nobody_gets_a_place() -> None:
    async def run() -> tuple[list[int], bytes]:
        feed, seen = Feed(100, 1000), []
        feed.topic = topic = Topic(feed, asyncio.get_running_loop(), [], at_once=200)

        def enough(got: bytes) -> bool:
            seen.append(got)
            return has(5)(got)

        client = asyncio.create_task(told(feed, {0: 503}, enough))
        await asyncio.sleep(0.3)
        before = seen[-1]
        feed.begin({0: 500})
        topic.take(messages(0, 8, at=500))
        return numbers(await client), before

    found, before = asyncio.run(run())
    assert found == list(range(3, 8))
    assert b"id:" not in before


def test_a_server_that_is_behind_by_a_moment_comes_to_the_place() -> None:
    async def run() -> list[int]:
        feed = Feed(100, 1000)
        feed.topic = topic = Topic(feed, asyncio.get_running_loop(), [], at_once=200)
        feed.begin({0: 0})
        topic.take(messages(0, 5))
        client = asyncio.create_task(told(feed, {0: 8}, has(2)))
        await asyncio.sleep(0.2)
        topic.take(messages(5, 5, at=5))
        return numbers(await client)

    assert asyncio.run(run()) == [8, 9]


def test_nothing_is_lost_while_a_gap_is_told() -> None:
    """The place in a gap is where its follower really goes on."""

    async def run() -> list[tuple[str, str, int]]:
        feed = Feed(2, 1000)
        feed.begin({0: 0})
        feed.take(messages(0, 5))
        at = [5]

        def enough(got: bytes) -> bool:
            if at[0] < 12:  # one more with each piece that is sent
                feed.take(messages(at[0], 1, at=at[0]))
                at[0] += 1
            return has(4)(got)

        return await told(feed, {0: 1}, enough)

    (kind, place, _), *rest = asyncio.run(run())
    assert kind == "gap"
    first = int(place)
    assert [n for _, _, n in rest][:3] == [first, first + 1, first + 2]


def test_another_log_in_the_place_of_the_old_one_is_told_to_all() -> None:
    """To who follows, to who catches up, and to who comes with a place of the old one."""

    async def run() -> None:
        feed = Feed(3, 1000)
        feed.topic = topic = Topic(feed, asyncio.get_running_loop(), [], at_once=1)
        feed.begin({0: 0, 1: 0})
        topic.take(messages(0, 50))
        topic.pause_s = 0.02
        present = asyncio.create_task(told(feed, {0: 50, 1: 0}, has(3)))
        past = asyncio.create_task(told(feed, {0: 0, 1: 0}, lambda got: b"event: gap" in got))
        await asyncio.sleep(0.1)
        topic.log.clear()
        feed.begin_anew({0: 0})
        topic.take(messages(100, 2))
        assert await present == [("gap", "0", -1), ("change", "1", 100), ("change", "2", 101)]
        assert (await past)[-1][0] == "gap"
        late = await told(feed, {0: 30, 1: 0}, has(1))
        assert late == [("gap", "2", -1)]

    asyncio.run(run())
