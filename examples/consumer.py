"""Print segment changes as they come, each with its cause."""

import os

from afterglow_client.changes import Change, Changes

config = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]}
with Changes(config, begin="beginning") as changes:
    for news in changes:
        for segment in news.exited:
            print(news.user_id, "exited", segment, flush=True)
        for segment in news.entered:
            print(news.user_id, "entered", segment, flush=True)
        why = news.cause if isinstance(news, Change) else f"{news.missed} changes were missed"
        print("   because", why, flush=True)
