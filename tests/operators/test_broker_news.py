"""A broker that is away is told at once, now and then, and when it is back; nothing else is."""

import time

import pytest
import structlog
from confluent_kafka import KafkaError

from dataflows.embedded import EmbeddedBroker
from operators.broker_errors import SourceError
from operators.broker_news import BrokerNews
from operators.courier import Courier, Terms
from operators.source import EventSource, SourceSpec
from operators.stop import Stop
from operators.topics import Topics
from tests.cli.running import until
from tests.operators.logs import NOWHERE, produce

REFUSED = KafkaError(KafkaError._TRANSPORT, "refused")
ALL_AWAY = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")


@pytest.fixture
def told():
    """What the log says."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_trouble_is_told_at_once_and_then_every_ten_seconds(told):
    now_s = [100.0]
    news = BrokerNews("source", lambda: now_s[0])
    for _ in range(250):
        news.trouble(REFUSED)
        now_s[0] += 0.1
    assert len(told) == 3
    assert told[0] == {
        "event": "broker_error",
        "log_level": "warning",
        "client": "source",
        "error": "refused",
    }


def test_it_is_back_when_all_were_away_and_trouble_after_that_is_told_at_once(told):
    now_s = [0.0]
    news = BrokerNews("source", lambda: now_s[0])
    news.well()
    news.trouble(REFUSED)
    news.well()
    assert [line["event"] for line in told] == ["broker_error"], "others stand in for one broker"
    news.trouble(ALL_AWAY)
    now_s[0] = 0.5
    news.well()
    assert len(told) == 1, "what had come before is handed over"
    now_s[0] = 1.5
    news.well()
    news.well()
    news.trouble(REFUSED)
    assert [line["event"] for line in told] == ["broker_error", "broker_back", "broker_error"]
    assert told[1]["client"] == "source"


@pytest.mark.servers
def test_an_outage_is_a_few_events_and_no_line_of_the_client(told, capfd):
    with EmbeddedBroker() as broker:
        broker.create("events", "segment-changes", "memberships", "publisher-positions")
        config = {"bootstrap.servers": broker.bootstrap, "reconnect.backoff.max.ms": 200}
        source = EventSource(config, SourceSpec(), dict, Stop())
        source.check()
        reader = source.build_part("source", "group-0", None)
        courier = Courier(config, Terms(Topics(), name=""))

        def said(event):
            reader.next_batch()
            return {line["client"] for line in told if line["event"] == event}

        until(lambda: any(read.payloads == [] for read in reader.next_batch()))
        broker.down()
        begun_s = time.monotonic()
        until(lambda: said("broker_error") == {"source", "publisher"})
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s:
            reader.next_batch()
        errors = [line["client"] for line in told if line["event"] == "broker_error"]
        most = 1 + int((time.monotonic() - begun_s) // 10)  # of each client, one in ten seconds
        assert all(1 <= errors.count(client) <= most for client in ("source", "publisher"))
        broker.up()
        produce(broker.bootstrap, "events", [(0, b"back")])
        until(lambda: "source" in said("broker_back"))
        reader.close()
        courier.close(10)
    assert "%3|" not in capfd.readouterr().err


@pytest.mark.servers
def test_a_topic_that_is_not_there_is_said_before_there_is_a_dataflow():
    with EmbeddedBroker() as broker:
        broker.create("events", partitions=2)
        config = {"bootstrap.servers": broker.bootstrap}
        EventSource(config, SourceSpec(topic="events"), lambda: {1: 5}, Stop()).check()
        with pytest.raises(SourceError, match="'events' has 2 partitions, but positions are"):
            EventSource(config, SourceSpec(topic="events"), lambda: {2: 5}, Stop()).check()


def test_a_broker_that_is_away_is_said_before_there_is_a_dataflow(monkeypatch):
    monkeypatch.setattr("operators.source._START_TIMEOUT_S", 0.5)
    with pytest.raises(SourceError, match=r"the broker does not answer: .* at 127\.0\.0\.1:1$"):
        EventSource(NOWHERE, SourceSpec(), dict, Stop()).check()
