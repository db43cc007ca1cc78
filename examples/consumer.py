"""Print segment changes as they come, each with its cause, until Ctrl-C."""

import os
import sys
from contextlib import suppress

from afterglow_client.changes import Change, Changes

broker = os.environ.get("KAFKA_BOOTSTRAP") or sys.exit("KAFKA_BOOTSTRAP must name the broker")
config = {"bootstrap.servers": broker}
with suppress(KeyboardInterrupt), Changes(config, begin="beginning") as changes:
    for news in changes:
        for segment in news.exited:
            print(news.user_id, "exited", segment, flush=True)
        for segment in news.entered:
            print(news.user_id, "entered", segment, flush=True)
        why = news.cause if isinstance(news, Change) else f"{news.missed} changes were missed"
        print("   because", why, flush=True)
