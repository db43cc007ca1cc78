"""Looking users up, from code that waits for answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import redis
from redis.exceptions import ResponseError
from redis.retry import Retry

from afterglow_client.connecting import RETRIED, TROUBLE, Terms, in_words, is_forbidden
from afterglow_client.documents import Candidates, Profile, candidates_of, member_of, profile_of
from afterglow_client.errors import UnknownSegment
from afterglow_client.kept import Kept
from afterglow_client.layout import Layout, field, layout_of, meta_key, segment_names

T = TypeVar("T")

AT_ONCE = 2_000
"""Users asked for in one round trip of ``get_many``."""

PIECE = 500
"""Members asked for at once, so that the store is not busy for long."""

LAYOUT_S = 60.0
"""After so long the layout is read again, in case the data were split anew."""


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Reader:
    """Reads what an engine keeps in its store; safe to share between threads.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://`` address of a server, or of any of a
            cluster.
        timeout_s: how long connecting may take, and how long one answer may.
        retries: how often a call that failed is made again, after growing, scattered pauses.
        prefix: of the keys, ``redis.prefix`` in the engine's settings.
        cluster: whether it is a Redis Cluster; None asks the server.
        clock_ms: what time it is; entries past their ``valid_to`` are dropped by it.
        options: more for redis-py's client, such as ``max_connections`` or ``ssl_ca_certs``.

    Raises (every method):
        Unavailable: no usable answer in time.
        Forbidden: the store refuses this user.
        NotAfterglow: there are no Afterglow data, or of another format.

    Use one for the whole process; it connects with the first lookup::

        with Reader("redis://127.0.0.1:6379") as reader:
            profile = reader.get("ann")
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
        self._kept: Kept | None = None
        self._opening = threading.Lock()
        self._layout: Layout | None = None
        self._layout_until_s = 0.0

    # -- one user -----------------------------------------------------------------------------

    def get(self, user_id: str) -> Profile | None:
        """A user's profile; None of one who is not known."""
        raw = self._field("profile", user_id)
        return None if raw is None else profile_of(raw, self._clock_ms())

    def candidates(self, user_id: str) -> Candidates | None:
        """The items recommended to a user; None where there are none."""
        raw = self._field("candidates", user_id)
        return None if raw is None else candidates_of(raw, self._clock_ms())

    def segments(self, user_id: str) -> tuple[str, ...]:
        """Names of the segments that a user is in now; none of one who is not known."""
        profile = self.get(user_id)
        return () if profile is None else tuple(profile.segments)

    # -- many ---------------------------------------------------------------------------------

    def get_many(self, user_ids: Iterable[str]) -> dict[str, Profile]:
        """Profiles by user id, without those who are not known; one round trip to each server."""
        wanted = distinct(user_ids)
        found: dict[str, Profile] = {}
        for first in range(0, len(wanted), AT_ONCE):
            found |= self._some(wanted[first : first + AT_ONCE])
        return found

    def members(self, segment: str) -> Iterator[str]:
        """Everybody in a segment, each once, in no order; shard by shard, in pieces.

        The store is never busy for longer than a piece of 500 takes; here the ids of one shard are
        in memory at a time. Who enters or leaves meanwhile may be there or not.

        Raises:
            UnknownSegment: there is none of this name.
        """
        layout = self._known(segment)
        for shard in range(layout.shards):
            key, cursor, seen = layout.key("members", shard, segment), 0, set[bytes]()
            while True:
                cursor, piece = self._call(_scan(key, cursor))
                fresh = [member for member in dict.fromkeys(piece) if member not in seen]
                seen.update(fresh)
                yield from map(member_of, fresh)
                if cursor == 0:
                    break

    def sizes(self) -> dict[str, int]:
        """How many members each defined segment has, by name."""
        layout, names = self._where(), self.defined()

        def ask(client: Any) -> list[int]:
            pipe = client.pipeline(transaction=False)
            for name in names:
                for shard in range(layout.shards):
                    pipe.scard(layout.key("members", shard, name))
            counts: list[int] = pipe.execute()
            return counts

        counts = self._call(ask) if names else []
        return {
            name: sum(counts[i * layout.shards : (i + 1) * layout.shards])
            for i, name in enumerate(names)
        }

    def defined(self) -> tuple[str, ...]:
        """Names of all segments that the engine decides, in its order."""
        layout = self._where()

        def ask(client: Any) -> list[bytes | None]:
            pipe = client.pipeline(transaction=False)
            for shard in range(layout.shards):
                pipe.hget(layout.key("commit", shard), "segments")
            found: list[bytes | None] = pipe.execute()
            return found

        return segment_names(self._call(ask))

    # -- the connection -----------------------------------------------------------------------

    def ping(self) -> None:
        """Raise an error in words unless there are Afterglow data to read."""
        self._layout_until_s = 0.0
        self._where()

    def close(self) -> None:
        """Give the connections back."""
        client, kept = self._client, self._kept
        self._client = self._kept = None
        if kept is not None:
            kept.give_back()
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------

    def _field(self, kind: str, user_id: str) -> bytes | None:
        name, layout = field(user_id), self._where()
        key = layout.key(kind, layout.shard_of(name))

        def ask(client: Any) -> bytes | None:
            kept = self._kept
            raw: bytes | None = kept.ask("HGET", key, name) if kept else client.hget(key, name)
            return raw

        return self._call(ask)

    def _some(self, user_ids: list[str]) -> dict[str, Profile]:
        layout = self._where()
        by_shard = layout.by_shard(user_ids)

        def ask(client: Any) -> list[list[bytes | None]]:
            pipe = client.pipeline(transaction=False)
            for shard, ids in by_shard.items():
                pipe.hmget(layout.key("profile", shard), [field(user_id) for user_id in ids])
            answers: list[list[bytes | None]] = pipe.execute()
            return answers

        answers, now_ms = self._call(ask), self._clock_ms()
        found = {
            user_id: profile_of(raw, now_ms)
            for ids, raws in zip(by_shard.values(), answers, strict=True)
            for user_id, raw in zip(ids, raws, strict=True)
            if raw is not None
        }
        return {user_id: found[user_id] for user_id in user_ids if user_id in found}

    def _known(self, segment: str) -> Layout:
        names = self.defined()
        if segment not in names:
            raise unknown(segment, names)
        return self._where()

    def _where(self) -> Layout:
        if self._layout is None or time.monotonic() > self._layout_until_s:
            meta = self._call(lambda client: client.hgetall(self._meta))
            self._layout = layout_of(self._prefix, meta)
            self._layout_until_s = time.monotonic() + LAYOUT_S
        return self._layout

    def _call(self, ask: Callable[[Any], T]) -> T:
        """Ask the store, again and again as agreed."""
        try:
            answer: T = self._terms.retry(Retry).call_with_retry(
                lambda: ask(self._client or self._opened()),
                lambda _: None,
                lambda error: not is_forbidden(error),
            )
        except TROUBLE as error:
            raise in_words(error, self._terms.url) from error
        return answer

    def _opened(self) -> Any:
        with self._opening:
            if self._client is None:
                self._client = self._open()
            return self._client

    def _open(self) -> Any:
        options = self._terms.client_options(Retry)
        is_cluster = self._terms.cluster
        if is_cluster is None:
            with redis.Redis.from_url(self._terms.url, **options) as first:
                is_cluster = _is_cluster(first)
        if is_cluster:
            return redis.RedisCluster.from_url(self._terms.url, **options)
        client = redis.Redis.from_url(self._terms.url, **options)
        # where connections are counted, none may stay out: the pool refuses whoever is one too many
        if "max_connections" not in options and "max_connections" not in self._terms.url:
            self._kept = Kept(client.connection_pool)
        return client


def unknown(segment: str, names: Iterable[str]) -> UnknownSegment:
    """What to raise when a segment is not among those defined."""
    return UnknownSegment(
        f"there is no segment {segment!r}; the engine decides: {', '.join(sorted(names)) or 'none'}"
    )


def distinct(user_ids: Iterable[str]) -> list[str]:
    """Each id once.

    Raises:
        TypeError: this is one id, not many.
    """
    if isinstance(user_ids, str):
        raise TypeError(f"user_ids must be several, such as a list, but is one str: {user_ids!r}")
    return list(dict.fromkeys(user_ids))


def _scan(key: str, cursor: int) -> Callable[[Any], tuple[int, list[bytes]]]:
    return lambda client: client.sscan(key, cursor, count=PIECE)


def _is_cluster(client: Any) -> bool:
    """Whether a server belongs to a cluster; one that will not say does not."""
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except RETRIED:
        raise
    except ResponseError:
        return False
