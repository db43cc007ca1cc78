"""``afterglow profile``, ``explain`` and ``export``: what the store knows."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec

from cli.common import UserError, need_redis, writable
from dataflows.engine import open_store
from dataflows.settings import Settings
from state.store import Store

_ENDINGS: Final = (".jsonl", ".json", ".ndjson", ".parquet")


def show_profile(settings: Settings, user: str) -> int:
    """Print one profile as indented JSON."""
    need_redis(settings)
    store = open_store(settings)
    shard = zlib.crc32(user.encode()) % settings.redis.shards
    document = store.profile(shard, user)
    if document is None:
        raise UserError(
            f"there is no profile of {user!r} under {settings.redis.prefix!r}: no event of this "
            "user has been committed, or the id is written differently"
        )
    print(msgspec.json.format(as_json(document)).decode())
    return 0


def export_profiles(settings: Settings, out: Path | None) -> int:
    """Write all profiles, as JSON lines or Parquet."""
    if out is not None:
        writable(out, "--out")
        check_ending("--out", out)
    need_redis(settings)
    store = open_store(settings)
    if out is None:
        write_profiles(store, out)
        return 0
    try:
        count = write_profiles(store, out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    print(f"{count:,} profiles written to {out}")
    return 0


def check_ending(option: str, out: Path) -> None:
    """Refuse a file whose name asks for a form in which profiles are not written."""
    if out.suffix not in _ENDINGS:
        raise UserError(
            f"{option} must end in {', '.join(_ENDINGS[:-1])} (JSON lines) or {_ENDINGS[-1]}, "
            f"but {out} came: profiles are written in no other form"
        )


def write_profiles(store: Store, out: Path | None, look: Callable[[], None] = lambda: None) -> int:
    """Write all profiles of a store, as JSON lines or Parquet; how many there were.

    Args:
        store: to be read.
        out: the file; standard output if None.
        look: called now and then; what it raises ends the writing.
    """
    documents = _documents(store, look)
    if out is not None and out.suffix == ".parquet":
        from dataflows.profile_table import write_table

        return write_table(documents, out)
    count = 0
    with nullcontext(sys.stdout.buffer) if out is None else out.open("wb") as file:
        for document in documents:
            file.write(as_json(document) + b"\n")
            count += 1
        file.flush()
    return count


def as_json(document: bytes) -> bytes:
    """A profile document as JSON."""
    return msgspec.json.encode(msgspec.msgpack.decode(document))


def show_explanation(settings: Settings, user: str, segment: str) -> int:
    """Say why a user is in a segment, or has an offer (``offers.NAME``), or not."""
    from dataflows.explaining import UnknownError, explanation
    from operators.lane_step import wall_clock_ms

    need_redis(settings)
    try:
        print(explanation(settings, open_store(settings), user, segment, wall_clock_ms()))
    except UnknownError as error:
        raise UserError(str(error)) from error
    return 0


def _documents(store: Store, look: Callable[[], None]) -> Iterator[bytes]:
    for shard in range(store.shards):
        look()
        for _, document in store.profiles(shard):
            yield document
