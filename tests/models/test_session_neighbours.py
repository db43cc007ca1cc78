"""Session neighbours beside their definition in plain Python, however few are remembered."""

from dataclasses import replace

import numpy as np
import pytest

from events.schema import PRODUCT_VIEW
from models.gathering import Gatherer
from models.item_plan import SESSIONS, SOURCES, ItemPlan
from models.items import ItemTable
from models.recommender import ItemRecommender
from models.running_sessions import Running
from models.session_neighbours import SessionNeighbours
from state.times import HOUR_MS, MINUTE_MS
from tests.models.plain_sessions import PlainSessions
from tests.models.shopping import START_MS, Shoppers, interactions, names_of

ALONE = {name: float(name == "sessions") for name in SOURCES}


def stream(rng, count, items, sessions, late=0):
    """(item, session, time): sessions overlap, repeat items and are of all lengths."""
    names = rng.integers(1, 2**63, sessions).astype(np.uint64).tolist()
    running, out = names[:4], []
    for n in range(count):
        if rng.random() < 0.15:
            running[int(rng.integers(4))] = names[int(rng.integers(sessions))]
        item = int(items * rng.random() ** 2)
        name = running[int(rng.integers(4))] if rng.random() < 0.95 else 0
        out.append((f"i{item}", name, START_MS + n // 3 - int(rng.integers(0, late + 1))))
    return out


def told(events, items, parts=1):
    """The item table after these events."""
    for part in np.array_split(np.arange(len(events)), parts):
        some = [events[k] for k in part.tolist()]
        plain = interactions([(item, ts, PRODUCT_VIEW, [], []) for item, _, ts in some])
        names = np.array([name for _, name, _ in some], np.uint64)
        session = {"session": names} if some else {}
        items.learn(replace(plain, **session))
    return items


def plan_of(count, sample, neighbours, **more):
    limits = {"session_count": count, "session_sample": sample, "session_neighbours": neighbours}
    return ItemPlan(sources=ALONE, **limits, **more)


def listed(items, own, name, places=None):
    """What the source says to the user of some items: (item, because)."""
    names = names_of(items)
    known = {item: row for row, item in enumerate(names)}
    recent = np.array([[known.get(item, -1) for item in own]])
    running = Running(np.array([name], np.uint64), np.array([places or len(own)]))
    found = Gatherer(items.plan, items).gather(recent, recent[:, :0], 60, running=running)
    pairs = zip(found.item[0].tolist(), found.because[0].tolist(), strict=True)
    return [(names[row], names[because]) for row, because in pairs if row >= 0]


def expected(plain, items, own, name, places=None):
    known = set(names_of(items))
    barred = {item for item in own if item in known}
    own = [item if item in known else None for item in own[:places]]
    votes = plain.votes(own, name, known.__contains__, barred)
    return [(item, because) for item, _, because in votes[:60]]


@pytest.mark.parametrize("seed", range(12))
def test_what_sessions_say_is_what_their_definition_says(seed):
    rng = np.random.default_rng(seed)
    count, sample, neighbours = (int(rng.choice([1, 3, 20, 500])) for _ in range(3))
    size, sessions = int(rng.choice([3, 12, 60])), int(rng.choice([6, 60, 300]))
    events = stream(rng, 1_200, size, sessions, late=int(rng.choice([0, 30])))
    items = ItemTable(plan_of(count, sample, neighbours))
    plain = PlainSessions(count, sample, neighbours)
    for part in np.array_split(np.arange(len(events)), 4):
        some = [events[k] for k in part.tolist()]
        told(some, items, parts=3)
        for event in some:
            plain.learn(*event)
        assert len(items.sessions) == len(plain.sessions)
        for _ in range(15):
            own = [f"i{k}" for k in rng.permutation(size + 2)[: int(rng.integers(1, 13))]]
            name, places = events[int(rng.integers(len(events)))][1], int(rng.integers(1, 13))
            found = listed(items, own, name, places)
            assert found == expected(plain, items, own, name, places)


def test_forgotten_items_leave_the_sessions():
    rng = np.random.default_rng(5)
    items = ItemTable(plan_of(60, 20, 10, most_items=100))
    plain = PlainSessions(60, 20, 10)
    events = stream(rng, 4_000, 130, 400)
    back = 0
    for part in np.array_split(np.arange(len(events)), 40):
        some, before = [events[k] for k in part.tolist()], items.renumbered
        told(some, items)
        for event in some:
            plain.learn(*event)
        back += items.renumbered - before
        if items.renumbered > before:  # what comes back begins anew
            known = set(names_of(items))
            for places in plain.sessions.values():
                for place in [place for place, item in places.items() if item not in known]:
                    del places[place]
        for _ in range(5):
            own = [f"i{k}" for k in rng.permutation(60)[:5]]
            assert listed(items, own, 0) == expected(plain, items, own, 0)
    assert back > 3


def test_memory_is_that_of_the_sessions_whatever_comes():
    near = SessionNeighbours(sessions=200, sample=50, neighbours=50)
    held = near.bytes_held()
    rng = np.random.default_rng(1)
    for n in range(50):
        names = rng.integers(1, 2**63, 1_000).astype(np.uint64)
        near.learn(rng.integers(0, 500, 1_000), names, np.full(1_000, START_MS + n), 500)
    assert len(near) == 200
    assert near.bytes_held() <= held + 2 * 2 * 4 * 500
    assert near.index.sessions_of.sum() == near.index.counts[1] == 200


def test_without_the_source_nothing_is_kept_or_said():
    shoppers = Shoppers(ItemRecommender(ItemPlan()))
    shoppers.act((0, "a", START_MS, PRODUCT_VIEW), (0, "b", START_MS + 1, PRODUCT_VIEW))
    rec = shoppers.recommender
    assert not [c.name for c in rec.columns() if c.name.startswith("running")]
    assert rec._unsent[0].session is rec._unsent[0].had is None
    assert rec.items.sessions.bytes_held() < 100
    assert "cosine.users" not in rec.items.table
    assert rec.items.table["cosine.item"].nbytes == 0


def test_an_arm_switches_it_on():
    plan = ItemPlan(tried=frozenset({"sessions"}))
    shoppers = Shoppers(ItemRecommender(plan))
    shoppers.act((0, "a", START_MS, PRODUCT_VIEW))
    assert len(shoppers.recommender.items.sessions) == 1


# -- in the flow ----------------------------------------------------------------------------------


def shop(users=12, **plan):
    limits = {"adaptive": False, "ranked": False, "gap_ms": 30 * MINUTE_MS, **plan}
    return Shoppers(ItemRecommender(ItemPlan(sources=ALONE, **limits)), users)


def test_others_sessions_say_what_comes_and_ones_own_does_not():
    shoppers = shop()
    t = START_MS
    for user in range(3):
        shoppers.act(*[(user, item, t + user, PRODUCT_VIEW) for item in ("a", "b", "c")])
    shoppers.act((8, "x", t + 4, PRODUCT_VIEW), (8, "y", t + 5, PRODUCT_VIEW))
    shoppers.act((9, "a", t + 5, PRODUCT_VIEW))
    (document,) = shoppers.documents([9], t + 10)
    said = [(i["item_id"], i["source"], i["because"]) for i in document["items"]]
    assert sorted(said) == [("b", "sessions", "a"), ("c", "sessions", "a")]
    shoppers.act((9, "x", t + 2 * HOUR_MS, PRODUCT_VIEW))  # another session
    assert shoppers.listed(9, t + 2 * HOUR_MS) == ["y"]


def exchanged(lanes):
    blocks = [lane.recommender.outgoing() for lane in lanes]
    for place, lane in enumerate(lanes):
        for sender, block in enumerate(blocks):
            if block:
                lane.recommender.take(block, own=sender == place)


@pytest.mark.parametrize("seed", range(3))
def test_lanes_that_exchange_say_the_same(seed):
    rng = np.random.default_rng(seed)
    lanes = [shop() for _ in range(3)]
    at = START_MS
    for n in range(60):
        for lane in lanes:
            batch = []
            for _ in range(int(rng.integers(1, 8))):
                at += int(rng.integers(1, 5 * MINUTE_MS))
                item = f"i{int(25 * rng.random() ** 2)}"
                batch.append((int(rng.integers(12)), item, at, PRODUCT_VIEW))
            lane.act(*batch)
        if n % 7 == 0:
            exchanged(lanes)
    exchanged(lanes)
    tables = [lane.recommender.items for lane in lanes]
    assert len({len(items.sessions) for items in tables}) == 1
    names = tables[0].sessions.index.key[: len(tables[0].sessions)].tolist()
    for _ in range(60):
        own = [f"i{k}" for k in rng.permutation(25)[: int(rng.integers(1, 9))]]
        name = names[int(rng.integers(len(names)))]
        found = [listed(items, own, name) for items in tables]
        assert found[0] == found[1] == found[2]


def test_after_a_restart_it_fills_again():
    shoppers = shop()
    shoppers.act(*[(user, item, START_MS, PRODUCT_VIEW) for user in (0, 1) for item in "abc"])
    rec = shoppers.recommender
    rec.begin_saving()
    again = ItemRecommender(rec.plan)
    again.load_items(*rec.some_unsaved(100), rec.beside())
    shoppers.recommender = again
    assert len(again.items.sessions) == 0
    shoppers.act((5, "a", START_MS + 1, PRODUCT_VIEW))
    assert shoppers.listed(5) == []
    shoppers.act((0, "a", START_MS + 2, PRODUCT_VIEW), (0, "b", START_MS + 3, PRODUCT_VIEW))
    assert shoppers.listed(5) == ["b"]


def test_it_is_on_by_its_weight_or_by_an_arm():
    assert not ItemPlan().is_on(SESSIONS)
    assert ItemPlan(sources={"sessions": 0.1}).is_on(SESSIONS)
    assert ItemPlan(tried=frozenset({"sessions"})).is_on(SESSIONS)
