"""A cluster of Valkey servers on loopback: primaries that share the keys, each with a replica."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import redis

from dataflows.embedded import EmbeddedError, EmbeddedStore, free_port

_SLOTS: Final = 16_384
_START_S: Final = 60.0


class EmbeddedCluster:
    """A cluster that starts empty and is gone at the end.

    Args:
        primaries: how many.
        node_timeout_s: silence after which a primary is held for dead and its replica takes over.

    Attributes:
        url: of one of its servers.
        nodes: all servers: first the primaries, then each one's replica in the same order.
    """

    def __init__(self, primaries: int = 3, node_timeout_s: float = 2.0) -> None:
        self._primaries = primaries
        self._bus = [free_port() for _ in range(2 * primaries)]
        self.nodes = [
            EmbeddedStore(
                options=(
                    *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
                    *("--cluster-node-timeout", str(int(node_timeout_s * 1000))),
                    *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
                )
            )
            for bus in self._bus
        ]

    @property
    def url(self) -> str:
        """Of the last server, a replica: primaries are there to be killed."""
        return self.nodes[-1].url

    def start(self) -> Self:
        """Start all servers, make them one cluster, and wait until it is whole.

        Raises:
            EmbeddedError: it did not become one in time.
        """
        for node in self.nodes:
            node.start()
        for node, bus in zip(self.nodes, self._bus, strict=True):
            self._ask(0, "CLUSTER", "MEET", "127.0.0.1", str(node.port), str(bus))
        step = -(-_SLOTS // self._primaries)
        for i in range(self._primaries):
            first, last = i * step, min((i + 1) * step, _SLOTS) - 1
            self._ask(i, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for i in range(self._primaries):
            name = self._ask(i, "CLUSTER", "MYID").decode()
            replica = self._primaries + i
            self._until(partial(self._knows, replica, name), "all servers to meet")
            self._ask(replica, "CLUSTER", "REPLICATE", name)
        self._until(self._is_whole, "the cluster to be whole")
        return self

    def stop(self) -> None:
        """End all servers."""
        for node in self.nodes:
            node.stop()

    def primary_of(self, key: str) -> EmbeddedStore:
        """The server that answers for a key now."""
        with redis.RedisCluster.from_url(self.url) as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.nodes if node.port == port)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        self.stop()

    def _ask(self, node: int, *command: str) -> Any:
        with redis.Redis(port=self.nodes[node].port, socket_timeout=5) as client:
            return client.execute_command(*command)

    def _knows(self, node: int, name: str) -> bool:
        return name in str(self._ask(node, "CLUSTER", "NODES"))

    def _is_whole(self) -> bool:
        with suppress(redis.RedisError):
            return all(self._is_part(node) for node in range(len(self.nodes)))
        return False

    def _is_part(self, node: int) -> bool:
        """Whether a server sees a whole cluster, and a replica follows its primary."""
        with redis.Redis(port=self.nodes[node].port, socket_timeout=5) as client:
            state = client.execute_command("CLUSTER", "INFO")
            whole = state["cluster_state"] if isinstance(state, dict) else str(state)
            follows = client.info("replication")
            linked = follows["role"] == "master" or follows["master_link_status"] == "up"
            is_replica = follows["role"] != "master"
            of_its_kind = is_replica == (node >= self._primaries)
            return (whole == "ok" or "cluster_state:ok" in whole) and linked and of_its_kind

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + _START_S
        while not holds():
            if time.monotonic() > deadline_s:
                raise EmbeddedError(f"waited {_START_S:.0f} s in vain for {what}")
            time.sleep(0.1)
