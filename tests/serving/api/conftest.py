"""A store that a small replay has filled, once for all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from afterglow_client import Reader
from dataflows.embedded import EmbeddedStore
from dataflows.replay import replay
from dataflows.settings import load
from events.shop import Habits, Shop
from serving.api.app import Api
from state.store import Store
from tests.serving.api.serving import application

EVENTS = 4_000


@dataclass
class Filled:
    """A store with profiles.

    Attributes:
        url: of the store.
        users: all of them.
        server: to be killed and started again.
    """

    url: str
    users: list[str]
    server: EmbeddedStore

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def reader(self) -> Reader:
        return Reader(self.url, timeout_s=5.0)


@pytest.fixture(scope="session")
def filled() -> Iterator[Filled]:
    now_ms = int(time.time() * 1000)
    shop = Shop(seed=3, start_ms=now_ms - 60_000, habits=Habits(users=300))
    payloads = shop.payloads(EVENTS)
    with EmbeddedStore() as server:
        store = Store(server.url)
        replay(load(env={}), store, "shop", lambda: iter(payloads), until_ms=now_ms)
        users = sorted(
            u.decode() for s in range(64) for u in store.client.hkeys(f"ag:profile:{{{s:02d}}}")
        )
        store.close()
        yield Filled(server.url, users, server)


@pytest.fixture
def app(filled: Filled) -> Api:
    return application(filled.url)
