"""What ranking sees of candidates, held against one pair at a time."""

import math

import numpy as np
import pytest

from models.candidates import UNRANKED
from models.gathering import Gatherer
from models.item_plan import SOURCES, ItemPlan
from models.items import ItemTable
from models.ranker import INPUTS, inputs
from state.times import DAY_MS, HOUR_MS
from tests.models.shopping import LABELS, START_MS, Counted, interactions, names_of, random_events


@pytest.mark.parametrize("seed", range(4))
def test_inputs_are_those_of_every_pair(seed):
    rng = np.random.default_rng(seed)
    plan = ItemPlan(half_life_ms=7 * DAY_MS)
    events = random_events(rng, 800, 30)
    prices = {f"i{k}": int(rng.integers(0, 4)) * 250 for k in range(30)}
    items = ItemTable(plan)
    items.learn(interactions(events, prices=prices))
    items.find_popular()
    names = names_of(items)
    recent = rng.integers(-1, len(items), (6, 4))
    segment = np.arange(6) % 4 - 1
    now_ms = np.full(6, START_MS + 31 * DAY_MS) + np.arange(6) * HOUR_MS
    lists = Gatherer(plan, items).gather(recent, np.full((6, 2), -1), 20, segment=segment)
    looked_at = rng.random(lists.item.shape)
    found = inputs(items, lists, recent, segment, now_ms, looked_at)
    truth = Counted(plan, events, int(now_ms.max()))
    mean = min(sum(truth.clicks.values()) / sum(truth.impressions.values()), 1.0)
    total = sum(truth.popularity.values())
    shares = {
        label: sum(v for (_, of), v in truth.by_segment.items() if of == label) / total
        for label in LABELS
    }
    for i in range(6):
        paid = [prices[names[k]] for k in recent[i].tolist() if k >= 0 and prices[names[k]]]
        for m in range(int(lists.count[i])):
            name = names[lists.item[i, m]]
            ranks = lists.ranks[i, m].tolist()
            said = [0.0 if rank == UNRANKED else 1 / (1 + rank) for rank in ranks]
            rate = (truth.clicks[name] + 20 * mean) / (truth.impressions[name] + 20)
            price, label = 0.0, items.segments[segment[i]] if segment[i] >= 0 else None
            if paid and prices[name]:
                price = abs(math.log(prices[name] / (sum(paid) / len(paid))))
            more = 0.0
            if label:
                had, expected = truth.by_segment[name, label], truth.popularity[name]
                more = math.log((had + 20) / (expected * shares[label] + 20))
            above = {}
            for one, counts, sums in (("stay", "stays", "stayed"), ("rating", "ratings", "rated")):
                many, all_of_it = (sum(truth.sums[s, n] for n in names) for s in (counts, sums))
                gained = truth.sums[sums, name] - all_of_it / many * truth.sums[counts, name]
                above[one] = gained / (truth.sums[counts, name] + 20)
            age = (now_ms[i] - truth.last_ms.get(name, 0)) / DAY_MS
            expected = {
                **dict(zip((f"rank.{source}" for source in SOURCES), said, strict=True)),
                "taken": math.log(rate),
                "popularity": math.log1p(truth.popularity[name]),
                "age_days": math.log1p(min(age, 365)),
                "price": price,
                "segment": more,
                **above,
                "looked_at": math.log(max(looked_at[i, m], 0.01)),
            }
            got = dict(zip(INPUTS, found[i, m].tolist(), strict=True))
            assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert len({*found[..., INPUTS.index("segment")].reshape(-1).tolist()}) > 10
