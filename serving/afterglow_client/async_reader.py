"""Looking users up, from code that runs in an event loop: the twin of ``Reader``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.exceptions import ResponseError

from afterglow_client.connecting import RETRIED, TROUBLE, Terms, in_words, is_forbidden
from afterglow_client.documents import Candidates, Profile, candidates_of, member_of, profile_of
from afterglow_client.layout import Layout, field, layout_of, meta_key, segment_names
from afterglow_client.reader import AT_ONCE, LAYOUT_S, PIECE, distinct, unknown, wall_clock_ms

T = TypeVar("T")


class AsyncReader:
    """Reads what an engine keeps in its store; for one event loop, shared by all its tasks.

    Arguments, methods and errors are those of ``Reader``; what waits there is awaited here::

        async with AsyncReader("redis://127.0.0.1:6379") as reader:
            profile = await reader.get("ann")
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.5,
        retries: int = 2,
        prefix: str = "ag",
        cluster: bool | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
        **options: Any,
    ) -> None:
        self._terms = Terms(url, timeout_s, retries, cluster, options)
        self._meta, self._prefix, self._clock_ms = meta_key(prefix), prefix, clock_ms
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._layout: Layout | None = None
        self._layout_until_s = 0.0

    # -- one user -----------------------------------------------------------------------------

    async def get(self, user_id: str) -> Profile | None:
        """A user's profile; None of one who is not known."""
        raw = await self._field("profile", user_id)
        return None if raw is None else profile_of(raw, self._clock_ms())

    async def candidates(self, user_id: str) -> Candidates | None:
        """The items recommended to a user; None where there are none."""
        raw = await self._field("candidates", user_id)
        return None if raw is None else candidates_of(raw, self._clock_ms())

    async def segments(self, user_id: str) -> tuple[str, ...]:
        """Names of the segments that a user is in now; none of one who is not known."""
        profile = await self.get(user_id)
        return () if profile is None else tuple(profile.segments)

    # -- many ---------------------------------------------------------------------------------

    async def get_many(self, user_ids: Iterable[str]) -> dict[str, Profile]:
        """Profiles by user id, without those who are not known; one round trip to each server."""
        wanted = distinct(user_ids)
        found: dict[str, Profile] = {}
        for first in range(0, len(wanted), AT_ONCE):
            found |= await self._some(wanted[first : first + AT_ONCE])
        return found

    async def members(self, segment: str) -> AsyncIterator[str]:
        """Everybody in a segment, each once, in no order; shard by shard, in pieces.

        Raises:
            UnknownSegment: there is none of this name.
        """
        names, layout = await self.defined(), await self._where()
        if segment not in names:
            raise unknown(segment, names)
        for shard in range(layout.shards):
            key, cursor, seen = layout.key("members", shard, segment), 0, set[bytes]()
            while True:
                cursor, piece = await self._call(_scan(key, cursor))
                fresh = [member for member in dict.fromkeys(piece) if member not in seen]
                seen.update(fresh)
                for member in fresh:
                    yield member_of(member)
                if cursor == 0:
                    break

    async def sizes(self) -> dict[str, int]:
        """How many members each defined segment has, by name."""
        layout, names = await self._where(), await self.defined()

        async def ask(client: Any) -> list[int]:
            pipe = client.pipeline(transaction=False)
            for name in names:
                for shard in range(layout.shards):
                    pipe.scard(layout.key("members", shard, name))
            counts: list[int] = await pipe.execute()
            return counts

        counts = await self._call(ask) if names else []
        return {
            name: sum(counts[i * layout.shards : (i + 1) * layout.shards])
            for i, name in enumerate(names)
        }

    async def defined(self) -> tuple[str, ...]:
        """Names of all segments that the engine decides, in its order."""
        layout = await self._where()

        async def ask(client: Any) -> list[bytes | None]:
            pipe = client.pipeline(transaction=False)
            for shard in range(layout.shards):
                pipe.hget(layout.key("commit", shard), "segments")
            found: list[bytes | None] = await pipe.execute()
            return found

        return segment_names(await self._call(ask))

    # -- the connection -----------------------------------------------------------------------

    async def ping(self) -> None:
        """Raise an error in words unless there are Afterglow data to read."""
        self._layout_until_s = 0.0
        await self._where()

    async def close(self) -> None:
        """Give the connections back."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        await self.close()

    # -- inside -------------------------------------------------------------------------------

    async def _field(self, kind: str, user_id: str) -> bytes | None:
        name, layout = field(user_id), await self._where()
        key = layout.key(kind, layout.shard_of(name))
        raw: bytes | None = await self._call(lambda client: client.hget(key, name))
        return raw

    async def _some(self, user_ids: list[str]) -> dict[str, Profile]:
        layout = await self._where()
        by_shard = layout.by_shard(user_ids)

        async def ask(client: Any) -> list[list[bytes | None]]:
            pipe = client.pipeline(transaction=False)
            for shard, ids in by_shard.items():
                pipe.hmget(layout.key("profile", shard), [field(user_id) for user_id in ids])
            answers: list[list[bytes | None]] = await pipe.execute()
            return answers

        answers, now_ms = await self._call(ask), self._clock_ms()
        found = {
            user_id: profile_of(raw, now_ms)
            for ids, raws in zip(by_shard.values(), answers, strict=True)
            for user_id, raw in zip(ids, raws, strict=True)
            if raw is not None
        }
        return {user_id: found[user_id] for user_id in user_ids if user_id in found}

    async def _where(self) -> Layout:
        if self._layout is None or time.monotonic() > self._layout_until_s:
            meta = await self._call(lambda client: client.hgetall(self._meta))
            self._layout = layout_of(self._prefix, meta)
            self._layout_until_s = time.monotonic() + LAYOUT_S
        return self._layout

    async def _call(self, ask: Callable[[Any], Awaitable[T]]) -> T:
        """Ask the store, again and again as agreed."""

        async def once() -> T:
            return await ask(self._client or await self._opened())

        async def note(_: Exception) -> None:
            if isinstance(self._client, redis.asyncio.RedisCluster):
                await self._client.aclose()  # where keys live is asked again with the next try

        try:
            answer: T = await self._terms.retry(Retry).call_with_retry(
                once, note, lambda error: not is_forbidden(error)
            )
        except TROUBLE as error:
            raise in_words(error, self._terms.url) from error
        return answer

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def _open(self) -> Any:
        options = self._terms.client_options(Retry)
        is_cluster = self._terms.cluster
        if is_cluster is None:
            async with redis.asyncio.Redis.from_url(self._terms.url, **options) as first:
                is_cluster = await _is_cluster(first)
        if is_cluster:
            return await redis.asyncio.RedisCluster.from_url(self._terms.url, **options)
        return redis.asyncio.Redis.from_url(self._terms.url, **options)


def _scan(key: str, cursor: int) -> Callable[[Any], Awaitable[tuple[int, list[bytes]]]]:
    return lambda client: client.sscan(key, cursor, count=PIECE)


async def _is_cluster(client: Any) -> bool:
    """Whether a server belongs to a cluster; one that will not say does not."""
    try:
        return bool((await client.info("cluster")).get("cluster_enabled"))
    except RETRIED:
        raise
    except ResponseError:
        return False
