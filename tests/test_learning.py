"""Models over a real store: learned once whatever dies, from all lanes, and never too early."""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from dataflows.embedded import EmbeddedStore
from dataflows.evaluating import evaluate
from dataflows.plans import lane_plan, learner, model_plan
from dataflows.settings import load
from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from models.examples import Examples
from models.snapshots import Snapshots
from models.trainer import Trainer
from operators.routing import lane_shards
from state.checkpoint import Checkpoint
from state.commit import ShardCommit
from state.example_store import ExampleStore
from state.lane import Lane
from state.store import Store
from state.store_errors import FencedOff, StoreMismatch
from state.times import MINUTE_MS

START_MS = 1_780_000_000_000
SHARDS = 64
SETS = [
    "models.every=10m",
    "models.rate=0.7",
    "models.least=20",
    "models.clusters.enabled=false",
    "models.value.enabled=false",
    "models.challengers.kinds=[]",
    "models.tasks.purchase_7d.horizon=20m",
    "models.tasks.purchase_30d.horizon=90m",
    "models.tasks.churn_30d.horizon=90m",
]
SETTINGS = load(sets=SETS, env={})


class Crash(Exception):
    """The engine is dead."""


class Mortal(Store):
    """A store whose engine dies at a chosen write: nothing after it leaves the process."""

    fuse: int | None = None
    ledger: list[bytes]
    """The examples of all commits that the store has taken, of all lives."""

    def commit(self, commits: Sequence[ShardCommit]) -> dict[int, int]:
        """Shard by shard while the fuse burns."""
        behind: dict[int, int] = {}
        for commit in commits:
            self.burn()
            behind |= super().commit([commit])
            if commit.examples:
                self.ledger.append(commit.examples)
        return behind

    def share(self, name: str, value: bytes) -> None:
        """One write."""
        self.burn()
        super().share(name, value)

    def burn(self) -> None:
        if self.fuse == 0:
            raise Crash
        if self.fuse is not None:
            self.fuse -= 1


class MortalExamples(ExampleStore):
    """The examples of such a store."""

    def __init__(self, store: Mortal) -> None:
        super().__init__(store._servers, partial(store.key, "examples"), range(SHARDS))
        self._burn = store.burn

    def forget(self, positions: Mapping[int, str]) -> None:
        """Shard by shard."""
        for shard, place in positions.items():
            self._burn()
            super().forget({shard: place})


def log_of(seed: int, count: int) -> list[bytes]:
    """Hours of a shop in which those who look much buy."""
    chance = random.Random(seed)
    out = []
    for n in range(count):
        user = chance.randrange(60)
        keen = user % 3 == 0
        kind = "purchase" if chance.random() < (0.3 if keen else 0.03) else "product_view"
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{user}",
            "type": kind,
            "ts": START_MS + n * MINUTE_MS // 4,
        }
        if kind == "purchase":
            event |= {"amount": 5 + user, "order_id": f"o{n}"}
        out.append(msgspec.json.encode(event))
    return out


class Life:
    """Lanes over one store, from their start to their crash."""

    def __init__(
        self,
        url: str,
        log: Sequence[bytes],
        lanes: int = 1,
        batch: int = 50,
        ledger: list[bytes] | None = None,
    ) -> None:
        self._log, self._batch, self._decode = log, batch, Decoder(EventRules())
        self._url = url
        self.learned: list[Examples] = []
        self.lanes, self.stores, self.checkpoints = [], [], []
        for place in range(lanes):
            models = learner(SETTINGS, trains=place == 0, listen=self.learned.append)
            lane = Lane(lane_plan(SETTINGS), lane_shards(place, lanes, SHARDS), models)
            store = Mortal(url, "t", SHARDS)
            store.ledger = [] if ledger is None else ledger
            store.examples = MortalExamples(store)
            checkpoint = Checkpoint(lane, store)
            checkpoint.open()
            self.lanes.append(lane)
            self.stores.append(store)
            self.checkpoints.append(checkpoint)
        self.at = self.stores[0].positions().get(0, 0)

    @property
    def trainer(self) -> Trainer:
        trainer = self.lanes[0].learner.trainer
        assert trainer is not None
        return trainer

    def step(self, *, heartbeat: bool = True) -> None:
        """One batch, one commit of every lane."""
        stop = min(self.at + self._batch, len(self._log))
        read = Read(
            topic="t",
            payloads=list(self._log[self.at : stop]),
            record_ts_ms=np.full(stop - self.at, -1, dtype=np.int64),
            partition=np.zeros(stop - self.at, dtype=np.int32),
            offset=np.arange(self.at, stop),
            spans=[Span(0, self.at, stop, at_end=stop == len(self._log))],
        )
        batch, _ = self._decode(read)
        owner = shard_of(batch.users, SHARDS) % len(self.lanes)
        for place, (lane, checkpoint) in enumerate(zip(self.lanes, self.checkpoints, strict=True)):
            lane.apply(batch.where(owner == place))
            checkpoint.commit(heartbeat=heartbeat)
        self.at = stop

    def end(self) -> None:
        """The log is read: a few more commits, so that all that is stored is learned."""
        for _ in range(3):
            for checkpoint in self.checkpoints:
                checkpoint.commit(heartbeat=True)

    def close(self) -> None:
        for store in self.stores:
            store.close()


def lived(url: str, log: Sequence[bytes], lanes: int = 1, batch: int = 50) -> Life:
    """A life without a crash."""
    life = Life(url, log, lanes, batch)
    while life.at < len(log):
        life.step()
    life.end()
    return life


def knows(trainer: Trainer) -> dict[str, object]:
    """What has been learned, as far as it does not depend on how examples were batched."""
    return {
        p.task.name: (p.seen, p.champion.to_state(), p.calibration.to_state())
        for p in trainer.predictors
    }


@pytest.fixture
def store_at(tmp_path: Path):
    opened = []

    def make(name: str) -> str:
        embedded = EmbeddedStore(tmp_path / name)
        opened.append(embedded)
        return embedded.__enter__().url

    yield make
    for embedded in opened:
        embedded.__exit__(None, None, None)


@pytest.mark.servers
@pytest.mark.parametrize("seed", range(4))
def test_whatever_dies_every_example_is_learned_once(seed, store_at):
    """Counts, means and variances are those of all examples that were ever committed."""
    log, url, chance = log_of(seed, 1_500), store_at("store"), random.Random(seed)
    ledger: list[bytes] = []
    life, crashes = Life(url, log, ledger=ledger), 0
    while life.at < len(log):
        life.stores[0].fuse = chance.randrange(150) if chance.random() < 0.6 else None
        try:
            life.step()
        except Crash:
            crashes += 1
            life.close()
            life = Life(url, log, ledger=ledger)
    life.stores[0].fuse = None
    life.end()
    assert crashes > 5
    assert life.stores[0].examples.after({}) == {}
    plan = model_plan(SETTINGS)
    committed = Examples.joined(
        (Examples.unpack(block, plan.fingerprint, len(plan.inputs)) for block in ledger),
        len(plan.inputs),
    )
    for place, predictor in enumerate(life.trainer.predictors):
        own = committed.take(committed.task == place)
        X = own.X[:, plan.places(predictor.task.inputs)].astype(np.float64)
        saved = predictor.champion.to_state()["columns"]
        assert predictor.seen == len(own) > 200
        assert saved["count"] == [float(len(own))] * X.shape[1]
        np.testing.assert_allclose(saved["mean"], X.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(saved["var"], X.var(axis=0), rtol=1e-9, atol=1e-12)
        assert predictor.progress.report().positives <= int(own.y.sum())
    life.close()


@pytest.mark.servers
def test_a_trainer_that_dies_between_its_writes_learns_nothing_twice(store_at):
    """Each single write of keeping models is the last one once."""
    log = log_of(9, 1_200)
    expected = knows((calm := lived(store_at("calm"), log)).trainer)
    calm.close()
    for last in range(4):
        url = store_at(f"wild{last}")
        life = Life(url, log, 1, 50)
        while life.at < 800:
            life.step()
        life.stores[0].fuse = last
        with pytest.raises(Crash):
            keep_and_go_on(life)
        life.close()
        again = lived(url, log)
        assert knows(again.trainer) == expected
        again.close()


def keep_and_go_on(life: Life) -> None:
    life.checkpoints[0].keep_models()
    life.step()


@pytest.mark.servers
def test_several_lanes_learn_what_one_does(store_at):
    log = log_of(5, 2_500)
    one, many = lived(store_at("one"), log), lived(store_at("many"), log, lanes=4)
    for a, b in zip(one.trainer.predictors, many.trainer.predictors, strict=True):
        assert a.seen == b.seen
        # lanes' clocks differ by a batch, so examples may come in another order
        np.testing.assert_allclose(
            a.champion._columns, b.champion._columns, rtol=0.05, atol=0.05 * a.seen
        )
    X = np.random.default_rng(1).random((50, len(SETTINGS.models.inputs)))
    taught = [lane.learner.scorer.foretell(X) for lane in many.lanes]
    for other in taught[1:]:
        np.testing.assert_array_equal(other, taught[0])
    assert not np.isnan(taught[0]).any()
    np.testing.assert_allclose(taught[0], one.lanes[0].learner.scorer.foretell(X), atol=0.01)
    one.close()
    many.close()


@pytest.mark.servers
def test_scores_are_in_profiles_and_null_before_anything_is_known(store_at):
    log = log_of(3, 1_500)
    url = store_at("store")
    life = Life(url, log, 1, 50)
    life.step()
    first = profile_of(life.stores[0], "u0")
    assert first["scores"]["purchase_7d"] is None
    while life.at < len(log):
        life.step()
    document = profile_of(life.stores[0], "u0")
    scores = document["scores"]
    assert set(scores) == {"purchase_7d", "purchase_30d", "churn_30d", "valid_to"}
    assert 0.0 < scores["purchase_30d"] < 1.0
    assert scores["valid_to"] == document["as_of"] + SETTINGS.models.validity
    keen = [profile_of(life.stores[0], f"u{n}")["scores"]["purchase_30d"] for n in range(0, 60, 3)]
    other = [profile_of(life.stores[0], f"u{n}")["scores"]["purchase_30d"] for n in range(1, 60, 3)]
    assert np.mean(keen) > np.mean(other) + 0.1
    life.close()


def profile_of(store: Store, user: str) -> dict:
    raw = store.profile(zlib.crc32(user.encode()) % SHARDS, user)
    assert raw is not None
    return msgspec.msgpack.decode(raw)


@pytest.mark.servers
def test_models_of_other_inputs_are_refused_in_words(store_at):
    url, log = store_at("store"), log_of(3, 1_200)
    lived(url, log).close()
    other = load(sets=[*SETS, "models.tasks.churn_30d.inputs=['lifetime.orders']"], env={})
    lane = Lane(lane_plan(other), range(SHARDS), learner(other, trains=True))
    with pytest.raises(StoreMismatch, match=r"churn_30d: .*feature list.*models reset NAME"):
        Checkpoint(lane, Store(url, "t", SHARDS)).open()


# -- labels that come early ---------------------------------------------------------------------


def foretold(log: Sequence[bytes], until: int) -> dict[tuple[str, int], list[float]]:
    """What was said of every moment before a place in the log."""
    run = evaluate(SETTINGS, "log", iter(log), MINUTE_MS)
    end_ms = START_MS + until * MINUTE_MS // 4
    out: dict[tuple[str, int], list[float]] = {}
    for each in run.tasks:
        for ts_ms, p in zip(each.examples.ts_ms.tolist(), each.examples.p.tolist(), strict=True):
            if ts_ms < end_ms:
                out.setdefault((each.task.name, ts_ms), []).append(p)
    return out


def test_the_future_changes_nothing_that_was_said_before():
    """After a place in the log everybody buys, or nobody does."""
    log, until = log_of(7, 2_000), 1_400
    worlds = []
    for kind in (b'"purchase"', b'"product_view"'):
        tail = [
            line.replace(b'"product_view"', kind).replace(b'"purchase"', kind)
            for line in log[until:]
        ]
        worlds.append(foretold([*log[:until], *tail], until))
    np.testing.assert_equal(worlds[0], worlds[1])
    assert sum(map(len, worlds[0].values())) > 500


def early(log: Sequence[bytes], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many examples were learned before the lane's clock had passed their horizon."""
    found = 0
    horizons = [task.horizon_ms for task in model_plan(SETTINGS).tasks]
    apply = Lane.apply

    def watched(lane: Lane, batch: Batch, wall_ms: int | None = None) -> None:
        learn = lane.learner.trainer.learn

        def counted(examples: Examples) -> None:
            nonlocal found
            for task, horizon_ms in enumerate(horizons):
                due_ms = examples.ts_ms[examples.task == task] + horizon_ms
                found += int(np.count_nonzero(due_ms >= lane.clock.now_ms))
            learn(examples)

        monkeypatch.setattr(lane.learner.trainer, "learn", counted)
        apply(lane, batch, wall_ms)
        monkeypatch.setattr(lane.learner.trainer, "learn", learn)

    monkeypatch.setattr(Lane, "apply", watched)
    evaluate(SETTINGS, "log", iter(log), MINUTE_MS)
    return found


def test_no_label_is_learned_before_its_horizon_has_passed(monkeypatch):
    assert early(log_of(8, 800), monkeypatch) == 0


def test_labels_that_come_early_are_seen(monkeypatch):
    mature = Snapshots.mature
    monkeypatch.setattr(
        Snapshots, "mature", lambda self, clock_ms: mature(self, clock_ms + 2 * MINUTE_MS)
    )
    assert early(log_of(8, 800), monkeypatch) > 50


@pytest.mark.servers
def test_a_lane_that_was_replaced_learns_nothing_and_takes_nothing_away(store_at):
    """It stood still for a while; the other's examples and memory stay as they are."""
    log, url = log_of(seed=5, count=1_500), store_at("store")
    old = Life(url, log)
    for _ in range(4):
        old.step()
    new = Life(url, log)
    store = new.stores[0]
    while not store.examples.after({}):
        new.step(heartbeat=False)
    left, memory = store.examples.after({}), store.shared("trainer")
    with pytest.raises(FencedOff):
        old.checkpoints[0].commit(heartbeat=True)
    assert store.examples.after({}) == left
    assert store.shared("trainer") == memory
    old.close()
    new.close()


@pytest.mark.servers
def test_a_model_that_is_reset_while_the_engine_runs_begins_anew(store_at):
    log = log_of(seed=5, count=1_500)
    life = Life(store_at("store"), log)
    while life.at < len(log) // 2:
        life.step()
    seen = [predictor.seen for predictor in life.trainer.predictors]
    assert min(seen) > 0
    life.stores[0].share("reset", msgspec.json.encode([life.trainer.predictors[0].task.name]))
    life.checkpoints[0].commit(heartbeat=True)
    anew = [predictor.seen for predictor in life.trainer.predictors]  # what waited came with it
    assert anew[0] < seen[0] / 2
    assert all(now >= before for now, before in zip(anew[1:], seen[1:], strict=True))
    assert life.stores[0].shared("reset") == b""
    again = Life(life._url, log)
    assert [predictor.seen for predictor in again.trainer.predictors] == anew
    life.close()
    again.close()
