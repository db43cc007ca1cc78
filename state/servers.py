"""The servers behind the store: one Redis or Valkey, or the primaries of a cluster.

The only file that speaks to them. Which of the two it is, the first server says when it is asked;
nobody has to configure it. In a cluster a shard's keys share a hash tag and so a primary; commands
of many shards go out over one connection for each primary, all at once, and the answers are read
after that. Where a primary has died or moved, its commands come back as errors, the map of the
cluster is asked for anew, and whoever sent them tries again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import hiredis
import redis
from redis.exceptions import (
    AskError,
    ClusterError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from state.bulk import Bulk

Command = Sequence[Sequence[Any] | Bulk]
"""The arguments of a command, one part after another."""

TROUBLE: Final = (RedisError, RedisClusterException, OSError)
"""What a server, or the way to it, may answer instead of an answer."""

_SLICE: Final = 8
"""Commands sent at once: the server works while the rest is packed."""


class Servers:
    """Where an address leads.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://`` address of a server, or of any of a cluster.
        timeout_s: how long one answer may take.
        script: sent to a server that does not know it.
    """

    def __init__(self, url: str, timeout_s: float, script: bytes) -> None:
        self._url = url
        self._options = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "protocol": 2,
        }
        self._script = script
        self.sha = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._client: Any = None
        self._is_cluster = self._is_stale = False

    @property
    def client(self) -> Any:
        """For single commands and pipelines that are no transactions.

        Raises:
            RedisError, RedisClusterException: nobody answers there.
        """
        if self._client is None:
            first = redis.Redis.from_url(self._url, **self._options)
            self._is_cluster = _is_cluster(first)
            self._client = first
            if self._is_cluster:
                first.close()
                self._client = redis.RedisCluster.from_url(self._url, **self._options)
        return self._client

    def exchange(
        self, keys: Sequence[str], command: Callable[[int], Command]
    ) -> list[bytes | Exception]:
        """Send a command for each key to where the key lives; all answers, some of them errors.

        Args:
            keys: n.
            command: makes the i-th command when it is about to be sent.
        """
        answers: list[bytes | Exception] = [RedisError("not sent")] * len(keys)
        sent = []
        try:
            links = self._links(keys)
        except TROUBLE as error:
            return [error] * len(keys)
        for pool, places in links:
            try:
                connection = pool.get_connection()
            except TROUBLE as error:
                self._note(error, places, answers)
                continue
            sent.append((pool, connection, places))
            try:
                for at in range(0, len(places), _SLICE):
                    commands = map(command, places[at : at + _SLICE])
                    parts = chain.from_iterable(map(_packed, commands))
                    connection.send_packed_command([b"".join(parts)])
            except TROUBLE as error:
                connection.disconnect()
                self._note(error, places, answers)
        for pool, connection, places in sent:
            try:
                if connection.is_connected:
                    self._read(connection, places, answers)
            finally:
                pool.release(connection)
        return answers

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()

    def _links(self, keys: Sequence[str]) -> list[tuple[Any, list[int]]]:
        """The connections of each server, and the places of the keys that live there."""
        client = self.client
        if not self._is_cluster:
            return [(client.connection_pool, list(range(len(keys))))]
        if self._is_stale:
            client.nodes_manager.initialize()
            self._is_stale = False
        places: dict[str, list[int]] = defaultdict(list)
        nodes = {}
        for place, key in enumerate(keys):
            node = client.get_node_from_key(key)
            nodes[node.name] = node
            places[node.name].append(place)
        return [
            (client.get_redis_connection(nodes[name]).connection_pool, held)
            for name, held in places.items()
        ]

    def _read(self, connection: Any, places: list[int], answers: list[bytes | Exception]) -> None:
        lacks_script = False
        for i, place in enumerate(places):
            try:
                answers[place] = connection.read_response()
            except ResponseError as error:
                lacks_script |= isinstance(error, NoScriptError)
                self._note(error, [place], answers)
            except TROUBLE as error:
                connection.disconnect()
                self._note(error, places[i:], answers)
                return
        if lacks_script:
            try:
                connection.send_command("SCRIPT", "LOAD", self._script)
                connection.read_response()
            except TROUBLE:
                connection.disconnect()

    def _note(self, error: Exception, places: list[int], answers: list[bytes | Exception]) -> None:
        for place in places:
            answers[place] = error
        elsewhere = (AskError, ClusterError, TryAgainError)
        self._is_stale |= isinstance(error, elsewhere) or not isinstance(error, ResponseError)


def _packed(command: Command) -> Iterator[bytes | memoryview]:
    """A command as it travels: how many arguments there are, then each of them."""
    yield b"*%d\r\n" % sum(map(len, command))
    plain: list[Any] = []
    for part in command:
        if isinstance(part, Bulk):
            yield _bare(plain)
            yield part.raw
            plain.clear()
        else:
            plain += part
    yield _bare(plain)


def _bare(arguments: list[Any]) -> bytes:
    """Arguments as they travel, without their number."""
    packed: bytes = hiredis.pack_command(tuple(arguments))
    return packed.partition(b"\r\n")[2]


def _is_cluster(client: Any) -> bool:
    """Whether a server belongs to a cluster; one that will not say does not."""
    try:
        return bool(client.info("cluster").get("cluster_enabled"))
    except ResponseError:
        return False
