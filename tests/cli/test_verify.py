"""``afterglow verify`` finds what is damaged in the store, and nothing else."""

import json
import subprocess
import sys
import time
import zlib
from collections import Counter
from contextlib import closing, contextmanager

import msgpack
import pytest
import redis
from confluent_kafka import Producer, TopicPartition

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.shop import GOOD, Habits, Shop
from state.store import Store
from tests.brokers import needs_kafka, new_broker
from tests.cli.running import CLEAN, ROOT, afterglow, right, until, wrong

pytestmark = pytest.mark.servers
HABITS = Habits(users=60, rate_per_s=50, zipf=0.7)


class Published:
    """A shop's events of the last minutes, in the events topic.

    Attributes:
        count: how many messages there are.
        events: how many good events each user has.
    """

    def __init__(self, env, seed):
        self.count, self.events = 0, Counter()
        bootstrap = env["KAFKA_BOOTSTRAP"]
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "log_level": 0})
        start_ms = time.time_ns() // 1_000_000 - 600_000
        self._shop = Shop(seed, start_ms, HABITS, duplicate_share=0.05, broken_share=0.02)

    def more(self, count):
        """Publish so many messages more."""
        block = self._shop.block(count)
        for payload, kind in zip(block.payloads, block.kind.tolist(), strict=True):
            if kind == GOOD:
                self.events[json.loads(payload)["user_id"]] += 1
        self.send(block.payloads)

    def send(self, payloads):
        """Publish messages of one's own."""
        for payload in payloads:
            self._producer.produce("events", payload)
        self.count += len(payloads)
        assert self._producer.flush(20) == 0


@pytest.fixture(scope="module")
def rested(tmp_path_factory):
    """What an engine has left behind that took a few hundred events: nothing moves any more."""
    kafka, log = load(env={}).kafka, tmp_path_factory.mktemp("engine") / "engine.log"
    with EmbeddedStore() as store, new_broker() as broker:
        broker.create(kafka.events, kafka.dead, kafka.changes)
        env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        engine = Engine(["--set", "metrics.address="], env, log)
        engine.start()
        try:
            published, held = Published(env, 11), Store(store.url)
            published.more(500)
            until(lambda: sum(held.positions().values()) == published.count)
            assert engine.stop() == 0, log.read_text()
        finally:
            engine.kill()
        yield env, published


@pytest.fixture
def profiles(rested):
    """The stored profiles, to be damaged; afterwards they are as they were."""
    env, _ = rested
    with redis.Redis.from_url(env["REDIS_URL"]) as client:
        keys = [f"ag:profile:{{{shard:02d}}}" for shard in range(64)]
        before = {key: client.hgetall(key) for key in keys}
        yield Profiles(client)
        for key, fields in before.items():
            client.delete(key)
            if fields:
                client.hset(key, mapping=fields)


class Profiles:
    """Stored documents, to be changed behind the engine's back."""

    def __init__(self, client):
        self._client = client

    @staticmethod
    def key(user):
        return f"ag:profile:{{{zlib.crc32(user.encode()) % 64:02d}}}"

    def read(self, user):
        return msgpack.unpackb(self._client.hget(self.key(user), user))

    def write(self, user, document):
        self._client.hset(self.key(user), user, msgpack.packb(document))

    def remove(self, user):
        assert self._client.hdel(self.key(user), user) == 1

    @contextmanager
    def opened(self, user):
        document = self.read(user)
        yield document
        self.write(user, document)


def differing(env, *options):
    """The lines of a comparison that finds something."""
    done = afterglow("verify", *options, env=env)
    assert done.code == 1, done.err
    return [*done.out.splitlines(), done.err.strip()]


def total(events, differ):
    return f"{len(events)} users compared over {sum(events.values())} events: {differ} differ"


def test_an_undamaged_store_holds_what_the_log_makes(rested):
    env, published = rested
    assert len(published.events) > 30
    assert right("verify", env=env) == total(published.events, 0) + "\n"


def test_what_is_not_committed_yet_is_left_out(rested):
    env, published = rested
    taken = total(published.events, 0)
    Published(env, 12).more(100)
    assert right("verify", env=env) == taken + "\n"


def test_one_wrong_value_is_said_with_its_user_and_place(rested, profiles):
    env, published = rested
    user, _ = published.events.most_common()[0]
    with profiles.opened(user) as document:
        document["lifetime"]["spend"] += 1
        live = document["lifetime"]["spend"]
    assert differing(env) == [
        f"{user}: lifetime.spend is {live}, recomputed {live - 1}",
        total(published.events, 1),
    ]


@pytest.mark.parametrize(
    "path",
    [
        *("first_seen", "last_seen", "lifetime.orders", "window.orders", "window.spend"),
        *("session.start", "session.views", "engagement", "intent"),
    ],
)
def test_every_value_is_compared(rested, profiles, path):
    env, published = rested
    user, _ = published.events.most_common()[1]
    *places, last = path.split(".")
    with profiles.opened(user) as document:
        for place in places:
            document = document[place]
        document[last] = (document[last] or 0) * (1 + 1e-6) + 1e-6
        if path not in ("engagement", "intent"):
            document[last] = round(document[last]) + 1
    line, _ = differing(env)
    assert line.startswith(f"{user}: {path} is {document[last]!r}, recomputed ")


def test_a_cart_line_too_many_is_said(rested, profiles):
    env, published = rested
    user, _ = published.events.most_common()[2]
    with profiles.opened(user) as document:
        document["cart"]["lines"].append({"item_id": "never", "added": 5})
    line, _ = differing(env)
    assert line.startswith(f"{user}: cart.lines is {{")
    assert "'never': 5" in line.partition(", recomputed ")[0]
    assert "never" not in line.partition(", recomputed ")[2]


def test_a_profile_and_the_segments_sets_must_agree(rested, profiles):
    env, published = rested
    user, _ = published.events.most_common()[6]
    key = f"ag:members:{{{zlib.crc32(user.encode()) % 64:02d}}}:vip"
    held = sorted(profiles.read(user)["segments"])
    with redis.Redis.from_url(env["REDIS_URL"]) as client:
        assert client.sadd(key, user) == 1
        try:
            assert differing(env) == [
                f"{user}: segments is {held!r}, by the sets {sorted([*held, 'vip'])!r}",
                total(published.events, 1),
            ]
        finally:
            client.srem(key, user)
    with profiles.opened(user) as document:
        document["segments"]["vip"] = {"since": 5, "version": 1, "valid_to": None}
    line, _ = differing(env)
    assert line == f"{user}: segments is {sorted([*held, 'vip'])!r}, by the sets {held!r}"


def test_the_last_place_of_a_float_is_no_difference(rested, profiles):
    env, published = rested
    user, _ = published.events.most_common()[3]
    with profiles.opened(user) as document:
        assert document["engagement"] > 0
        document["engagement"] *= 1 + 1e-12
    assert right("verify", env=env) == total(published.events, 0) + "\n"


def test_a_missing_profile_is_said(rested, profiles):
    env, published = rested
    user, events = published.events.most_common()[4]
    profiles.remove(user)
    assert differing(env)[0] == f"{user}: profile is None, recomputed '{events} events'"


def test_a_profile_without_events_is_said(rested, profiles):
    env, published = rested
    user, _ = published.events.most_common()[5]
    profiles.write("ghost", profiles.read(user) | {"user_id": "ghost"})
    assert differing(env)[0] == "ghost: profile is 'a profile', recomputed 'no event'"


def test_of_many_differences_some_are_shown_and_all_counted(rested, profiles):
    env, published = rested
    users = sorted(published.events)[:25]
    for user in users:
        with profiles.opened(user) as document:
            document["lifetime"]["events"] += 1
    *lines, more, last = differing(env)
    assert (len(lines), more, last) == (20, "… and 5 more", total(published.events, 25))
    assert {line.partition(":")[0] for line in lines} < set(users)


def test_a_share_compares_some_and_a_share_of_nobody_is_no_success(rested, profiles):
    env, published = rested
    share = {u: n for u, n in published.events.items() if zlib.adler32(u.encode()) % 10_000 < 5_000}
    assert 0 < len(share) < len(published.events)
    for user in published.events.keys() - share:
        with profiles.opened(user) as document:
            document["lifetime"]["events"] += 1
    assert right("verify", "--share", "0.5", env=env) == total(share, 0) + "\n"
    profiles.remove(inside := min(share))
    line, _ = differing(env, "--share", "0.5")
    assert line.startswith(f"{inside}: profile is None")
    for nobody in ("0", "1e-09"):
        done = afterglow("verify", "--share", nobody, env=env)
        assert (done.code, done.out) == (1, "")
        among = f"none of {len(published.events) - 1} users is in a share of {nobody}"
        assert done.err == f"afterglow: {among}: compare a larger one\n"


def test_a_store_in_which_nothing_was_committed_is_no_success(rested):
    env, _ = rested
    with redis.Redis.from_url(env["REDIS_URL"]) as client:
        client.hset("begun:meta", mapping={"format": 1, "shards": 64})
    done = afterglow("verify", "--set", "redis.prefix=begun", env=env)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "afterglow: no shard under 'begun' has committed anything: check REDIS_URL, its database "
        "number and redis.prefix\n"
    )


def test_the_engine_may_go_on_working(live):
    published = Published(live, 13)
    with closing(Store(live["REDIS_URL"])) as store:  # what has committed nothing is refused
        until(lambda: any(map(any, store.record_fields(["positions"]))))
    for _ in range(3):
        published.more(150)
        assert right("verify", env=live).endswith(": 0 differ\n")
    until(lambda: compared(live)[1] >= sum(published.events.values()))
    assert compared(live)[0] >= len(published.events)


def test_what_was_published_twice_is_what_the_engine_makes_of_it(live):
    """Ids are known for a quarter of an hour: of a file that is sent again, older ones count."""
    published, now_ms = Published(live, 14), time.time_ns() // 1_000_000
    one = {"type": "page_view", "source": "file"}
    file = [
        json.dumps(
            one | {"event_id": f"twice-{n}", "user_id": f"t{n % 7}", "ts": now_ms - 72_000 * n}
        )
        for n in reversed(range(100))
    ]
    shards = [(zlib.crc32(user.encode()) % 64, user) for user in (f"t{n}" for n in range(7))]
    with closing(Store(live["REDIS_URL"])) as store:
        for count in (100, 100 + 87):  # 13 of them lie within 900 seconds of the newest
            published.send(file)
            until(lambda: events_of(store, shards) == count)  # noqa: B023
    assert right("verify", env=live).endswith(": 0 differ\n")


def events_of(store, places):
    """How many events the profiles of some users know."""
    held = filter(None, (store.profile(*place) for place in places))
    return sum(msgpack.unpackb(document)["lifetime"]["events"] for document in held)


def compared(env):
    """How many users and events, once nothing differs."""
    said = right("verify", env=env).replace(",", "").split()
    assert said[-2:] == ["0", "differ"]
    return int(said[0]), int(said[4])


@pytest.mark.kafka
@needs_kafka
def test_a_log_without_its_beginning_is_refused(rested, kafka):
    env, _ = rested
    kafka.create("cut-off")
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for _ in range(10):
        producer.produce("cut-off", b"{}", partition=1)
    assert producer.flush(20) == 0
    admin = kafka.admin()  # must live until the answer is there
    cut = admin.delete_records([TopicPartition("cut-off", 1, 4)])
    assert [future.result().low_watermark for future in cut.values()] == [4]
    around = env | {"KAFKA_BOOTSTRAP": kafka.bootstrap}
    (line,) = wrong("verify", "--set", "kafka.events=cut-off", env=around)
    assert line.startswith("afterglow: partition 1 of 'cut-off' begins at offset 4: retention")


def test_a_log_that_is_shorter_than_what_was_taken_is_said(rested):
    env, _ = rested
    with new_broker() as other:
        other.create("events")
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", "verify"],
            env={**CLEAN, **env, "KAFKA_BOOTSTRAP": other.bootstrap},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("afterglow: ")
