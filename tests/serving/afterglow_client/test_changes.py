"""Following changes through somebody who loses, repeats and reorders them on purpose."""

from __future__ import annotations

import random
import time
from collections import Counter

import msgspec
import pytest
from confluent_kafka import Consumer, Producer

from afterglow_client import NotAfterglow, Unavailable
from afterglow_client.changes import Change, Changes
from afterglow_client.news import Standing
from dataflows.child import Engine
from dataflows.embedded import EmbeddedBroker, EmbeddedStore
from events.shop import Habits, Shop
from state.store import Store
from tests.brokers import new_broker
from tests.cli.running import until
from tests.folding import documents
from tests.serving.afterglow_client.test_fold import Listener, change

pytestmark = pytest.mark.servers

SETS = ("metrics.address=", "segments.away.enter=age(last_seen) >= 1s")
"""Beside what ships, a segment that silence brings people into within a second."""

EVENTS, EVERY = 6_000, 50
_LIST_OFFSETS, _NOT_LEADER = 2, 6
"""In Kafka's protocol."""


class Meddler:
    """A consumer that loses, repeats and reorders changes, and may lose memberships too."""

    def __init__(self, config, rng, counts, others=False):
        self._consumer, self._rng, self._counts, self._others = (
            Consumer(config),
            rng,
            counts,
            others,
        )
        self._held = []

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def consume(self, count, timeout_s):
        came = []
        for message in self._consumer.consume(count, timeout_s):
            if message.error() is not None or not self._is_prey(message):
                came.append(message)
                continue
            chance = self._rng.random()
            if chance < 0.10:
                self._counts["lost"] += 1
            elif chance < 0.20:
                self._counts["repeated"] += 1
                came += [message, message]
                self._held.append(message)
            elif chance < 0.30:
                self._counts["moved"] += 1
                self._held.append(message)
            else:
                came.append(message)
        while self._held and self._rng.random() < 0.7:
            place = self._rng.randrange(len(came) + 1)
            came.insert(place, self._held.pop(self._rng.randrange(len(self._held))))
        return came

    def _is_prey(self, message):
        return self._others or message.topic() == "segment-changes"


@pytest.fixture
def scene(tmp_path):
    """Broker, store and an engine at work."""
    with EmbeddedStore() as server, new_broker() as broker:
        broker.create("events", "events.dead", "segment-changes")
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": server.url}
        sets = [part for text in SETS for part in ("--set", text)]
        engine = Engine(sets, env, tmp_path / "engine.log")
        engine.start()
        store = Store(server.url)
        try:
            yield broker.bootstrap, store, engine
        finally:
            engine.kill()
            store.close()


def publish(bootstrap, shop, events):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2})
    block = shop.block(events, time.time_ns() // 1_000_000)
    for payload, user in zip(block.payloads, block.users, strict=True):
        producer.produce("events", payload, user)
    assert producer.flush(20) == 0
    return events


def everything(bootstrap):
    """All change records that the topic holds."""
    with Changes({"bootstrap.servers": bootstrap}, begin="beginning") as changes:
        found = []
        while not changes.is_settled:
            if (news := changes.poll(0.2)) is not None:
                assert isinstance(news, Change), news
                found.append(news)
    return found


def listen(changes, listener, seconds):
    """Hear for so long."""
    deadline_s = time.monotonic() + seconds
    while (left_s := deadline_s - time.monotonic()) > 0:
        if (news := changes.poll(left_s)) is not None:
            listener.hear([news])


def settled(changes, listener, seconds=30):
    """Hear until nothing is in doubt, and stays so."""

    def ask():
        listen(changes, listener, 0.1)
        return changes.is_settled

    until(ask, seconds)
    listen(changes, listener, 0.5)
    until(ask, seconds)


@pytest.mark.slow
def test_lost_repeated_and_reordered_changes_still_end_at_what_the_store_says(scene):
    bootstrap, store, engine = scene
    shop = Shop(5, time.time_ns() // 1_000_000, Habits(users=150, rate_per_s=1_000, zipf=0.7))
    rng, counts, listener = random.Random(5), Counter(), Listener()
    state = None

    def opened():
        return Changes(
            {"bootstrap.servers": bootstrap},
            state,
            patience_s=0.5,
            open_consumer=lambda config: Meddler(config, rng, counts),
        )

    sent = 0
    for part in range(EVENTS // 1_000):
        with opened() as changes:  # every time from what was saved
            for _ in range(1_000 // EVERY):
                sent += publish(bootstrap, shop, EVERY)
                listen(changes, listener, 0.05)
            state = changes.state()
        if part == 2:
            engine.kill()
            engine.start()
    until(lambda: sum(store.positions().values()) >= sent, 60)
    time.sleep(2.5)  # everybody's last second of silence
    assert engine.stop() == 0, engine.log.read_text()
    with opened() as changes:
        settled(changes, listener)
        held, heard = dict(changes.everyone()), changes.counts

    in_store = {user: tuple(sorted(d["segments"])) for user, d in documents(store).items()}
    assert {u: s for u, s in held.items() if s} == {u: s for u, s in in_store.items() if s}
    assert {u: tuple(sorted(s)) for u, s in listener.held.items() if s} == {
        u: s for u, s in held.items() if s
    }
    assert min(counts.values()) > 20, counts
    ids = {c.id for c in everything(bootstrap)}
    assert len(listener.heard) == len(set(listener.heard)), "a change was told twice"
    assert {*listener.heard} < ids
    assert heard.changes == len(listener.heard)
    assert heard.changes + heard.missed == len(ids), "what was not told is counted"
    assert heard.repeats > 20


def test_who_loses_memberships_too_is_mended_by_a_refill(scene):
    bootstrap, store, engine = scene
    shop = Shop(6, time.time_ns() // 1_000_000, Habits(users=100, rate_per_s=1_000, zipf=0.7))
    rng, counts, listener = random.Random(6), Counter(), Listener()
    with Changes(
        {"bootstrap.servers": bootstrap},
        patience_s=0.2,
        open_consumer=lambda config: Meddler(config, rng, counts, others=True),
    ) as changes:
        sent = publish(bootstrap, shop, 1_500)
        until(lambda: sum(store.positions().values()) >= sent, 60)
        assert engine.stop() == 0, engine.log.read_text()
        settled(changes, listener)
        in_store = {user: tuple(sorted(d["segments"])) for user, d in documents(store).items()}
        in_store = {user: held for user, held in in_store.items() if held}
        assert in_store
        for _ in range(20):  # each time some are lost again
            if {u: s for u, s in changes.everyone() if s} == in_store:
                return
            changes.refill()
            settled(changes, listener)
    pytest.fail("it never came to what the store says")


def test_who_begins_now_knows_everybody_and_hears_what_follows(scene):
    bootstrap, store, _ = scene
    shop = Shop(7, time.time_ns() // 1_000_000, Habits(users=60, rate_per_s=1_000))
    sent = publish(bootstrap, shop, 500)
    until(lambda: sum(store.positions().values()) >= sent, 60)
    until(lambda: any(d["segments"] for d in documents(store).values()))
    time.sleep(1.5)
    config = {"bootstrap.servers": bootstrap}
    with Changes(config) as first, Changes(config, first.state()) as second:
        known = dict(first.everyone())
        assert known
        assert dict(second.everyone()) == known
        publish(bootstrap, shop, 500)
        for changes in (first, second):
            news = changes.poll(20)
            assert isinstance(news, Change), news
            assert news.segment in (*news.entered, *news.exited)


def test_what_was_read_and_not_yet_given_is_part_of_the_state(broker):
    """Two pieces of news come of one record; a stop between them loses neither."""
    config, name = {"bootstrap.servers": broker}, f"c{time.time_ns()}"
    record = {
        "id": "1-00-3-0",
        "user_id": "ann",
        "segment": "vip",
        "action": "exited",
        "ts": 1,
        "decided_at": 1,
        "version": 1,
        "epoch": 1,
        "n": 3,
        "segments": ["away"],
        "cause": {"kind": "event"},
    }
    producer = Producer(config)
    producer.produce(name, msgspec.json.encode(record), "ann")
    producer.produce(f"{name}-m", msgspec.json.encode({**record, "segments": ["away"]}), "ann")
    assert producer.flush(10) == 0
    names = {"changes": name, "memberships": f"{name}-m", "begin": "beginning"}
    with Changes(config, **names) as changes:
        correction = changes.poll(10)
        assert (correction.missed, correction.entered) == (2, ("away", "vip"))
        state = changes.state()
    with Changes(config, state, **names) as changes:
        assert changes.poll(10).id == "1-00-3-0"
        assert changes.poll(0.5) is None
        assert changes.segments("ann") == ("away",)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("after", range(4))
def test_a_leader_that_is_being_found_is_waited_for(after, times):
    """Whichever question for the ends of a partition fails, nobody is overlooked."""
    with EmbeddedBroker(1) as moving:
        config = {"bootstrap.servers": moving.bootstrap}
        moving.create("segment-changes", "memberships")
        producer = Producer(config)
        producer.produce("memberships", msgspec.json.encode(change("ann", 1, 1, "vip", {"vip"})))
        assert producer.flush(10) == 0
        moving.fail(_LIST_OFFSETS, _NOT_LEADER, times, after)
        with Changes(config, begin="now") as changes:
            assert changes.segments("ann") == ("vip",)


def test_a_state_of_topics_that_had_more_partitions_goes_on():
    """They were made anew, with fewer: what is lost on the way is corrected all the same."""

    def tell(broker, topic, user, n, segment):
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        record = change(user, 2, n, segment, {segment})
        producer.produce(topic, msgspec.json.encode(record), user, partition=0)
        assert producer.flush(10) == 0

    names = "segment-changes", "memberships"
    with EmbeddedBroker(4) as wide:
        wide.create(*names)
        for topic in names:
            tell(wide, topic, "bob", 1, "vip")
        with Changes({"bootstrap.servers": wide.bootstrap}) as changes:
            assert changes.segments("bob") == ("vip",)
            state = changes.state()
    with EmbeddedBroker(2) as narrow:
        narrow.create(*names)
        with Changes({"bootstrap.servers": narrow.bootstrap}, state, patience_s=0.2) as changes:
            tell(narrow, "memberships", "ann", 3, "lapsing")
            correction = changes.poll(20)
            assert (correction.user_id, correction.missed) == ("ann", 3)
            until(lambda: changes.poll(0.1) is None and changes.is_settled, 20)
            assert changes.segments("bob") == ("vip",)


def test_a_broker_that_is_not_there_is_said():
    config = {"bootstrap.servers": "127.0.0.1:1", "socket.timeout.ms": 500, "log_level": 0}
    with pytest.raises(Unavailable, match=r"bootstrap\.servers"):
        Changes(config, answer_s=1.0)


def test_a_topic_that_is_not_there_is_said(broker):
    with pytest.raises(Unavailable, match="there is no topic 'nothing-here'"):
        Changes({"bootstrap.servers": broker}, changes="nothing-here")


def test_a_record_that_is_no_change_is_said(broker):
    name = f"x{time.time_ns()}"
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(name, b"{}", "ann")
    assert producer.flush(10) == 0
    config = {"bootstrap.servers": broker}
    with (
        Changes(config, changes=name, begin="beginning") as changes,
        pytest.raises(NotAfterglow, match=f"{name}/[0-9]+/0 is no change"),
    ):
        changes.poll(10)


@pytest.mark.parametrize("raw", [b'{"id": "\xff"}', b"[" * 100_000, None])
def test_a_record_that_cannot_be_decoded_is_no_change(broker, raw):
    name = f"x{time.time_ns()}"
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(name, raw, "ann")
    assert producer.flush(10) == 0
    config = {"bootstrap.servers": broker}
    with (
        Changes(config, changes=name, begin="beginning") as changes,
        pytest.raises(NotAfterglow, match=f"{name}/[0-9]+/0 is no change"),
    ):
        changes.poll(10)


def test_a_deleted_membership_of_nobody_is_said(broker):
    name = f"x{time.time_ns()}"
    producer = Producer({"bootstrap.servers": broker})
    producer.produce(name, b"{}", "ann")
    producer.produce(f"{name}-m", None, b"\xff")
    assert producer.flush(10) == 0
    with pytest.raises(NotAfterglow, match=f"the key of the record at {name}-m/[0-9]+/0"):
        Changes({"bootstrap.servers": broker}, changes=name, memberships=f"{name}-m")


def test_who_does_not_wait_gets_what_is_there(broker):
    config, name = {"bootstrap.servers": broker}, f"p{time.time_ns()}"
    producer = Producer(config)
    for n in (1, 2):
        record = change("ann", 1, n, "vip", {"vip"} if n == 1 else set())
        producer.produce(name, msgspec.json.encode(record), "ann")
    assert producer.flush(10) == 0
    found = []
    with Changes(config, changes=name, begin="beginning") as changes:

        def ask():
            if (news := changes.poll(0)) is not None:
                found.append(news.n)
            return len(found) == 2

        until(ask, 20)
        before_s = time.monotonic()
        assert changes.poll(0) is None
        assert time.monotonic() - before_s < 0.1
    assert found == [1, 2]


def test_a_state_of_other_topics_or_none_at_all_is_refused(broker):
    config, name = {"bootstrap.servers": broker}, f"s{time.time_ns()}"
    Producer(config).produce(name, b"", "ann")
    broken = msgspec.msgpack.encode([b"", [["zz", 0, 0]], [], []]).replace(b"zz", b"\xff\xff")
    for state in (b"?", broken):
        with pytest.raises(NotAfterglow, match="begin without it"):
            Changes(config, state, changes=name)


def test_a_place_that_the_log_has_lost_is_left_for_where_it_begins(broker):
    """Retention has removed what was not read yet, or the topic was made anew."""
    config, name = {"bootstrap.servers": broker}, f"r{time.time_ns()}"
    names = {"changes": name, "memberships": f"{name}-m", "patience_s": 0.1}
    producer = Producer(config)

    def tell(n, segments, segment):
        record = change("ann", 1, n, segment, segments)
        producer.produce(name, msgspec.json.encode(record), "ann")
        standing = Standing("ann", 1, n, sorted(segments))
        producer.produce(f"{name}-m", msgspec.json.encode(standing), "ann")
        assert producer.flush(10) == 0

    tell(5, {"vip"}, "vip")
    with Changes(config, **names) as changes:
        saved = msgspec.msgpack.decode(changes.state())
    assert changes.segments("ann") == ("vip",)
    saved[1] = [(topic, p, 1_000_000) for topic, p, _ in saved[1]]
    tell(7, {"away"}, "vip")
    with Changes(config, msgspec.msgpack.encode(saved), **names) as changes:
        correction, told = changes.poll(20), changes.poll(20)
        assert (correction.entered, correction.missed) == (("away",), 1)
        assert (told.n, told.exited) == (7, ("vip",))
        assert changes.poll(0.5) is None
        assert changes.is_settled
