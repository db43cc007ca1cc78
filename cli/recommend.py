"""``afterglow recommend``: what is recommended to whom, and why."""

from __future__ import annotations

import time
import zlib
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from cli.common import UserError, need_redis
from dataflows.engine import open_store
from dataflows.settings import Settings

_WHY = {
    "covisits": "seen together with {because}",
    "reminders": "the customer's own earlier item",
    "together": "bought together with {because}",
    "similar": "described like {because}",
    "category": "popular in the category of {because}",
    "popular": "popular",
    "pinned": "put there by a rule",
}


def show_candidates(settings: Settings, user: str, as_json: bool) -> int:
    """Print one user's list."""
    need_redis(settings)
    shard = zlib.crc32(user.encode()) % settings.redis.shards
    raw = open_store(settings).candidates(shard, user)
    if raw is None:
        raise UserError(
            f"there is no list for {user!r} under {settings.redis.prefix!r}: the customer has had "
            "nothing to do with any item (recommend.weights says which events count), "
            "recommend.enabled is false, or the id is written differently"
        )
    document = msgspec.msgpack.decode(raw)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
    else:
        _print(document)
    return 0


def _print(document: dict[str, Any]) -> None:
    left_s = document["valid_to"] / 1000 - time.time()
    old = "" if left_s > 0 else "; it has outlived its validity"
    table = Table(title=f"{document['user_id']}, as of {_utc(document['as_of'])}{old}")
    table.add_column("#", justify="right")
    table.add_column("item")
    table.add_column("score", justify="right")
    table.add_column("why")
    for place, item in enumerate(document["items"], 1):
        why = _WHY[item["source"]].format(because=item["because"])
        table.add_row(str(place), item["item_id"], f"{item['score']:.3f}", why)
    Console().print(table)


def _utc(ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ms / 1000))
