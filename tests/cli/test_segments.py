"""Definitions of segments, changed by commands while an engine runs under load."""

import json
import threading
import time

import pytest
from confluent_kafka import Producer

from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.shop import Habits, Shop
from state.store import Store
from tests.brokers import new_broker
from tests.cli.running import afterglow, right, until, wrong
from tests.folding import assert_folded, documents, fold, unique

pytestmark = [pytest.mark.servers, pytest.mark.slow]

USERS = 300
BASE = """
[segments.busy]
enter = "lifetime.events >= 3"

[segments.buyer]
enter = "lifetime.orders >= 1"

[families.size.labels]
big = "lifetime.events >= 10"
small = "lifetime.events >= 1"
"""
EDITED = """
[segments.buyer]
enter = "lifetime.orders >= 2"

[segments.anyone]
enter = "lifetime.events >= 1"

[families.size.labels]
huge = "lifetime.events >= 20"
big = "lifetime.events >= 6"
small = "lifetime.events >= 1"
"""
NAMES = ("busy", "buyer", "big", "small", "anyone", "huge", "everyone")


class World:
    """An engine over servers of its own, and a shop that can be held up."""

    def __init__(self, directory, store, broker, workers):
        self.directory = directory
        self.env = {"KAFKA_BOOTSTRAP": broker.bootstrap, "REDIS_URL": store.url}
        self.store = Store(store.url)
        self.broker = broker
        chosen = ["metrics.address=", "lane.lateness=0s", "models.enabled=false", "offers={}"]
        self.options = [part for text in chosen for part in ("--set", text)]
        several = ["--workers", str(workers)] if workers else []
        self.engine = Engine([*several, *self.options], self.env, directory / "engine.log")
        self.shop = Shop(3, time.time_ns() // 1_000_000, Habits(users=USERS, rate_per_s=500))
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 2})
        self.sent = 0
        self.open = threading.Event()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._trade, daemon=True)
        self.thread.start()

    def _trade(self):
        while not self.ended.wait(0.05):
            if self.open.is_set():
                self.publish(25)

    def publish(self, count):
        block = self.shop.block(count, time.time_ns() // 1_000_000)
        for payload in block.payloads:
            self.producer.produce("events", payload)
        self.producer.poll(0)
        self.sent += len(block.payloads)

    def file(self, text, name="segments.toml"):
        path = self.directory / name
        path.write_text(text)
        return path

    def command(self, *arguments):
        return right("segments", *arguments, *self.options, env=self.env)

    def has_begun(self):
        """Whether the engine has written its definitions down."""
        return afterglow("segments", "history", *self.options, env=self.env).out.startswith("1 ")

    def calm(self):
        """Nobody trades any more, and everything is committed."""
        self.open.clear()
        time.sleep(0.2)
        assert self.producer.flush(10) == 0
        until(lambda: sum(self.store.positions().values()) == self.sent, 30)

    def settled(self, names):
        """Every profile is under the definitions of these segments."""

        def holds():
            found = documents(self.store).values()
            return all(names(d) for d in found)

        until(holds, 30)

    def changes(self):
        """The published changes, in order."""
        out = right("changes", "--json", "--beginning", "--seconds", "2", env=self.env)
        return unique(line.encode() for line in out.splitlines())

    def close(self):
        self.ended.set()
        self.thread.join()
        self.engine.kill()
        self.store.close()


@pytest.fixture
def world(tmp_path, request):
    kafka = load(env={}).kafka
    with EmbeddedStore() as store, new_broker() as broker:
        broker.create(kafka.events, kafka.dead, kafka.changes)
        made = World(tmp_path, store, broker, getattr(request, "param", 0))
        made.engine.start()
        try:
            until(lambda: made.has_begun(), 60)
            made.command("apply", made.file(BASE), "--author", "ann", "--note", "begin")
            made.open.set()
            yield made
        finally:
            made.close()


def held(world):
    return {user: set(d["segments"]) for user, d in documents(world.store).items()}


def test_a_definition_edited_under_load_does_what_the_preview_said(world):
    until(lambda: len(documents(world.store)) > USERS // 2, 30)
    world.calm()
    world.settled(lambda d: "rfm" in d and not set(d["segments"]) & {"vip", "at_risk"})
    before = held(world)
    said = json.loads(world.command("preview", world.file(EDITED), "--json", "--sample", 10_000))
    assert said["users"] == len(before)
    assert "anyone" in world.command("preview", world.file(EDITED))
    out = world.command("apply", world.file(EDITED), "--author", "bob")
    assert "busy: taken out" in out
    until(lambda: not any("busy" in segments for segments in held(world).values()), 30)
    until(lambda: all("anyone" in segments for segments in held(world).values()), 30)
    after = held(world)
    for name, line in said["segments"].items():
        was = {u for u, segments in before.items() if name in segments}
        now = {u for u, segments in after.items() if name in segments}
        assert (line["before"], line["after"]) == (len(was), len(now)), name
        assert set(line["enters"]) == now - was, name
        assert set(line["leaves"]) == was - now, name
    world.open.set()  # and on under load, back and forth, killed in the middle of it
    for text in (BASE, EDITED, BASE):
        world.command("apply", world.file(text))
        time.sleep(1.3)
        world.engine.kill()
        world.engine.start()
    world.calm()
    until(lambda: not any("anyone" in segments for segments in held(world).values()), 60)
    assert world.engine.stop() == 0
    changes = world.changes()
    assert_folded(fold(changes), world.store, NAMES)
    moved = {(c.segment, c.cause.kind) for c in changes if c.cause.kind == "definition"}
    assert {name for name, _ in moved} >= {"busy", "buyer", "big", "anyone"}
    for user, document in documents(world.store).items():
        events, orders = document["lifetime"]["events"], document["lifetime"]["orders"]
        truth = {"busy"} if events >= 3 else set()
        truth |= {"buyer"} if orders >= 1 else set()
        truth |= {"big"} if events >= 10 else {"small"} if events >= 1 else set()
        assert set(document["segments"]) == truth, user


@pytest.mark.parametrize("world", [2], indirect=True)
def test_two_workers_take_definitions_over(world):
    until(lambda: len(documents(world.store)) > USERS // 3, 60)
    world.command("apply", world.file(EDITED), "--author", "bob")
    until(lambda: all("anyone" in segments for segments in held(world).values()), 60)
    world.calm()
    assert not any("busy" in segments for segments in held(world).values())
    assert world.engine.stop() == 0
    assert_folded(fold(world.changes()), world.store, NAMES)


GUARDED = (
    BASE
    + """
[segments.everyone]
enter = "lifetime.events >= 5"
guard = { share = 0.5, within = "10m", least = 20 }
"""
)


def test_a_guard_stops_a_definition_that_would_take_everybody(world):
    until(lambda: len(documents(world.store)) > USERS // 2, 30)
    guarded = GUARDED
    rare = guarded.replace("lifetime.events >= 5", "lifetime.events >= 100000")
    world.command("apply", world.file(rare))
    time.sleep(2)
    world.command("apply", world.file(guarded.replace(">= 5", ">= 1")), "--author", "carl")
    until(lambda: "everyone: paused" in world.command("history"), 30)
    assert "guard: everyone would move" in world.command("history")
    time.sleep(1)
    world.calm()
    assert not any("everyone" in segments for segments in held(world).values())
    assert "paused" in world.command("list")
    world.command("resume", "everyone", "--author", "carl")
    until(lambda: all("everyone" in segments for segments in held(world).values()), 30)
    assert world.engine.stop() == 0
    assert_folded(fold(world.changes()), world.store, NAMES)


def test_commands_refuse_what_cannot_be(world):
    options = world.options
    (line,) = wrong("segments", "pause", "big", *options, env=world.env)
    assert line == "afterglow: 'big' is a label of the family 'size'; name the family"
    (line,) = wrong("segments", "resume", "busy", *options, env=world.env)
    assert line == "afterglow: 'busy' is not paused"
    bad = world.file('[segments.x]\nenter = "nothing > 1"', "bad.toml")
    line, *excerpt = wrong("segments", "apply", bad, *options, env=world.env)
    assert line.startswith(
        f"settings: {bad}: segments: segment 'x', enter: there is no feature 'nothing'; there are "
    )
    assert excerpt == ["settings:   nothing > 1", "settings:   ^"]
    unknown = world.file('[segments.x]\nentry = "intent > 1"', "unknown.toml")
    assert (
        f"settings: {unknown}: segments.x.ent"
        in wrong("segments", "apply", unknown, *options, env=world.env)[0]
    )
    empty = world.file("", "empty.toml")
    assert "has neither" in wrong("segments", "preview", empty, *options, env=world.env)[0]
    typo = world.file('[segment.busy]\nenter = "intent > 1"\n[families]', "typo.toml")
    for command in ("diff", "preview", "apply"):
        (line,) = wrong("segments", command, typo, *options, env=world.env)
        assert "[segment] means nothing here: did you mean 'segments'?" in line
    assert "enter" in world.command("show", "busy")
    assert "busy: added" in world.command("diff", "--to", "2")
    assert afterglow("segments", "show", "nobody", *options, env=world.env).code == 2
    until(lambda: documents(world.store), 30)
    world.calm()
    hours = json.loads(world.command("what-if", world.file(EDITED), "--hours", "2", "--json"))
    assert [len(course["entered"]) for course in hours["edited"].values()] == [2] * 5
    user = next(iter(documents(world.store)))
    told = right("explain", user, "small", *options, env=world.env)
    assert "lifetime.events" in told  # by what was applied, which the settings do not know
    assert "in force" in world.command("what-if", world.file(EDITED), "--hours", "1")
    figures = json.loads(world.command("measure", "--over", "1s", "--json"))
    assert figures.keys() == {"busy", "buyer", "big", "small"}
    assert "lift" in world.command("measure", "--over", "1s")
    (line,) = wrong("segments", "measure", "--over", "999d", *options, env=world.env)
    assert "--over must be at most 90 d" in line
