"""Several workers as one engine: killed, made more and fewer, and replaced, under traffic.

The same truths hold as for one worker: the ledger, an undisturbed lane and the naive oracle agree
with every profile, and whoever folds the change topic holds the memberships of the store.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil
import pytest
from confluent_kafka import Producer

from cli.common import FENCED_OFF
from dataflows.child import Engine
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.hashing import shard_of
from events.shop import Habits, Shop
from events.texts import Texts
from state.rfm import Cuts, score
from state.store import Store
from tests.brokers import new_broker
from tests.faults.lives import set_back
from tests.folding import Document, assert_folded, documents, fold_epochs, unique
from tests.test_kills import RATE, SETS, TOPICS, OpenShop, Scene, assert_exact, read_all

pytestmark = [pytest.mark.servers, pytest.mark.slow]

CROWD: Final = Habits(users=4_000, rate_per_s=RATE, zipf=0)
CROWDED: Final = 15_000
"""Events at the start, so that most of the crowd is there."""

CUTS: Final = ("rfm.cuts_every=1s", "rfm.basis=lifetime", "lane.heartbeat=500ms")
QUIET_S: Final = 3.0
"""Cuts are measured every second as long as somebody acts, so after this none are to come."""


class CrowdedShop(OpenShop):
    """A shop that many people have visited already."""

    def __init__(self, bootstrap: str, seed: int) -> None:
        super().__init__(bootstrap, seed)
        self._shop = Shop(seed, time.time_ns() // 1_000_000, CROWD, duplicate_share=0.03)
        self._publish(CROWDED)


class Cluster(Scene):
    """A scene whose engine is a supervisor with its workers; it must never end by itself."""

    def processes(self) -> list[psutil.Process]:
        """The workers, in order of their numbers; none while they are being started."""
        found = {}
        for process in psutil.Process(self.engine.pid).children():
            with suppress(psutil.Error):
                name, _, number = process.name().rpartition("-")
                if name == "afterglow":
                    found[int(number)] = process
        return [found[number] for number in sorted(found)]

    def fences(self) -> list[bytes]:
        """Who owns each shard."""
        return [self.store.record(s).get("fence", b"") for s in range(self.store.shards)]

    def sequences(self) -> list[int]:
        """How many commits each shard had."""
        return [int(self.store.record(s).get("seq", b"0")) for s in range(self.store.shards)]

    def until_all_commit(self, before: Sequence[bytes]) -> None:
        """Wait until every shard has another owner than before, and that one has committed."""
        self.until(lambda: not set(before) & set(self.fences()), "new owners of all shards")
        at = self.sequences()
        self.until(
            lambda: all(now > then for now, then in zip(self.sequences(), at, strict=True)),
            "commits of all shards",
        )

    def begin(self, workers: int) -> None:
        """Start an engine of so many workers; returns when all are at work."""
        before = self.fences()
        self.engine = engine_of(self, workers, self.engine.log)
        self.engine.start()
        self.until_all_commit(before)
        assert len(self.processes()) == workers, self.tail()

    def log(self) -> str:
        """What the engine said."""
        return self.engine.log.read_text(errors="replace")


def engine_of(scene: Scene, workers: int, log: Path, sets: Sequence[str] = SETS) -> Engine:
    env = {"KAFKA_BOOTSTRAP": scene.broker.bootstrap, "REDIS_URL": scene.server.url}
    options = ["--workers", str(workers), *(part for text in sets for part in ("--set", text))]
    return Engine(options, env, log)


@contextmanager
def opened(
    directory: Path, seed: int, shop: type[OpenShop] = OpenShop, sets: Sequence[str] = SETS
) -> Iterator[Cluster]:
    """All parts, and an engine of two workers that is not started yet; ended at the end."""
    with EmbeddedStore(directory / "data") as server, new_broker() as broker:
        broker.create(*TOPICS)
        log = directory / "engine.log"
        parts = broker, server, shop(broker.bootstrap, seed)
        scene = Cluster(*parts, Engine([], {}, log), Store(server.url))
        scene.engine = engine_of(scene, 2, log, sets)
        scene.shop.start()
        try:
            yield scene
        finally:
            scene.engine.kill()
            scene.shop.close()
            scene.store.close()


@pytest.mark.timeout(300)
def test_workers_are_killed_and_nobody_could_tell(tmp_path: Path) -> None:
    with opened(tmp_path, seed=31) as scene:
        scene.engine.start()
        scene.until_all_commit([b""])
        for number in (1, 0):
            fences, workers = scene.fences(), scene.processes()
            assert len(workers) == 2
            workers[number].kill()
            scene.until_all_commit(fences)
            assert not any(map(psutil.Process.is_running, workers)), "a cluster ends as a whole"
        scene.finish()
        assert scene.exits == []
        assert scene.log().count("all 2 start again") == 2
        assert_exact(scene)


@pytest.mark.timeout(300)
def test_one_worker_three_and_two_are_the_same_engine(tmp_path: Path) -> None:
    with opened(tmp_path, seed=32, shop=CrowdedShop) as scene:
        scene.begin(1)
        for workers in (3, 2):
            assert scene.engine.stop() == 0, scene.tail()
            scene.begin(workers)
        scene.finish()
        assert scene.exits == []
        assert "start again" not in scene.log()
        assert_exact(scene)
        assert_spread(scene.store, 3)


def assert_spread(store: Store, lanes: int) -> None:
    """Users are where their hash says, and each lane's share of them is that of its shards."""
    users = [user for shard in range(store.shards) for user, _ in store.profiles(shard)]
    places = [shard for shard in range(store.shards) for _ in store.profiles(shard)]
    assert len(users) > 1_500
    assert shard_of(Texts.of(users), store.shards).tolist() == places
    held = Counter(shard % lanes for shard in places)
    owned = Counter(shard % lanes for shard in range(store.shards))
    loads = [held[lane] / owned[lane] for lane in range(lanes)]
    assert max(loads) / min(loads) < 1.05


@pytest.mark.timeout(300)
def test_all_lanes_score_by_the_same_cuts(tmp_path: Path) -> None:
    with opened(tmp_path, seed=33, sets=(*SETS, *CUTS)) as scene:
        scene.engine.start()
        scene.until(lambda: cuts_of(scene.store).version >= 4, "cuts")
        scene.shop.close()
        scene.until(scene.caught_up, "everything to be committed")
        time.sleep(QUIET_S)
        cuts = cuts_of(scene.store)
        visit(scene, [min(lane(scene.store, n)) for n in (0, 1)])
        scene.until(
            lambda: versions(scene.store) == (cuts.version, cuts.version), "lanes of the same cuts"
        )
        scene.until(
            lambda: misscored(cuts, documents(scene.store)) == [], "scores by the same cuts"
        )
        assert cuts_of(scene.store) == cuts, "these were to be the last"
        assert scene.engine.stop() == 0, scene.tail()
        assert scene.exits == []
        for number in (0, 1):
            buyers = [d for d in lane(scene.store, number).values() if d["lifetime"]["orders"]]
            assert len({d["rfm"]["m"] for d in buyers}) == 5, "the lane's users differ in score"


def cuts_of(store: Store) -> Cuts:
    """The cuts that lanes share."""
    shared = store.shared("cuts")
    return Cuts() if shared is None else Cuts.decode(shared)


def lane(store: Store, number: int) -> dict[str, Document]:
    """The profiles of one lane of two, by user."""
    return {
        user: msgspec.msgpack.decode(raw)
        for shard in range(number, store.shards, 2)
        for user, raw in store.profiles(shard)
    }


def versions(store: Store) -> tuple[int, ...]:
    """The newest cuts that each of two lanes has scored by."""
    return tuple(
        max((d["rfm"]["cuts_version"] for d in lane(store, number).values()), default=0)
        for number in (0, 1)
    )


def misscored(cuts: Cuts, found: dict[str, Document]) -> list[tuple[Any, ...]]:
    """The buyers whose scores are not those that the cuts give them."""
    buyers = {user: d for user, d in found.items() if d["lifetime"]["orders"]}
    kept = [[d["rfm"][name] for name in "rfm"] for d in buyers.values()]
    true = score(
        cuts,
        np.ones(len(buyers), dtype=np.bool_),
        np.array([d["rfm"]["recency_days"] for d in buyers.values()], np.int64),
        np.array([d["lifetime"]["orders"] for d in buyers.values()], np.float64),
        np.array([d["lifetime"]["spend"] for d in buyers.values()], np.float64),
        list(buyers),
    )
    return [pair for pair in zip(buyers, kept, true.tolist(), strict=True) if pair[1] != pair[2]]


def visit(scene: Scene, users: Sequence[str]) -> None:
    """One page view of each of these users."""
    producer = Producer({"bootstrap.servers": scene.broker.bootstrap, "log_level": 0})
    now_ms = time.time_ns() // 1_000_000
    for user in users:
        event = {"event_id": f"last-{user}", "user_id": user, "type": "page_view", "ts": now_ms}
        producer.produce("events", msgspec.json.encode(event), user)
    assert producer.flush(20) == 0


@pytest.mark.timeout(300)
def test_a_second_engine_takes_over_and_the_first_one_stays_away(tmp_path: Path) -> None:
    with opened(tmp_path, seed=34) as scene:
        scene.engine.start()
        scene.until_all_commit([b""])
        fences, workers = scene.fences(), scene.processes()
        first, scene.engine = scene.engine, engine_of(scene, 2, tmp_path / "second.log")
        try:
            scene.engine.start()
            scene.until(lambda: first.exit_code() is not None, "the end of the first engine")
            assert first.exit_code() == FENCED_OFF, first.log.read_text()
        finally:
            first.kill()
        assert not any(map(psutil.Process.is_running, workers))
        said = first.log.read_text()
        assert f"that is final (exit code {FENCED_OFF}): nothing starts again" in said
        assert "all 2 start again" not in said
        scene.until_all_commit(fences)
        scene.finish()
        assert scene.exits == []
        assert_exact(scene)


@pytest.mark.timeout(300)
def test_a_store_that_is_set_back_to_before_a_start_is_taken_over_anew(tmp_path: Path) -> None:
    with opened(tmp_path, seed=35) as scene:
        scene.engine.start()
        scene.until_all_commit([b""])
        shutil.copytree(scene.server.directory, tmp_path / "older")
        first = scene.fences()
        assert scene.engine.stop() == 0, scene.tail()
        scene.begin(2)
        second = scene.fences()
        set_back(scene.server, tmp_path / "older")
        scene.until_all_commit([*first, *second])
        scene.finish()
        assert scene.exits == []
        assert "the store was set back to before this engine started" in scene.log()
        assert scene.log().count("all 2 start again") == 1
        assert scene.shop.ledger.compare(scene.store) == (len(scene.shop.good), [])
        records = [m.value() or b"" for m in read_all(scene.broker.bootstrap, "segment-changes")]
        found = load(sets=SETS, env={})
        names = [*found.segments, *(name for f in found.families.values() for name in f.labels)]
        assert_folded(fold_epochs(unique(records)), scene.store, names)
