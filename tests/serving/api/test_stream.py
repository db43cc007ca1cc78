"""The change stream over real sockets, from a real topic."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Producer

from dataflows.embedded import EmbeddedBroker
from dataflows.local_kafka import LocalKafka
from serving.api.feed import Feed, Message
from serving.api.parts import Parts
from serving.api.tail import Past, Tail
from serving.api.terms import Terms
from tests.brokers import needs_kafka
from tests.cli.running import until
from tests.serving.api.conftest import Filled
from tests.serving.api.serving import Event, Stream, application, ask, build_at, change, running

pytestmark = pytest.mark.servers

FETCH, OUT_OF_RANGE = 1, 1
"""Of Kafka's protocol: a kind of request, and an error."""

TERMS = Terms(heartbeat_s=1.0, waiting=200, history=50, followers=3, stalled_s=2.0)


class World:
    """A topic and servers before it."""

    def __init__(self, broker: EmbeddedBroker, url: str) -> None:
        self.broker, self.url = broker, url
        self.topic = f"changes-{uuid4().hex[:8]}"
        broker.create(self.topic, partitions=3)
        self._producer = Producer({"bootstrap.servers": broker.bootstrap})
        self.sent = 0

    def send(self, count: int, segment: str = "vip", size: int = 0) -> None:
        """More changes."""
        for _ in range(count):
            value = change(f"u{self.sent % 7}", segment, self.sent)
            if size:
                value = value[:-1] + b',"fill":"%b"}' % (b"x" * size)
            self._producer.produce(self.topic, value, partition=self.sent % 3)
            self.sent += 1
            self._producer.poll(0)
        assert self._producer.flush(10) == 0

    @contextmanager
    def server(self, terms: Terms = TERMS) -> Iterator[tuple[int, Parts]]:
        """A server that follows the topic."""
        tail = Tail({"bootstrap.servers": self.broker.bootstrap}, self.topic)
        feed = Feed(terms.history, terms.waiting, tail)
        app = build_at(self.url, feed, terms, tail.start, tail.stop)
        with running(app) as port:
            until(lambda: not feed.trouble)
            yield port, app.parts


@pytest.fixture
def world(filled: Filled) -> Iterator[World]:
    with EmbeddedBroker() as broker:
        yield World(broker, filled.url)


def numbers(events: list[Event]) -> list[int]:
    assert {event.kind for event in events} <= {"change"}
    return [event.data["n"] for event in events]


def test_changes_come_as_they_stand_on_the_topic(world: World) -> None:
    world.send(4)  # before the server: not of its present
    with world.server() as (port, _):
        stream = Stream(port)
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        world.send(9)
        assert sorted(numbers(stream.events(9))) == list(range(4, 13))
        stream.close()


def test_who_comes_back_misses_nothing_and_gets_nothing_twice(world: World) -> None:
    """Over many partings, some so long that memory does not reach, some over a restart."""
    seen: list[int] = []
    last = ""
    with world.server() as (port, _):
        stream = Stream(port)
        world.send(30)
        seen += numbers(stream.events(30))
        last = stream.last_id
        stream.close()
        for away in (5, 40, 170):  # in memory; at its edge; far beyond it
            world.send(away)
            time.sleep(0.3)
            stream = Stream(port, last_event_id=last)
            world.send(3)
            seen += numbers(stream.events(away + 3))
            last = stream.last_id
            stream.close()
    world.send(20)
    with world.server() as (port, _):
        stream = Stream(port, last_event_id=last)
        world.send(3)
        seen += numbers(stream.events(23))
        stream.close()
    assert sorted(seen) == list(range(world.sent))


def test_who_chooses_moves_on_with_heartbeats(world: World) -> None:
    with world.server() as (port, parts):
        stream = Stream(port, "/v1/changes?segment=lapsing&segment=high_intent")
        until(lambda: len(parts.feed) == 1)  # type: ignore[arg-type]
        world.send(5)
        world.send(1, "high_intent")
        (event,) = stream.events(1)
        assert event.data["segment"] == "high_intent"
        world.send(4)
        until(lambda: parts.feed.here == encode_all(world))  # type: ignore[union-attr]
        while (beat := stream.next()) is not None and beat.id != encode_all(world):
            assert beat.data is None
        stream.close()
        back = Stream(port, "/v1/changes?segment=lapsing", last_event_id=stream.last_id)
        world.send(1, "lapsing")
        assert numbers(back.events(1)) == [world.sent - 1]
        back.close()


def test_a_segment_that_there_is_not_is_refused(world: World) -> None:
    with world.server() as (port, parts):
        url = f"http://127.0.0.1:{port}/v1/changes?segment=vip&segment=nope"
        got = httpx.get(url)
        assert (got.status_code, got.headers["content-type"]) == (404, "application/problem+json")
        told = got.json()
        assert told["type"] == "urn:afterglow:problem:unknown-segment"
        assert "'nope'" in told["detail"]
        assert "vip" in told["detail"]
        assert len(parts.feed) == 0  # type: ignore[arg-type]


def test_who_comes_back_may_wait_for_exits_from_what_was_taken_out(world: World) -> None:
    with world.server() as (port, _):
        stream = Stream(port)
        world.send(1)
        stream.events(1)
        stream.close()
        back = Stream(port, "/v1/changes?segment=gone", last_event_id=stream.last_id)
        world.send(1, "gone")
        assert numbers(back.events(1)) == [1]
        back.close()


def test_following_needs_no_store(world: World) -> None:
    world.url = "redis://127.0.0.1:1/0"
    with world.server() as (port, _):
        stream = Stream(port, "/v1/changes?segment=nope")
        world.send(1, "nope")
        assert len(stream.events(1)) == 1
        stream.close()


def encode_all(world: World) -> str:
    """The place at the end of the topic."""
    return ".".join(str(len(range(p, world.sent, 3))) for p in range(3))


def test_a_place_of_another_topic_is_a_gap_and_not_silence(world: World) -> None:
    with world.server() as (port, _):
        stream = Stream(port, last_event_id="900.900.900")
        (gap,) = stream.events(1)
        assert (gap.kind, "read memberships anew" in gap.data["reason"]) == ("gap", True)
        world.send(2)
        assert sorted(numbers(stream.events(2))) == [0, 1]
        stream.close()


def test_a_place_that_the_broker_has_no_more_is_a_gap_and_is_left(world: World) -> None:
    """As after retention that was faster, or a topic that was made anew: it goes on by itself."""
    with world.server() as (port, parts):
        stream = Stream(port)
        until(lambda: len(parts.feed) == 1)  # type: ignore[arg-type]
        world.send(6)
        assert sorted(numbers(stream.events(6))) == list(range(6))
        world.broker.fail(FETCH, OUT_OF_RANGE, 1)
        (gap,) = stream.events(1)
        assert gap.kind == "gap"
        again = sorted(numbers(stream.events(6)))  # the log begins where it began
        assert again == list(range(6))
        world.send(3)
        assert sorted(numbers(stream.events(3))) == [6, 7, 8]
        stream.close()


def test_a_follower_that_takes_nothing_is_cut_off(world: World) -> None:
    """It holds no memory and no seat, and others are not held up by it."""
    with world.server() as (port, parts):
        quick = Stream(port)
        with socket.create_connection(("127.0.0.1", port)) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.sendall(b"GET /v1/changes HTTP/1.1\r\nHost: x\r\n\r\n")
            until(lambda: len(parts.feed) == 2)  # type: ignore[arg-type]
            for _ in range(60):
                world.send(20, size=20_000)
                quick.events(20)
            until(lambda: len(parts.feed) == 1, 20)  # type: ignore[arg-type]
        page = parts.metrics.page().decode()
        cut = [
            line for line in page.splitlines() if line.startswith("afterglow_http_followers_cut")
        ]
        assert sum(float(line.split()[-1]) for line in cut if "total" in line) == 1
        quick.close()


def test_a_slow_follower_is_told_why(world: World) -> None:
    """It reads on in the end, and finds the reason as the last thing."""
    with world.server(Terms(waiting=50, heartbeat_s=1.0, stalled_s=20.0)) as (port, parts):
        slow = Stream(port)
        until(lambda: len(parts.feed) == 1)  # type: ignore[arg-type]
        for _ in range(12):
            world.send(50, size=20_000)
            until(lambda: parts.feed.here == encode_all(world))  # type: ignore[union-attr]
        events = []
        while (event := slow.next()) is not None:
            events.append(event)
        assert (events[-1].kind, "more slowly" in events[-1].data["reason"]) == ("cut", True)
        back = Stream(port, last_event_id=events[-1].id)
        seen = [e.data["n"] for e in events if e.kind == "change"]
        seen += numbers(back.events(600 - len(seen)))
        assert sorted(seen) == list(range(600))
        back.close()
        slow.close()


def test_only_so_many_follow(world: World) -> None:
    with world.server() as (port, parts):
        streams = [Stream(port) for _ in range(3)]
        until(lambda: len(parts.feed) == 3)  # type: ignore[arg-type]
        refused = Stream(port)
        assert refused.response.status == 429
        assert json.load(refused.response)["type"].endswith("too-many-followers")
        streams[0].close()
        until(lambda: len(parts.feed) == 2)  # type: ignore[arg-type]
        again = Stream(port)
        assert again.response.status == 200
        for stream in (*streams[1:], again, refused):
            stream.close()


def test_the_end_of_the_server_is_told(world: World) -> None:
    with world.server() as (port, _):
        stream = Stream(port)
        world.send(1)
        stream.events(1)
    last = stream.next()
    assert last is not None
    assert (last.kind, "server ends" in last.data["reason"]) == ("cut", True)
    assert stream.next() is None
    stream.close()


def test_readiness_says_that_the_topic_cannot_be_read(filled: Filled) -> None:
    with EmbeddedBroker() as broker:
        address = broker.bootstrap
    tail = Tail({"bootstrap.servers": address}, "nothing")
    feed = Feed(10, 10, tail)
    with running(build_at(filled.url, feed, TERMS, tail.start, tail.stop)) as port:
        until(lambda: "change topic: " in feed.trouble, 20)
        stream = Stream(port, "/ready")
        assert stream.response.status == 503
        assert json.load(stream.response)["why"][0].startswith("changes: ")
        stream.close()


def test_without_a_broker_there_is_nothing_to_follow(filled: Filled) -> None:
    got = ask(application(filled.url), "/v1/changes")
    assert (got.status, "KAFKA_BOOTSTRAP" in got.json["detail"]) == (503, True)


class Transactions:
    """A topic of a real Kafka, written as an engine does."""

    def __init__(self, kafka: LocalKafka, filled: Filled, partitions: int = 1) -> None:
        self.kafka, self._url = kafka, filled.url
        self.topic = f"changes-{uuid4().hex[:8]}"
        kafka.create(self.topic, partitions=partitions)
        self.connect()

    def connect(self) -> None:
        """Write through a producer that knows the topic as it is now."""
        config = {"bootstrap.servers": self.kafka.bootstrap, "log_level": 2}
        self._producer = Producer({**config, "transactional.id": self.topic})
        self._producer.init_transactions(30)

    def commit(self, first: int, count: int, partition: int = 0) -> None:
        """More changes, in one transaction."""
        self._producer.begin_transaction()
        for n in range(first, first + count):
            self._producer.produce(self.topic, change("ann", "vip", n), partition=partition)
        self._producer.commit_transaction(30)

    @contextmanager
    def server(self) -> Iterator[tuple[int, Feed, Counted]]:
        """A server that follows it."""
        tail = Counted({"bootstrap.servers": self.kafka.bootstrap}, self.topic)
        feed = Feed(1000, 1000, tail)
        with running(build_at(self._url, feed, TERMS, tail.start, tail.stop)) as port:
            until(lambda: not feed.trouble, 30)
            yield port, feed, tail


class Counted(Tail):
    """It counts what is read of the past.

    Attributes:
        opened: readers.
        reads: of all of them.
    """

    opened = reads = 0

    def past(self, places: Mapping[int, int]) -> Past:
        """A reader from these places on."""
        self.opened += 1
        past = super().past(places)
        read = past.read

        def counted() -> list[Message]:
            self.reads += 1
            return read()

        past.read = counted  # type: ignore[method-assign]
        return past


@pytest.mark.kafka
@needs_kafka
def test_a_place_before_a_marker_and_one_behind_it_are_one(
    kafka: LocalKafka, filled: Filled
) -> None:
    """A server that began later stands behind the marker; nothing else comes."""
    topic = Transactions(kafka, filled)
    with topic.server() as (earlier, first, _):
        stream = Stream(earlier)
        until(lambda: len(first) == 1)
        topic.commit(0, 5)
        assert numbers(stream.events(5)) == list(range(5))
        assert stream.last_id == "5"
        until(lambda: first.here == "6")
        with topic.server() as (later, second, tail):
            assert second.here == "6"
            back = Stream(later, last_event_id="5")
            until(lambda: tail.opened == 1 and len(second) == 1)
            while back.next() is not None and back.last_id != "6":
                pass
            time.sleep(0.5)
            assert tail.reads < 20, "it reads on although nothing is there"
            seen = tail.reads
            time.sleep(0.5)
            assert tail.reads == seen
            there = Stream(earlier, last_event_id=second.here)
            topic.commit(5, 2)
            for each in (stream, back, there):
                assert numbers(each.events(2)) == [5, 6]
                each.close()


@pytest.mark.kafka
@needs_kafka
def test_a_topic_that_is_made_anew_is_followed_again(kafka: LocalKafka, filled: Filled) -> None:
    topic = Transactions(kafka, filled)
    with topic.server() as (port, feed, _):
        stream = Stream(port)
        until(lambda: len(feed) == 1)
        topic.commit(0, 30)
        assert numbers(stream.events(30)) == list(range(30))
        kafka.delete(topic.topic)
        time.sleep(1)
        kafka.create(topic.topic, partitions=1)
        time.sleep(1)
        topic.connect()
        topic.commit(100, 5)
        gap, *rest = stream.events(6)
        assert gap.kind == "gap"
        assert numbers(rest) == list(range(100, 105))
        assert feed.trouble == ""
        old = Stream(port, last_event_id="25")
        assert old.events(1)[0].kind == "gap"
        stream.close()
        old.close()


@pytest.mark.kafka
@needs_kafka
def test_partitions_that_are_added_are_told_from_their_beginning(
    kafka: LocalKafka, filled: Filled
) -> None:
    topic = Transactions(kafka, filled)
    topic.commit(0, 3)
    with topic.server() as (port, _, _):
        stream = Stream(port)
        event = stream.next()
        while event is not None and not event.id:
            event = stream.next()
        place = stream.last_id
        stream.close()
    kafka.add_partitions(topic.topic, 2)
    time.sleep(1)
    topic.connect()
    topic.commit(3, 4, partition=1)
    with topic.server() as (port, _, _):
        back = Stream(port, last_event_id=place)
        assert numbers(back.events(4)) == [3, 4, 5, 6]
        back.close()


@pytest.mark.kafka
@needs_kafka
def test_a_place_that_retention_took_is_a_gap(kafka: LocalKafka, filled: Filled) -> None:
    topic = f"changes-{uuid4().hex[:8]}"
    kafka.create(topic, partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for n in range(100):
        producer.produce(topic, change("ann", "vip", n), partition=0)
    assert producer.flush(10) == 0
    kafka.forget(topic, 0, 60)
    tail = Tail({"bootstrap.servers": kafka.bootstrap}, topic)
    feed = Feed(10, 100, tail)
    with running(build_at(filled.url, feed, TERMS, tail.start, tail.stop)) as port:
        until(lambda: not feed.trouble)
        lost, held = Stream(port, last_event_id="20"), Stream(port, last_event_id="70")
        assert lost.events(1)[0].kind == "gap"
        assert numbers(held.events(30)) == list(range(70, 100))
        producer.produce(topic, change("ann", "vip", 100), partition=0)
        producer.flush(10)
        assert numbers(lost.events(1)) == numbers(held.events(1)) == [100]
        lost.close()
        held.close()
