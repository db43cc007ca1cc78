"""Stores filled by the engine itself, for readers to be held against."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from dataflows.replay import replay
from dataflows.settings import load
from events.shop import Habits, Shop
from state.store import Store

START_MS = 1_790_000_000_000


@dataclass
class Filled:
    """A store after a replay, and what stands in it by the engine's own reading.

    Attributes:
        url: its address.
        profiles, lists: documents by user.
        members: users by segment.
        until_ms: the time it was brought to.
    """

    url: str
    profiles: dict[str, dict]
    lists: dict[str, dict]
    members: dict[str, set[str]]
    until_ms: int


def fill(url: str, prefix: str = "ag", users: int = 120, events: int = 3_000) -> Filled:
    """Replay a made-up shop into an empty store."""
    settings = load(sets=[f"redis.prefix={prefix}"], env={"REDIS_URL": url})
    shop = Shop(3, START_MS, Habits(users=users, rate_per_s=1.0))
    payloads = shop.payloads(events)
    store = Store(url, prefix, settings.redis.shards)
    try:
        done = replay(settings, store, "shop", lambda: iter(payloads))
        profiles = {
            user: msgspec.msgpack.decode(raw)
            for shard in range(store.shards)
            for user, raw in store.profiles(shard)
        }
        lists = {
            raw.decode(): msgspec.msgpack.decode(document)
            for shard in range(store.shards)
            for raw, document in store.client.hgetall(store.key("candidates", shard)).items()
        }
        names = {name for document in profiles.values() for name in document["segments"]}
        members = {
            name: {u for shard in range(store.shards) for u in store.members(shard, name)}
            for name in names
        }
    finally:
        store.close()
    return Filled(url, profiles, lists, members, done.until_ms)
