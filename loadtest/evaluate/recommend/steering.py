"""How long catalogue and rules take to reach every list in the store, and what content costs.

``python -m loadtest.evaluate.recommend.steering [USERS] [ITEMS]`` makes one lane with so many
users, all of whom have a list, over an embedded store. Then an item becomes unavailable, and a rule
is set; the clock stops when the last list in the store is as it must be. Nothing else goes on.
"""

from __future__ import annotations

import sys
import time

import msgspec
import numpy as np

from dataflows import plans
from dataflows.embedded import EmbeddedStore
from dataflows.settings import load
from events.batch import Batch, Read, Span
from events.catalog import Facts
from events.decode import Decoder
from events.schema import EventRules
from events.texts import Texts
from models.recommender import ItemRecommender
from models.rules import Rule, RuleSet, encode_rules
from state.checkpoint import Checkpoint
from state.lane import Lane
from state.store import Store

_BATCH = 5_000
_EVERY_S = 0.02


def shop(items: int, seed: int = 1) -> Facts:
    """A made-up catalogue: six words, one of 200 categories and of 800 brands each."""
    chance = np.random.default_rng(seed)
    words = [f"{a}{b}{c}" for a in "bcdfglmprst" for b in "aeiou" for c in ("ket", "lon", "sa")]
    often = 1.0 / np.arange(1, len(words) + 1)
    picked = chance.choice(words, (items, 6), p=often / often.sum())
    kinds, brands = chance.integers(0, 200, items), chance.zipf(1.3, items) % 800
    return Facts(
        ids=Texts.of([f"i{k}" for k in range(items)]),
        titles=Texts.of([" ".join(row) for row in picked]),
        categories=Texts.of([f"c{k % 12}.s{k}" for k in kinds]),
        brands=Texts.of([f"brand{k}" for k in brands]),
        tags=Texts.absent(items),
        price=chance.integers(100, 100_000, items),
        available=np.ones(items, dtype=np.bool_),
        gone=np.zeros(items, dtype=np.bool_),
    )


def reads(users: int, items: int) -> list[Read]:
    """Three views of each user, of items by a power law."""
    chance, now_ms = np.random.default_rng(2), time.time_ns() // 1_000_000
    seen = np.minimum(chance.zipf(1.2, 3 * users), items) - 1
    payloads = [
        b'{"event_id":"e%d","user_id":"u%d","type":"product_view","ts":%d,"item_id":"i%d"}'
        % (n, n % users, now_ms, item)
        for n, item in enumerate(seen.tolist())
    ]
    out = []
    for at in range(0, len(payloads), _BATCH):
        some = payloads[at : at + _BATCH]
        n = len(some)
        places = np.zeros(n, dtype=np.int32), np.arange(at, at + n)
        span = Span(0, at, at + n, at_end=True)
        out.append(Read("events", some, np.full(n, now_ms), *places, [span]))
    return out


def main(users: int, items: int) -> None:
    """Measure and print."""
    settings = load(env={})
    recommender = plans.recommender(settings, keeps=True)
    assert isinstance(recommender, ItemRecommender)
    lane = Lane(plans.lane_plan(settings), range(64), None, recommender)
    with EmbeddedStore() as server:
        store = Store(server.url)
        checkpoint = Checkpoint(lane, store)
        checkpoint.open()
        decode, content = Decoder(EventRules()), recommender.steering.content
        begun_s = time.process_time()
        recommender.take_facts(shop(items))
        print(f"{items:,} items described in {time.process_time() - begun_s:.2f} s of CPU")
        begun_s = time.process_time()
        done = sum(content.compare(10) for _ in range(200))
        us = (time.process_time() - begun_s) / max(done, 1) * 1e6
        print(f"{us:.0f} µs of CPU for each that is held against others")
        for read in reads(users, items):
            batch, _ = decode(read)
            lane.apply(batch, _wall_ms())
            checkpoint.commit()
        nothing = batch.where(np.zeros(len(batch), dtype=np.bool_))
        nothing.spans = []
        _drain(lane, checkpoint, nothing)
        name, held = _most_held(store)
        facts = shop(items)
        (at,) = np.flatnonzero(np.array(facts.ids.tolist()) == name)
        facts.available[at] = False
        recommender.take_facts(facts)
        took_s = _drain(lane, checkpoint, nothing)
        left = sum(name in found for found in _lists(store))
        print(f"an item that {held:,} of {users:,} lists held was in {left} after {took_s:.2f} s")
        name, held = _most_held(store)
        rule = Rule(exclude=f'item_id == "{name}"')
        recommender.take_rules(encode_rules(RuleSet(0, {"out": rule})))
        took_s = _drain(lane, checkpoint, nothing)
        left = sum(name in found for found in _lists(store))
        print(f"a rule held for all {users:,} lists after {took_s:.2f} s, {left} left")
        store.close()


def _drain(lane: Lane, checkpoint: Checkpoint, nothing: Batch) -> float:
    """Steer, then commit every so often until nobody waits; how long it took."""
    begun_s = time.monotonic()
    lane.steer(_wall_ms())
    assert lane.recommender is not None
    while lane.recommender.waiting():
        lane.apply(nothing, _wall_ms())
        checkpoint.commit()
        time.sleep(_EVERY_S)
    return time.monotonic() - begun_s


def _most_held(store: Store) -> tuple[str, int]:
    names, counts = np.unique(np.concatenate(list(_lists(store))), return_counts=True)
    return str(names[counts.argmax()]), int(counts.max())


def _lists(store: Store) -> list[list[str]]:
    out = []
    for shard in range(store.shards):
        raws = store.client.hvals(store.key("candidates", shard))
        documents = map(msgspec.msgpack.decode, raws)
        out += [[item["item_id"] for item in found["items"]] for found in documents]
    return out


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main(*(int(text) for text in (*sys.argv[1:], "50000", "50000")[:2]))
