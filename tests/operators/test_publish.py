"""Changes leave in order, once per entry, and entries are trimmed when they have arrived."""

import time
from collections import defaultdict
from itertools import count

import pytest

from operators.publish import (
    PARTITION,
    PULSE,
    CollectingPublisher,
    KafkaPublisher,
    Published,
    PublishError,
)
from tests.operators.logs import NOWHERE, consume


def entry(shard, seq):
    """An entry whose records tell shard, sequence and place."""
    return Published(
        shard, seq, [(b"u%d" % shard, b"%d %d %d" % (shard, seq, i)) for i in range(3)]
    )


def open_part(broker, topic, trim=lambda _: None):
    sink = KafkaPublisher({"bootstrap.servers": broker}, topic, trim)
    assert (sink.list_parts(), sink.part_fn("lane-3")) == ([PARTITION], 0)
    return sink.build_part("publish", PARTITION, None)


@pytest.mark.servers
def test_each_shard_is_published_in_order(broker):
    entries = [entry(shard, seq) for seq in range(1, 51) for shard in (0, 7)]
    trimmed = {}
    part = open_part(broker, "in-order", trimmed.update)
    for i in range(0, 100, 10):
        part.write_batch(entries[i : i + 10])
    part.close()
    arrived = defaultdict(list)
    for message in consume(broker, "in-order", 300):
        arrived[message.key()].append(message.value())
    for shard in (0, 7):
        wanted = [value for e in entries if e.shard == shard for _, value in e.records]
        assert arrived[b"u%d" % shard] == wanted
    assert trimmed == {0: 50, 7: 50}


@pytest.mark.servers
def test_trimming_goes_on_while_entries_come(broker):
    """Entries are trimmed on the way, never beyond what was handed on, and never backwards."""
    trims = []
    part = open_part(broker, "trimmed", lambda pairs: trims.extend(pairs))
    seq, deadline_s = 0, time.monotonic() + 20
    while len(trims) < 3 and time.monotonic() < deadline_s:
        seq += 1
        part.write_batch([entry(2, seq)])
        time.sleep(0.01)
    assert len(trims) == 3
    assert [shard for shard, _ in trims] == [2, 2, 2]
    seqs = [seq for _, seq in trims]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] <= seq
    part.close()
    assert trims[-1] == (2, seq)


@pytest.mark.servers
def test_a_quiet_stream_trims_what_has_arrived(broker):
    trims = {}
    part = open_part(broker, "trimmed-quietly", trims.update)
    part.write_batch([entry(5, 1)])
    deadline_s = time.monotonic() + 20
    while not trims and time.monotonic() < deadline_s:
        part.write_batch([PULSE])
        time.sleep(0.01)
    assert trims == {5: 1}


def write_for_ever(part):
    """Until the part has had enough."""
    deadline_s = time.monotonic() + 20
    for seq in count(1):
        assert time.monotonic() < deadline_s
        part.write_batch([entry(0, seq)])
        time.sleep(0.02)


def refuse(_pairs):
    raise AssertionError("nothing has arrived, so nothing may be trimmed")


def test_a_delivery_that_fails_is_said_and_nothing_is_trimmed():
    config = {**NOWHERE, "message.timeout.ms": 50}
    sink = KafkaPublisher(config, "changes", refuse)
    part = sink.build_part("publish", PARTITION, None)
    with pytest.raises(PublishError, match=r"to 'changes': .*They stay in the outbox"):
        write_for_ever(part)
    with pytest.raises(PublishError):
        part.close()


def test_a_drain_does_not_wait_for_ever():
    sink = KafkaPublisher(NOWHERE, "changes", refuse, timeout_s=0.2)
    part = sink.build_part("publish", PARTITION, None)
    part.write_batch([entry(0, 1)])
    with pytest.raises(PublishError, match="3 are not acknowledged after 0 s"):
        part.close()


@pytest.mark.servers
def test_a_record_that_the_producer_refuses_is_said(broker):
    part = open_part(broker, "refused", refuse)
    with pytest.raises(PublishError, match=r"could not be published to 'refused': .*too large"):
        part.write_batch([Published(0, 1, [(b"k", bytes(2_000_000))])])


def test_a_replay_collects_at_once():
    taken, trimmed = [], {}
    sink = CollectingPublisher(taken.extend, trimmed.update)
    assert (sink.list_parts(), sink.part_fn("lane-0")) == ([PARTITION], 0)
    part = sink.build_part("publish", PARTITION, None)
    entries = [entry(0, 1), entry(3, 1), entry(0, 2)]
    part.write_batch(entries)
    part.close()
    assert taken == [record for e in entries for record in e.records]
    assert trimmed == {0: 2, 3: 1}
