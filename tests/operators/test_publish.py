"""Changes leave in order and once, with memberships and positions; what arrived is trimmed."""

import time
from collections import defaultdict
from itertools import count, repeat

import msgspec
import pytest

from afterglow_client.news import removed_at
from dataflows.embedded import EmbeddedBroker
from operators.compacted import latest
from operators.courier import Courier, Position, ShutOut, Terms, published_positions
from operators.publish import (
    PARTITION,
    PULSE,
    CollectingPublisher,
    KafkaPublisher,
    Published,
    PublishError,
)
from operators.topics import Topics, make_topics
from state.changes import Cause, Gone, Undated, decode_entry, encode_entry
from state.store_errors import FencedOff
from tests.brokers import needs_kafka
from tests.operators.logs import NOWHERE, consume


def entry(shard, seq, epoch=1):
    """An entry of three changes of one user, whose ids tell epoch, shard, sequence and place."""
    changes = [
        Undated(0, "vip", "entered", 5, 5, 1, 3 * seq + i, ["vip"] * i, Cause(kind="event")).dated(
            f"u{shard}", epoch, shard, seq, i
        )
        for i in range(3)
    ]
    return Published(shard, seq, decode_entry(encode_entry([c.record() for c in changes])))


def topics(name):
    return Topics(name, f"{name}.memberships", f"{name}.positions", f"{name}.dead")


def terms(name, *, transactional=False, **more):
    return Terms(topics(name), f"{name}-publisher" if transactional else "", **more)


def open_part(broker, topic, trim=lambda _: None, *, transactional=False, timeout_s=60.0, **more):
    config = {"bootstrap.servers": broker, "log_level": 0}
    how = terms(topic, transactional=transactional, timeout_s=timeout_s)
    sink = KafkaPublisher(config, how, trim, **more)
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
def test_memberships_and_positions_follow(broker):
    part = open_part(broker, "followed")
    part.write_batch([entry(0, 1), entry(7, 1), entry(0, 2)])
    part.close()
    config = {"bootstrap.servers": broker}
    assert published_positions(config, "followed.positions") == {
        0: Position(1, 2),
        7: Position(1, 1),
    }
    held = {
        key: msgspec.json.decode(v) for key, v in latest(config, "followed.memberships").items()
    }
    expected = {"epoch": 1, "ts": 5, "segments": ["vip", "vip"]}
    assert held == {
        b"u0": expected | {"user_id": "u0", "n": 8},
        b"u7": expected | {"user_id": "u7", "n": 5},
    }


@pytest.mark.servers
def test_who_was_forgotten_is_deleted_from_memberships_and_told_nowhere_else(broker):
    gone = Gone(user_id="u0", epoch=1, n=9, ts=7).record()
    back = Gone(user_id="u7", epoch=1, n=5, ts=7).record()
    part = open_part(broker, "deleted")
    part.write_batch([entry(0, 1), entry(7, 1)])
    part.write_batch([Published(0, 2, [gone]), Published(7, 2, [back]), entry(7, 3, epoch=2)])
    part.close()
    config = {"bootstrap.servers": broker}
    assert latest(config, "deleted.memberships").keys() == {b"u7"}
    assert published_positions(config, "deleted.positions")[0] == Position(1, 2)
    assert len(consume(broker, "deleted", 9)) == 9
    held = consume(broker, "deleted.memberships", 4, wait_s=2)  # fewer where some came together
    ends = [m for m in held if m.value() is None]
    assert [(m.key(), removed_at(m.headers())) for m in ends] == [(b"u0", (1, 9))]


@pytest.mark.servers
def test_a_new_publisher_skips_what_has_arrived(broker):
    part = open_part(broker, "again")
    part.write_batch([entry(0, 1), entry(0, 2)])
    part.close()
    trimmed = {}
    part = open_part(broker, "again", trimmed.update)
    part.write_batch([entry(0, 1), entry(0, 2), entry(0, 3), entry(0, 1, epoch=2)])
    part.close()
    ids = [msgspec.json.decode(m.value())["id"] for m in consume(broker, "again", 12)]
    wanted = [f"1-00-{seq}-{i}" for seq in (1, 2, 3) for i in range(3)]
    assert sorted(ids) == sorted([*wanted, *(f"2-00-1-{i}" for i in range(3))])
    assert trimmed[0] == 1


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
    part.close()


def write_for_ever(part, entries=None):
    """Until the part has had enough."""
    deadline_s = time.monotonic() + 20
    for published in entries or (entry(0, seq) for seq in count(1)):
        assert time.monotonic() < deadline_s
        part.write_batch([published])
        time.sleep(0.02)


def refuse(_pairs):
    raise AssertionError("nothing has arrived, so nothing may be trimmed")


def test_a_broker_that_does_not_answer_is_said():
    with pytest.raises(PublishError, match=r"to 'changes': .*They stay in the outbox"):
        Courier(NOWHERE, terms("changes", timeout_s=0.3))


@pytest.mark.servers
def test_a_broker_that_goes_away_is_said_and_nothing_is_trimmed():
    with EmbeddedBroker() as broker:
        part = open_part(broker.bootstrap, "late", refuse, timeout_s=1.0)
    with pytest.raises(PublishError, match=r"to 'late': .*They stay in the outbox"):
        write_for_ever(part)
    with pytest.raises(PublishError):
        part.close()


@pytest.mark.servers
def test_a_record_that_the_producer_refuses_is_said(broker):
    part = open_part(broker, "refused", refuse)
    (key, value), *_ = entry(0, 1).records
    large = value.replace(b'"values":{}', b'"values":{"x":"%s"}' % (b"x" * 2_000_000))
    with pytest.raises(PublishError, match=r"could not be published to 'refused': .*too large"):
        write_for_ever(part, repeat(Published(0, 1, [(key, large)])))


@pytest.mark.servers
def test_what_is_no_change_is_said(broker):
    part = open_part(broker, "foreign", refuse)
    with pytest.raises(PublishError, match=r"to 'foreign': DecodeError"):
        write_for_ever(part, repeat(Published(0, 1, [(b"k", b"{")])))


@pytest.mark.servers
def test_too_much_under_way_makes_the_worker_wait(broker):
    beats = []
    config = {"bootstrap.servers": broker, "log_level": 0}
    courier = Courier(config, terms("full", waiting=30), lambda: beats.append(1))
    for seq in range(1, 101):
        courier.send([entry(0, seq)])
        assert courier._queued <= 30
    courier.close(20)
    assert courier.arrived() == {0: 100}


@pytest.mark.kafka
@needs_kafka
def test_every_change_is_committed_once_though_publishers_come_and_go(kafka):
    config = {"bootstrap.servers": kafka.bootstrap}
    make_topics(config, topics("exact"), "nothing")
    for seq in range(1, 21):
        part = open_part(kafka.bootstrap, "exact", transactional=True)
        part.write_batch([entry(3, s) for s in range(1, seq + 1)])
        if seq % 2:
            part.close()
        else:
            time.sleep(0.02)  # left as a crash leaves it
    part.close()
    ids = [
        msgspec.json.decode(m.value())["id"]
        for m in consume(kafka.bootstrap, "exact", 60, **{"isolation.level": "read_committed"})
    ]
    assert sorted(ids) == sorted(f"1-03-{seq}-{i}" for seq in range(1, 21) for i in range(3))


@pytest.mark.kafka
@needs_kafka
@pytest.mark.parametrize("owner", [True, False])
def test_a_publisher_that_is_shut_out_ends(kafka, owner):
    name = f"shut-out-{owner}"
    make_topics({"bootstrap.servers": kafka.bootstrap}, topics(name), "nothing")
    old = open_part(kafka.bootstrap, name, transactional=True, is_owner=lambda: owner)
    old.write_batch([entry(0, 1)])
    time.sleep(0.5)
    new = open_part(kafka.bootstrap, name, transactional=True)
    with pytest.raises(ShutOut if owner else FencedOff):
        write_for_ever(old)
    new.write_batch([entry(0, 1), entry(0, 2)])
    new.close()
    found = consume(kafka.bootstrap, name, 6, **{"isolation.level": "read_committed"})
    assert len(found) == 6


@pytest.mark.kafka
@needs_kafka
def test_topics_are_made_as_they_must_be(kafka):
    config = {"bootstrap.servers": kafka.bootstrap}
    kafka.create("made-events", partitions=7)
    for _ in range(2):
        make_topics(config, topics("made"), "made-events")
    deadline_s = time.monotonic() + 20  # a broker hears of new topics a little later
    known: dict = {}
    while not known.keys() >= {"made", "made.memberships", "made.positions"}:
        assert time.monotonic() < deadline_s, sorted(known)
        known = kafka.admin().list_topics(timeout=10).topics
        time.sleep(0.1)
    assert len(known["made"].partitions) == len(known["made.memberships"].partitions) == 7
    assert len(known["made.positions"].partitions) == 1
    assert kafka.config("made.memberships")["cleanup.policy"] == "compact"
    assert kafka.config("made")["cleanup.policy"] == "delete"


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
