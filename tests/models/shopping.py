"""Made-up interactions for tests of what is learned from them, and what they come to."""

import math
from collections import defaultdict

import msgspec
import numpy as np

from events.schema import CLICK, IMPRESSION, PRODUCT_VIEW, PURCHASE, TYPES
from events.texts import Texts
from models.interactions import Interactions, Seen
from state.groups import group
from state.recommending import Served
from state.table import Table
from state.times import DAY_MS
from tests.state.batches import batch_of

START_MS = 1_780_000_000_000
KINDS = (PRODUCT_VIEW, PRODUCT_VIEW, CLICK, PURCHASE, IMPRESSION, TYPES.index("rating"))


def described(names, categories=None, prices=None):
    """What is seen of some items."""
    n = len(names)
    return Seen(
        Texts.of(names),
        Texts.of(categories or [None] * n),
        np.array(prices or [0] * n, dtype=np.int64),
    )


LABELS = ("champions", "promising", "at_risk")


def interactions(events, categories=None, prices=None):
    """Interactions from (item, time, type, items before it, items bought with it).

    Items are named; ``categories`` and ``prices`` are by name. All names are described.
    """
    names = list(dict.fromkeys(n for e in events for n in (e[0], *e[3], *e[4])))
    hash_of = dict(zip(names, Texts.of(names).hashes().tolist(), strict=True))

    def table(column):
        width = max([len(e[column]) for e in events], default=0)
        rows = [[hash_of[n] for n in e[column]] + [0] * (width - len(e[column])) for e in events]
        return np.array(rows, dtype=np.uint64).reshape(len(events), width)

    seen = described(
        names,
        [(categories or {}).get(n) for n in names],
        [(prices or {}).get(n, 0) for n in names],
    )
    return Interactions(
        np.array([hash_of[e[0]] for e in events], dtype=np.uint64),
        np.array([e[1] for e in events], dtype=np.int64),
        np.array([e[2] for e in events], dtype=np.int8),
        table(3),
        table(4),
        seen,
        np.array([stay_of(e) for e in events], dtype=np.float32),
        np.array([rating_of(e) for e in events], dtype=np.float32),
        np.array([label_of(e) for e in events], dtype=np.int8),
        LABELS,
    )


def random_events(rng, count, items, span_ms=30 * DAY_MS, steps=3, baskets=2):
    """Random events over some time, oldest first; popular items come more often."""
    names = [f"i{k}" for k in range(items)]
    weights = 1.0 / np.arange(1, items + 1)
    weights /= weights.sum()
    out = []
    for ts in np.sort(rng.integers(0, span_ms, count)).tolist():
        kind = KINDS[rng.integers(len(KINDS))]
        some = [names[k] for k in rng.choice(items, 1 + steps + baskets, p=weights).tolist()]
        before = some[1 : 1 + int(rng.integers(0, steps + 1))]
        together = some[1 + steps : 1 + steps + int(rng.integers(0, baskets + 1))]
        out.append((some[0], START_MS + ts, kind, before, together))
    return out


def label_of(event):
    """A label for the user of an event, made from its time; a place in ``LABELS``, -1 for none."""
    return event[1] // 1_000 % (len(LABELS) + 1) - 1


def stay_of(event):
    """How long the user stayed with the item before, made from its time; 0 for not known."""
    return event[1] // 1_000 % 7 / 2.0


def rating_of(event):
    """How its item was rated, made from its time; NaN for not at all."""
    return event[1] // 3_000 % 6 if event[1] // 1_000 % 3 == 0 else math.nan


class Counted:
    """What items come to at a time: every event once more, slowly, decayed one by one.

    Attributes:
        popularity, trend, impressions, clicks: by item.
        last_ms: by item, of what was no impression.
        by_segment: by item and label.
        sums: by name of the sum and item: what is said by staying and rating.
        covisits, together: by pair.
    """

    def __init__(self, plan, events, at_ms):
        self.popularity, self.impressions = defaultdict(float), defaultdict(float)
        self.clicks, self.trend, self.last_ms = defaultdict(float), defaultdict(float), {}
        self.covisits, self.together = defaultdict(float), defaultdict(float)
        self.by_segment, self.sums = defaultdict(float), defaultdict(float)
        for event in events:
            item, ts, kind, before, together = event
            counts = 2.0 ** ((ts - at_ms) / plan.half_life_ms)
            if before and stay_of(event):
                self.sums["stays", before[0]] += counts
                self.sums["stayed", before[0]] += counts * stay_of(event)
            if not math.isnan(rating_of(event)):
                self.sums["ratings", item] += counts
                self.sums["rated", item] += counts * rating_of(event)
            if kind == IMPRESSION:
                self.impressions[item] += counts
                continue
            if kind == CLICK:
                self.clicks[item] += counts
            says = counts * plan.weights.get(kind, 0.0)
            self.popularity[item] += says
            if label_of(event) >= 0:
                self.by_segment[item, LABELS[label_of(event)]] += says
            lately = 2.0 ** ((ts - at_ms) / plan.trend_ms)
            self.trend[item] += lately * plan.weights.get(kind, 0.0)
            self.last_ms[item] = max(self.last_ms.get(item, ts), ts)
            for place, other in enumerate(before):
                if other != item:
                    self.covisits[other, item] += says / (place + 1)
                    self.covisits[item, other] += says / (place + 1) * plan.backward
            for other in together if kind == PURCHASE else ():
                if other != item:
                    self.together[other, item] += counts
                    self.together[item, other] += counts


def names_of(items):
    """The ids of an item table by row."""
    return items.ids.texts(np.arange(len(items))).tolist()


def pairs_of(items, kind, at_ms):
    """All pairs of one kind by name, with their weights at a time."""
    names, out = names_of(items), {}
    scale = 2.0 ** ((items.landmark_ms - at_ms) / items.plan.half_life_ms)
    for row, name in enumerate(names):
        for other, weight in zip(kind.item[row].tolist(), kind.weight[row].tolist(), strict=True):
            if other >= 0:
                assert (name, names[other]) not in out
                out[name, names[other]] = weight * scale
    return out


def assert_sound(items):
    """Whatever was learned and forgotten, everything names what is there."""
    size = len(items)
    table = items.table
    hashes = items.ids.texts(np.arange(size)).hashes()
    assert len(items.ids) == size == table.size
    assert (table["hash"][:size] == hashes).all()
    assert (items.find(hashes) == np.arange(size)).all()
    for kind in (items.covisits, items.together, items.similar, items.cosine):
        near, weight = kind.item[:size], kind.weight[:size]
        assert near.min(initial=-1) >= -1
        assert near.max(initial=-1) < size
        assert (near != np.arange(size)[:, None]).all()
        assert (weight >= 0.0).all()
        assert (weight[near < 0] == 0.0).all()
        held = near >= 0
        assert (held[:, :-1] >= held[:, 1:]).all()
        ordered = np.sort(near, axis=1)
        assert ((ordered[:, 1:] != ordered[:, :-1]) | (ordered[:, 1:] < 0)).all()
    assert (table["category"][:size] < len(items.categories)).all()
    assert (items.popular < size).all()
    assert (items.category_items < size).all()
    start = items.category_start
    assert start[0] == 0
    assert start[-1] == len(items.category_items)
    assert (np.diff(start) >= 0).all()
    assert len(start) <= len(items.categories) + 1


class Shoppers:
    """Users of one lane, known to its recommender.

    Args:
        recommender: of the lane.
        users: how many.
    """

    def __init__(self, recommender, users=10):
        self.recommender = recommender
        self.table = Table(recommender.columns())
        self.rows = self.table.grow(users)
        self.ids = Texts.of([f"u{k}" for k in range(users)])

    def act(self, *events, categories=None, amounts=None, values=None):
        """Events of one batch: (user, item, time, type)."""
        rows, item, ts, kind = zip(*events, strict=True)
        batch = batch_of(type=list(kind), ts_ms=list(ts), item=list(item))
        if values is not None:
            batch.value = np.array(values, dtype=np.float64)
        batch.category = Texts.of([(categories or {}).get(name) for name in item])
        batch.amount_minor = np.array([(amounts or {}).get(name, 0) for name in item])
        self.recommender.observe(self.table, group(np.array(rows)), batch)

    def due(self, wall_ms=None):
        return self.recommender.due(wall_ms).tolist()

    def documents(self, rows, now_ms):
        """The lists of some users, decoded."""
        rows = np.array(rows, dtype=np.int64)
        now = np.full(len(rows), now_ms)
        served = Served.plainly(len(rows))
        lists = self.recommender.make(self.table, self.ids.take(rows), now, rows, served)
        return [msgspec.msgpack.decode(raw) for raw in lists.documents.bytes_list()]

    def listed(self, row, now_ms=START_MS):
        """The items of one user's list."""
        found = self.documents([row], now_ms)
        return [item["item_id"] for item in found[0]["items"]] if found else []
