"""Experiments over a real store: totals hold each event once, whatever dies and however often."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest

from dataflows.embedded import EmbeddedStore
from dataflows.plans import lane_plan
from dataflows.settings import load
from events.batch import Read, Span
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from events.texts import Texts
from operators.routing import lane_shards
from state.checkpoint import Checkpoint
from state.commit import ShardCommit
from state.experiment_plan import decode_rulings
from state.lane import Lane
from state.store import Store
from state.times import MINUTE_MS
from state.totals import ArmTotals, arm_totals, sum_totals
from tests.cli.running import right, wrong
from tests.state.test_experiments import expected

pytestmark = pytest.mark.servers
START_MS = 1_780_000_000_000
SHARDS = 64
SETS = [
    "experiments.layout.arms={control=50, bold={weight=50, set={sources.covisits=2}}}",
    "experiments.layout.window=2h",
    "experiments.prices.arms={low=1, control=1, high=1}",
    "experiments.prices.conversion=['click']",
    "experiments.prices.guard_rails=['revenue', 'conversion']",
    "experiments.prices.planned_users=1000",
    "holdout.share=0.1",
    "models.enabled=false",
]
SETTINGS = load(sets=SETS, env={})
PLAN = lane_plan(SETTINGS)
USERS = 900


class Crash(Exception):
    """The engine is dead."""


class Mortal(Store):
    """A store whose engine dies at a chosen write: nothing after it leaves the process."""

    fuse: int | None = None

    def commit(self, commits: Sequence[ShardCommit]) -> dict[int, int]:
        """Shard by shard while the fuse burns."""
        behind: dict[int, int] = {}
        for commit in commits:
            self._burn()
            behind |= super().commit([commit])
        return behind

    def share(self, name: str, value: bytes) -> None:
        """One write."""
        self._burn()
        super().share(name, value)

    def _burn(self) -> None:
        if self.fuse == 0:
            raise Crash
        if self.fuse is not None:
            self.fuse -= 1


def arm_of(experiment: str, user: int) -> str | None:
    lane = LOOKUP
    row = np.array([lane.users.find(f"u{user}")])
    place = int(lane.measures.experiments.assigned(lane.table, experiment, row)[0])
    names = next(e.names for e in PLAN.experiments.experiments if e.name == experiment)
    return names[place] if place >= 0 else None


def read_of(payloads: Sequence[bytes], at: int, *, at_end: bool) -> Read:
    n = len(payloads)
    return Read(
        topic="t",
        payloads=list(payloads),
        record_ts_ms=np.full(n, -1, dtype=np.int64),
        partition=np.zeros(n, dtype=np.int32),
        offset=np.arange(at, at + n),
        spans=[Span(0, at, at + n, at_end=at_end)],
    )


def arrivals() -> list[dict]:
    """Everybody comes once, which assigns them."""
    return [
        {"event_id": f"a{n}", "user_id": f"u{n}", "type": "search", "ts": START_MS}
        for n in range(USERS)
    ]


def lookup() -> Lane:
    """A lane that knows everybody's arm."""
    lane, events = Lane(PLAN, range(SHARDS)), arrivals()
    batch, _ = Decoder(EventRules())(
        read_of([msgspec.json.encode(e) for e in events], 0, at_end=True)
    )
    lane.apply(batch)
    return lane


LOOKUP = lookup()


def log_of(seed: int, count: int) -> list[dict]:
    """Hours of a shop in which high prices are not clicked at, and nothing else matters."""
    chance = random.Random(seed)
    events: list[dict] = []
    for n in range(count):
        user = chance.randrange(USERS)
        draw = chance.random()
        kind = "impression" if draw < 0.4 else "click" if draw < 0.8 else "purchase"
        if kind == "click" and arm_of("prices", user) == "high":
            kind = "product_view"
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{user}",
            "type": kind,
            "ts": START_MS + n * MINUTE_MS // 8,
        }
        if kind == "purchase":
            event |= {"amount": 5 + user, "order_id": f"o{n}"}
        events.append(event)
    return events


class Life:
    """Lanes over one store, from their start to their crash."""

    def __init__(self, url: str, log: Sequence[bytes], lanes: int = 1, batch: int = 50) -> None:
        self._log, self._batch, self._decode = log, batch, Decoder(EventRules())
        self.lanes = [Lane(PLAN, lane_shards(n, lanes, SHARDS)) for n in range(lanes)]
        self.stores = [Mortal(url, "ag", SHARDS) for _ in range(lanes)]
        self.checkpoints = [Checkpoint(*each) for each in zip(self.lanes, self.stores, strict=True)]
        for checkpoint in self.checkpoints:
            checkpoint.open()
        self.at = self.stores[0].positions().get(0, 0)

    def step(self) -> None:
        """One batch, one commit of every lane."""
        stop = min(self.at + self._batch, len(self._log))
        batch, _ = self._decode(read_of(self._log[self.at : stop], self.at, at_end=True))
        owner = shard_of(batch.users, SHARDS) % len(self.lanes)
        for place, (lane, checkpoint) in enumerate(zip(self.lanes, self.checkpoints, strict=True)):
            lane.apply(batch.where(owner == place))
            checkpoint.commit(heartbeat=True)
        self.at = stop

    def totals(self) -> dict[str, dict[str, ArmTotals]]:
        """As whoever reads the store sees them."""
        experiments = self.lanes[0].measures.experiments
        stored = self.stores[0].record_fields(experiments.fields)
        return {
            e.name: dict(
                zip(
                    e.names,
                    arm_totals(sum_totals((r[n] for r in stored), len(e.arms))),
                    strict=True,
                )
            )
            for n, e in enumerate(PLAN.experiments.experiments)
        }

    def close(self) -> None:
        for store in self.stores:
            store.close()


def encoded(log: Sequence[Mapping]) -> list[bytes]:
    return [msgspec.json.encode(event) for event in log]


@pytest.fixture
def store_at(tmp_path):
    opened = []

    def make(name: str) -> str:
        embedded = EmbeddedStore(tmp_path / name)
        opened.append(embedded)
        return embedded.__enter__().url

    yield make
    for embedded in opened:
        embedded.__exit__(None, None, None)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_dies_every_outcome_counts_once(seed, store_at):
    """No arm is stopped so early; then totals are those of the log by definition."""
    events, chance = log_of(seed, 900), random.Random(seed)
    url, log = store_at("store"), encoded(events)
    life, crashes = Life(url, log), 0
    while life.at < len(log):
        life.stores[0].fuse = chance.randrange(60) if chance.random() < 0.8 else None
        try:
            life.step()
        except Crash:
            crashes += 1
            life.close()
            life = Life(url, log, batch=chance.choice([20, 50, 130]))
    assert crashes > 3
    truth = {e.name: expected(e, events, held=0.1) for e in PLAN.experiments.experiments}
    assert life.totals() == truth
    assert sum(arm.users for arm in truth["prices"].values()) > 200
    life.close()


def test_a_store_that_lost_its_tail_gets_the_totals_again(tmp_path):
    events = log_of(5, 600)
    log = encoded(events)
    server = EmbeddedStore(tmp_path / "data").start()
    try:
        life = Life(server.url, log)
        while life.at < len(log):
            life.step()
            if life.at == 200:
                shutil.copytree(server.directory, tmp_path / "older")
            if life.at == 400:
                server.kill()
                shutil.rmtree(server.directory)
                shutil.copytree(tmp_path / "older", server.directory)
                server.start()
        truth = {e.name: expected(e, events, held=0.1) for e in PLAN.experiments.experiments}
        assert life.totals() == truth
        again = Life(server.url, log)
        found = again.lanes[0].measures.experiments.totals()
        assert {e.name: dict(zip(e.names, arm_totals(t), strict=True)) for e, t in found} == truth
        again.close()
        life.close()
    finally:
        server.kill()


def test_a_bad_arm_is_stopped_in_every_lane_and_stays_so(store_at):
    events = arrivals() + log_of(9, 5_000)
    url, log = store_at("store"), encoded(events)
    life = Life(url, log, lanes=3, batch=500)
    while life.at < len(log):
        life.step()
    ruling = decode_rulings(life.stores[0].shared("experiments"))[PLAN.experiments.keys[1]]
    assert ruling.stopped == {"high": "conversion"}
    assert ruling.weights == pytest.approx([0.5, 0.5, 0.0])
    stopped, truth = life.totals()["prices"], expected(PLAN.experiments.experiments[1], events, 0.1)
    assert 0 < stopped["high"].impressions < truth["high"].impressions
    assert stopped["low"] == truth["low"]
    users = [n for n in range(USERS) if arm_of("prices", n) == "high"]
    documents = served(life, users)
    assert {arms["prices"] for arms in documents} == {"control"}
    life.close()
    again = Life(url, log)
    assert set(again.lanes[0].measures.experiments.rulings) == set(PLAN.experiments.keys)
    assert {arms["prices"] for arms in served(again, users)} == {"control"}
    again.close()
    shown(url)


def served(life: Life, users: Sequence[int]) -> list[dict[str, str]]:
    out = []
    for lane in life.lanes:
        rows = lane.users.ids.find(Texts.of([f"u{n}" for n in users]))
        documents = lane.portraits.encode(rows[rows >= 0]).bytes_list()
        out += [msgspec.msgpack.decode(raw)["experiment"] for raw in documents]
    assert len(out) > len(users) / 2
    return out


def shown(url: str) -> None:
    """The command says the same."""
    env, sets = {"REDIS_URL": url}, [word for each in SETS for word in ("--set", each)]
    layout, prices = json.loads(right("experiments", "--json", *sets, env=env))
    assert [arm["arm"] for arm in prices["arms"]] == ["low", "control", "high"]
    low, control, high = prices["arms"]
    assert control["compared"] == {}
    assert high["verdict"] == "stopped: conversion worse than control's"
    assert high["compared"]["conversion"]["high"] < 0
    assert low["verdict"] == "no difference found yet"
    assert prices["sample_ratio_p"] > 0.001
    assert layout["arms"][0]["weight"] == 0.5
    text = right("experiments", *sets, env=env)
    assert "layout: conversions, with 95% confidence sequences" in text
    assert f"{control['users']:,}" in text
    assert "stopped: conversion worse than control" in text


def test_without_experiments_the_command_says_how_to_have_one(store_at):
    (line,) = wrong("experiments", env={"REDIS_URL": store_at("store")})
    assert "declare one under [experiments.NAME]" in line
