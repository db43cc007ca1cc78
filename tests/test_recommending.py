"""Lists through whole lanes and a real store: at once, in step with their events, whatever dies."""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from dataflows.embedded import EmbeddedStore
from dataflows.plans import lane_plan, recommender
from dataflows.settings import Settings, load
from events.batch import Batch, Read, Span
from events.decode import Decoder
from events.hashing import shard_of
from events.schema import EventRules
from models.item_plan import SOURCES
from operators.routing import lane_shards
from state.checkpoint import Checkpoint
from state.commit import ShardCommit
from state.lane import Lane
from state.store import Store
from state.times import MINUTE_MS, NEVER_MS
from tests.models.shopping import assert_sound, names_of, pairs_of

pytestmark = pytest.mark.servers

START_MS = 1_780_000_000_000
SHARDS = 64
SETS = ["models.enabled=false", "recommend.neighbours=80", "recommend.together=80"]
SETTINGS = load(sets=SETS, env={})
COLUMNS = [f"{kind}.{part}" for kind in ("recent", "bought") for part in ("item", "at", "type")]


def log_of(seed: int, count: int, users: int = 30, items: int = 40) -> list[bytes]:
    """A shop in which some events are late and some come at one millisecond."""
    chance = random.Random(seed)
    out = []
    for n in range(count):
        kind = chance.choice(["product_view"] * 5 + ["click", "add_to_cart", "purchase", "search"])
        late = chance.choice([0] * 5 + [3 * MINUTE_MS])
        event = {
            "event_id": f"e{n}",
            "user_id": f"u{chance.randrange(users)}",
            "type": kind,
            "ts": START_MS + n // 3 * MINUTE_MS // 4 - late,
            "item_id": f"i{int(items * chance.random() ** 2)}",
            "category": f"c{chance.randrange(4)}",
        }
        if kind == "purchase":
            event |= {"amount": 5.0, "order_id": f"o{n}"}
        out.append(msgspec.json.encode(event))
    return out


class Life:
    """Lanes over one store, from their start to their end."""

    def __init__(
        self,
        url: str,
        log: Sequence[bytes],
        lanes: int = 1,
        batch: int = 40,
        settings: Settings = SETTINGS,
    ) -> None:
        self.log, self._batch, self._decode = list(log), batch, Decoder(EventRules())
        self.lanes, self.stores, self.checkpoints = [], [], []
        for place in range(lanes):
            shards = lane_shards(place, lanes, SHARDS)
            maker = recommender(settings, keeps=0 in shards)
            lane, store = Lane(lane_plan(settings), shards, None, maker), Store(url, "t", SHARDS)
            checkpoint = Checkpoint(lane, store)
            checkpoint.open()
            self.lanes.append(lane)
            self.stores.append(store)
            self.checkpoints.append(checkpoint)
        self.at = self.stores[0].positions().get(0, 0)

    def read(self, count: int | None = None) -> Batch:
        """The next events, not applied yet."""
        stop = min(self.at + (count or self._batch), len(self.log))
        read = Read(
            topic="t",
            payloads=self.log[self.at : stop],
            record_ts_ms=np.full(stop - self.at, -1, dtype=np.int64),
            partition=np.zeros(stop - self.at, dtype=np.int32),
            offset=np.arange(self.at, stop),
            spans=[Span(0, self.at, stop, at_end=stop == len(self.log))],
        )
        self.at = stop
        return self._decode(read)[0]

    def apply(self, count: int | None = None, wall_ms: int | None = None) -> None:
        """The next events, without a commit."""
        batch = self.read(count)
        owner = shard_of(batch.users, SHARDS) % len(self.lanes)
        for place, lane in enumerate(self.lanes):
            lane.apply(batch.where(owner == place), wall_ms)

    def commit(self, *, share: bool = True) -> None:
        """What every lane does after a batch."""
        for checkpoint in self.checkpoints:
            checkpoint.commit(heartbeat=True)
            if share:
                checkpoint.share_items()

    def run(self, until: int | None = None) -> Life:
        """To the end of the log, or to a place in it."""
        while self.at < (until or len(self.log)):
            self.apply()
            self.commit()
        return self

    def event(self, **event: object) -> None:
        """One more event, applied and committed."""
        n = len(self.log)
        base = {"event_id": f"x{n}", "ts": START_MS + 10**7 + n}
        self.log.append(msgspec.json.encode(base | event))
        self.apply()
        self.commit()

    def document(self, user: str) -> dict | None:
        raw = self.stores[0].candidates(zlib.crc32(user.encode()) % SHARDS, user)
        return None if raw is None else msgspec.msgpack.decode(raw)

    def listed(self, user: str) -> list[str]:
        document = self.document(user)
        assert document is not None
        return [item["item_id"] for item in document["items"]]

    def remembered(self) -> dict[str, list]:
        """By user, what it had to do with last."""
        return {
            lane.users.ids[row]: [lane.table[name][row].tolist() for name in COLUMNS]
            for lane in self.lanes
            for row in range(lane.table.size)
        }

    def close(self) -> None:
        for store in self.stores:
            store.close()


def assert_lists_are_current(life: Life) -> None:
    """Whoever had to do with an item has a list that was made after it, and does not name it."""
    seen = 0
    for lane in life.lanes:
        for row in range(lane.table.size):
            user, last_ms = lane.users.ids[row], int(lane.table["recent.at"][row, 0])
            if last_ms < 0:
                assert life.document(user) is None
                continue
            document = life.document(user)
            assert document is not None
            assert document["user_id"] == user
            assert document["as_of"] >= last_ms
            assert document["valid_to"] == document["as_of"] + SETTINGS.recommend.validity
            own = np.array([lane.table["recent.item"][row, 0], *lane.table["bought.item"][row]])
            names = names_of(lane.recommender.items)
            hidden = {names[k] for k in lane.recommender.items.find(own).tolist() if k >= 0}
            listed = life.listed(user)
            assert not hidden & set(listed)
            assert len(listed) == len(set(listed)) <= SETTINGS.recommend.length
            seen += 1
    assert seen >= 25


def test_a_list_is_stored_in_the_commit_of_the_event_that_changed_it(store_url, monkeypatch):
    life = Life(store_url, log_of(1, 400))
    commits: list[ShardCommit] = []
    commit = Store.commit
    monkeypatch.setattr(Store, "commit", lambda s, some: commits.extend(some) or commit(s, some))
    while life.at < len(life.log):
        before, made = life.at, len(commits)
        life.apply()
        life.commit()
        acted = {
            event["user_id"]
            for event in map(msgspec.json.decode, life.log[before : life.at])
            if event["type"] != "search"
        }
        listed = {user: c for c in commits[made:] for user in c.listed.tolist()}
        assert listed.keys() == acted
        for user, c in listed.items():
            assert user in c.users.tolist()
            assert life.document(user)["model"] == life.lanes[0].recommender.items.learned
        assert_sound(life.lanes[0].recommender.items)
    assert_lists_are_current(life)
    life.close()


def test_what_was_bought_leaves_the_list_and_so_does_what_was_just_seen(store_url):
    life = Life(store_url, log_of(2, 600)).run()
    bought = []
    for _ in range(SETTINGS.recommend.bought):
        item = life.listed("u1")[0]
        life.event(user_id="u1", type="purchase", item_id=item, amount=3)
        bought.append(item)
        life.event(user_id="u1", type="product_view", item_id="i1")
        assert not set(bought) & set(life.listed("u1"))
    item = life.listed("u1")[0]
    life.event(user_id="u1", type="product_view", item_id=item)
    assert item not in life.listed("u1")
    life.close()


def test_a_new_customer_and_a_new_item_are_served(store_url):
    life = Life(store_url, log_of(3, 600)).run()
    name = "é" * 60 + "!"
    life.event(user_id="new", type="product_view", item_id=name, category="c1")
    document = life.document("new")
    assert document is not None
    assert {item["source"] for item in document["items"]} == {"category", "popular"}
    life.event(user_id="other", type="product_view", item_id=name)
    life.event(user_id="other", type="product_view", item_id="i0")
    life.event(user_id="new", type="product_view", item_id=name)
    document = life.document("new")
    assert document is not None
    assert ("i0", "covisits", name) in [
        (item["item_id"], item["source"], item["because"]) for item in document["items"]
    ]
    life.event(user_id="quiet", type="search")
    assert life.document("quiet") is None
    life.close()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_dies_users_remember_what_they_had_to_do_with(seed, store_url):
    """The lane is dropped before its commit, after it, or before it has told the others."""
    log, chance = log_of(seed + 10, 600), random.Random(seed)
    calm = Life(store_url, log).run().remembered()
    Store(store_url).client.flushall()
    life, crashes = Life(store_url, log), 0
    while life.at < len(log):
        life.apply(chance.randrange(1, 60))
        fate = chance.random()
        if fate > 0.2:
            life.commit(share=fate > 0.3)
        if fate < 0.5:
            life.close()
            life, crashes = Life(store_url, log), crashes + 1
            assert_sound(life.lanes[0].recommender.items)
    life.commit()
    assert crashes > 5
    assert life.remembered() == calm
    assert_lists_are_current(life)
    life.close()


def test_lists_that_wait_are_made_after_a_crash(store_url):
    slow, log = load(sets=[*SETS, "recommend.lists_per_s=3"], env={}), log_of(4, 400)
    life = Life(store_url, log, batch=100, settings=slow)
    for second in range(4):
        life.apply(wall_ms=START_MS + 1_000 * second)
        life.commit()
    waiting = life.lanes[0].recommender.waiting()
    assert waiting > 10
    life.close()
    again = Life(store_url, log)
    again.apply(wall_ms=None)  # without a clock, and without a budget
    again.commit()
    assert again.lanes[0].recommender.waiting() == 0
    assert_lists_are_current(again)
    again.close()


def test_a_store_that_came_back_older_gets_its_lists_again(tmp_path):
    server = EmbeddedStore(tmp_path / "data").start()
    try:
        life = Life(server.url, log_of(5, 800))
        while life.at < 800:
            life.apply()
            life.commit()
            if life.at == 240:
                shutil.copytree(server.directory, tmp_path / "older")
            if life.at == 640:
                server.kill()
                shutil.rmtree(server.directory)
                shutil.copytree(tmp_path / "older", server.directory)
                server.start()
        assert_lists_are_current(life)
        life.apply()
        for _ in range(8):
            life.commit()
        life.event(user_id="u1", type="product_view", item_id="i2")
        for _ in range(8):
            life.commit()
        again = Life(server.url, life.log)
        assert again.remembered() == life.remembered()
        a, b = (x.lanes[0].recommender.items for x in (life, again))
        assert sorted(names_of(a)) == sorted(names_of(b))
        again.close()
        life.close()
    finally:
        server.stop()


def test_several_lanes_know_what_one_does(store_url):
    log = log_of(6, 1_200)
    one = Life(store_url, log).run()
    items = one.lanes[0].recommender.items
    at_ms = START_MS + 1_200 * MINUTE_MS // 12
    names, truth = names_of(items), pairs_of(items, items.covisits, at_ms)
    popularity = items.popularity(np.arange(len(items)), at_ms)
    calm = one.remembered()
    one.close()
    Store(store_url).client.flushall()
    many = Life(store_url, log, lanes=4).run()
    many.commit()
    many.commit()
    assert many.remembered() == calm
    assert_lists_are_current(many)
    for lane in many.lanes:
        items = lane.recommender.items
        assert_sound(items)
        assert sorted(names_of(items)) == sorted(names)
        rows = [names_of(items).index(name) for name in names]
        assert items.popularity(np.array(rows), at_ms) == pytest.approx(popularity, rel=1e-5)
        found = pairs_of(items, items.covisits, at_ms)
        assert found == {pair: pytest.approx(w, rel=1e-4) for pair, w in truth.items()}
    many.close()
    fewer = Life(store_url, log, lanes=2)  # moved to other workers
    assert fewer.remembered() == calm
    for lane in fewer.lanes:
        assert sorted(names_of(lane.recommender.items)) == sorted(names)
    fewer.close()


def test_switched_on_later_and_off_again_nothing_is_lost(store_url):
    log = log_of(7, 600)
    plan = lane_plan(SETTINGS)
    off, store = Lane(plan, range(SHARDS)), Store(store_url, "t", SHARDS)
    Checkpoint(off, store).open()
    store.close()
    life = Life(store_url, log).run(until=300)
    before = life.remembered()
    life.close()
    off, store = Lane(plan, range(SHARDS)), Store(store_url, "t", SHARDS)
    checkpoint = Checkpoint(off, store)
    checkpoint.open()
    checkpoint.commit(heartbeat=True)
    store.close()
    life = Life(store_url, log)
    assert life.at == 320
    assert life.remembered().keys() == before.keys()
    life.run()
    assert_sound(life.lanes[0].recommender.items)
    life.close()


@pytest.mark.parametrize(("recent", "bought"), [(3, 2), (16, 12)])
def test_other_lengths_of_what_is_remembered_keep_the_newest(recent, bought, store_url):
    life = Life(store_url, log_of(9, 400)).run()
    before = life.remembered()
    life.close()
    other = load(sets=[*SETS, f"recommend.recent={recent}", f"recommend.bought={bought}"], env={})
    again = Life(store_url, life.log, settings=other)
    assert again.remembered().keys() == before.keys()
    for user, columns in again.remembered().items():
        for name, new, old in zip(COLUMNS, columns, before[user], strict=True):
            width = recent if name.startswith("recent") else bought
            empty = {"item": 0, "at": NEVER_MS, "type": -1}[name.partition(".")[2]]
            assert new == (old + [empty] * width)[:width]
    again.event(user_id="u1", type="product_view", item_id="i2")
    assert_lists_are_current(again)
    again.close()


def test_years_apart_and_odd_ids_go_through(store_url):
    life = Life(store_url, log_of(8, 200)).run()
    year_ms = 365 * 86_400_000
    for n, years in enumerate([-20, 0, -1, -40, 0]):
        for item in ("x" * 128, "商品", "[/red]", f"odd{n}"):
            ts = START_MS + 10**8 + years * year_ms + n
            life.event(user_id="wanderer", type="product_view", item_id=item, ts=ts)
    items = life.lanes[0].recommender.items
    assert_sound(items)
    assert np.isfinite(items.table["popularity"][: len(items)]).all()
    assert life.listed("wanderer")
    life.close()


BY_LABEL = load(
    sets=[
        *SETS,
        *(f"recommend.sources.{name}=0" for name in SOURCES if name != "segment"),
        "recommend.adaptive=false",
        "recommend.segment=kind",
        "families.kind.labels={buyers='lifetime.orders >= 1', lookers='lifetime.events >= 1'}",
    ],
    env={},
)


def two_crowds(count: int = 600) -> list[bytes]:
    """Buyers buy what lies in front of every tenth item, lookers look at the others."""
    chance = random.Random(8)
    out = []
    for n in range(count):
        buys = bool(n % 2)
        event = {
            "event_id": f"e{n}",
            "user_id": f"{'b' if buys else 'l'}{chance.randrange(12)}",
            "type": "purchase" if buys else "product_view",
            "ts": START_MS + n * 1_000,
            "item_id": f"{'dear' if buys else 'cheap'}{chance.randrange(30)}",
        }
        out.append(
            msgspec.json.encode(event | ({"amount": 5, "order_id": f"o{n}"} if buys else {}))
        )
    return out


def test_users_get_what_is_popular_with_those_of_their_label(store_url):
    life = Life(store_url, two_crowds(), settings=BY_LABEL).run()
    assert set(life.lanes[0].recommender.items.segments) == {"buyers", "lookers"}

    def crowds(life: Life) -> set[tuple[str, str]]:
        users = [f"{kind}{n}" for kind in "bl" for n in range(12)]
        return {(user[0], item[:4]) for user in users for item in life.listed(user)}

    assert crowds(life) == {("b", "dear"), ("l", "chea")}
    life.lanes[0].recommender.items.find_popular()  # as a start does
    life.event(user_id="b3", type="product_view", item_id="dear1")
    before = life.listed("b3")
    assert len(before) == 20
    life.close()
    again = Life(store_url, life.log, settings=BY_LABEL)
    again.event(user_id="b3", type="product_view", item_id="dear1")
    assert set(again.listed("b3")) == set(before), "labels and their counts come from the store"
    again.event(user_id="b3", type="purchase", item_id="dear2", amount=1, order_id="o9")
    assert crowds(again) == {("b", "dear"), ("l", "chea")}
    again.close()


def test_a_family_that_there_is_not_tells_nobody_apart(store_url):
    settings = load(sets=[*SETS, "recommend.segment=nothing"], env={})
    life = Life(store_url, log_of(3, 200), settings=settings).run()
    items = life.lanes[0].recommender.items
    assert items.segments == []
    assert not items.table["by_segment"].any()
    life.close()
