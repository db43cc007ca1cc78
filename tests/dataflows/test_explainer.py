"""Explanations in a process of their own, and all that a server needs of the store's rights."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
import redis

from dataflows.embedded import EmbeddedStore
from dataflows.explainer import Explainer
from dataflows.explaining import UnknownError
from dataflows.replay import replay
from dataflows.settings import Settings, load
from events.shop import Habits, Shop
from state.store import Store
from state.store_errors import StoreError

pytestmark = [pytest.mark.servers, pytest.mark.slow]

NEEDED = ("hget", "hmget", "hgetall", "scard", "sscan", "get", "hlen")
"""What docs/api.md says a server's user may do; the store is only read."""


@pytest.fixture(scope="module")
def edge() -> Iterator[Settings]:
    """Settings whose user of a filled store may only read."""
    now_ms = int(time.time() * 1000)
    payloads = Shop(seed=3, start_ms=now_ms - 60_000, habits=Habits(users=30)).payloads(500)
    with EmbeddedStore() as server:
        store = Store(server.url)
        replay(load(env={}), store, "shop", lambda: iter(payloads), until_ms=now_ms)
        store.close()
        with redis.Redis.from_url(server.url) as client:
            client.acl_setuser(
                "edge",
                enabled=True,
                passwords=["+secret"],
                keys=["%R~ag:*"],
                commands=[f"+{name}" for name in NEEDED],
            )
        url = server.url.replace("//", "//edge:secret@")
        yield load(env={"REDIS_URL": url})


def test_it_explains_and_lives_on(edge: Settings) -> None:
    """After wrong questions, and after its process was killed."""

    async def run() -> None:
        explainer = Explainer(edge)
        try:
            told = await explainer.explain("u000001", "vip")
            assert told.startswith(("is in vip", "is not in vip"))
            with pytest.raises(UnknownError, match="did you mean 'vip'"):
                await explainer.explain("u000001", "vipp")
            with pytest.raises(UnknownError, match="nothing is known of 'nobody'"):
                await explainer.explain("nobody", "vip")
            (child,) = (
                c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())
            )
            os.kill(child.pid, signal.SIGKILL)
            child.wait(10)
            with pytest.raises(TimeoutError, match="started anew"):
                await explainer.explain("u000001", "vip")
            assert await explainer.explain("u000001", "vip")
        finally:
            explainer.close()

    asyncio.run(run())


def test_a_store_that_is_away_is_said(edge: Settings) -> None:
    async def run() -> None:
        explainer = Explainer(load(env={"REDIS_URL": "redis://127.0.0.1:1"}))
        try:
            with pytest.raises(StoreError):
                await explainer.explain("ann", "vip")
        finally:
            explainer.close()

    asyncio.run(run())
