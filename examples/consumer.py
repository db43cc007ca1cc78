"""Print segment changes as they come, each with its cause, until Ctrl-C."""

import os
import sys

from afterglow_client import AfterglowError
from afterglow_client.changes import Change, Changes

broker = os.environ.get("KAFKA_BOOTSTRAP") or sys.exit("KAFKA_BOOTSTRAP must name the broker")
config = {"bootstrap.servers": broker, "log_level": 0}
try:
    with Changes(config, begin="beginning", answer_s=10) as changes:
        for news in changes:
            moves = [f"exited {s}" for s in news.exited] + [f"entered {s}" for s in news.entered]
            why = news.cause if isinstance(news, Change) else f"{news.missed} changes were missed"
            print(f"{news.user_id} {', '.join(moves)}\n   because {why}", flush=True)
except (AfterglowError, KeyboardInterrupt) as error:
    sys.exit(str(error) or 0)
