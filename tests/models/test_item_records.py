"""Items stored and loaded again are the same items, whatever the widths and landmarks."""

import numpy as np
import pytest

from events.schema import IMPRESSION, PRODUCT_VIEW, PURCHASE
from models.esteem import SUMS
from models.item_plan import ItemPlan
from models.item_records import ESTEEM, SEGMENTS, TREND, _record, load_items, pack_items
from models.items import ItemTable
from state.times import DAY_MS
from tests.models.shopping import (
    START_MS,
    assert_sound,
    interactions,
    names_of,
    pairs_of,
    random_events,
)

PLAN = ItemPlan(half_life_ms=7 * DAY_MS, neighbours=12, together=6)


def taught(plan=PLAN, seed=1, count=500, items=30):
    events = random_events(np.random.default_rng(seed), count, items)
    names = list(dict.fromkeys(n for e in events for n in (e[0], *e[3], *e[4])))
    table = ItemTable(plan)
    table.learn(
        interactions(
            events,
            categories={n: f"c{k % 5}" for k, n in enumerate(names) if k % 6},
            prices={n: k for k, n in enumerate(names)},
        )
    )
    return table


def carried(items, plan=PLAN, rows=None):
    """The same in another process: stored in some order, read in another."""
    rows = np.random.default_rng(2).permutation(len(items)) if rows is None else rows
    out = ItemTable(plan)
    load_items(out, *pack_items(items, rows), items.segments)
    return out


def facts(items):
    """All that stands in a row but the weights, by name."""
    table, out = items.table, {}
    for row, name in enumerate(names_of(items)):
        code = np.array([table["category"][row]], dtype=np.int64)
        plain = [table[n][row].item() for n in ("last_ms", "price")]
        out[name] = [*plain, items.categories.texts(code)[0]]
    return out


def weights(items, at_ms=START_MS):
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.half_life_ms)
    names = names_of(items)
    return {
        name: [
            float(items.table[c][row] * scale)
            for c in ("popularity", "impressions", "clicks", *SUMS)
        ]
        for row, name in enumerate(names)
    }


def trends(items, at_ms=START_MS):
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.trend_ms)
    return {name: items.table["trend"][k] * scale for k, name in enumerate(names_of(items))}


def by_segment(items, at_ms=START_MS):
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.half_life_ms)
    held = items.table["by_segment"][: len(items), : len(items.segments)] * scale
    return {name: held[k].tolist() for k, name in enumerate(names_of(items))}


def close(expected):
    return {k: pytest.approx(v, rel=1e-5, abs=1e-30) for k, v in expected.items()}


def assert_same(found, truth):
    assert_sound(found)
    assert facts(found) == facts(truth)
    assert weights(found) == close(weights(truth))
    assert trends(found) == close(trends(truth))
    assert found.segments == truth.segments
    assert by_segment(found) == close(by_segment(truth))
    for name in ("covisits", "together"):
        a = pairs_of(found, getattr(found, name), START_MS)
        b = pairs_of(truth, getattr(truth, name), START_MS)
        assert a == close({pair: w for pair, w in b.items() if w > 0.0 or pair in a})


@pytest.mark.parametrize("seed", range(3))
def test_items_come_back_as_they_were(seed):
    items = taught(seed=seed)
    again = carried(items)
    assert_same(again, items)
    assert not again.table["changed"][: len(again)].any()
    assert {names_of(again)[k] for k in again.popular.tolist()} == {
        names_of(items)[k] for k in items.popular.tolist() if not items.table["blocked"][k]
    }
    assert_same(carried(again), items)


def test_records_of_the_first_version_are_read():
    items = taught(seed=4)
    fields, values = pack_items(items, np.arange(len(items)))
    widths = items.covisits.places, items.together.places
    now, then = (_record(parts, *widths) for parts in (TREND | SEGMENTS | ESTEEM, 0))
    former = []
    for value in values:
        old, new = np.zeros(1, then), np.frombuffer(value[: now.itemsize], now)
        for name in then.names:
            old[name] = new[name]
        old["near"] = items.covisits.places
        former.append(old.tobytes() + value[now.itemsize :])
    again = ItemTable(items.plan)
    load_items(again, fields, former)
    assert facts(again) == facts(items)
    assert weights(again) == close({n: [*w[:3], 0, 0, 0, 0] for n, w in weights(items).items()})
    assert not any(trends(again).values())
    assert not again.table["by_segment"].any()
    assert any(trends(items).values())
    assert items.table["by_segment"].any()


def test_a_single_item_comes_back():
    items = ItemTable(PLAN)
    events = [("a", START_MS, PURCHASE, [], []), ("a", START_MS + 5, IMPRESSION, [], [])]
    items.learn(interactions(events))
    assert_same(carried(items), items)


def test_learning_goes_on_where_it_was():
    events = random_events(np.random.default_rng(5), 600, 12)
    calm, first = ItemTable(PLAN), ItemTable(PLAN)
    calm.learn(interactions(events))
    first.learn(interactions(events[:300]))
    again = carried(first)
    again.learn(interactions(events[300:]))
    assert_same(again, calm)


@pytest.mark.parametrize(("near", "together"), [(20, 9), (5, 2), (12, 2), (5, 9)])
def test_lists_of_other_lengths_keep_the_heaviest(near, together):
    items = taught()
    other = ItemPlan(half_life_ms=7 * DAY_MS, neighbours=near, together=together)
    again = carried(items, other)
    assert_sound(again)
    assert facts(again) == facts(items)
    old, new = names_of(items), names_of(again)
    for name, places in (("covisits", near), ("together", together)):
        a, b = getattr(items, name), getattr(again, name)
        for row, item in enumerate(old):
            found = b.heaviest(new.index(item), places)
            kept = a.heaviest(row, min(places, a.places))
            assert [w for _, w in found] == [pytest.approx(w) for _, w in kept]
            if len({w for _, w in kept}) == len(kept):
                assert [new[k] for k, _ in found] == [old[k] for k, _ in kept]


def test_records_of_several_widths_and_landmarks_are_mixed():
    """Rows are written when they change, so what is stored has seen other settings and times."""
    old = taught(ItemPlan(half_life_ms=7 * DAY_MS, neighbours=4, together=3))
    fields, values = pack_items(old, np.arange(len(old)))
    new = carried(old)
    new.rebase(new.landmark_ms + 90 * DAY_MS)
    later_fields, later_values = pack_items(new, np.arange(0, len(new), 2))
    stored = dict(zip(fields, values, strict=True))
    stored |= dict(zip(later_fields, later_values, strict=True))
    for order in (list(stored), list(stored)[::-1]):
        again = ItemTable(PLAN)
        load_items(again, order, [stored[field] for field in order], old.segments)
        assert again.landmark_ms == new.landmark_ms
        assert_same(again, old)


def test_neighbours_that_are_not_stored_leave_no_holes():
    items = taught()
    again = carried(items, rows=np.arange(0, len(items), 3))
    assert_sound(again)
    names = set(names_of(again))
    for name in ("covisits", "together"):
        truth = pairs_of(items, getattr(items, name), START_MS)
        found = pairs_of(again, getattr(again, name), START_MS)
        assert found == close({pair: w for pair, w in truth.items() if set(pair) <= names})


def test_neighbours_whose_weight_has_faded_to_nothing_leave_no_holes():
    items = taught()
    items.rebase(items.landmark_ms + 250 * 7 * DAY_MS)
    stored = pack_items(items, np.arange(0, len(items), 2))
    again = ItemTable(PLAN)
    load_items(again, *stored)
    assert_sound(again)
    names = names_of(again)
    for n in range(40):
        some = [(names[n % 5], items.landmark_ms, PRODUCT_VIEW, [names[5 + n % 7]], [])]
        again.learn(interactions(some))
        assert_sound(again)


def test_odd_ids_and_categories_come_back():
    names = ["é" * 64, "x" * 128, "[b]", "商品", " a"]
    events = [(n, START_MS, PURCHASE, names[:1], names[1:2]) for n in names]
    items = ItemTable(PLAN)
    items.learn(interactions(events, categories={names[0]: "ü" * 64, names[2]: "\N{SNOWMAN}"}))
    assert_same(carried(items), items)


def test_more_items_than_are_to_be_kept_go_at_the_next_interaction():
    items = taught(count=2_000, items=150)
    small = ItemPlan(half_life_ms=7 * DAY_MS, neighbours=12, together=6, most_items=100)
    again = carried(items, small)
    again.learn(interactions([("i0", items.landmark_ms, PURCHASE, [], [])]))
    assert len(again) == 90
    assert_sound(again)
    assert len(again.forgotten) == len(items) - 90
