"""Look one customer up at the edge: ``python examples/edge.py ann``."""

import os
import sys

from afterglow_client import AfterglowError, Reader

store = os.environ.get("REDIS_URL") or sys.exit("REDIS_URL must name the store")
user_id = sys.argv[1] if len(sys.argv) == 2 else sys.exit("say who: examples/edge.py ann")
try:
    with Reader(store) as reader:
        profile = reader.get(user_id)
except AfterglowError as error:
    sys.exit(str(error))
if profile is None:
    print(f"nothing is known of {user_id!r}")
else:
    print(user_id, "is in", ", ".join(profile.segments) or "no segment", profile.features)
