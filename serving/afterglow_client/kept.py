"""Connections that stay out between lookups.

To take a connection from redis-py's pool and give it back, with the looks, locks and counters of
both, costs as much as to ask and to be answered. A single lookup of one server goes over one that
is kept at hand instead. Where a kept one turns out to be dead (its server restarted, or closed what
was idle), the pool gives a new one at once, as it would have done in the first place.
"""

from __future__ import annotations

import os
from typing import Any

import redis


class Kept:
    """Asks one server over connections of a pool; safe to share between threads.

    Args:
        pool: redis-py's; it must not be short of connections, since those kept stay out of it.
    """

    def __init__(self, pool: Any) -> None:
        self._pool, self._free, self._process = pool, list[Any](), os.getpid()

    def ask(self, *command: str | bytes) -> Any:
        """The answer to one command; raises what redis-py raises."""
        if self._process != os.getpid():  # a fork must not speak over its parent's connections
            self._free, self._process = [], os.getpid()
        try:
            connection = self._free.pop()
        except IndexError:
            return self._over(self._pool.get_connection(), command)
        try:
            return self._over(connection, command)
        except redis.ConnectionError:
            self.give_back()
            return self._over(self._pool.get_connection(), command)

    def give_back(self) -> None:
        """All that are kept go back to the pool, closed."""
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:
                return  # another thread was faster
            self._drop(connection)

    def _over(self, connection: Any, command: tuple[str | bytes, ...]) -> Any:
        try:
            connection.send_packed_command(connection.pack_command(*command))
            answer = connection.read_response()
        except BaseException:  # an answer may still come, and would be taken for another's
            self._drop(connection)
            raise
        self._free.append(connection)
        return answer

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._pool.release(connection)
