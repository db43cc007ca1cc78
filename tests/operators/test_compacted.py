"""A compacted topic is read to its end: the last committed value of every key, or words why not."""

import random
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from operators.compacted import TopicUnread, latest
from tests.brokers import needs_kafka
from tests.operators.logs import NOWHERE

PARTITIONS = 4


def of(broker):
    return {"bootstrap.servers": broker, "log_level": 0}


def place_of(key):
    return sum(key) % PARTITIONS


def write(producer, topic, records):
    """(key, value) records, those of one key in one partition; returns when all are in the log."""
    for key, value in records:
        producer.produce(topic, value, key, partition=place_of(key))
    assert producer.flush(20) == 0


def produce(broker, topic, records):
    write(Producer({**of(broker), "linger.ms": 1}), topic, records)


@contextmanager
def transaction(broker, topic, records):
    """Records written but not yet decided; the body may decide, else it is aborted at the end."""
    producer = Producer({**of(broker), "transactional.id": f"{topic}-writer"})
    producer.init_transactions(20)
    producer.begin_transaction()
    write(producer, topic, records)
    decided = []

    def decide(commit):
        decided.append(commit)
        (producer.commit_transaction if commit else producer.abort_transaction)(20)

    yield decide
    if not decided:
        decide(False)


@pytest.mark.servers
def test_the_last_value_of_every_key_over_all_partitions(broker):
    chance = random.Random(5)
    keys = [b"k%d" % n for n in range(200)]
    records = [(chance.choice(keys), b"v%d" % n) for n in range(5_000)]
    produce(broker, "last-values", records)
    assert {place_of(key) for key, _ in records} == set(range(PARTITIONS))
    assert latest(of(broker), "last-values") == dict(records)


@pytest.mark.servers
def test_of_keys_that_have_changed_partitions_the_last_value_is_the_later_one(broker):
    """As after a topic was given more partitions: whichever is read first."""
    topic, producer = "changed-places", Producer(of(broker))
    for key, former, present in ((b"a", 0, 3), (b"b", 3, 0), (b"gone", 1, 2), (b"back", 2, 1)):
        values = [(former, b"1", 1_000), (former, b"2", 2_000)]
        last = None if key == b"gone" else b"3"
        for partition, value, at_ms in (*values, (present, last, 3_000)):
            producer.produce(topic, value, key, partition=partition, timestamp=at_ms)
        if key == b"back":
            producer.produce(topic, None, key, partition=former, timestamp=2_500)
    assert producer.flush(20) == 0
    assert latest(of(broker), topic) == {b"a": b"3", b"b": b"3", b"back": b"3"}


@pytest.mark.servers
def test_what_comes_later_is_read_later(broker):
    produce(broker, "later", [(b"a", b"1"), (b"b", b"1")])
    assert latest(of(broker), "later") == {b"a": b"1", b"b": b"1"}
    produce(broker, "later", [(b"b", b"2"), (b"c", b"2")])
    assert latest(of(broker), "later") == {b"a": b"1", b"b": b"2", b"c": b"2"}


@pytest.mark.servers
def test_a_tombstone_removes_its_key_until_it_is_written_again(broker):
    records = [(b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"a", None), (b"b", None), (b"b", b"2")]
    produce(broker, "tombstones", [*records, (b"never", None)])
    assert latest(of(broker), "tombstones") == {b"b": b"2", b"c": b"1"}


@pytest.mark.servers
def test_an_empty_value_is_no_tombstone(broker):
    produce(broker, "empty", [(b"a", b"1"), (b"a", b"")])
    assert latest(of(broker), "empty") == {b"a": b""}


@pytest.mark.servers
def test_only_wanted_keys_are_kept(broker):
    records = [(b"%d" % n, b"v%d" % n) for n in range(100)]
    produce(broker, "wanted", [*records, (b"0", None)])
    found = latest(of(broker), "wanted", wanted=lambda key: key.endswith(b"0"))
    assert found == {b"%d" % n: b"v%d" % n for n in range(10, 100, 10)}


@pytest.mark.servers
def test_of_a_topic_that_does_not_exist_there_is_nothing(broker):
    assert latest(of(broker), "not-there", timeout_s=10) == {}


@pytest.mark.servers
def test_of_an_empty_topic_there_is_nothing(one_broker):
    one_broker.create("nothing-yet")
    assert latest(of(one_broker.bootstrap), "nothing-yet", timeout_s=10) == {}


def test_a_broker_that_is_not_there_is_said_in_time():
    begun_s = time.monotonic()
    with pytest.raises(TopicUnread, match=r"^'t' could not be read: .+"):
        latest(NOWHERE, "t", timeout_s=1)
    assert time.monotonic() - begun_s < 4


def test_a_broker_that_says_nothing_is_said_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        begun_s = time.monotonic()
        with pytest.raises(TopicUnread, match=r"^'t' could not be read: .+"):
            latest(of(address), "t", timeout_s=1)
        assert time.monotonic() - begun_s < 4


@pytest.mark.kafka
@needs_kafka
def test_asking_for_a_topic_does_not_make_it(kafka):
    assert latest(of(kafka.bootstrap), "asked-for", timeout_s=10) == {}
    assert "asked-for" not in kafka.admin().list_topics(timeout=10).topics


@pytest.mark.kafka
@needs_kafka
def test_what_was_aborted_is_not_seen(kafka):
    produce(kafka.bootstrap, "aborted", [(b"a", b"1"), (b"b", b"1")])
    records = [(b"a", b"2"), (b"b", None), (b"c", b"2")]
    with transaction(kafka.bootstrap, "aborted", records) as decide:
        decide(False)
    assert latest(of(kafka.bootstrap), "aborted", timeout_s=20) == {b"a": b"1", b"b": b"1"}


@pytest.mark.kafka
@needs_kafka
@pytest.mark.parametrize("commit", [True, False])
def test_an_open_transaction_is_waited_for(kafka, commit):
    topic = f"decided-{commit}"
    produce(kafka.bootstrap, topic, [(b"a", b"1"), (b"b", b"1")])
    with transaction(kafka.bootstrap, topic, [(b"a", b"2"), (b"b", None)]) as decide:
        deciding = threading.Timer(1.5, decide, [commit])
        begun_s = time.monotonic()
        deciding.start()
        found = latest(of(kafka.bootstrap), topic, timeout_s=20)
        assert time.monotonic() - begun_s >= 1.5
        deciding.join()
    assert found == ({b"a": b"2"} if commit else {b"a": b"1", b"b": b"1"})


@pytest.mark.kafka
@needs_kafka
def test_a_transaction_that_stays_open_is_said(kafka):
    produce(kafka.bootstrap, "open", [(b"a", b"1")])
    with transaction(kafka.bootstrap, "open", [(b"a", b"2")]):
        begun_s = time.monotonic()
        with pytest.raises(TopicUnread, match=r"^'open' could .* in time: .* was left open there$"):
            latest(of(kafka.bootstrap), "open", timeout_s=2)
        assert 2 <= time.monotonic() - begun_s < 5


@pytest.mark.kafka
@needs_kafka
def test_with_a_grace_what_was_committed_before_is_read(kafka):
    """What stands behind an open transaction cannot be seen either; other partitions can."""
    broker, topic = kafka.bootstrap, "passed-by"
    keys = [bytes([n]) for n in range(64, 72)]
    produce(broker, topic, [(key, b"1") for key in keys])
    stuck = {key for key in keys if place_of(key) == 0}
    with transaction(broker, topic, [(key, b"2") for key in stuck]) as decide:
        produce(broker, topic, [(key, b"3") for key in keys])
        begun_s = time.monotonic()
        found = latest(of(broker), topic, timeout_s=20, grace_s=0.5)
        assert 0.5 <= time.monotonic() - begun_s < 5
        assert found == {key: b"1" if key in stuck else b"3" for key in keys}
        decide(True)
    assert latest(of(broker), topic, timeout_s=20, grace_s=0.5) == dict.fromkeys(keys, b"3")


@pytest.mark.kafka
@needs_kafka
def test_within_the_grace_a_decision_still_counts(kafka):
    produce(kafka.bootstrap, "in-time", [(b"a", b"1")])
    with transaction(kafka.bootstrap, "in-time", [(b"a", b"2")]) as decide:
        deciding = threading.Timer(1, decide, [True])
        deciding.start()
        found = latest(of(kafka.bootstrap), "in-time", timeout_s=30, grace_s=15)
        deciding.join()
    assert found == {b"a": b"2"}


@pytest.mark.kafka
@needs_kafka
def test_a_broker_that_freezes_is_said_in_time(kafka):
    produce(kafka.bootstrap, "frozen", [(b"a", b"1")])
    kafka.freeze()
    try:
        begun_s = time.monotonic()
        with pytest.raises(TopicUnread, match=r"^'frozen' could not be read: .+"):
            latest(of(kafka.bootstrap), "frozen", timeout_s=1)
        assert time.monotonic() - begun_s < 4
    finally:
        kafka.thaw()
    assert latest(of(kafka.bootstrap), "frozen", timeout_s=20) == {b"a": b"1"}
