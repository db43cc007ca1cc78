"""Look one profile up at the edge: one HGET. ``python examples/edge.py ann``."""

import os
import sys
import zlib

import msgpack
import redis

user_id = sys.argv[1]
shard = zlib.crc32(user_id.encode()) % 64
store = redis.Redis.from_url(os.environ["REDIS_URL"])
profile = store.hget(f"ag:profile:{{{shard:02d}}}", user_id)
print(msgpack.unpackb(profile) if profile else f"nothing is known of {user_id!r}")
