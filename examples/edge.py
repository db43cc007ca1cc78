"""Look one customer up at the edge: ``python examples/edge.py ann``."""

import os
import sys

from afterglow_client import Reader

user_id = sys.argv[1]
with Reader(os.environ["REDIS_URL"]) as reader:
    profile = reader.get(user_id)
    if profile is None:
        print(f"nothing is known of {user_id!r}")
    else:
        print(f"{user_id} is in {', '.join(profile.segments) or 'no segment'}")
        print(profile.features)
