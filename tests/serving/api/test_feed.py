"""What is remembered of the changes equals the topic from any place on, whatever comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.api.changes import choosing
from serving.api.feed import Feed, Message, PlaceError, decode_place, encode_place
from tests.serving.api.serving import change

_partitions = st.lists(st.integers(0, 2), max_size=40)


def log_of(partitions: list[int]) -> list[Message]:
    """A topic: offsets with holes, as transactions leave them."""
    at = {0: 0, 1: 0, 2: 0}
    log = []
    for n, partition in enumerate(partitions):
        at[partition] += 1 + n % 2
        log.append((partition, at[partition], change(f"u{n % 3}", f"s{n % 2}", n)))
    return log


def shown(frames: bytes) -> list[int]:
    """The changes in what a follower got."""
    lines = frames.decode().splitlines()
    return [json.loads(line[6:])["n"] for line in lines if line.startswith("data: ")]


def beyond(log: list[Message], places: Mapping[int, int]) -> list[int]:
    return [json.loads(v)["n"] for p, offset, v in log if offset >= places.get(p, 0)]


@given(_partitions, st.integers(0, 40), st.integers(1, 20))
def test_who_comes_back_gets_the_rest(partitions: list[int], cut: int, history: int) -> None:
    """For every place that a client may have, if it is still remembered."""

    async def run() -> None:
        feed, log = Feed(history, 1000), log_of(partitions)
        feed.begin({0: 0, 1: 0, 2: 0})
        before, after = log[:cut], log[cut:]
        feed.take(before)
        places = [{0: 0, 1: 0, 2: 0}]
        for p, offset, _ in before:
            places.append({**places[-1], p: offset + 1})
        assert decode_place(feed.here) == places[-1]
        followers = [
            (held, feed.follow(lambda _: True, held)) for held in places if feed.remembers(held)
        ]
        assert followers
        assert len(followers) >= min(history, len(before))
        feed.take(after)
        for held, follower in followers:
            got = await follower.take(0)
            assert shown(got) == beyond(log, held)

    asyncio.run(run())


@given(_partitions, st.lists(st.integers(0, 40), min_size=3, max_size=3))
def test_ids_never_go_back_for_who_was_ahead_in_some_partitions(
    partitions: list[int], far: list[int]
) -> None:
    """As on another server, which got the partitions in another order."""

    async def run() -> None:
        feed, log = Feed(100, 1000), log_of(partitions)
        feed.begin({0: 0, 1: 0, 2: 0})
        feed.take(log)
        ends = decode_place(feed.here)
        held = {p: min(far[p], ends[p]) for p in ends}
        follower = feed.follow(lambda _: True, held)
        frames = (await follower.take(0.01)) or b""
        assert shown(frames) == beyond(log, held)
        at = dict(held)
        for line in frames.decode().splitlines():
            if line.startswith("id: "):
                place = decode_place(line[4:])
                assert all(place[p] >= at[p] for p in at)
                at = place
        assert at == ends or beyond(log, at) == []

    asyncio.run(run())


@given(_partitions, st.sets(st.sampled_from(["s0", "s1", "s2"])), st.sets(st.just("u1")))
def test_who_chooses_gets_what_was_chosen(
    partitions: list[int], segments: set[str], users: set[str]
) -> None:
    async def run() -> bytes:
        feed = Feed(10, 1000)
        follower = feed.follow(choosing(frozenset(segments), frozenset(users)))
        feed.take(log_of(partitions))
        return await follower.take(0)

    expected = [
        n
        for n in range(len(partitions))
        if (not segments or f"s{n % 2}" in segments) and (not users or f"u{n % 3}" in users)
    ]
    assert shown(asyncio.run(run())) == expected


def test_a_slow_follower_is_cut_and_others_are_not() -> None:
    async def run() -> None:
        feed, log = Feed(100, 3), log_of([0] * 6)
        slow, quick = feed.follow(lambda _: True), feed.follow(lambda _: True)
        for message in log:
            feed.take([message])
            assert len(shown(await quick.take(0))) == 1
        assert (slow.reason, quick.reason) == ("slow", "")
        assert await slow.take(0) == b""

    asyncio.run(run())


def test_many_at_once_do_not_cut() -> None:
    async def run() -> None:
        feed, log = Feed(100, 3), log_of([0] * 40)
        quick = feed.follow(lambda _: True)
        for part in (log[:20], log[20:]):
            feed.take(part)
            assert len(shown(await quick.take(0))) == 20
        assert quick.reason == ""

    asyncio.run(run())


def test_a_long_backlog_does_not_cut() -> None:
    async def run() -> None:
        feed, log = Feed(100, 3), log_of([0] * 50)
        feed.begin({0: 0})
        feed.take(log[:40])
        back = feed.follow(lambda _: True, {0: 0})
        feed.take(log[40:43])
        assert back.reason == ""
        assert shown(await back.take(0)) == list(range(43))
        feed.take(log[43:47])
        feed.take(log[47:48])
        assert back.reason == "slow"

    asyncio.run(run())


def test_places_of_another_topic_are_not_known() -> None:
    feed = Feed(10, 10)
    feed.begin({0: 5})
    assert feed.knows({0: 5})
    assert not feed.knows({0: 6})
    assert not feed.knows({0: 5, 1: 0})


def test_what_is_no_change_moves_the_place_too() -> None:
    """A transaction ends with a marker, beyond which another server may have begun."""
    feed = Feed(10, 10)
    feed.begin({0: 0})
    feed.take(log_of([0, 0]))
    feed.reach({0: 9})
    assert (feed.here, feed.knows({0: 9})) == ("9", True)
    feed.reach({0: 2})  # an end that was reached before the last change came
    assert feed.here == "9"


def test_a_partition_without_a_place_is_asked_for_from_its_beginning() -> None:
    feed = Feed(2, 10)
    feed.begin({0: 5, 1: 0})
    assert feed.remembers({0: 5})
    feed.take([(1, n, change("ann", "vip", n)) for n in range(3)])
    assert not feed.remembers({0: 5})
    assert feed.remembers({0: 5, 1: 1})


@pytest.mark.parametrize(
    "value", [b'{"user_id":"\xff","segment":"vip"}', b"\xff", b"[" * 100_000, b"{", b""]
)
def test_what_cannot_be_read_spoils_nothing_beside_it(value: bytes) -> None:
    async def run() -> bytes:
        feed = Feed(10, 10)
        everything = feed.follow(lambda _: True)
        one = feed.follow(choosing(frozenset(["vip"]), frozenset()))
        feed.take([(0, 0, change("ann", "vip", 0)), (0, 1, value), (0, 2, change("ann", "vip", 2))])
        assert shown(await one.take(0)) == [0, 2]
        assert feed.here == "3"
        return await everything.take(0)

    assert asyncio.run(run()).decode().count("event: change") == 3


@pytest.mark.parametrize("text", ["", "x", "1,2", "-1", "1..2", "1" * 19, "¹", "1.2.", " 1"])
def test_an_id_that_is_none(text: str) -> None:
    with pytest.raises(PlaceError):
        decode_place(text)


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 10**17)))
def test_places_come_back_as_they_went(places: dict[int, int]) -> None:
    assert decode_place(encode_place(places)) == places
