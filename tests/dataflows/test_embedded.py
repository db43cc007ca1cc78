"""The embedded servers: partitions as asked, crashes without loss, no children left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from dataflows.embedded import EmbeddedBroker, EmbeddedError, EmbeddedStore, free_port

pytestmark = pytest.mark.servers
ROOT = Path(__file__).parents[2]


def test_topics_have_the_partitions_asked_for():
    with EmbeddedBroker(partitions=3) as broker:
        broker.create("a", "b")
        broker.create("c", partitions=7)
        client = Producer({"bootstrap.servers": broker.bootstrap})
        topics = client.list_topics(timeout=10).topics
    assert {name: len(topic.partitions) for name, topic in topics.items()} == {
        "a": 3,
        "b": 3,
        "c": 7,
    }


def test_it_says_nothing_where_nothing_is_wrong():
    code = "from dataflows.embedded import *\nwith EmbeddedBroker() as b: b.create('events')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_store_that_is_interrupted_as_it_starts_leaves_nothing(monkeypatch):
    def interrupted(_store):
        raise KeyboardInterrupt

    store = EmbeddedStore()
    monkeypatch.setattr(EmbeddedStore, "_answers", interrupted)
    with pytest.raises(KeyboardInterrupt), store:
        pass
    assert not store.directory.exists()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = store.pid


def test_a_topic_is_created_once(one_broker):
    one_broker.create("created-once")
    with pytest.raises(EmbeddedError, match=r"'created-once' cannot be created.*exists"):
        one_broker.create("created-once")


def test_messages_come_back_with_key_and_headers(broker):
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 0})
    producer.produce("there-and-back", b"value", b"key", 0, headers={"reason": b"why"})
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "g"})
    consumer.assign([TopicPartition("there-and-back", 0, OFFSET_BEGINNING)])
    message = consumer.poll(20)
    consumer.close()
    assert (message.key(), message.value(), message.headers()) == (
        b"key",
        b"value",
        [("reason", b"why")],
    )


def test_a_broker_ends_when_closed_and_may_be_closed_twice():
    broker = EmbeddedBroker()
    broker.close()
    broker.close()


def test_what_was_written_survives_kill_9(tmp_path):
    with EmbeddedStore(tmp_path) as store, redis.Redis.from_url(store.url) as client:
        client.set("a", 1)
        first = store.pid
        store.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        store.start()
        assert store.pid != first
        assert client.get("a") == b"1"
    assert (tmp_path / "appendonlydir").is_dir()


def test_a_directory_of_its_own_is_removed():
    with EmbeddedStore() as store:
        directory, pid = store.directory, store.pid
        assert directory.is_dir()
        with pytest.raises(EmbeddedError, match=f"runs already, as process {pid}"):
            store.start()
    assert not directory.exists()
    assert not alive(pid)
    with pytest.raises(EmbeddedError, match="start it first"):
        _ = store.pid


def test_a_port_that_is_taken_is_said_and_leaves_nothing_running(tmp_path, embedded_store):
    store = EmbeddedStore(tmp_path)
    store.port = embedded_store.port
    with pytest.raises(EmbeddedError, match=r"did not start; its log ends: .*in use"):
        store.start()
    with pytest.raises(EmbeddedError, match="start it first"):
        _ = store.pid


def test_no_port_is_given_twice_and_each_is_free():
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == len(ports)
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's doing, on Linux")
def test_the_store_dies_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from dataflows.embedded import EmbeddedStore\n"
        "print(EmbeddedStore(Path(sys.argv[1])).start().pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    with parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
    deadline_s = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not alive(pid)


def test_every_test_gets_an_empty_store(store_url):
    with redis.Redis.from_url(store_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


test_and_so_does_the_next = test_every_test_gets_an_empty_store


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
