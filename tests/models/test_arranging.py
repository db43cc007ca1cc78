"""The last word on a list, against a plain one."""

import random

import numpy as np
import pytest

from models.arranging import PINNED, arranged
from models.candidates import Candidates
from models.catalog import Catalog
from models.item_plan import SOURCES, ItemPlan
from models.items import ItemTable
from models.ruling import Pins
from tests.models.catalogs import facts


def plain(found, category, blocked, recent, bought, pins, length, cap):
    """One list, item by item: (item, whether it is pinned)."""
    pinned = {
        place: item
        for place, item in pins
        if not blocked[item] and item not in recent and item not in bought and place < length
    }
    used: dict[int, int] = {}
    for item in pinned.values():
        used[category[item]] = used.get(category[item], 0) + 1
    rest = [item for item in found if item not in pinned.values()]
    out: list[tuple[int, bool]] = []
    waiting = sorted(pinned.items())
    while len(out) < length:
        if waiting and waiting[0][0] <= len(out):
            out.append((waiting.pop(0)[1], True))
        elif rest:
            item = rest.pop(0)
            kind = category[item]
            if kind < 0 or not cap or used.get(kind, 0) < cap:
                used[kind] = used.get(kind, 0) + 1
                out.append((item, False))
        elif waiting:
            out.append((waiting.pop(0)[1], True))
        else:
            break
    return out


@pytest.mark.parametrize("seed", range(40))
def test_lists_are_those_of_a_plain_one(seed):
    chance = random.Random(seed)
    many, users, wide = 40, 6, 25
    items = ItemTable(ItemPlan())
    said = {
        f"i{k}": {"category": f"c{chance.randrange(5)}"} if chance.random() < 0.8 else {}
        for k in range(many)
    }
    Catalog(items).take(facts(**said))
    items.table["blocked"][:many] = [chance.random() < 0.1 for _ in range(many)]
    category = items.table["category"][:many].tolist()
    blocked = items.table["blocked"][:many].tolist()
    lists = [
        chance.sample([k for k in range(many) if not blocked[k]], chance.randrange(wide))
        for _ in range(users)
    ]
    item = np.full((users, wide), -1, dtype=np.int32)
    for i, found in enumerate(lists):
        item[i, : len(found)] = found
    shape = item.shape
    score = np.array([[chance.random() for _ in range(wide)] for _ in range(users)], np.float32)
    candidates = Candidates(
        item,
        score,
        np.full(shape, 2, np.uint8),
        item.copy(),
        np.arange(item.size * len(SOURCES)).reshape(*shape, -1).astype(np.uint8),
        np.array([len(found) for found in lists]),
    )
    recent = np.array([[chance.randrange(-1, many), -1] for _ in range(users)])
    bought = np.array([[chance.randrange(-1, many) for _ in range(3)] for _ in range(users)])
    length, cap = chance.choice([3, 10]), chance.choice([0, 1, 2, 4])
    chosen = chance.sample(range(many), chance.randrange(4))
    places = sorted(chance.sample(range(12), len(chosen)))
    pins = Pins(
        np.concatenate([items.table["hash"][chosen], [np.uint64(12345)]]),
        np.array([*places, 20]),
    )
    out = arranged(candidates, items, recent, bought, pins, length, cap)
    for i, found in enumerate(lists):
        expected = plain(
            found,
            category,
            blocked,
            [recent[i, 0]] if recent[i, 0] >= 0 else [],
            [b for b in bought[i].tolist() if b >= 0],
            list(zip(places, chosen, strict=True)),
            length,
            cap,
        )
        n = out.count[i]
        assert out.item[i, :n].tolist() == [item for item, _ in expected]
        assert (out.item[i, n:] == -1).all()
        for k, (which, pinned) in enumerate(expected):
            assert (out.source[i, k] == PINNED) == pinned
            if which in found:
                at = found.index(which)
                assert out.score[i, k] == score[i, at]
                assert (out.ranks[i, k] == candidates.ranks[i, at]).all()
            else:
                assert out.score[i, k] == 0.0
            assert out.because[i, k] == (-1 if pinned else which)
