"""Many requests at once, one question to the store.

While a question is on its way, and for two milliseconds from its beginning, requests that come in
wait and go with the next one, all in one round trip. So a quiet server answers at once, and a busy
one spends on each request only a part of what a question costs.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from afterglow_client import AfterglowError, AsyncReader, NotAfterglow, Profile

_MOST: Final = 256
_PACE_S: Final = 0.002


class Lookups:
    """Looks profiles up for all requests of one event loop.

    Args:
        reader: of the store.
    """

    def __init__(self, reader: AsyncReader) -> None:
        self._reader = reader
        self._waiting: dict[str, list[asyncio.Future[Profile | None]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._next_s = 0.0

    async def get(self, user_id: str) -> Profile | None:
        """A user's profile; None of one who is not known.

        Raises:
            AfterglowError: as of ``AsyncReader.get``.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Profile | None] = loop.create_future()
        self._waiting.setdefault(user_id, []).append(future)
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                wait_s = self._next_s - loop.time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                self._next_s = loop.time() + _PACE_S
                asked = {user: self._waiting.pop(user) for user in [*islice(self._waiting, _MOST)]}
                await self._ask(asked)
        finally:
            self._task = None

    async def _ask(self, asked: dict[str, list[asyncio.Future[Profile | None]]]) -> None:
        try:
            if len(asked) == 1:
                (user,) = asked
                found = {user: await self._reader.get(user)}
            else:
                found = {**await self._reader.get_many(asked)}
        except NotAfterglow as error:
            if len(asked) == 1:
                _fail(asked, error)
                return
            for user, futures in asked.items():  # one cannot be read; the others can
                await self._ask({user: futures})
        except (AfterglowError, OSError) as error:
            _fail(asked, error)
        except BaseException:
            for futures in asked.values():
                for future in futures:
                    future.cancel()
            raise
        else:
            for user, futures in asked.items():
                for future in futures:
                    if not future.done():
                        future.set_result(found.get(user))


def _fail(asked: dict[str, list[asyncio.Future[Profile | None]]], error: Exception) -> None:
    for futures in asked.values():
        for future in futures:
            if not future.done():
                future.set_exception(error)
