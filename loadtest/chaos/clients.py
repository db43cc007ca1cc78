"""A client for whatever store a world has."""

from __future__ import annotations

from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

NO_ANSWER: Final = (RedisError, RedisClusterException)


def open_client(url: str) -> Any:
    """A client of one server, or of the cluster it belongs to; without patience of its own."""
    first = redis.Redis.from_url(url, retry=None, socket_timeout=5)
    if not first.info("cluster")["cluster_enabled"]:
        return first
    first.close()
    return redis.RedisCluster.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 1))
