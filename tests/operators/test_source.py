"""The log is read once, in order, from where it should; what cannot be read is said in words."""

import time
from itertools import count

import msgspec
import numpy as np
import pytest
from bytewax import operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from confluent_kafka import Consumer, Producer, TopicPartition

from dataflows.embedded import EmbeddedBroker
from dataflows.local_kafka import LocalKafka
from operators.broker_errors import BrokerSilent, SourceError
from operators.courier import Terms
from operators.places import Places, PositionLost
from operators.publish import KafkaPublisher, Published
from operators.source import EventReader, EventSource, SourceSpec
from operators.stop import Stop
from operators.topics import Topics
from tests.brokers import needs_kafka, new_broker
from tests.operators.logs import (
    NOWHERE,
    assert_chained,
    at_ends,
    consume,
    open_reader,
    payloads,
    produce,
    read_until,
)

pytestmark = pytest.mark.servers


def change(n):
    """As much of a change as the publisher looks at."""
    told = {"user_id": f"user-{n % 10}", "epoch": 1, "n": n, "ts": 5, "segments": []}
    return msgspec.json.encode(told)


def numbered(count, partitions=4, first=0):
    """Messages that tell where they are: partition and number within it."""
    return [(i % partitions, b"%d" % i) for i in range(first, first + count)]


def test_the_first_read_is_a_hello_for_every_partition(one_broker, broker):
    one_broker.create("hello", partitions=3)
    produce(broker, "hello", numbered(30, 3))
    reader = open_reader(broker, "hello", {0: 4, 2: 10})
    (hello,) = reader.next_batch()
    reader.close()
    assert (hello.topic, hello.payloads, hello.more) == ("hello", [], False)
    spans = [(s.partition, s.start, s.stop) for s in hello.spans]
    assert spans == [(0, 4, 4), (1, 0, 0), (2, 10, 10)]


@pytest.mark.parametrize("fetch_max", [7, 5_000])
def test_everything_is_read_once_and_the_spans_chain(one_broker, broker, fetch_max):
    topic = f"once-{fetch_max}"
    one_broker.create(topic)
    produce(broker, topic, numbered(1_000))
    reader = open_reader(broker, topic, fetch_max=fetch_max)
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 1_000 and at_ends(reads))
    reader.close()
    assert assert_chained(reads, {}) == dict.fromkeys(range(4), 250)
    assert sorted(map(int, payloads(reads))) == list(range(1_000))
    left = 1_000
    for read in reads:
        assert len(read.payloads) <= fetch_max
        left -= len(read.payloads)
        if read.more:  # what is known to wait fills a read, or this one is full
            assert max(left, len(read.payloads)) >= fetch_max
        else:
            assert len(read.payloads) < fetch_max
        assert [int(p) // 4 for p in read.payloads] == read.offset.tolist()
        assert [int(p) % 4 for p in read.payloads] == read.partition.tolist()


def test_a_read_that_waits_takes_what_comes_together(one_broker, broker):
    """And does not leave all but the first to the next read, some milliseconds later."""
    one_broker.create("together")
    reader = open_reader(broker, "together", poll_s=5.0)
    reader.next_batch()
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 500})
    for number in range(9):
        producer.produce("together", b"%d" % number, partition=0)
    reads = read_until(reader, payloads)
    assert producer.flush(20) == 0
    reader.close()
    assert [int(value) for value in payloads(reads)] == list(range(9))


_LIST_OFFSETS = 2
_NOT_LEADER, _FORBIDDEN = 6, 29


@pytest.mark.parametrize("times", [1, 2, 3, 4, 5])
def test_a_leader_that_is_being_found_is_waited_for(times):
    """Whichever question fails, reading begins where the log begins."""
    with EmbeddedBroker(1) as moving:
        moving.create("moving")
        produce(moving.bootstrap, "moving", numbered(3, 1))
        moving.fail(_LIST_OFFSETS, _NOT_LEADER, times)
        reader = open_reader(moving.bootstrap, "moving")
        reads = read_until(reader, lambda reads: len(payloads(reads)) == 3)
        reader.close()
        assert [int(value) for value in payloads(reads)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "said"),
    [(_NOT_LEADER, "the broker does not answer"), (_FORBIDDEN, "the broker refuses: .*rights")],
)
def test_a_partition_without_an_answer_is_given_up(error, said):
    with EmbeddedBroker(1) as moving:
        moving.create("moving")
        consumer = Consumer({"bootstrap.servers": moving.bootstrap, "group.id": "g"})
        moving.fail(_LIST_OFFSETS, error, 100)
        with pytest.raises(BrokerSilent, match=said):
            Places(consumer, "moving").beginnings({}, {}, 0.5)
        consumer.close()


def test_small_reads_say_that_many_events_wait(one_broker, broker):
    one_broker.create("behind", partitions=1)
    produce(broker, "behind", numbered(1_000, 1))
    place = count(step=300)
    reader = open_reader(
        broker, "behind", told=lambda: [{0: next(place)}], fetch_max=500, ahead_most=300
    )
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 1_000)
    reader.close()
    small = [read for read in reads if 0 < len(read.payloads) < 500]
    assert small[0].more
    ends = np.cumsum([len(read.payloads) for read in small])
    assert [read.more for read in small] == (1_000 - ends >= 500).tolist()


def test_restarts_from_positions_lose_and_repeat_nothing(one_broker, broker):
    one_broker.create("restarts")
    positions, got = {}, []
    for run in range(5):
        produce(broker, "restarts", numbered(200, first=200 * run))
        reader = open_reader(broker, "restarts", positions, fetch_max=60)
        reads = read_until(reader, lambda reads: len(payloads(reads)) >= 100)
        positions = assert_chained(reads, positions)
        got += payloads(reads)
        reader.close()
    reader = open_reader(broker, "restarts", positions)
    got += payloads(read_until(reader, at_ends))
    reader.close()
    assert sorted(map(int, got)) == list(range(1_000))


def test_a_quiet_log_ticks_and_is_at_its_end(one_broker, broker):
    one_broker.create("quiet", partitions=2)
    produce(broker, "quiet", numbered(10, 2))
    reader = open_reader(broker, "quiet", tick_s=0.01)
    read_until(reader, at_ends)
    reads = read_until(reader, lambda reads: len(reads) == 5)
    assert payloads(reads) == []
    assert all(at_ends([read]) for read in reads)
    assert assert_chained(reads, {0: 5, 1: 5}) == {0: 5, 1: 5}
    produce(broker, "quiet", [(1, b"more")])
    reads = read_until(reader, lambda reads: payloads(reads) == [b"more"])
    assert assert_chained(reads, {0: 5, 1: 5}) == {0: 5, 1: 6}
    reader.close()


def test_tombstones_keys_and_timestamps_come_along(one_broker, broker):
    one_broker.create("no-values", partitions=1)
    before_ms = time.time_ns() // 1_000_000
    produce(broker, "no-values", [(0, None), (0, b"x")])
    reader = open_reader(broker, "no-values")
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 2)
    reader.close()
    assert payloads(reads) == [b"", b"x"]
    keys = [key for read in reads for key in read.keys]
    assert keys == [b"k", b"k"]
    assert [key for read in reads for key in read.keys[:]] == keys
    stamps = [stamp for read in reads for stamp in read.record_ts_ms.tolist()]
    assert all(before_ms <= stamp <= time.time_ns() // 1_000_000 for stamp in stamps)


def test_a_log_that_is_ahead_of_the_clock_is_not_believed(one_broker, broker):
    """A producer whose clock is wrong must not make its own events seem to be in time."""
    one_broker.create("ahead", partitions=1)
    producer, refused = Producer({"bootstrap.servers": broker}), []
    soon_ms, far_ms = time.time_ns() // 1_000_000 + 1_800_000, 4_102_444_800_000
    for stamp_ms in (1_600_000_000_000, soon_ms, far_ms):
        producer.produce(
            *("ahead", b"x"),
            timestamp=stamp_ms,
            on_delivery=lambda error, _message: refused.append(error) if error else None,
        )
        assert producer.flush(20) == 0
    reader = open_reader(broker, "ahead")
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 3 - len(refused))
    reader.close()
    past, soon, *far = [stamp for read in reads for stamp in read.record_ts_ms.tolist()]
    assert (past, soon) == (1_600_000_000_000, soon_ms)  # this machine's clock may be the wrong one
    assert len(far) + len(refused) == 1  # newer brokers take nothing that is an hour ahead
    assert all(stamp <= time.time_ns() // 1_000_000 + 86_400_000 for stamp in far)


def test_the_flag_ends_the_source(one_broker, broker):
    one_broker.create("drained", partitions=1)
    stop = Stop()
    reader = open_reader(broker, "drained", stop=stop)
    reader.next_batch()
    stop.request()
    with pytest.raises(StopIteration):
        reader.next_batch()
    reader.close()


def test_positions_are_shown_to_lag_monitors(one_broker, broker):
    one_broker.create("lag", partitions=2)
    produce(broker, "lag", numbered(20, 2))
    told = []
    source = EventSource(
        {"bootstrap.servers": broker},
        SourceSpec(topic="lag", group="lag-monitor"),
        dict,
        Stop(),
        lambda spans, ends: told.append(({s.partition: s.stop for s in spans}, dict(ends))),
    )
    reader = source.build_part("source", "group-0", None)
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 20 and at_ends(reads))
    assert told[len(reads) - 1] == ({0: 10, 1: 10}, {0: 10, 1: 10})
    reader.close()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "lag-monitor"})
    places = consumer.committed([TopicPartition("lag", p) for p in range(2)], timeout=10)
    consumer.close()
    assert [place.offset for place in places] == [10, 10]


class ShortSighted(Consumer):
    """Overlooks partitions, because the embedded broker cannot add any to a topic."""

    sees = 2

    def list_topics(self, topic, timeout):
        found = super().list_topics(topic, timeout=timeout)
        partitions = found.topics[topic].partitions
        found.topics[topic].partitions = {p: partitions[p] for p in range(self.sees)}
        return found


def test_partitions_that_are_added_begin_at_their_beginning(one_broker, broker):
    one_broker.create("added", partitions=4)
    produce(broker, "added", numbered(400))
    config = {"bootstrap.servers": broker, "group.id": "g", "enable.partition.eof": True}
    consumer = ShortSighted({**config, "fetch.wait.max.ms": 10})
    spec = SourceSpec(topic="added", fetch_max=30, discover_s=0)
    reader = EventReader(consumer, spec, {}, Stop(), None)
    reads = read_until(reader, lambda reads: len(payloads(reads)) >= 60)
    assert {span.partition for span in reads[-1].spans} == {0, 1}
    consumer.sees = 4
    reads += read_until(reader, lambda more: len(payloads(reads + more)) == 400 and at_ends(more))
    reader.close()
    assert assert_chained(reads, {}) == dict.fromkeys(range(4), 100)
    assert sorted(map(int, payloads(reads))) == list(range(400))


def test_partitions_that_are_gone_are_said(one_broker, broker):
    one_broker.create("shrunk", partitions=2)
    with pytest.raises(SourceError, match="has 2 partitions, but positions are stored for 6: it"):
        open_reader(broker, "shrunk", {5: 0})


@pytest.mark.parametrize("wanted", [11, 1_000])
def test_a_position_beyond_the_log_is_said(one_broker, broker, wanted):
    topic = f"beyond-{wanted}"
    one_broker.create(topic, partitions=1)
    produce(broker, topic, numbered(10, 1))
    message = f"partition 0 must be read from offset {wanted}, but the log holds 0 to 10"
    with pytest.raises(PositionLost, match=message):
        open_reader(broker, topic, {0: wanted})


def test_the_very_end_of_the_log_is_a_good_position(one_broker, broker):
    one_broker.create("end", partitions=1)
    produce(broker, "end", numbered(10, 1))
    reader = open_reader(broker, "end", {0: 10})
    assert payloads(read_until(reader, at_ends)) == []
    reader.close()


BIG = b"x" * 500_000
"""The embedded broker keeps 5 MiB of a partition; a real one is told to forget."""


def expire(broker, topic, before):
    if isinstance(broker, LocalKafka):
        broker.forget(topic, 0, before)


def test_a_position_that_retention_has_overtaken_is_said_at_the_start(one_broker, broker):
    one_broker.create("expired", partitions=1)
    produce(broker, "expired", [(0, BIG)] * 20)
    expire(one_broker, "expired", 10)
    with pytest.raises(PositionLost, match=r"from offset 3, but the log holds ([4-9]|1\d) to 20"):
        open_reader(broker, "expired", {0: 3})


def test_retention_that_overtakes_a_running_source_is_said(one_broker, broker):
    one_broker.create("overtaken", partitions=1)
    produce(broker, "overtaken", [(0, BIG)] * 3)
    slow = {
        "queued.min.messages": 1,
        "fetch.message.max.bytes": 1_000,
        "fetch.max.bytes": 1_000_000,
    }
    reader = open_reader(broker, "overtaken", config=slow, fetch_max=1)
    reads = read_until(reader, lambda reads: len(payloads(reads)) == 1)
    produce(broker, "overtaken", [(0, BIG)] * 30)
    expire(one_broker, "overtaken", 23)
    with pytest.raises(PositionLost, match=r"must be read from offset \d+, but the log holds \d\d"):
        reads += read_until(reader, lambda _: False)
    reader.close()


def test_a_broker_that_does_not_answer_is_said():
    places = Places(Consumer({**NOWHERE, "group.id": "g"}), "events")
    with pytest.raises(BrokerSilent, match=r"does not answer: .*Check KAFKA_BOOTSTRAP"):
        places.beginnings({}, (), 0.2)


def test_a_broker_that_goes_away_is_waited_for():
    """Empty reads go on, so that time does, and looking for new partitions ends nothing."""
    with new_broker(partitions=1) as broker:
        broker.create("gone")
        produce(broker.bootstrap, "gone", [(0, b"x")])
        reader = open_reader(broker.bootstrap, "gone", discover_s=0, tick_s=0)
        reads = read_until(reader, at_ends)
    for _ in range(2):
        reads += reader.next_batch()
    reader.close()
    assert payloads(reads) == [b"x"]
    assert assert_chained(reads, {}) == {0: 1}


def test_of_a_broker_that_is_away_nobody_knows_where_its_log_ends():
    """So time stands still for silent users, until it is back; then it goes on soon."""
    with EmbeddedBroker(1) as broker:
        broker.create("away")
        produce(broker.bootstrap, "away", [(0, b"x")])
        reader = open_reader(broker.bootstrap, "away", tick_s=0)
        read_until(reader, at_ends)
        broker.down()
        read_until(reader, lambda reads: reads and not reads[-1].spans[0].at_end)
        deadline_s = time.monotonic() + 2
        while time.monotonic() < deadline_s:
            assert not any(read.spans[0].at_end for read in reader.next_batch())
        broker.up()
        produce(broker.bootstrap, "away", [(0, b"y")])
        reads = read_until(reader, lambda reads: payloads(reads) and at_ends(reads))
        reader.close()
        assert payloads(reads) == [b"y"]


@pytest.mark.kafka
@needs_kafka
def test_the_time_of_the_log_itself_is_believed():
    """A machine whose clock is days behind takes good events for good ones."""
    with LocalKafka(partitions=1) as kafka:
        kafka.create("own-time", config={"message.timestamp.type": "LogAppendTime"})
        produce(kafka.bootstrap, "own-time", [(0, b"x")])
        now_ns = time.time_ns()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("operators.source.time.time_ns", lambda: now_ns - 3 * 86_400 * 10**9)
            reader = open_reader(kafka.bootstrap, "own-time")
            reads = read_until(reader, payloads)
            reader.close()
        (stamp,) = [stamp for read in reads for stamp in read.record_ts_ms.tolist()]
        assert abs(stamp - now_ns // 1_000_000) < 60_000


def test_a_flow_from_topic_to_topic(one_broker, broker):
    """The source and the publisher run for real; the flow ends by the flag and loses nothing."""
    one_broker.create("flow-in", "flow-out")
    produce(broker, "flow-in", numbered(2_000))
    stop, seen, trimmed = Stop(), [], {}

    def publish(reads):
        for read in reads:
            seen.extend(read.payloads)
            records = [(b"user-%d" % (int(p) % 10), change(int(p))) for p in read.payloads]
            if records:
                yield "lane-0", Published(0, len(seen), records)
        if len(seen) >= 2_000:
            stop.request()

    kafka = {"bootstrap.servers": broker}
    flow = Dataflow("flow")
    spec = SourceSpec(topic="flow-in", fetch_max=150)
    reads = op.input("source", flow, EventSource(kafka, spec, dict, stop))
    entries = op.flat_map_batch("publish", reads, publish)
    terms = Terms(Topics("flow-out", "flow-members", "flow-positions"), name="")
    op.output("out", entries, KafkaPublisher(kafka, terms, trimmed.update))
    cli_main(flow)
    assert sorted(map(int, seen)) == list(range(2_000))
    out = [msgspec.json.decode(m.value())["n"] for m in consume(broker, "flow-out", 2_000)]
    assert sorted(out) == list(range(2_000))
    assert trimmed == {0: 2_000}


def test_readers_share_the_partitions(one_broker, broker):
    one_broker.create("shared", partitions=5)
    produce(broker, "shared", numbered(1_000, 5))
    source = EventSource(
        {"bootstrap.servers": broker}, SourceSpec(topic="shared"), dict, Stop(), groups=3
    )
    assert source.list_parts() == ["group-0", "group-1", "group-2"]
    got, seen = [], []
    for part in source.list_parts():
        reader = source.build_part("source", part, None)
        reads = read_until(reader, at_ends)
        reader.close()
        assert {read.partitions for read in reads} == {5}
        seen.append({span.partition for read in reads for span in read.spans})
        got += payloads(reads)
    assert seen == [{0, 3}, {1, 4}, {2}]
    assert sorted(map(int, got)) == list(range(1_000))


def test_a_reader_without_partitions_says_hello_and_ticks(one_broker, broker):
    one_broker.create("lonely", partitions=1)
    source = EventSource(
        {"bootstrap.servers": broker}, SourceSpec(topic="lonely"), dict, Stop(), groups=2
    )
    reader = source.build_part("source", "group-1", None)
    reads = read_until(reader, lambda reads: len(reads) == 3)
    reader.close()
    assert [(read.spans, read.partitions) for read in reads] == [([], 1)] * 3


def test_no_more_is_read_than_may_be_on_its_way_to_other_workers(one_broker, broker):
    one_broker.create("budget", partitions=1)
    produce(broker, "budget", numbered(1_000, 1))
    lanes, reads = [{0: 0}, {}], []
    reader = open_reader(broker, "budget", told=lambda: lanes, fetch_max=70, ahead_most=200)

    def assert_read(count):
        reads.extend(read_until(reader, lambda new: len(payloads([*reads, *new])) >= count))
        deadline_s, quiet = time.monotonic() + 0.5, []
        while time.monotonic() < deadline_s:
            quiet += reader.next_batch()
        assert len(payloads([*reads, *quiet])) == count
        assert quiet, "who may not read still lets time pass"
        reads.extend(quiet)

    assert_read(200)
    lanes[0] = {0: 200}
    assert_read(200)  # the other lane has taken nothing yet
    lanes[1] = {0: 150}
    assert_read(350)
    lanes[:] = {0: 900}, {0: 1_000}
    assert_read(1_000)
    reader.close()
    assert max(len(read.payloads) for read in reads) <= 70
