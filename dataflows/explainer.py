"""Explanations beside a server: in a process of their own, so that lookups never wait for them.

An explanation reads a whole shard and evaluates a definition many times, which takes a core for a
good part of a second.
"""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Final

from dataflows.embedded import die_with_parent
from dataflows.explaining import explanation
from dataflows.settings import Settings
from operators.lane_step import wall_clock_ms
from state.store import Store
from state.store_errors import in_words

_GIVE_UP_S: Final = 30.0


class Explainer:
    """Explains, one after another; the process starts with the first question.

    Args:
        settings: in force.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: ProcessPoolExecutor | None = None

    async def explain(self, user: str, name: str) -> str:
        """Why a user is in a segment, or has an offer (``offers.NAME``), or not.

        Raises:
            UnknownError: there is no such user, segment or offer.
            StoreError: the store cannot be read.
            TimeoutError: too many ask, or it takes too long.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _settle)
        loop = asyncio.get_running_loop()
        try:
            asked = loop.run_in_executor(self._pool, _explain, self._settings, user, name)
            return await asyncio.wait_for(asked, _GIVE_UP_S)
        except BrokenProcessPool as error:
            self.close()
            raise TimeoutError("the process that explains has died; it is started anew") from error

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _settle() -> None:
    """In the new process: it ends with its parent, not with Ctrl-C."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _explain(settings: Settings, user: str, name: str) -> str:
    chosen = settings.redis
    store = Store(
        chosen.url.get_secret_value(),
        chosen.prefix,
        chosen.shards,
        timeout_s=chosen.timeout / 1000,
        give_up_s=0.0,
    )
    try:
        with in_words(f"what is known of {user!r} could not be read"):
            return explanation(settings, store, user, name, wall_clock_ms())
    finally:
        store.close()
