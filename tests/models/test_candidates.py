"""Candidates of many users at once, held against each source written out in plain Python."""

import numpy as np
import pytest

from events.texts import Texts
from models.candidates import UNRANKED
from models.gathering import Gatherer, _gather
from models.item_plan import COSINE, SESSIONS, SOURCES, ItemPlan
from models.items import ItemTable
from models.running_sessions import Running
from tests.models.plain_sessions import PlainSessions

F32 = np.float32
EVERYTHING = dict.fromkeys(SOURCES, 0.5)
RANKS = 60
"""So many items of a source are fused, as in the code."""


BOOSTS = [1.0], [0.9, 1.0, 1.1], [0.0, 0.5, 1.0, 1.0, 1.0, 2.0]
"""Where scores of items are boosted alike, lists are known to be full before all sources spoke."""


def world(seed, size=60, categories=4, dense=0.5, **plan):
    """A table of random items: popularity, categories, neighbours, some of them blocked."""
    rng = np.random.default_rng(seed)
    items = ItemTable(ItemPlan(**plan))
    items.rows(Texts.of([f"i{k}" for k in range(size)]))
    if categories:
        items.categories.number(Texts.of([f"c{k}" for k in range(categories)]))
        items.table["category"][:size] = rng.integers(-1, categories, size)
    items.table["popularity"][:size] = rng.integers(0, 6, size) * rng.random(size)
    items.table["trend"][:size] = rng.integers(0, 3, size) * rng.random(size)
    items.table["blocked"][:size] = rng.random(size) < 0.1
    items.table["boost"][:size] = rng.choice(BOOSTS[seed % len(BOOSTS)], size)
    items.segments = ["champions", "promising"]
    items.table["by_segment"][:size, :2] = rng.integers(0, 3, (size, 2)) * rng.random((size, 2))
    for kind in (items.covisits, items.together, items.similar):
        n = int(size * kind.places * dense)
        a, b = rng.integers(0, size, (2, n))
        weights = rng.choice([0.0, 0.25, 0.5, 1.0, 2.5, *rng.random(4)], n)
        kind.add(a[a != b], b[a != b], weights[a != b])
    items.find_popular()
    tell(items, rng, size, n=int(size * 4 * dense))
    return items


def tell(items, rng, size, n):
    """Sessions and cosines, if these sources are on; sessions written out as well."""
    plan = items.plan
    items.plain = PlainSessions(plan.session_count, plan.session_sample, plan.session_neighbours)
    if plan.is_on(SESSIONS):
        tell_sessions(items, rng.integers(0, size, n), rng.integers(1, 12, n).astype(np.uint64))
    if plan.is_on(COSINE):
        a, b = rng.integers(0, size, (2, n))
        weights = rng.choice([0.0, 0.5, 1.0, *rng.random(4)], n)
        items.cosine.add(a[a != b], b[a != b], weights[a != b])
        items.cosine.users[:size] = rng.choice([0.0, 1.0, *rng.random(4)], size)


def tell_sessions(items, rows, names):
    """Events of sessions, two in a millisecond; written out as well."""
    ts_ms = np.arange(len(rows)) // 2
    items.sessions.learn(rows, names, ts_ms, len(items))
    hashes = items.table["hash"][rows].tolist()
    for event in zip(hashes, names.tolist(), ts_ms.tolist(), strict=True):
        items.plain.learn(*event)


def users(rng, size, count, recent, bought):
    """What some users had to do with last; the shorter lists end with nothing."""

    def lists(width):
        out = np.full((count, width), -1)
        for row in out:
            n = min(int(rng.integers(0, width + 1)), size)
            row[:n] = rng.permutation(size)[:n]
            row[:n][rng.random(n) < 0.15] = -1  # an item that nobody knows any more
        return out

    return lists(recent), lists(bought)


class Naive:
    """Lists for one user, source by source."""

    def __init__(self, items):
        self.items, self.plan, table = items, items.plan, items.table
        size = len(items)
        self.popularity = table["popularity"][:size].tolist()
        self.category = table["category"][:size].tolist()
        self.blocked = table["blocked"][:size].tolist()
        self.boost = table["boost"][:size]

    def near(self, own, fades, damping, kind, hidden):
        """Items by the summed weight that they have beside one's own, and what says most."""
        sums, best = {}, {}
        for row, fade in zip(own, fades, strict=False):
            if row < 0:
                continue
            counts = float(fade)
            if damping:
                counts /= (self.popularity[row] + 1e-9) ** damping
            for other, weight in zip(
                kind.item[row].tolist(), kind.weight[row].tolist(), strict=True
            ):
                amount = F32(counts * weight) if other >= 0 else F32(0)
                if amount <= 0 or other in hidden or self.blocked[other]:
                    continue
                sums[other] = F32(sums.get(other, F32(0)) + amount)
                if amount > best.get(other, (F32(0), -1))[0]:
                    best[other] = amount, row
        ranked = sorted(sums, key=lambda k: -sums[k])[:RANKS]
        return [(k, rank, best[k][1]) for rank, k in enumerate(ranked)]

    def cosines(self, own, hidden):
        """Items by their summed cosine with one's own, and what says most."""
        sums, best, kind = {}, {}, self.items.cosine
        for row in own:
            near = zip(kind.item[row].tolist(), kind.weight[row].tolist(), strict=True)
            for other, both in near if row >= 0 else ():
                if other < 0 or both <= 0 or other in hidden or self.blocked[other]:
                    continue
                each = [max(float(kind.users[k]), both) for k in (row, other)]
                amount = F32(both / (each[0] * each[1]) ** 0.5)
                sums[other] = F32(sums.get(other, F32(0)) + amount)
                if amount > best.get(other, (F32(0), -1))[0]:
                    best[other] = amount, row
        ranked = sorted(sums, key=lambda k: -sums[k])[:RANKS]
        return [(k, rank, best[k][1]) for rank, k in enumerate(ranked)]

    def sessions(self, own, running, hidden):
        """Items by the votes of sessions, which know them by their hashes."""
        if not len(self.items.sessions):
            return []
        name, places = running
        hashes = self.items.table["hash"][: len(self.items)].tolist()
        row_of = {h: row for row, h in enumerate(hashes)}
        barred = {h for h, row in row_of.items() if row in hidden or self.blocked[row]}
        own = [hashes[row] if row >= 0 else None for row in own[:places]]
        votes = self.items.plain.votes(own, name, row_of.__contains__, barred)
        named = [(row_of[item], row_of[because]) for item, _, because in votes[:RANKS]]
        return [(row, rank, because) for rank, (row, because) in enumerate(named)]

    def listed(self, some, hidden, because, length):
        free = [k for k in some if k not in hidden and not self.blocked[k]][:length]
        return [(k, rank, because) for rank, k in enumerate(free)]

    def sources(self, recent, bought, weights, length, segment, running):
        """For each source that speaks: (item, rank, because)."""
        plan, items, on = self.plan, self.items, dict(zip(SOURCES, weights, strict=True))
        just_seen = recent[:1] if on["reminders"] else recent
        hidden = {k for k in [*just_seen, *bought] if k >= 0}
        fades = np.arange(1, plan.looks_back + 1, dtype=float) ** -plan.fade
        out = {
            "covisits": self.near(recent, fades, plan.damping, items.covisits, hidden),
            "together": self.near(bought, [1.0] * len(bought), 0, items.together, hidden),
            "similar": self.near(recent, fades, 0, items.similar, hidden),
            "sessions": self.sessions(recent, running, hidden),
            "cosine": self.cosines(recent, hidden),
        }
        earlier = [k for k in recent[1:] if k >= 0]
        out["reminders"] = [
            (k, rank, k)
            for rank, k in enumerate(earlier)
            if k not in hidden and not self.blocked[k]
        ]
        category = self.category[recent[0]] if recent[0] >= 0 else -1
        bounds = items.category_start.tolist()[category : category + 2] if category >= 0 else []
        some = items.category_items[slice(*bounds)].tolist() if len(bounds) == 2 else []
        out["category"] = self.listed(some, hidden, recent[0], length)
        out["popular"] = self.listed(items.popular.tolist(), hidden, -1, length)
        out["trending"] = self.listed(items.trending.tolist(), hidden, -1, length)
        some = items.segment_items[segment].tolist() if segment >= 0 else []
        out["segment"] = self.listed([k for k in some if k >= 0], hidden, -1, length)
        return {name: found for name, found in out.items() if on[name]}

    def gather(self, recent, bought, length, weights, segment, running):
        """(item, score, source, because, ranks), the best first."""
        fused, most, ranks = {}, {}, {}
        told = self.sources(recent, bought, weights, length, segment, running)
        for name, found in told.items():
            source = SOURCES.index(name)
            for k, rank, because in found:
                says = F32(weights[source] / (self.plan.rank_offset + rank + 1.0))
                fused[k] = F32(fused.get(k, F32(0)) + says)
                ranks.setdefault(k, [UNRANKED] * len(SOURCES))[source] = rank
                if says > most.get(k, (F32(0),))[0]:
                    most[k] = says, source, because
        scores = {k: F32(score * self.boost[k]) for k, score in fused.items()}
        best = sorted(scores, key=lambda k: -scores[k])[:length]
        return [(k, scores[k].item(), *most[k][1:], ranks[k]) for k in best]


def assert_gathered(items, recent, bought, length, weights=None, running=None):
    """Lists of all users at once are those of each one alone, in plain Python."""
    segment = np.arange(len(recent)) % 3 - 1 if items.segments else np.full(len(recent), -1)
    naive, gatherer = Naive(items), Gatherer(items.plan, items)
    found = gatherer.gather(recent, bought, length, weights, segment, running)
    running = running or Running.unknown(*recent.shape)
    if weights is None:
        weights = np.tile(items.plan.source_weights, (len(recent), 1))
    for i in range(len(recent)):
        n = int(found.count[i])
        columns = found.item, found.score, found.source, found.because, found.ranks
        listed = list(zip(*(column[i, :n].tolist() for column in columns), strict=True))
        assert listed == naive.gather(
            *(recent[i].tolist(), bought[i].tolist(), length, weights[i].tolist()),
            *(int(segment[i]), (int(running.key[i]), int(running.items[i]))),
        )
        assert (found.item[i, n:] == -1).all()
        assert (found.because[i, n:] == -1).all()
    return found


@pytest.mark.parametrize("seed", range(24))
def test_lists_are_those_of_every_source_written_out(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.choice([1, 2, 15, 60, 300]))
    items = world(
        seed,
        size,
        categories=int(rng.choice([0, 1, 4])),
        neighbours=int(rng.choice([1, 5, 50])),
        together=int(rng.choice([1, 5, 20])),
        looks_back=int(rng.choice([1, 4, 32])),
        damping=float(rng.choice([0.0, 0.5, 1.0])),
        fade=float(rng.choice([0.0, 1.0, 2.0])),
        rank_offset=float(rng.choice([0.0, 0.5, 60.0])),
        length=int(rng.choice([1, 5, 20, 100])),
    )
    recent, bought = users(rng, size, 12, int(rng.choice([2, 8, 32])), int(rng.choice([2, 6, 32])))
    assert_gathered(items, recent, bought, items.plan.length)
    weights = rng.choice([0.0, 0.01, 0.5, 0.5, 1.5], (12, len(SOURCES)))
    assert_gathered(items, recent, bought, items.plan.length, weights)


@pytest.mark.parametrize("seed", range(24))
def test_sessions_and_cosines_are_fused_like_the_others(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.choice([1, 2, 15, 60, 300]))
    items = world(
        seed,
        size,
        sources=dict(zip(SOURCES, rng.choice([0.1, 0.5, 1.0], len(SOURCES)), strict=True)),
        neighbours=int(rng.choice([1, 5, 50])),
        length=int(rng.choice([1, 5, 20, 100])),
        session_count=int(rng.choice([1, 5, 100])),
        session_sample=int(rng.choice([1, 4, 100])),
        session_neighbours=int(rng.choice([1, 3, 100])),
    )
    recent, bought = users(rng, size, 12, int(rng.choice([2, 8, 32])), 6)
    running = Running(rng.integers(0, 12, 12).astype(np.uint64), rng.integers(0, 33, 12))
    assert_gathered(items, recent, bought, items.plan.length)
    weights = rng.choice([0.0, 0.01, 0.5, 1.5], (12, len(SOURCES)))
    assert_gathered(items, recent, bought, items.plan.length, weights, running)


def test_one_after_another_they_get_what_they_get_together():
    rng = np.random.default_rng(1)
    items = world(1, 200)
    recent, bought = users(rng, 200, 40, 8, 6)
    gatherer = Gatherer(items.plan, items)
    together = gatherer.gather(recent, bought, 20)
    for i in range(40):
        alone = gatherer.gather(recent[i : i + 1], bought[i : i + 1], 20)
        for name in ("item", "score", "source", "because", "ranks", "count"):
            assert (getattr(alone, name)[0] == getattr(together, name)[i]).all()


def test_what_was_just_seen_or_bought_or_is_blocked_is_never_listed():
    rng = np.random.default_rng(2)
    items = world(2, 40, dense=1.0)
    recent, bought = users(rng, 40, 200, 8, 6)
    weights = np.tile(items.plan.source_weights, (200, 1))
    weights[100:, SOURCES.index("reminders")] = 0.0
    found = Gatherer(items.plan, items).gather(recent, bought, 40, weights)
    blocked = set(np.flatnonzero(items.table["blocked"][:40]).tolist())
    for i in range(200):
        listed = found.item[i, : found.count[i]].tolist()
        assert len(set(listed)) == len(listed)
        own = set(recent[i, :1].tolist()) if i < 100 else set(recent[i].tolist())
        assert not set(listed) & (own | set(bought[i].tolist()) | blocked)


def test_an_empty_table_and_no_users_give_empty_lists():
    items = ItemTable(ItemPlan())
    nobody = np.full((3, 8), -1)
    found = assert_gathered(items, nobody, nobody[:, :6], 20)
    assert found.count.tolist() == [0, 0, 0]
    found = Gatherer(items.plan, items).gather(nobody[:0], nobody[:0, :6], 20)
    assert found.item.shape == (0, 20)


def test_strangers_get_what_is_popular():
    items = world(3, 50)
    nobody = np.full((1, 8), -1)
    found = assert_gathered(items, nobody, nobody[:, :6], 10)
    assert set(found.source[0].tolist()) == {SOURCES.index("popular"), SOURCES.index("trending")}
    assert set(found.because[0].tolist()) == {-1}


@pytest.mark.parametrize(
    "plan",
    [
        {"looks_back": 1, "neighbours": 1, "together": 500, "bought": 32},
        {"looks_back": 32, "neighbours": 500, "together": 1, "length": 100, "recent": 32},
        {"looks_back": 1, "neighbours": 1, "together": 1, "length": 100, "recent": 32},
        {"neighbours": 500, "together": 1, "length": 100, "recent": 32, "sources": EVERYTHING},
        {"neighbours": 1, "together": 1, "session_neighbours": 1_000, "sources": EVERYTHING},
    ],
)
def test_the_largest_lists_that_settings_allow_fit(plan):
    """Where few are of two lists, thousands of items are touched for one user."""
    size, rng = 18_000, np.random.default_rng(4)
    items = ItemTable(ItemPlan(**plan))
    items.rows(Texts.of([f"i{k}" for k in range(size)]))
    items.categories.number(Texts.of(["c"]))
    items.table["category"][:size] = 0
    items.table["popularity"][:size] = rng.random(size)
    for kind in (items.covisits, items.together, items.similar, items.cosine):
        for row in range(40):
            others = rng.permutation(np.arange(40, size))[: kind.places]
            kind.add(np.full(len(others), row), others, rng.random(len(others)) + 0.1)
    tell(items, rng, size, n=0)
    if items.plan.is_on(SESSIONS):
        rows = np.where(np.arange(16_000) % 16 == 0, 0, rng.integers(40, size, 16_000))
        tell_sessions(items, rows, (np.arange(16_000) // 16 + 1).astype(np.uint64))
    items.find_popular()
    recent = np.arange(items.plan.recent).reshape(1, -1)
    bought = np.arange(items.plan.bought).reshape(1, -1)[:, ::-1].copy()
    assert_gathered(items, recent, bought, items.plan.length)
    assert_gathered(items, recent, bought, 100)


def test_a_table_that_grows_and_shrinks_under_the_gatherer():
    items = world(5, 50, most_items=2_000)
    gatherer = Gatherer(items.plan, items)
    recent, bought = users(np.random.default_rng(5), 50, 5, 8, 6)
    before = gatherer.gather(recent, bought, 20)
    items.rows(Texts.of([f"n{k}" for k in range(5_000)]))
    after = gatherer.gather(recent, bought, 20)
    assert (before.item == after.item).all()
    items.table["popularity"][:5_050] = np.arange(5_050) + 1.0
    assert_gathered(items, recent + 5_000, bought, 20)
    items._forget_some()
    gatherer.gather(recent, bought, 20)
    assert_gathered(items, recent, bought, 20)


def test_a_category_that_came_after_the_last_look_at_popular_items_is_no_source_yet():
    items = world(6, 30)
    items.table["category"][0] = items.categories.number(Texts.of(["new"]))[0]
    recent = np.array([[0, -1]])
    found = assert_gathered(items, recent, recent[:, 1:], 20)
    assert SOURCES.index("category") not in found.source[0, : found.count[0]].tolist()
    items.find_popular()
    assert_gathered(items, recent, recent[:, 1:], 20)


def test_a_list_of_one_user_is_made_by_the_loop_that_was_compiled_for_many():
    items = world(8, 30)
    recent, bought = users(np.random.default_rng(8), 30, 4, 8, 6)
    gatherer = Gatherer(items.plan, items)
    gatherer.gather(recent, bought, 20)
    known = len(_gather.signatures)
    gatherer.gather(recent[:1], bought[:1], 20)
    gatherer.gather(recent[:0], bought[:0], 20)
    assert len(_gather.signatures) == known


def test_sources_that_are_off_say_nothing():
    items = world(7, 60, dense=1.0, sources=EVERYTHING)
    recent, bought = users(np.random.default_rng(7), 60, 30, 8, 6)
    for source in range(len(SOURCES)):
        weights = np.zeros((30, len(SOURCES)))
        weights[:, source] = 0.7
        found = assert_gathered(items, recent, bought, 20, weights)
        listed = found.item >= 0
        assert set(found.source[listed].tolist()) <= {source}
        assert (np.delete(found.ranks[listed], source, axis=1) == UNRANKED).all()
