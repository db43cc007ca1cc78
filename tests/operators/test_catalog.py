"""The catalogue's topic is read to its end, then followed, and bad messages are counted."""

import time
from contextlib import closing

import pytest
from confluent_kafka import Producer

from dataflows.local_kafka import LocalKafka
from events.schema import EventRules
from operators.catalog import CatalogReader
from operators.compacted import TopicUnread
from tests.brokers import needs_kafka
from tests.operators.logs import NOWHERE

pytestmark = pytest.mark.servers


def of(broker):
    return {"bootstrap.servers": broker, "log_level": 0}


def write(broker, topic, records):
    producer = Producer({**of(broker), "linger.ms": 1})
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(20) == 0


def reader(broker, topic):
    return closing(CatalogReader(of(broker), topic, EventRules()))


def polled(catalog):
    """The next facts that come."""
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        begun_s = time.monotonic()
        facts = catalog.poll()
        assert time.monotonic() - begun_s < 2, "it waits for nothing"
        if len(facts):
            return facts
        time.sleep(0.02)
    raise AssertionError("nothing came")


def test_all_that_is_there_is_read_then_what_comes(broker):
    topic = "catalog-followed"
    write(broker, topic, [(b"i%d" % n, b'{"title": "t%d"}' % n) for n in range(5_000)])
    write(broker, topic, [(b"i7", b'{"title": "other"}'), (b"i8", None), (b"bad", b"[]")])
    with reader(broker, topic) as catalog:
        titles = {}
        for facts in catalog.catch_up():
            gone = facts.gone.tolist()
            for item, title, is_gone in zip(
                facts.ids.tolist(), facts.titles.tolist(), gone, strict=True
            ):
                titles[item] = None if is_gone else title
        assert len(titles) == 5_000
        assert (titles["i6"], titles["i7"], titles["i8"]) == ("t6", "other", None)
        assert catalog.counts == {"": 5_002, "not_a_map": 1}
        assert len(catalog.poll()) == 0
        write(broker, topic, [(b"i9", b'{"available": false}')])
        facts = polled(catalog)
        assert (facts.ids.tolist(), facts.available.tolist()) == (["i9"], [False])


def test_an_empty_topic_holds_nothing_up(broker):
    with reader(broker, "catalog-empty") as catalog:
        begun_s = time.monotonic()
        assert sum(len(facts) for facts in catalog.catch_up()) == 0
        assert time.monotonic() - begun_s < 10
        write(broker, "catalog-empty", [(b"a", b"{}")])
        assert polled(catalog).ids.tolist() == ["a"]


def test_a_broker_that_is_away_is_said_at_the_start_and_no_matter_later():
    with reader(NOWHERE, "catalog") as catalog:
        with pytest.raises(TopicUnread, match="'catalog' could not be read"):
            list(catalog.catch_up(0.5))
        assert len(catalog.poll()) == 0


@pytest.mark.kafka
@needs_kafka
def test_partitions_that_are_added_are_read(monkeypatch):
    monkeypatch.setattr("operators.catalog._MORE_S", 0.0)
    with LocalKafka(partitions=1) as kafka:
        kafka.create("catalog")
        write(kafka.bootstrap, "catalog", [(b"jar", b"{}")])
        with reader(kafka.bootstrap, "catalog") as catalog:
            assert [facts.ids.tolist() for facts in catalog.catch_up() if len(facts)] == [["jar"]]
            kafka.add_partitions("catalog", 3)
            producer = Producer(of(kafka.bootstrap))
            for partition, item in ((2, b"cup"), (0, b"mug")):
                producer.produce("catalog", b"{}", item, partition=partition)
            assert producer.flush(20) == 0
            came = []
            while len(came) < 2:
                came += polled(catalog).ids.tolist()
            assert sorted(came) == ["cup", "mug"]  # and the jar is not read again
